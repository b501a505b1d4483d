//! BLAKE2b as Hypercore uses it: unkeyed or keyed, over the concatenation of its parts.

use blake2b_simd::{Hash, Params, State};

/// Returns BLAKE2b with 32 bytes of output over the concatenation of `parts`.
pub fn blake2b_256(parts: &[&[u8]]) -> [u8; 32] {
    output(of(Params::new().hash_length(32), parts))
}

/// BLAKE2b with 32 bytes of output over bytes that come piece by piece.
#[derive(Clone, Debug)]
pub struct Blake2b256(State);

impl Blake2b256 {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Blake2b256(Params::new().hash_length(32).to_state())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns what [`blake2b_256`] returns for all bytes taken.
    pub fn finish(self) -> [u8; 32] {
        output(self.0.finalize())
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
    output(of(Params::new().hash_length(32).key(key), parts))
}

/// Returns BLAKE2b with 64 bytes of output over the concatenation of `parts`.
pub fn blake2b_512(parts: &[&[u8]]) -> [u8; 64] {
    output(of(Params::new().hash_length(64), parts))
}

fn of(params: &Params, parts: &[&[u8]]) -> Hash {
    if let [whole] = parts {
        return params.hash(whole);
    }
    let mut state = params.to_state();
    for part in parts {
        state.update(part);
    }
    state.finalize()
}

fn output<const N: usize>(hash: Hash) -> [u8; N] {
    hash.as_bytes()
        .try_into()
        .expect("the parameters ask for as many bytes")
}
