//! Which peers reach each other through which routers, and how fast: real routers in namespaces of the
//! kernel, and a signal server with STUN and a TURN server on the internet between them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod far;
mod moving;
mod pairs;
#[path = "../support/mod.rs"]
mod support;
mod world;
