//! Keys of a room's epochs as a device is given them: `uint n <= 2,048 | n x epoch secret 32 |
//! uint m <= 2,048 | m x act key 32`.

use std::fmt;

use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::limits::ROOM_EPOCH_KEYS_MAX;
use kinlog_indexer::seal::{ContentKey, EpochSecret};

/// Keys of a room's epochs that a device is given.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct RoomKeys {
    /// Whole secrets, newest first.
    pub secrets: Vec<EpochSecret>,
    /// Act keys of the epochs whose secret is not given.
    pub act_keys: Vec<ContentKey>,
}

impl fmt::Debug for RoomKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKeys")
            .field("secrets", &self.secrets.len())
            .field("act_keys", &self.act_keys.len())
            .finish()
    }
}

impl RoomKeys {
    /// Encodes the keys; of more than [`ROOM_EPOCH_KEYS_MAX`] of a sort the first are kept.
    pub fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = zeroize::Zeroizing::new(Vec::with_capacity(
            8 + 32 * (self.secrets.len() + self.act_keys.len()),
        ));
        let secrets = &self.secrets[..self.secrets.len().min(ROOM_EPOCH_KEYS_MAX)];
        out.put_uint(secrets.len() as u64);
        for secret in secrets {
            out.put_raw(secret.expose());
        }
        let act_keys = &self.act_keys[..self.act_keys.len().min(ROOM_EPOCH_KEYS_MAX)];
        out.put_uint(act_keys.len() as u64);
        for key in act_keys {
            out.put_raw(key.expose());
        }
        out
    }

    /// Decodes what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Bytes that are too few, too many, or of too many keys.
    pub fn decode(bytes: &[u8]) -> Result<RoomKeys, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut keys = RoomKeys::default();
        for _ in 0..reader.uint_max("epoch secrets", ROOM_EPOCH_KEYS_MAX)? {
            keys.secrets.push(EpochSecret::new(reader.fixed()?));
        }
        for _ in 0..reader.uint_max("act keys", ROOM_EPOCH_KEYS_MAX)? {
            keys.act_keys.push(ContentKey::new(reader.fixed()?));
        }
        reader.finish()?;
        Ok(keys)
    }
}
