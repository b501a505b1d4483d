//! What two peers say to each other over a link.

mod associations;
mod certificate;
#[cfg(test)]
mod derivations;
mod driver;
mod error;
mod hello;
mod info;
mod listing;
mod mesh;
mod message;
mod presence;
mod seed_clearing;
mod state;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use associations::{Associations, Means, Seen};
pub(crate) use certificate::LinkBinding;
pub use certificate::{Certificate, CertificateError};
pub(crate) use driver::{Command, Driver, Report, ToPeer};
pub use error::SessionError;
pub use hello::HelloError;
pub(crate) use info::label_name;
pub use info::{Label, SessionId, SessionInfo, SessionRole};
pub(crate) use mesh::{Beyond, CircuitMessage, CircuitRefusal, FoundPeer, MeshMessage, Reach};
pub use message::{PeerMessage, PeerMessageError};
pub use presence::{Doing, Presence};
pub use seed_clearing::SeedClearing;
pub(crate) use state::{Meeting, Relays, Session, SessionConfig, SessionEvent};
