//! How a home begins.

use std::path::Path;

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use serde::Serialize;

use crate::api::{Error, Text};
use crate::home::Phrase;

/// A home that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    pub name: String,
    /// `kinlog://agent/...`.
    pub link: String,
}

/// Makes a home for a new agent with this device as its first; the root key signs once and is dropped.
///
/// # Errors
/// `Usage` when the home was initialised before: nothing is touched then.
pub fn init(_home: &Path, _name: &str, _phrase: &Phrase) -> Result<Initialised, Error> {
    Err(Error::general("init is not in this build yet"))
}
