//! The replicator over a simulated network, on real stores in memory. Seeds are printed; a run is
//! a function of its seed.
#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by panicking

mod crowd;
mod floods;
mod forks;
mod found;
mod gets;
mod groups;
mod holders;
mod hostile;
mod lies;
mod limits;
mod loss;
mod many;
mod mutated;
mod overshare;
mod push;
mod reorgs;
mod sets;
mod sharing;
mod timed;
mod unasked;
mod withheld;
mod world;
