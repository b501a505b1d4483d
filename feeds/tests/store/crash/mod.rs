//! Power cuts after every operation of a fixed workload, under every policy, and during recovery.
//!
//! A workload has at least 1,200 operations of the disk; each of four seeds runs another one. Cut
//! after every operation, under each of eight policies: at least 38,400 images, each opened and
//! compared with what had been acknowledged.

mod exhaust;
mod nested;
mod oracle;
mod random;
mod workload;

pub(crate) use exhaust::cut;
pub(crate) use workload::options;
