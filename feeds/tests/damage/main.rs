//! Bytes that change on the disk: a typed error, or provably the same content; never other bytes, a
//! panic, a hang, or memory out of proportion.
//!
//! All alterations of small stores, one at a time: every byte, every length, sectors, pages,
//! numbers. A test binary of its own, because it counts every allocation.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests fail by panicking.

mod alterations;
mod numbers;
mod oracle;
mod pages;

mod stores;
#[path = "../store/support.rs"]
#[allow(dead_code)] // Not all of it is needed here.
mod support;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
