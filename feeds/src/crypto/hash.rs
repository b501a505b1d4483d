//! BLAKE2b as Hypercore uses it: unkeyed or keyed, over the concatenation of its parts.

use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2b, Blake2b512, Blake2bMac, Digest};

/// Returns BLAKE2b with 32 bytes of output over the concatenation of `parts`.
pub fn blake2b_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    for part in parts {
        Digest::update(&mut hasher, part);
    }
    hasher.finalize().into()
}

/// BLAKE2b with 32 bytes of output over bytes that come piece by piece.
#[derive(Clone, Debug)]
pub struct Blake2b256(Blake2b<U32>);

impl Blake2b256 {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Blake2b256(Blake2b::new())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        Digest::update(&mut self.0, bytes);
    }

    /// Returns what [`blake2b_256`] returns for all bytes taken.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl Default for Blake2b256 {
    fn default() -> Self {
        Blake2b256::new()
    }
}

/// Returns keyed BLAKE2b with 32 bytes of output over the concatenation of `parts`.
///
/// `key` has 1 to 64 bytes.
pub fn blake2b_256_keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = <Blake2bMac<U32> as KeyInit>::new_from_slice(key)
        .expect("callers pass keys of 1 to 64 bytes");
    for part in parts {
        Update::update(&mut hasher, part);
    }
    FixedOutput::finalize_fixed(hasher).into()
}

/// Returns BLAKE2b with 64 bytes of output over the concatenation of `parts`.
pub fn blake2b_512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hasher = Blake2b512::new();
    for part in parts {
        Digest::update(&mut hasher, part);
    }
    hasher.finalize().into()
}
