//! Fuzz targets: every decoder of bytes from peers, disks and people.
//!
//! A target is a plain function of bytes. It must not panic, and says more where more can be said:
//! what decodes comes back from its encoding, what verifies is what was signed, a store that opens
//! holds nothing that was not written. Each is run over a committed corpus and over mutations of
//! it: a few thousand as ordinary tests (`tests/replay.rs`), without end by
//! `cargo run --release -p kinlog-fuzz`. No fuzzing engine is needed; one can be put in front of
//! [`Target::run`].
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)] // A target fails by panicking.

mod mutate;
mod targets;

use std::path::PathBuf;

pub use mutate::mutate;
pub use targets::TARGETS;

/// One decoder, or several that are one way in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name, also of its folder in the corpus.
    pub name: &'static str,
    /// Feeds it bytes; returns whether they were understood.
    pub run: fn(&[u8]) -> bool,
    /// Makes valid inputs, from which mutations start.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations that the ordinary tests try: about a second.
    pub cases: u64,
}

/// Returns the target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Returns the folder of a target's committed inputs.
pub fn corpus_folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name)
}

/// Reads a target's committed inputs, in order of their names.
pub fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(corpus_folder(target)) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("the corpus can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            (
                name,
                std::fs::read(entry.path()).expect("a corpus file can be read"),
            )
        })
        .collect();
    files.sort();
    files
}
