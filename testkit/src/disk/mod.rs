//! Disks that fail on purpose: at an operation, or at a power cut.

mod crash;
mod fault;

pub use crash::{CrashDisk, CrashPolicy, Event};
pub use fault::{Fault, FaultDisk};
