//! Maps by keys that are random already: of feeds, of agents, tags. Several are looked up for each
//! entry, and the standard hasher takes a tenth of a microsecond for some.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A map by keys of feeds and the like.
pub(super) type KeyMap<K, V> = HashMap<K, V, KeyHashes>;

/// A set of them.
pub(super) type KeySet<K> = HashSet<K, KeyHashes>;

/// Unknown to whoever makes keys, so that nobody makes many that fall together.
static SEEDS: LazyLock<[u64; 2]> =
    LazyLock::new(|| [1, 2].map(|number| RandomState::new().hash_one(number) | 1));

/// Makes [`KeyHasher`]s that agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyHashes([u64; 2]);

impl Default for KeyHashes {
    fn default() -> Self {
        KeyHashes(*SEEDS)
    }
}

impl BuildHasher for KeyHashes {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        let [state, seed] = self.0;
        KeyHasher { state, seed }
    }
}

/// Multiplies and folds eight bytes at a time.
#[derive(Debug)]
pub(super) struct KeyHasher {
    state: u64,
    seed: u64,
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.state ^ value) * u128::from(self.seed);
        self.state = (product as u64) ^ ((product >> 64) as u64) ^ self.seed.rotate_left(32);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::FeedKey;

    use super::*;

    #[test]
    fn places_of_a_feed_and_feeds_that_differ_in_a_bit_spread() {
        let hashes = KeyHashes::default();
        let mut low: HashSet<u64> = HashSet::new();
        let mut high: HashSet<u64> = HashSet::new();
        for index in 0..4_096u64 {
            let hash = hashes.hash_one((FeedKey([7; 32]), index));
            low.insert(hash % 65_536);
            high.insert(hash >> 48);
        }
        // Of 4,096 thrown into 65,536 some 125 meet another.
        assert!(
            low.len() > 3_800 && high.len() > 3_800,
            "{} {}",
            low.len(),
            high.len()
        );
        let mut differ = HashSet::new();
        for bit in 0..256 {
            let mut key = [7; 32];
            key[bit / 8] ^= 1 << (bit % 8);
            differ.insert(hashes.hash_one(FeedKey(key)));
        }
        assert_eq!(differ.len(), 256);
    }
}
