//! Bundles: their bytes, what a reader refuses, and what an import makes of them.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.
#![allow(clippy::single_range_in_vec_init)] // One range is a list of ranges.

mod codec;
mod import;
mod support;
