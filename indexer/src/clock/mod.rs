//! When an entry was written, and after which others.
//!
//! [`HybridClock`] dates the entries of one device: wall time where that moves forward, a counter
//! where it does not. [`Frontier`] says which entries the next one links to and how deep it lies.
//! Neither reads a clock: wall time comes in as a value.

mod frontier;
mod hybrid;

pub use frontier::{Frontier, FrontierEntry};
pub use hybrid::{Clock, HybridClock};
