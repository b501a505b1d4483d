//! What an agent answers about devices, links and sign-ins. Field names are what `--json` prints, so they are kept.

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use serde::{Deserialize, Serialize};

use crate::api::Text;

/// A device of this agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeviceInfo {
    pub key: Text<DeviceKey>,
    pub name: String,
    /// `this`, `former` (its paths are continued here) or `other`.
    pub role: String,
    /// Paths that it lists in public.
    pub paths: u64,
    /// Why it may not write any more, when it is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_renew: Option<String>,
    /// `device`; `revoked`; `undone`, when whoever added it was revoked.
    pub state: String,
    /// Words of `write`, `add`, `revoke`.
    pub powers: Vec<String>,
    /// Name of the device that added it, or `the phrase`.
    pub added_by: String,
    /// Names of those who revoked it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked_by: Vec<String>,
}

/// How much of a directory is accepted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CutInfo {
    pub length: u64,
    pub tree_hash: String,
}

/// A device that asks to be linked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LinkAskedInfo {
    pub device: Text<DeviceKey>,
    pub name: String,
    /// What it may do when it is added.
    pub powers: Vec<String>,
    /// Words that have to stand on both devices.
    pub words: String,
}

/// What became of one of somebody's devices.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeviceChange {
    pub agent: Text<AgentId>,
    /// Name of the agent, and the start of its id.
    pub name: String,
    /// `device_added`, `device_renamed`, `device_revoked`, `device_undone` or `root_replaced`.
    pub what: String,
    pub device: Text<DeviceKey>,
    pub device_name: String,
    /// Who did it; for a renamed device its former name.
    pub by: String,
}

/// Signing in with a password.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignInInfo {
    /// `ready`, `elsewhere` (made by another device, the record has not come yet) or `none`.
    pub state: String,
    /// Number of the record, which counts up with each new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What a seeder is given that is to hold the record, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_link: Option<String>,
    /// Keys that add devices by a password, or did.
    pub keys: Vec<SignInKeyInfo>,
    /// Other agents whose records are held here.
    pub held: Vec<HeldSignInInfo>,
}

/// A key that adds devices by a password.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignInKeyInfo {
    pub key: Text<DeviceKey>,
    /// The device that made it.
    pub made_by: String,
    pub revoked: bool,
    /// Devices that it added.
    pub devices: Vec<String>,
}

/// The record of another agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HeldSignInInfo {
    pub agent: Text<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of the record; none until it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}
