//! One running agent: identity, directory of paths, pins, rooms, `state.db`; joins feeds, swarm and
//! index. It knows nothing of HTTP or terminals: callers speak [`api`].

mod agent;
pub mod api;
pub mod home;
pub mod limits;
pub mod links;
pub mod rooms;
mod state;
mod target;
#[cfg(test)]
mod test_folder;

pub use agent::{Agent, NetworkConfig, OpenOptions};
pub use target::Target;
