//! A set of small numbers.

/// Numbers of acts, one bit each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub(super) fn add(&mut self, other: &Bits) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Returns the greatest number that is in both.
    pub(super) fn last_common(&self, other: &Bits) -> Option<u32> {
        let words = self.0.iter().zip(&other.0).enumerate().rev();
        let mut common = words.map(|(at, (one, other))| (at as u32, one & other));
        let (at, word) = common.find(|(_, word)| *word != 0)?;
        Some(at * 64 + 63 - word.leading_zeros())
    }

    /// Returns whether all that is in this and in `other` is in `outer`, or is `last`.
    pub(super) fn common_is_within(&self, other: &Bits, outer: &Bits, last: u32) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .enumerate()
            .all(|(at, (one, other))| {
                let mut within = outer.0.get(at).copied().unwrap_or_default();
                if last as usize / 64 == at {
                    within |= 1 << (last % 64);
                }
                one & other & !within == 0
            })
    }

    /// Returns how many numbers are in both.
    pub(super) fn count_common(&self, other: &Bits) -> u64 {
        let words = self.0.iter().zip(&other.0);
        words
            .map(|(one, other)| u64::from((one & other).count_ones()))
            .sum()
    }

    /// Returns how many numbers are in it.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(at, word)| {
            let bits = (0..64u32).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| at as u32 * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_what_is_in_it() {
        let mut one = Bits::default();
        let mut other = Bits::default();
        for number in [0, 63, 64, 500] {
            one.insert(number);
        }
        other.insert(1000);
        one.add(&other);
        assert_eq!(one.iter().collect::<Vec<_>>(), [0, 63, 64, 500, 1000]);
        assert_eq!(one.last_common(&other), Some(1000));
        assert!(other.common_is_within(&one, &Bits::default(), 1000));
        assert!(!one.common_is_within(&one, &other, 500));
        assert_eq!((one.count(), one.count_common(&other)), (5, 1));
        assert!(one.contains(64) && !one.contains(65) && !one.contains(100_000));
    }
}
