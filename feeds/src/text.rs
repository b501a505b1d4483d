//! Keys as people read them: z-base-32 (as Hypercore's are) or hex, links with a check.

use crate::crypto::blake2b_256;

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// Text that is no key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// A character outside z-base-32 (or hex).
    #[error("character {character:?} at position {at} is not z-base-32 or hex")]
    Character { character: char, at: usize },
    /// Neither 52 nor 58 z-base-32 characters nor 64 hex digits.
    #[error("a key has 52 or 58 z-base-32 characters or 64 hex digits, got {actual}")]
    Length { actual: usize },
    /// The four check bytes of a link key do not fit the key.
    #[error("the key's check does not fit: a character was lost or changed")]
    Check,
}

/// Encodes bytes as z-base-32 without padding.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut window, mut bits) = (0u32, 0u32);
    for byte in bytes {
        window = (window << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(window >> bits) as usize & 31]));
        }
        window &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(window << (5 - bits)) as usize & 31]));
    }
    out
}

/// Decodes z-base-32; bits beyond the last whole byte must be zero.
pub fn decode(text: &str) -> Result<Vec<u8>, KeyTextError> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut window, mut bits) = (0u32, 0u32);
    for (at, character) in text.chars().enumerate() {
        let lower = character.to_ascii_lowercase();
        let value = ALPHABET
            .iter()
            .position(|letter| char::from(*letter) == lower)
            .ok_or(KeyTextError::Character { character, at })?;
        window = (window << 5) | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
            window &= (1 << bits) - 1;
        }
    }
    if window != 0 || bits >= 5 {
        return Err(KeyTextError::Length {
            actual: text.chars().count(),
        });
    }
    Ok(out)
}

/// Encodes bytes as lower-case hex.
pub fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

/// Decodes hex of either case.
pub fn decode_hex(text: &str) -> Result<Vec<u8>, KeyTextError> {
    let digits = text
        .chars()
        .enumerate()
        .map(|(at, character)| {
            let digit = character
                .to_digit(16)
                .ok_or(KeyTextError::Character { character, at })?;
            Ok(digit as u8)
        })
        .collect::<Result<Vec<u8>, KeyTextError>>()?;
    if digits.len() % 2 != 0 {
        return Err(KeyTextError::Length {
            actual: digits.len(),
        });
    }
    Ok(digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4) | pair[1])
        .collect())
}

/// Encodes a key as links carry it: z-base-32 of the key and four bytes of its hash, 58 characters.
pub fn encode_link_key(key: &[u8; 32]) -> String {
    let mut checked = key.to_vec();
    checked.extend_from_slice(&blake2b_256(&[key])[..4]);
    encode(&checked)
}

/// Decodes a key from 58 (checked) or 52 z-base-32 characters or 64 hex digits.
pub fn decode_key(text: &str) -> Result<[u8; 32], KeyTextError> {
    let actual = text.chars().count();
    let bytes = match actual {
        64 => decode_hex(text)?,
        52 | 58 => decode(text)?,
        _ => return Err(KeyTextError::Length { actual }),
    };
    let (key, check) = bytes
        .split_at_checked(32)
        .ok_or(KeyTextError::Length { actual })?;
    let key: [u8; 32] = key.try_into().expect("split at 32 bytes");
    if !check.is_empty() && check != &blake2b_256(&[&key])[..4] {
        return Err(KeyTextError::Check);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_in_every_form() {
        let key = [7u8; 32];
        assert_eq!(encode(&key).len(), 52);
        assert_eq!(encode_link_key(&key).len(), 58);
        assert_eq!(decode_key(&encode(&key)), Ok(key));
        assert_eq!(decode_key(&encode_link_key(&key)), Ok(key));
        assert_eq!(decode_key(&encode_hex(&key)), Ok(key));
    }

    #[test]
    fn any_changed_character_of_a_link_key_is_noticed() {
        let link = encode_link_key(&[7u8; 32]);
        for at in 0..link.len() {
            let mut damaged = link.clone().into_bytes();
            damaged[at] = if damaged[at] == b'y' { b'b' } else { b'y' };
            assert!(decode_key(std::str::from_utf8(&damaged).unwrap()).is_err());
        }
    }
}
