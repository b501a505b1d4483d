//! Maps by keys that are random already: of feeds, of agents, tags. Several are looked up for each
//! entry, and the standard hasher takes a tenth of a microsecond for some.

use std::collections::{HashMap, HashSet};

/// Seeded anew in each process and map: nobody who makes keys makes many that fall together.
type KeyHashes = foldhash::fast::RandomState;

/// A map by keys of feeds and the like.
pub(super) type KeyMap<K, V> = HashMap<K, V, KeyHashes>;

/// A set of them.
pub(super) type KeySet<K> = HashSet<K, KeyHashes>;
