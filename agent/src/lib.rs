//! One running agent: identity, directory of paths, pins, rooms, `state.db`; joins feeds, swarm and
//! index. It knows nothing of HTTP or terminals: callers speak [`api`].
//!
//! The rooms of this crate, from the outside in:
//!
//! - [`api`]: requests and answers, in one process and over the local socket.
//! - [`Agent`], [`Target`]: the running agent, and the way to it.
//! - [`introduce()`]: two agents of one process that meet without a network.
//! - `requests`: one function a request.
//! - `tasks`, `network`: what runs beside requests: sessions, node events, the directory's heads.
//! - `core`: home, store, index, knowledge and plan in one value; blocking.
//! - `rooms`: the write side of rooms.
//! - `presence`: who is there and who types: told, held in memory, forgotten.
//! - `settings`: what the agent says of itself and keeps for itself, on all its devices.
//! - `seeding`: seed grants, given and held.
//! - `pins`, `host`, `knowledge`: policy, as a pure function from what is known to what is done.
//! - `guard`: whether this device may sign.
//! - `state`, [`home`], [`links`]: what is on disk, and what people pass on.
//! - [`linking`]: how a new installation becomes one more device of an agent.
//! - [`vault`], [`backup`]: secrets at rest, and what brings a home back.
//! - [`sign_in`]: a new device by a password.

mod agent;
pub mod api;
pub mod backup;
mod block_ranges;
mod core;
mod egress;
mod failure;
mod guard;
pub mod home;
mod host;
mod introduce;
mod keys;
mod knowledge;
pub mod limits;
pub mod linking;
pub mod links;
mod listed;
mod network;
pub mod pairing;
mod peers;
mod pins;
mod presence;
mod requests;
pub mod rooms;
mod routes;
mod seeding;
mod settings;
pub mod sign_in;
mod socket;
mod state;
mod target;
mod tasks;
#[cfg(test)]
mod test_folder;
pub mod vault;
mod wall;

pub use agent::{Agent, NetworkConfig, OpenOptions};
pub use introduce::{Introduction, introduce};
pub use target::Target;

use wall::wall_ms;
