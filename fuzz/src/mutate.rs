//! Making many inputs of one: the usual damage, from a seed.

use testkit::random::Random;

/// Values that decoders get wrong: ends of integer ranges and markers of the compact encoding.
const VALUES: [u64; 10] = [
    0,
    1,
    0xfc,
    0xfd,
    0xff,
    0x7fff_ffff,
    0xffff_ffff,
    (1 << 53) - 1,
    1 << 53,
    u64::MAX,
];

/// Longest input made, 64 KiB: beyond it only time is lost.
const BYTES_MAX: usize = 64 * 1024;

/// Returns a mutation of one of `inputs`, which is not empty.
pub fn mutate(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.index(inputs.len())].clone();
    for _ in 0..1 + random.below(4) {
        change(&mut bytes, inputs, random);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    if bytes.is_empty() {
        *bytes = random.bytes(16);
        return;
    }
    let at = random.index(bytes.len());
    match random.below(9) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next_u64() as u8,
        3 => {
            let value = VALUES[random.index(VALUES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.index(4)];
            for (byte, value) in bytes[at..].iter_mut().zip(&value[..width]) {
                *byte = *value;
            }
        }
        4 => bytes.truncate(at),
        5 => {
            let count = random.index(16) + 1;
            let more = random.bytes(count);
            bytes.splice(at..at, more);
        }
        6 => {
            let end = (at + 1 + random.index(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            // A piece of another input in the place of ours.
            let other = &inputs[random.index(inputs.len())];
            if !other.is_empty() {
                let from = random.index(other.len());
                let count = (1 + random.index(64)).min(other.len() - from);
                let end = (at + count).min(bytes.len());
                bytes.splice(at..end, other[from..from + count].iter().copied());
            }
        }
        _ => {
            let end = (at + 1 + random.index(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = random.index(bytes.len());
            bytes.splice(to..to, piece);
        }
    }
}
