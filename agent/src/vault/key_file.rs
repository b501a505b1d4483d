//! The file that holds the key of a home under its passphrase: `vault id 16 | envelope`.

use kinlog_feeds::crypto::{Secret, namespace};
use kinlog_feeds::text;

use crate::vault::passphrase::{
    ENVELOPE_OVERHEAD_BYTES, EnvelopeError, KdfParameters, Passphrase, open_with_passphrase,
    seal_with_passphrase,
};
use crate::vault::{HomeKey, Salt};

const ID_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// Random name of a home's vault, under which an unlocked key is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct VaultId(pub(crate) [u8; ID_BYTES]);

impl VaultId {
    /// Returns the name of its file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.key", text::encode(&self.0))
    }
}

/// A home's key under a passphrase.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KeyFile {
    pub(crate) id: VaultId,
    envelope: Vec<u8>,
}

impl KeyFile {
    /// Bytes of the file.
    pub(crate) const BYTES: usize = ID_BYTES + ENVELOPE_OVERHEAD_BYTES + KEY_BYTES;

    /// Seals a key; `salt` and `nonce` are fresh random bytes. Takes as long as a derivation.
    pub(crate) fn seal(
        id: VaultId,
        key: &HomeKey,
        passphrase: &Passphrase,
        salt: &Salt,
        nonce: &[u8; 24],
    ) -> Result<KeyFile, EnvelopeError> {
        let (label, floor) = (namespace::HOME_KEY, KdfParameters::FLOOR);
        let envelope = seal_with_passphrase(passphrase, label, &floor, salt, nonce, key.expose())?;
        Ok(KeyFile { id, envelope })
    }

    /// Opens the key. Takes as long as a derivation.
    pub(crate) fn open(&self, passphrase: &Passphrase) -> Result<HomeKey, EnvelopeError> {
        let plain = open_with_passphrase(passphrase, namespace::HOME_KEY, &self.envelope)?;
        let key = plain.as_slice().try_into();
        let key = key.map_err(|_| EnvelopeError::Length {
            actual: self.envelope.len(),
        })?;
        Ok(HomeKey::new(Secret::new(key)))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.id.0, self.envelope.as_slice()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<KeyFile, EnvelopeError> {
        let actual = bytes.len();
        match bytes.split_first_chunk() {
            Some((id, envelope)) if actual == KeyFile::BYTES => Ok(KeyFile {
                id: VaultId(*id),
                envelope: envelope.to_vec(),
            }),
            _ => Err(EnvelopeError::Length { actual }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_by_its_passphrase() {
        let key = HomeKey::new(Secret::new([4; 32]));
        let passphrase = Passphrase::choose("correct horse").unwrap();
        let file = KeyFile::seal(VaultId([1; 16]), &key, &passphrase, &[2; 16], &[3; 24]).unwrap();
        let bytes = file.encode();
        let again = KeyFile::decode(&bytes).unwrap();
        assert_eq!(again, file);
        assert_eq!(again.open(&passphrase).unwrap(), key);
        for length in [0, 15, bytes.len() - 1] {
            assert!(KeyFile::decode(&bytes[..length]).is_err());
        }
    }
}
