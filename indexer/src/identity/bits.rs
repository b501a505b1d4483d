//! Sets of statements, by their number in the set that is evaluated.

use crate::limits::IDENTITY_STATEMENTS_MAX;

/// Statements that are evaluated at once: those of two full sets that are united.
pub(super) const EVALUATED_MAX: usize = 2 * IDENTITY_STATEMENTS_MAX;

const WORDS: usize = EVALUATED_MAX / 64;

/// A set of numbers below [`EVALUATED_MAX`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    pub(super) fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }

    /// Takes the smallest number out.
    pub(super) fn pop(&mut self) -> Option<usize> {
        for (at, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let low = word.trailing_zeros() as usize;
                *word &= *word - 1;
                return Some(at * 64 + low);
            }
        }
        None
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0[number / 64] & 1 << (number % 64) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn and(&self, other: &Bits) -> Bits {
        self.zip(other, |one, two| one & two)
    }

    pub(super) fn or(&self, other: &Bits) -> Bits {
        self.zip(other, |one, two| one | two)
    }

    pub(super) fn without(&self, other: &Bits) -> Bits {
        self.zip(other, |one, two| one & !two)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let mut rest = *self;
        std::iter::from_fn(move || rest.pop())
    }

    fn zip(&self, other: &Bits, of: impl Fn(u64, u64) -> u64) -> Bits {
        Bits(std::array::from_fn(|at| of(self.0[at], other.0[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_in_order_and_once() {
        let mut bits = Bits::default();
        for number in [511, 0, 64, 63, 64] {
            bits.insert(number);
        }
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 63, 64, 511]);
        assert_eq!(bits.len(), 4);
        assert!(bits.without(&bits).is_empty());
    }
}
