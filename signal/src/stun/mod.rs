//! STUN (RFC 8489): tells whoever asks by UDP from which address it was asked.
//!
//! A peer behind a NAT learns so under which address others may reach it. Binding requests are all
//! that is answered; there are no credentials, nothing is kept but a token bucket per address, and
//! an answer is never much larger than its request, so that a forged sender gains nothing.
//!
//! - [`Responder`]: which datagram is answered how; datagrams and time in, datagrams out.
//! - [`binding_request`], [`mapped_address`]: the side that asks.
//! - [`StunSocket`] (feature `server`): the UDP socket around it.

mod message;
mod responder;
#[cfg(feature = "server")]
mod socket;

pub use message::{binding_request, mapped_address};
pub use responder::{Responder, StunCounts};
#[cfg(feature = "server")]
pub use socket::StunSocket;
