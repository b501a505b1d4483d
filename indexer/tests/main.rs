//! One program for all of these: linking twenty would take longer than running them. Each file stands alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod acts;
mod attacks;
mod authority_attacks;
mod authority_never;
mod authority_old_parents;
mod authority_random;
mod authority_rules;
mod authority_sets;
mod damage;
mod derivations;
mod golden;
mod golden_own;
mod golden_paths;
mod golden_said;
mod identity;
mod messages;
mod people_sql;
mod readers;
mod rebuild;
#[path = "acts/reference.rs"]
mod reference;
mod registers;
mod snapshots;
mod views;
mod world;
