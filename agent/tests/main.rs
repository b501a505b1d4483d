//! One program for all of these: linking twenty would take longer than running them. Each file stands alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod alone;
mod clearing;
mod cuts;
mod deletions;
mod derivations;
mod limits;
mod linking;
mod messages;
mod moving;
mod people;
mod pins;
mod private;
mod renewing;
mod rooms;
mod seeding;
mod settings;
mod sign_in;
mod stage;
mod story;
mod together;
mod why;
