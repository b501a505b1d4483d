//! One program for all of these: linking ten would take longer than running them. Each file stands alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod associations;
mod hostile;
mod hostile_relay;
mod lan;
mod meeting;
mod mesh;
mod npm;
mod replication;
mod stalling;
mod support;
mod turn;
