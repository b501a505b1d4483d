//! The blocks of `far-ends/npm/blocks.js`, byte for byte, and the digest both ends compare.

use kinlog_feeds::crypto::blake2b_256;
use kinlog_feeds::text;

/// Which bytes blocks have.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any byte.
    Bytes,
    /// Printable ASCII: a line of text.
    Text,
}

/// splitmix32: one u32 a step.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x21f0_aaad);
        mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735a_2d97);
        mixed ^ (mixed >> 15)
    }
}

/// Returns block `index`: 0 B to 64 KiB, the extremes first, 8 KiB on average.
pub fn block(seed: u32, index: u32, kind: Kind) -> Vec<u8> {
    let mut random = Random(seed ^ (index + 1).wrapping_mul(0x85eb_ca6b));
    let length = match index {
        0 | 5 => 0,
        1 => 1,
        2 => 65_536,
        3 => 65_535,
        4 => 2,
        _ => {
            let drawn = random.next() >> 16;
            (0..6).fold(drawn, |share, _| (share * drawn) >> 16)
        }
    };
    let mut word = 0;
    (0..length)
        .map(|at| {
            word = if at % 4 == 0 {
                random.next()
            } else {
                word >> 8
            };
            match kind {
                Kind::Bytes => (word & 0xff) as u8,
                Kind::Text => 0x20 + (word & 0xff) as u8 % 95,
            }
        })
        .collect()
}

/// Returns BLAKE2b-256 over length (u32le) and bytes of each block, in hex.
pub fn digest(blocks: &[Vec<u8>]) -> String {
    let mut all = Vec::new();
    for block in blocks {
        let length = u32::try_from(block.len()).expect("blocks have at most 64 KiB");
        all.extend_from_slice(&length.to_le_bytes());
        all.extend_from_slice(block);
    }
    text::encode_hex(&blake2b_256(&[&all]))
}
