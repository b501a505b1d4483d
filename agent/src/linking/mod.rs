//! Making a new installation one more device of an agent, by a code shown on one that is.
//!
//! The code names the agent, the device that shows it and a secret of 16 bytes. The new device answers
//! with its card, signed by the code's key pair; both sides then show words that follow from code and
//! card, and go on only when somebody has compared them. What travels goes through a session in the
//! code's topic, or in two files. Whoever has seen the code can ask, not choose the words: these hang on
//! what the code says of the device that shows it, and on the asking device's own key.

mod code;
mod fetch;
mod message;
mod open;
mod pending;

pub use code::{LinkCode, LinkCodeError};
pub use fetch::{Fetched, fetch_identity, link_over_network};
pub use message::{LinkAnswer, LinkRequest, Linking, LinkingError};
pub(crate) use open::{AnsweredLink, OpenLink};
pub(crate) use pending::Approved;
pub use pending::PendingDevice;
pub(crate) use pending::forget as forget_pending;
