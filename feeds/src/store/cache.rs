//! A bounded cache of what was read and checked.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A cache in shards of two generations each: what is used moves to the young one; when that is
/// full, the old one goes.
///
/// It holds at most the bytes given and one value a shard beyond. No lock is held while a value is
/// made.
pub(super) struct Cache<K, V> {
    shards: Vec<Mutex<Generations<K, V>>>,
    /// Bytes that a generation of a shard may take.
    generation_bytes: usize,
}

/// What a value takes in memory.
pub(super) trait MemoryBytes {
    fn memory_bytes(&self) -> usize;
}

struct Generations<K, V> {
    young: HashMap<K, Arc<V>, Mixing>,
    old: HashMap<K, Arc<V>, Mixing>,
    young_bytes: usize,
    old_bytes: usize,
}

type Mixing = BuildHasherDefault<Mixer>;

/// Hashes places and offsets, which are ours and which nobody can choose: a multiplication each.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Odd, with its ones spread: the fraction of the golden ratio.
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl<K: Copy + Eq + Hash, V: MemoryBytes> Cache<K, V> {
    pub(super) fn new(bytes: usize, shards: usize) -> Self {
        let empty = || {
            Mutex::new(Generations {
                young: HashMap::default(),
                old: HashMap::default(),
                young_bytes: 0,
                old_bytes: 0,
            })
        };
        Cache {
            shards: (0..shards.max(1)).map(|_| empty()).collect(),
            generation_bytes: bytes / 2 / shards.max(1),
        }
    }

    /// Returns the value of `key`, made by `make` when it is not there.
    pub(super) fn get_or<E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        if let Some(found) = self.get(key) {
            return Ok(found);
        }
        let value = Arc::new(make()?);
        self.put(key, value.clone());
        Ok(value)
    }

    /// Returns the value of `key` if it is there.
    pub(super) fn get(&self, key: K) -> Option<Arc<V>> {
        let mut shard = self.shard(&key);
        if let Some(value) = shard.young.get(&key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(&key)?;
        shard.old_bytes -= value.memory_bytes();
        self.add(&mut shard, key, value.clone());
        Some(value)
    }

    /// Adds a value.
    pub(super) fn put(&self, key: K, value: Arc<V>) {
        let mut shard = self.shard(&key);
        self.add(&mut shard, key, value);
    }

    /// Returns the bytes that all values take.
    pub(super) fn memory_bytes(&self) -> usize {
        let bytes = |shard: &Mutex<Generations<K, V>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young_bytes + shard.old_bytes
        };
        self.shards.iter().map(bytes).sum()
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Generations<K, V>> {
        let at = match self.shards.len() {
            1 => 0,
            // Not the bits that choose a place in the shard.
            many => (Mixing::default().hash_one(key) >> 32) as usize % many,
        };
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, shard: &mut Generations<K, V>, key: K, value: Arc<V>) {
        let bytes = value.memory_bytes();
        if let Some(same) = shard.young.insert(key, value) {
            shard.young_bytes -= same.memory_bytes();
        }
        shard.young_bytes += bytes;
        if shard.young_bytes > self.generation_bytes {
            shard.old = std::mem::take(&mut shard.young);
            shard.old_bytes = std::mem::take(&mut shard.young_bytes);
        }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Eq, PartialEq)]
    struct Kibibyte(u32);

    impl MemoryBytes for Kibibyte {
        fn memory_bytes(&self) -> usize {
            1024
        }
    }

    fn get(cache: &Cache<u32, Kibibyte>, key: u32, made: &mut u32) {
        let value = cache.get_or(key, || {
            *made += 1;
            Ok::<_, ()>(Kibibyte(key))
        });
        assert_eq!(*value.unwrap(), Kibibyte(key));
    }

    #[test]
    fn what_is_used_stays_and_the_limit_holds() {
        let cache = Cache::new(64 * 1024, 4);
        let mut made = 0;
        for key in 1..1000 {
            get(&cache, 0, &mut made);
            get(&cache, key, &mut made);
            assert!(cache.memory_bytes() <= (64 + 4) * 1024);
        }
        assert_eq!(made, 1000, "each was made once");
        get(&cache, 1, &mut made);
        assert_eq!(made, 1001, "what was not used is gone");
    }
}
