//! base64url without padding (RFC 4648 section 5): the form an invite has in a link.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A character outside the alphabet, or a length that no bytes give.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotBase64;

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut window = [0; 4];
        window[1..=group.len()].copy_from_slice(group);
        let window = u32::from_be_bytes(window);
        for letter in 0..=group.len() {
            out.push(char::from(
                ALPHABET[(window >> (18 - 6 * letter)) as usize & 63],
            ));
        }
    }
    out
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, NotBase64> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut window = 0u32;
        for (at, letter) in group.iter().enumerate() {
            let value = ALPHABET
                .iter()
                .position(|known| known == letter)
                .ok_or(NotBase64)?;
            window |= (value as u32) << (18 - 6 * at);
        }
        let bytes = window.to_be_bytes();
        let count = group
            .len()
            .checked_sub(1)
            .filter(|count| *count > 0)
            .ok_or(NotBase64)?;
        if bytes[1 + count..].iter().any(|rest| *rest != 0) {
            return Err(NotBase64);
        }
        out.extend_from_slice(&bytes[1..=count]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // RFC 4648 section 10, without padding.
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"fooba", "Zm9vYmE"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xfb, 0xff], "-_8"),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn damage_is_noticed() {
        for text in ["Z", "Zg=", "Zh", "Zm9vZ", "Zm9 v"] {
            assert_eq!(decode(text), Err(NotBase64), "{text}");
        }
    }
}
