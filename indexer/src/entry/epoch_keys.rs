//! Keys of earlier epochs, for those who were not there.

use std::fmt;

use kinlog_feeds::crypto::Secret;

use crate::entry::BodyError;
use crate::limits::ROOM_EPOCH_KEYS_MAX;

/// Keys of the epochs before the one that this entry is sealed in: whole secrets as far as the
/// room's history policy gives them, and act keys, which everybody gets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct EpochKeys {
    secrets: Vec<Secret>,
    act_keys: Vec<Secret>,
}

impl EpochKeys {
    /// Takes epoch secrets and act keys, at most [`ROOM_EPOCH_KEYS_MAX`] of each.
    pub fn new(secrets: Vec<[u8; 32]>, act_keys: Vec<[u8; 32]>) -> Result<Self, BodyError> {
        for (field, count) in [("secrets", secrets.len()), ("act_keys", act_keys.len())] {
            if count > ROOM_EPOCH_KEYS_MAX {
                let actual = count as u64;
                return Err(BodyError::Value { field, actual });
            }
        }
        Ok(EpochKeys {
            secrets: secrets.into_iter().map(Secret::new).collect(),
            act_keys: act_keys.into_iter().map(Secret::new).collect(),
        })
    }

    /// Returns the epoch secrets; whoever calls this keeps them out of logs and errors.
    pub fn secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.secrets.iter().map(Secret::expose)
    }

    /// Returns the act keys; whoever calls this keeps them out of logs and errors.
    pub fn act_keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.act_keys.iter().map(Secret::expose)
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys")
            .field("secrets", &self.secrets.len())
            .field("act_keys", &self.act_keys.len())
            .finish()
    }
}
