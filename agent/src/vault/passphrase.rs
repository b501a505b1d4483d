//! Sealing under a passphrase: argon2id, then XChaCha20-Poly1305.
//!
//! An envelope is `u8 version=1 | u32 memory KiB | u32 passes | u32 lanes | salt 16 | nonce 24 |
//! ciphertext | tag 16`, little-endian. The key is `derive(argon2id(passphrase, salt), label, "")`, the
//! associated data `NS(label)` and the 29 bytes before the nonce.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use kinlog_feeds::crypto::{Secret, derive, namespace::Namespace};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::limits::{
    ENVELOPE_BYTES_MAX, KDF_LANES_MAX, KDF_MEMORY_KIB_MAX, KDF_PASSES_MAX, PASSPHRASE_BYTES_MAX,
    PASSPHRASE_CHARACTERS_MIN,
};

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Most bytes of NFKC for one byte of UTF-8 (U+FDFA: 33 for 3), so that nothing is left behind by a
/// vector that grows.
const NFKC_GROWTH_MAX: usize = 11;
const HEAD_BYTES: usize = 1 + KdfParameters::BYTES + SALT_BYTES;

/// Bytes by which an envelope is longer than what it holds.
pub const ENVELOPE_OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/// Random bytes that make equal passphrases give different keys.
pub type Salt = [u8; SALT_BYTES];

/// What somebody typed, in NFKC; wiped on drop, never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Text that cannot be a passphrase; says nothing of it but its length.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Too easily guessed.
    #[error("a passphrase has at least {min} characters, got {actual}")]
    TooShort { min: usize, actual: usize },
    /// Not typed by a person.
    #[error("a passphrase has at most {max} bytes, got {actual}")]
    TooLong { max: usize, actual: usize },
}

impl Passphrase {
    /// Takes a passphrase that is to protect something from now on.
    ///
    /// # Errors
    /// Below [`PASSPHRASE_CHARACTERS_MIN`] or above [`PASSPHRASE_BYTES_MAX`].
    pub fn choose(text: &str) -> Result<Self, PassphraseError> {
        let actual = text.chars().count();
        if actual < PASSPHRASE_CHARACTERS_MIN {
            let min = PASSPHRASE_CHARACTERS_MIN;
            return Err(PassphraseError::TooShort { min, actual });
        }
        Passphrase::typed(text)
    }

    /// Takes a passphrase that is to open something; any that is not too long.
    ///
    /// # Errors
    /// Above [`PASSPHRASE_BYTES_MAX`].
    pub fn typed(text: &str) -> Result<Self, PassphraseError> {
        let actual = text.len();
        if actual > PASSPHRASE_BYTES_MAX {
            let max = PASSPHRASE_BYTES_MAX;
            return Err(PassphraseError::TooLong { max, actual });
        }
        // One that is typed on another keyboard, or pasted, is the same when it looks the same.
        let mut bytes = Zeroizing::new(Vec::with_capacity(actual * NFKC_GROWTH_MAX));
        for character in text.nfkc() {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(Passphrase(bytes))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase([redacted])")
    }
}

/// How much work argon2id does for each guess.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KdfParameters {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl KdfParameters {
    /// What this build writes, and the least it reads: 64 MiB, three passes, one lane (0.25 to 0.75 s).
    pub const FLOOR: KdfParameters = KdfParameters {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 1,
    };

    /// Bytes of the parameters in a file.
    pub const BYTES: usize = 12;

    /// Takes parameters that are no weaker than the floor and no heavier than a machine bears.
    ///
    /// # Errors
    /// [`EnvelopeError::Weak`] and [`EnvelopeError::Heavy`].
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, EnvelopeError> {
        let parameters = KdfParameters {
            memory_kib,
            passes,
            lanes,
        };
        let floor = KdfParameters::FLOOR;
        if memory_kib < floor.memory_kib || passes < floor.passes || lanes < floor.lanes {
            return Err(EnvelopeError::Weak { parameters });
        }
        if memory_kib > KDF_MEMORY_KIB_MAX || passes > KDF_PASSES_MAX || lanes > KDF_LANES_MAX {
            return Err(EnvelopeError::Heavy { parameters });
        }
        Ok(parameters)
    }

    /// Returns `u32 memory KiB | u32 passes | u32 lanes`.
    pub fn encode(&self) -> [u8; KdfParameters::BYTES] {
        let mut bytes = [0; KdfParameters::BYTES];
        bytes[..4].copy_from_slice(&self.memory_kib.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.passes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.lanes.to_le_bytes());
        bytes
    }

    /// Reads parameters, within the bounds of [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn decode(bytes: &[u8; KdfParameters::BYTES]) -> Result<Self, EnvelopeError> {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        KdfParameters::new(number(0), number(4), number(8))
    }
}

impl fmt::Display for KdfParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KdfParameters {
            memory_kib,
            passes,
            lanes,
        } = self;
        write!(f, "argon2id m={memory_kib} KiB t={passes} p={lanes}")
    }
}

/// Why an envelope cannot be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Too short for an envelope, or longer than one may be.
    #[error("{actual} bytes are no envelope")]
    Length { actual: usize },
    /// Of a later build.
    #[error("envelope of version {actual}, this build reads {expected}", expected = VERSION)]
    Version { actual: u8 },
    /// Somebody lowered them, so that guessing costs less.
    #[error("{parameters} is weaker than {floor}: refused", floor = KdfParameters::FLOOR)]
    Weak { parameters: KdfParameters },
    /// Somebody raised them, so that opening takes for ever.
    #[error("{parameters} is heavier than any build writes: refused")]
    Heavy { parameters: KdfParameters },
    /// Another passphrase, or an altered envelope: the two look the same.
    #[error("the passphrase does not open it")]
    Closed,
    /// The machine lacks the memory that the parameters ask for.
    #[error("{parameters} cannot be computed here")]
    Resources { parameters: KdfParameters },
}

/// Returns argon2id (version 0x13) of a passphrase: 32 bytes to derive keys from.
///
/// Takes the memory and time that the parameters say, so it belongs on a worker thread.
///
/// # Errors
/// [`EnvelopeError::Resources`] when the memory is not to be had.
pub fn stretch(
    passphrase: &Passphrase,
    salt: &Salt,
    parameters: &KdfParameters,
) -> Result<Secret, EnvelopeError> {
    let refused = |_| EnvelopeError::Resources {
        parameters: *parameters,
    };
    let KdfParameters {
        memory_kib,
        passes,
        lanes,
    } = *parameters;
    let params = argon2::Params::new(memory_kib, passes, lanes, Some(32)).map_err(refused)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut out = Zeroizing::new([0; 32]);
    argon2
        .hash_password_into(passphrase.bytes(), salt, out.as_mut())
        .map_err(refused)?;
    Ok(Secret::new(*out))
}

/// Seals `plain` under a passphrase, for the one purpose that `label` names.
///
/// `salt` and `nonce` are fresh random bytes. Blocks for as long as [`stretch`].
///
/// # Errors
/// [`EnvelopeError::Length`] for more than [`ENVELOPE_BYTES_MAX`], else as [`stretch`].
pub fn seal_with_passphrase(
    passphrase: &Passphrase,
    label: Namespace,
    parameters: &KdfParameters,
    salt: &Salt,
    nonce: &[u8; NONCE_BYTES],
    plain: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    seal_with_both(passphrase, &[], label, parameters, salt, nonce, plain)
}

/// As [`seal_with_passphrase`], under a passphrase and something else that has to be known: the key is
/// `derive(argon2id(passphrase, salt), label, also)`.
///
/// # Errors
/// As [`seal_with_passphrase`].
pub fn seal_with_both(
    passphrase: &Passphrase,
    also: &[u8],
    label: Namespace,
    parameters: &KdfParameters,
    salt: &Salt,
    nonce: &[u8; NONCE_BYTES],
    plain: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    let length = plain.len().saturating_add(ENVELOPE_OVERHEAD_BYTES);
    if length > ENVELOPE_BYTES_MAX {
        return Err(EnvelopeError::Length { actual: length });
    }
    let key = derive(&stretch(passphrase, salt, parameters)?, label, also);
    let mut out = Vec::with_capacity(length);
    out.push(VERSION);
    out.extend_from_slice(&parameters.encode());
    out.extend_from_slice(salt);
    let associated = associated_data(label, &out);
    out.extend_from_slice(nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = XChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(nonce.into(), &associated, (&mut out[start..]).into())
        .expect("an envelope is far below what the cipher takes");
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens what [`seal_with_passphrase`] sealed for the same purpose.
///
/// Parameters below [`KdfParameters::FLOOR`] or above the limits are refused before any work is done.
///
/// # Errors
/// [`EnvelopeError::Closed`] for a wrong passphrase or altered bytes.
pub fn open_with_passphrase(
    passphrase: &Passphrase,
    label: Namespace,
    envelope: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    open_with_both(passphrase, &[], label, envelope)
}

/// Opens what [`seal_with_both`] sealed for the same purpose.
///
/// # Errors
/// As [`open_with_passphrase`]; `Closed` also when the something else is another.
pub fn open_with_both(
    passphrase: &Passphrase,
    also: &[u8],
    label: Namespace,
    envelope: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let Parsed {
        head,
        parameters,
        salt,
        nonce,
        sealed,
        tag,
    } = parse(envelope)?;
    let key = derive(&stretch(passphrase, salt, &parameters)?, label, also);
    let mut plain = Zeroizing::new(sealed.to_vec());
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(
            nonce.into(),
            &associated_data(label, head),
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| EnvelopeError::Closed)?;
    Ok(plain)
}

/// Returns how much work an envelope asks for, without doing it.
///
/// # Errors
/// As [`open_with_passphrase`], but for a wrong passphrase and altered bytes.
pub fn envelope_parameters(envelope: &[u8]) -> Result<KdfParameters, EnvelopeError> {
    parse(envelope).map(|parsed| parsed.parameters)
}

/// An envelope whose parameters are within the bounds.
struct Parsed<'a> {
    /// All before the nonce.
    head: &'a [u8],
    parameters: KdfParameters,
    salt: &'a Salt,
    nonce: &'a [u8; NONCE_BYTES],
    sealed: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

fn parse(envelope: &[u8]) -> Result<Parsed<'_>, EnvelopeError> {
    let short = EnvelopeError::Length {
        actual: envelope.len(),
    };
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return Err(short);
    }
    match envelope.first() {
        None => return Err(short),
        Some(&VERSION) => {}
        Some(&actual) => return Err(EnvelopeError::Version { actual }),
    }
    let (head, rest) = envelope.split_at_checked(HEAD_BYTES).ok_or(short)?;
    let (parameters, salt) = head[1..].split_first_chunk().ok_or(short)?;
    let (nonce, rest) = rest.split_first_chunk().ok_or(short)?;
    let (sealed, tag) = rest.split_last_chunk().ok_or(short)?;
    Ok(Parsed {
        head,
        parameters: KdfParameters::decode(parameters)?,
        salt: salt.try_into().map_err(|_| short)?,
        nonce,
        sealed,
        tag,
    })
}

fn associated_data(label: Namespace, head: &[u8]) -> Vec<u8> {
    [&label.hash(), head].concat()
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::namespace;

    use super::*;

    const LABEL: Namespace = namespace::HOME_KEY;

    fn seal(plain: &[u8]) -> Vec<u8> {
        let passphrase = Passphrase::choose("correct horse").unwrap();
        let floor = KdfParameters::FLOOR;
        seal_with_passphrase(&passphrase, LABEL, &floor, &[7; 16], &[8; 24], plain).unwrap()
    }

    #[test]
    fn an_envelope_opens_with_its_passphrase_and_purpose_only() {
        let envelope = seal(b"thirty-two secret bytes of a key");
        assert_eq!(envelope.len(), 32 + ENVELOPE_OVERHEAD_BYTES);
        assert!(!envelope.windows(8).any(|window| window == b"secret b"));
        let right = Passphrase::typed("correct horse").unwrap();
        let wrong = Passphrase::typed("correct hors").unwrap();
        let opened = open_with_passphrase(&right, LABEL, &envelope).unwrap();
        assert_eq!(opened.as_slice(), b"thirty-two secret bytes of a key");
        let closed = Err(EnvelopeError::Closed);
        assert_eq!(open_with_passphrase(&wrong, LABEL, &envelope), closed);
        let other = open_with_passphrase(&right, namespace::SEAL, &envelope);
        assert_eq!(other, closed);
        for at in [20, 40, envelope.len() - 1] {
            let mut altered = envelope.clone();
            altered[at] ^= 1;
            assert_eq!(open_with_passphrase(&right, LABEL, &altered), closed);
        }
    }

    #[test]
    fn the_bytes_of_an_envelope_are_final() {
        let head = "01000001000300000001000000\
                    07070707070707070707070707070707\
                    080808080808080808080808080808080808080808080808";
        let bytes: String = seal(b"kinlog").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            bytes,
            format!("{head}5df49798ed6ba0258c4f0909de89cdcab1408d4ff86d")
        );
    }

    #[test]
    fn parameters_are_never_lowered_nor_raised_without_bound() {
        let right = Passphrase::typed("correct horse").unwrap();
        let with = |at: usize, value: u32| {
            let mut envelope = seal_cheaply();
            envelope[at..at + 4].copy_from_slice(&value.to_le_bytes());
            open_with_passphrase(&right, LABEL, &envelope).map(|_| ())
        };
        for (at, value) in [(1, 64 * 1024 - 1), (1, 0), (5, 2), (9, 0)] {
            assert!(matches!(with(at, value), Err(EnvelopeError::Weak { .. })));
        }
        for (at, value) in [(1, u32::MAX), (5, u32::MAX), (9, 256)] {
            assert!(matches!(with(at, value), Err(EnvelopeError::Heavy { .. })));
        }
    }

    /// Returns bytes in the shape of an envelope that no passphrase made.
    fn seal_cheaply() -> Vec<u8> {
        let mut envelope = vec![VERSION];
        envelope.extend_from_slice(&KdfParameters::FLOOR.encode());
        envelope.resize(ENVELOPE_OVERHEAD_BYTES + 6, 0);
        envelope
    }

    #[test]
    fn what_is_no_envelope_is_refused_before_any_work() {
        let right = Passphrase::typed("correct horse").unwrap();
        let whole = seal_cheaply();
        for length in 0..ENVELOPE_OVERHEAD_BYTES {
            let refused = open_with_passphrase(&right, LABEL, &whole[..length]).unwrap_err();
            assert_eq!(refused, EnvelopeError::Length { actual: length });
        }
        let mut later = whole.clone();
        later[0] = 2;
        let refused = open_with_passphrase(&right, LABEL, &later).unwrap_err();
        assert_eq!(refused, EnvelopeError::Version { actual: 2 });
        let huge = vec![VERSION; ENVELOPE_BYTES_MAX + 1];
        let refused = open_with_passphrase(&right, LABEL, &huge).unwrap_err();
        assert!(matches!(refused, EnvelopeError::Length { .. }));
    }

    #[test]
    fn a_passphrase_is_chosen_with_some_length_and_never_shown() {
        let error = Passphrase::choose("seven77").unwrap_err();
        assert_eq!(error, PassphraseError::TooShort { min: 8, actual: 7 });
        let long = "x".repeat(PASSPHRASE_BYTES_MAX + 1);
        assert!(Passphrase::typed(&long).is_err());
        let shown = format!("{:?}", Passphrase::choose("correct horse").unwrap());
        assert_eq!(shown, "Passphrase([redacted])");
    }
}
