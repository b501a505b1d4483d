//! What instances of one server tell each other, sans-IO.
//!
//! Instances share a channel on which each says who is in which topic with it, and have one each for
//! signals that are meant for its clients. A driver hands frames and time to a [`Bus`] and does what
//! its events say. Nothing is kept between instances: who was told of something and missed it asks,
//! and is told everything again.
//!
//! Every frame carries a MAC by the secret that all instances share, the instance that says it, a
//! number and a time: whoever else can write on the channels is not believed, and nothing is
//! believed twice. An instance's id is random and new at each start.

mod core;
mod frame;
#[cfg(test)]
mod tests;

pub use core::{Bus, BusEvent, BusSettings, Destination, Outgoing};
pub use frame::{BusSecret, Change, FrameError, InstanceId, SecretError};

pub(crate) use frame::Passed;
#[cfg(test)]
pub(crate) use frame::{Frame, Message};
