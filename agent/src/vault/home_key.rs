//! The key of a home, and one secret sealed with it.
//!
//! A sealed secret is `u8 version=1 | nonce 24 | ciphertext | tag 16`. Its associated data names where it
//! belongs, so that one is never taken for another: `NS("home-secret") | u8 n | table n | u8 n | column n |
//! row`.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use kinlog_feeds::crypto::{Secret, namespace};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + NONCE_BYTES;

/// The key under which the secrets of one home stand on the disk; wiped on drop, never shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HomeKey(Secret);

/// Where a secret belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SecretPlace<'a> {
    table: &'static str,
    column: &'static str,
    row: &'a [u8],
}

impl<'a> SecretPlace<'a> {
    /// Names a column of a table of `state.db`; `row` is its primary key.
    pub const fn new(table: &'static str, column: &'static str, row: &'a [u8]) -> Self {
        SecretPlace { table, column, row }
    }

    /// The file with the device secret.
    pub const DEVICE_SECRET: SecretPlace<'static> = SecretPlace::new("", "device.secret", &[]);

    /// Returns the name of the table, empty for a file.
    pub const fn table(&self) -> &'static str {
        self.table
    }

    /// Returns the name of the column.
    pub const fn column(&self) -> &'static str {
        self.column
    }

    fn associated_data(&self) -> Vec<u8> {
        let mut data = namespace::HOME_SECRET.hash().to_vec();
        for name in [self.table, self.column] {
            data.push(u8::try_from(name.len()).expect("names of tables and columns are short"));
            data.extend_from_slice(name.as_bytes());
        }
        data.extend_from_slice(self.row);
        data
    }
}

/// Bytes that this key did not seal for this place, or that were altered since.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("sealed with another key, for another place, or altered")]
pub struct NotOpened;

impl HomeKey {
    /// Takes the 32 bytes of the key.
    pub const fn new(secret: Secret) -> Self {
        HomeKey(secret)
    }

    /// Returns the bytes; whoever calls this keeps them out of logs and errors.
    pub const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Seals a secret for its place; `nonce` is fresh random bytes.
    pub fn seal(&self, place: SecretPlace<'_>, nonce: &[u8; NONCE_BYTES], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        out.push(VERSION);
        out.extend_from_slice(nonce);
        out.extend_from_slice(plain);
        let tag = XChaCha20Poly1305::new(self.expose().into())
            .encrypt_inout_detached(
                nonce.into(),
                &place.associated_data(),
                (&mut out[HEAD_BYTES..]).into(),
            )
            .expect("a secret is far below what the cipher takes");
        out.extend_from_slice(&tag);
        out
    }

    /// Opens what [`seal`](Self::seal) sealed for the same place.
    ///
    /// # Errors
    /// Whatever it was, the answer is the same.
    pub fn open(
        &self,
        place: SecretPlace<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let Some((&VERSION, rest)) = sealed.split_first() else {
            return Err(NotOpened);
        };
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(NotOpened)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(NotOpened)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        XChaCha20Poly1305::new(self.expose().into())
            .decrypt_inout_detached(
                nonce.into(),
                &place.associated_data(),
                plain.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| NotOpened)?;
        Ok(plain)
    }

    /// Opens a sealed secret of 32 bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open); also for another length.
    pub fn open_secret(&self, place: SecretPlace<'_>, sealed: &[u8]) -> Result<Secret, NotOpened> {
        let plain = self.open(place, sealed)?;
        let bytes = plain.as_slice().try_into().map_err(|_| NotOpened)?;
        Ok(Secret::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> HomeKey {
        HomeKey::new(Secret::new([byte; 32]))
    }

    #[test]
    fn the_bytes_of_a_sealed_secret_are_final() {
        let place = SecretPlace::new("epochs", "secret", &[1, 2]);
        let sealed = key(5).seal(place, &[9; 24], b"kinlog");
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            format!(
                "01{}1809f71d4a02d0c6c1d887b41561e45169e5487a64dd",
                "09".repeat(24)
            )
        );
    }

    #[test]
    fn a_secret_opens_in_its_own_place_only() {
        let place = SecretPlace::new("epochs", "secret", &[1, 2]);
        let sealed = key(5).seal(place, &[9; 24], &[7; 32]);
        assert_eq!(key(5).open_secret(place, &sealed), Ok(Secret::new([7; 32])));
        assert_eq!(key(6).open(place, &sealed), Err(NotOpened));
        for other in [
            SecretPlace::new("epochs", "secret", &[1, 3]),
            SecretPlace::new("epoch", "ssecret", &[1, 2]),
            SecretPlace::new("invites", "seed", &[1, 2]),
            SecretPlace::DEVICE_SECRET,
        ] {
            assert_eq!(key(5).open(other, &sealed), Err(NotOpened));
        }
        let short = key(5).seal(place, &[9; 24], &[7; 31]);
        assert_eq!(key(5).open_secret(place, &short), Err(NotOpened));
    }

    #[test]
    fn a_home_key_is_never_shown() {
        assert_eq!(format!("{:?}", key(0xab)), "HomeKey(Secret([redacted]))");
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens_and_nothing_else(
            plain in prop::collection::vec(any::<u8>(), 0..200),
            row in prop::collection::vec(any::<u8>(), 0..40),
            noise in prop::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
        ) {
            let place = SecretPlace::new("rooms", "name", &row);
            let mut sealed = key(1).seal(place, &[3; 24], &plain);
            let opened = key(1).open(place, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), plain.as_slice());
            prop_assert_eq!(key(1).open(place, &noise), Err(NotOpened));
            let at = at.index(sealed.len());
            sealed[at] ^= 0x40;
            prop_assert_eq!(key(1).open(place, &sealed), Err(NotOpened));
        }
    }
}
