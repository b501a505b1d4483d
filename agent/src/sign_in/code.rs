//! The sign-in code: 128 random bits that a person writes down.

use std::fmt;

use kinlog_feeds::crypto::{KeyPair, Secret, blake2b_256, blake2b_256_keyed, namespace};
use kinlog_feeds::text;
use zeroize::Zeroizing;

const CODE_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;
/// Characters between two dashes.
const GROUP: usize = 4;
/// Characters of a code without dashes: z-base-32 of code and check, 20 bytes.
const CHARACTERS: usize = 32;

/// Bytes of the longest text that is read as a code, 256: a code with much room between its groups.
const TEXT_BYTES_MAX: usize = 256;

/// 128 random bits, shown once; wiped on drop, never stored.
#[derive(Clone)]
pub struct SignInCode(Zeroizing<[u8; CODE_BYTES]>);

/// Text that is no sign-in code; says nothing of it but its length.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Too short or too long.
    #[error("a sign-in code has {CHARACTERS} letters and digits, got {actual}")]
    Length { actual: usize },
    /// A character that none has, or one lost or changed.
    #[error("the sign-in code's check does not fit: a character was lost or changed")]
    Check,
}

impl SignInCode {
    /// Takes 128 fresh random bits.
    pub fn new(bytes: [u8; CODE_BYTES]) -> Self {
        SignInCode(Zeroizing::new(bytes))
    }

    /// Returns the bytes; whoever calls this keeps them out of logs and errors.
    pub fn expose(&self) -> &[u8; CODE_BYTES] {
        &self.0
    }

    /// Reads a code as somebody typed it: dashes, spaces and the case of letters mean nothing.
    ///
    /// # Errors
    /// [`CodeError`], for what was mistyped.
    pub fn parse(typed: &str) -> Result<Self, CodeError> {
        if typed.len() > TEXT_BYTES_MAX {
            let actual = typed.chars().count();
            return Err(CodeError::Length { actual });
        }
        let mut plain = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
        plain.extend(
            typed
                .chars()
                .filter(|one| *one != '-' && !one.is_whitespace()),
        );
        let actual = plain.chars().count();
        if actual != CHARACTERS {
            return Err(CodeError::Length { actual });
        }
        let bytes = Zeroizing::new(text::decode(&plain).map_err(|_| CodeError::Check)?);
        let (code, said) = bytes.split_first_chunk().ok_or(CodeError::Check)?;
        let code = SignInCode::new(*code);
        if said != code.check() {
            return Err(CodeError::Check);
        }
        Ok(code)
    }

    /// Returns the code as people write it down: eight groups of four, the last of them with a check.
    pub fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; CODE_BYTES + CHECK_BYTES]);
        bytes[..CODE_BYTES].copy_from_slice(self.expose());
        bytes[CODE_BYTES..].copy_from_slice(&self.check());
        let plain = Zeroizing::new(text::encode(bytes.as_ref()));
        let mut out = Zeroizing::new(String::with_capacity(CHARACTERS + CHARACTERS / GROUP));
        for (at, character) in plain.chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                out.push('-');
            }
            out.push(character);
        }
        out
    }

    /// Returns the public key that names the topic in which those meet who know the code:
    /// `public key of H_code(NS("sign-in-meet"))`.
    pub fn meet_key(&self) -> [u8; 32] {
        let seed = blake2b_256_keyed(self.expose(), &[&namespace::SIGN_IN_MEET.hash()]);
        KeyPair::from_seed(Secret::new(seed).expose())
            .public_key()
            .0
    }

    fn check(&self) -> [u8; CHECK_BYTES] {
        let hash = blake2b_256(&[&namespace::SIGN_IN_CHECK.hash(), self.expose()]);
        hash[..CHECK_BYTES].try_into().expect("a hash has 32 bytes")
    }
}

impl fmt::Debug for SignInCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInCode([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_of_a_code_and_its_meet_key_are_final() {
        let code = SignInCode::new([7; 16]);
        assert_eq!(
            code.text().as_str(),
            "yhdo-qba8-yhdo-qba8-yhdo-qba8-y9nx-sae8"
        );
        let meet_key = "0460fbe0e0e141a489ef80950a1a24eb1cdb0d77247711248aacbf02901a2545";
        assert_eq!(text::encode_hex(&code.meet_key()), meet_key);
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let right = SignInCode::new([9; 16]).text();
        for (at, was) in right.char_indices() {
            if was == '-' {
                continue;
            }
            for other in ['y', 'b', '0', 'l', '9', 'ä'] {
                let mut typed: Vec<char> = right.chars().collect();
                typed[at] = other;
                let typed: String = typed.into_iter().collect();
                assert!(other == was || SignInCode::parse(&typed).is_err(), "{at}");
            }
        }
        let actual = 31;
        let short = SignInCode::parse(&right[1..]).unwrap_err();
        assert_eq!(short, CodeError::Length { actual });
        let long = SignInCode::parse(&" ".repeat(300)).unwrap_err();
        assert_eq!(long, CodeError::Length { actual: 300 });
    }

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?}", SignInCode::new([9; 16]));
        assert_eq!(shown, "SignInCode([redacted])");
    }

    proptest! {
        #[test]
        fn codes_round_trip_however_they_are_typed(bytes: [u8; 16]) {
            let code = SignInCode::new(bytes);
            let typed = code.text().to_uppercase().replace('-', "  ");
            for typed in [&typed, code.text().as_str()] {
                let read = SignInCode::parse(typed).unwrap();
                prop_assert_eq!(read.expose(), &bytes);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,64}") {
            let _ = SignInCode::parse(&text);
        }
    }
}
