//! JavaScript Hypercore 11 and 10 as peers over TCP, both ways, byte for byte.
//!
//! Needs Node and `npm ci` in `far-ends/npm`; `cargo xtask test` sees to both.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::time::Duration;

use crate::support::Home;
use crate::support::blocks::{Kind, block, digest};
use kinlog_feeds::text;
use testkit::npm::Npm;
use testkit::process::Running;

const BLOCKS: u32 = 10_000;

/// 82 MB take 6 to 8 s between two JavaScript peers on a free machine.
const TRANSFER: Duration = Duration::from_secs(240);

/// Starts `peer.js` of `far-ends/npm`.
#[track_caller]
fn npm(arguments: &[&str]) -> Npm {
    Npm::start("peer.js", arguments, TRANSFER)
}

fn blocks(seed: u32, kind: Kind) -> Vec<Vec<u8>> {
    (0..BLOCKS).map(|index| block(seed, index, kind)).collect()
}

/// Every block and a newline after it, as `feed append` takes and `feed read` gives them.
fn lines(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut lines = Vec::new();
    for block in blocks {
        lines.extend_from_slice(block);
        lines.push(b'\n');
    }
    lines
}

/// Pulls a feed that npm serves, reads it back and verifies it.
#[track_caller]
fn pull_from_npm(seed: u32, more: &[&str]) {
    let expected = blocks(seed, Kind::Bytes);
    let (count, seed) = (BLOCKS.to_string(), seed.to_string());
    let mut arguments = vec!["serve", "--count", &count, "--seed", &seed];
    arguments.extend(more);
    let mut peer = npm(&arguments);
    let serving = peer.hear();
    assert_eq!(
        serving["digest"],
        digest(&expected),
        "both ends make the same blocks"
    );
    let key = serving["key"].as_str().unwrap();
    let address = format!("127.0.0.1:{}", serving["port"]);

    let home = Home::init("puller");
    let pull = home.start(["feed", "pull", key, "--tcp", &address]);
    pull.finish(TRANSFER).ok();
    let verified = home.json_one(["feed", "verify", key]);
    assert_eq!(verified["blocks_checked"], BLOCKS, "{verified}");
    let read = Running::start(&mut home.command(["feed", "read", key]))
        .finish(TRANSFER)
        .ok();
    assert!(
        read.stdout == lines(&expected),
        "the blocks differ from those that npm appended"
    );
    peer.running.kill();
}

/// Appends blocks of text, serves them, and lets npm pull and digest them.
#[track_caller]
fn serve_to_npm(seed: u32, hypercore: &str) {
    let expected = blocks(seed, Kind::Text);
    let home = Home::init("server");
    home.run_with(["feed", "append", "/blocks"], &lines(&expected))
        .ok();
    let mut serve = home.start(["feed", "serve", "/blocks", "--tcp", "127.0.0.1:0"]);
    let (key, address) = serve.wait_json("the address", TRANSFER, |value| {
        let (key, address) = (value["key"].as_str()?, value["address"].as_str()?);
        Some((key.to_owned(), address.to_owned()))
    });
    let key = text::encode_hex(&text::decode_key(&key).unwrap());
    let port = address.rsplit(':').next().unwrap();

    let count = BLOCKS.to_string();
    let pull = [
        "pull",
        "--hypercore",
        hypercore,
        "--count",
        &count,
        "--key",
        &key,
        "--port",
        port,
    ];
    let pulled = npm(&pull).hear();
    assert_eq!(pulled["count"], BLOCKS, "{pulled}");
    assert_eq!(
        pulled["digest"],
        digest(&expected),
        "npm holds other bytes than we appended"
    );
    serve.stop();
}

#[test]
fn npm_hypercore_11_is_pulled_byte_for_byte() {
    pull_from_npm(11, &["--hypercore", "11"]);
}

#[test]
fn npm_hypercore_10_is_pulled_byte_for_byte() {
    pull_from_npm(10, &["--hypercore", "10"]);
}

/// The key of such a feed is its signer's public key.
#[test]
fn npm_hypercore_10_without_a_manifest_is_pulled_byte_for_byte() {
    pull_from_npm(12, &["--hypercore", "10", "--compat"]);
}

#[test]
fn npm_hypercore_11_pulls_what_we_serve() {
    serve_to_npm(13, "11");
}

#[test]
fn npm_hypercore_10_pulls_what_we_serve() {
    serve_to_npm(14, "10");
}

/// Pulls a feed that npm serves, lets npm cut it and go on otherwise, and pulls again.
#[track_caller]
fn follow_npm_onto_a_fork(hypercore: &str, length: u32, cut: u32, more: u32) {
    let count = length.to_string();
    let arguments = [
        "serve",
        "--hypercore",
        hypercore,
        "--count",
        &count,
        "--kind",
        "text",
    ];
    let mut peer = npm(&arguments);
    let serving = peer.hear();
    let key = serving["key"].as_str().unwrap().to_owned();
    let address = format!("127.0.0.1:{}", serving["port"]);
    let home = Home::init("reader");
    let pull = || home.start(["feed", "pull", &key, "--tcp", &address]);
    pull().finish(TRANSFER).ok();

    for (round, (cut, more)) in (1u32..).zip([(cut, more), (cut / 2, more + 7)]) {
        peer.running
            .write(format!("cut {cut} {more} {}\n", 40 + round).as_bytes());
        let after = peer.hear();
        assert_eq!(
            (&after["fork"], &after["length"]),
            (&round.into(), &(cut + more).into())
        );
        pull().finish(TRANSFER).ok();
        let info = home.json_one(["feed", "info", &key]);
        assert_eq!(
            (&info["fork"], &info["length"]),
            (&after["fork"], &after["length"])
        );
        assert_eq!(info["blocks_held"], info["length"]);
        let read = home.run(["feed", "read", &key]).ok();
        let blocks = split_lines(&read.stdout);
        assert_eq!(digest(&blocks), after["digest"], "round {round}");
        home.json_one(["feed", "verify", &key]);
    }
    peer.running.kill();
}

/// Takes lines apart again, for blocks that hold no newline.
fn split_lines(lines: &[u8]) -> Vec<Vec<u8>> {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    lines
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// Serves an own plain feed to npm, cuts it and goes on otherwise; npm follows.
#[track_caller]
fn take_npm_along_onto_a_fork(hypercore: &str, length: usize, cut: usize, more: usize) {
    let home = Home::init("cutter");
    let created = home.json_one(["feed", "create", "--plain"]);
    let key = created["key"].as_str().unwrap().to_owned();
    let line = |round: usize, index: usize| format!("round {round} line {index}").into_bytes();
    let mut expected: Vec<Vec<u8>> = (0..length).map(|index| line(0, index)).collect();
    home.run_with(["feed", "append", &key], &lines(&expected))
        .ok();
    let mut serve = home.start(["feed", "serve", &key, "--tcp", "127.0.0.1:0"]);
    let address = serve.wait_json("the address", TRANSFER, |value| {
        value["address"].as_str().map(str::to_owned)
    });
    let hex = text::encode_hex(&text::decode_key(&key).unwrap());
    let port = address.rsplit(':').next().unwrap();
    let arguments = [
        "follow",
        "--hypercore",
        hypercore,
        "--key",
        &hex,
        "--port",
        port,
    ];
    let mut peer = npm(&arguments);
    let mut holds = |fork: u64, expected: &[Vec<u8>]| {
        let wanted = digest(expected);
        peer.running.wait_json("npm to hold it", TRANSFER, |value| {
            assert!(value["error"].is_null(), "{value}");
            (value["fork"] == fork && value["digest"] == wanted).then_some(())
        });
    };
    holds(0, &expected);
    for (round, (cut, more)) in (1..).zip([(cut, more), (cut / 2, more + 7)]) {
        home.json_one(["feed", "truncate", &key, "--length", &cut.to_string()]);
        expected.truncate(cut);
        let new: Vec<_> = (cut..cut + more).map(|index| line(round, index)).collect();
        home.run_with(["feed", "append", &key], &lines(&new)).ok();
        expected.extend(new);
        holds(round as u64, &expected);
    }
    peer.running.kill();
    serve.stop();
}

#[test]
fn npm_hypercore_11_is_followed_onto_a_fork() {
    follow_npm_onto_a_fork("11", 1000, 600, 50);
}

#[test]
fn npm_hypercore_10_is_followed_onto_a_fork() {
    follow_npm_onto_a_fork("10", 1000, 300, 900);
}

#[test]
fn npm_hypercore_11_follows_us_onto_a_fork() {
    take_npm_along_onto_a_fork("11", 1000, 600, 50);
}

#[test]
fn npm_hypercore_10_follows_us_onto_a_fork() {
    take_npm_along_onto_a_fork("10", 1000, 300, 900);
}
