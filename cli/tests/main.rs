//! One program for all of these: linking thirty would take longer than running them. Each file stands alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod backup;
mod bundles;
mod canary;
mod conflicts;
mod connecting;
mod demo;
mod devices;
mod feeds;
mod foreign;
mod fork_guard;
mod golden_r30;
mod init;
mod keyring;
mod kill_nine;
mod lan;
mod listed_servers;
mod lock;
mod npm_interop;
mod npm_matrix;
mod online;
mod operations;
mod presence;
mod readme;
mod seeding;
mod selective;
mod sign_in;
mod signal_privacy;
mod support;
