//! Disks that fail on purpose: at an operation, or at a power cut.

mod content;
mod crash;
mod cuts;
mod fault;
mod trace;

pub use crash::{CrashDisk, Event};
pub use cuts::{CrashPolicy, Cuts};
pub use fault::{Fault, FaultDisk};
pub use trace::{Operation, OperationKind, TraceDisk};
