//! What a process hears and says, frame by frame.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::process::{Running, WAIT_MAX};

/// Starts `kinlog up` that shows on stderr every frame it decrypts.
pub fn start_with_frames(command: &mut Command) -> Running {
    let mut up = Running::start(command.env("KINLOG_LOG", "off,kinlog_swarm::frames=trace"));
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    up
}

/// Returns the bytes of all messages that a process counted at its links.
pub fn bytes_received(log: &Path) -> u64 {
    let log = std::fs::read_to_string(log).unwrap();
    log.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

/// Returns the content of every decrypted frame that a process told of.
pub fn decrypted_frames(stderr: &str) -> Vec<Vec<u8>> {
    let lines = stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["target"] == "kinlog_swarm::frames")
        .map(|line| {
            kinlog_feeds::text::decode_hex(line["fields"]["hex"].as_str().unwrap()).unwrap()
        })
        .collect()
}
