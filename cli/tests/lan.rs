//! Agents that meet without a signal server: two machines on one network, and who met before.
//!
//! Each machine is a network namespace. Where none can be made (not root, or no `ip`) the tests say so and
//! show nothing.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Home, MEETING, assert_webrtc, kinlog};
use testkit::process::{Running, WAIT_MAX};

/// Two machines on one network, 10.77.0.1 and 10.77.0.2, with nothing else there; gone when it is dropped.
struct Network {
    machines: [String; 2],
}

impl Network {
    /// Makes it, or says why it cannot be made.
    fn new() -> Option<Network> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("kl{}x{number}{side}", std::process::id());
        let network = Network {
            machines: [name('a'), name('b')],
        };
        let [a, b] = &network.machines;
        let made = [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("-n {a} link add v0 type veth peer name v0 netns {b}"),
            format!("-n {a} addr add 10.77.0.1/24 dev v0"),
            format!("-n {b} addr add 10.77.0.2/24 dev v0"),
            format!("-n {a} link set lo up"),
            format!("-n {b} link set lo up"),
            format!("-n {a} link set v0 up"),
            format!("-n {b} link set v0 up"),
        ];
        for command in made {
            let done = Command::new("ip").args(command.split(' ')).output();
            if !done.as_ref().is_ok_and(|done| done.status.success()) {
                eprintln!("skipped: no network namespaces here: ip {command}: {done:?}");
                return None;
            }
        }
        Some(network)
    }

    /// Starts `kinlog` with these arguments on one of the machines, with `--json`.
    fn start(&self, machine: usize, home: Option<&Home>, arguments: &[&str]) -> Running {
        let mut command = Command::new("ip");
        let mut kinlog = match home {
            Some(home) => home.command(arguments.iter().copied().chain(["--json"])),
            None => {
                let mut kinlog = kinlog();
                kinlog.args(arguments);
                kinlog
            }
        };
        kinlog.env_remove("KINLOG_NO_LAN");
        command.args(["netns", "exec", &self.machines[machine]]);
        command.arg(kinlog.get_program()).args(kinlog.get_args());
        for (name, value) in kinlog.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Running::start(&mut command)
    }

    /// Starts `kinlog up` on one of the machines and waits until it is ready.
    fn up(&self, machine: usize, home: &Home, more: &[&str]) -> Running {
        let arguments = [&["up"], more].concat();
        let mut up = self.start(machine, Some(home), &arguments);
        up.wait_json("word that it is ready", WAIT_MAX, |value| {
            (value["event"] == "ready").then_some(())
        });
        up
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in &self.machines {
            // What was never made is not there.
            let _ = Command::new("ip").args(["netns", "del", machine]).output();
        }
    }
}

/// One makes a room, the other comes in.
fn share_a_room(author: &Home, reader: &Home) {
    author.run(["room", "create", "garden"]).ok();
    let invite = author.json_one(["room", "invite", "garden"])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    reader.json(["room", "join", &invite]);
}

#[test]
fn who_leaves_says_goodbye_and_is_forgotten_at_once() {
    let Some(network) = Network::new() else {
        return;
    };
    let (one, other, leaving) = (
        Home::init("one"),
        Home::init("other"),
        Home::init("leaving"),
    );
    let _one_up = network.up(0, &one, &["--lan-only"]);
    let _other_up = network.up(0, &other, &["--lan-only"]);
    let leaving_up = network.up(1, &leaving, &["--lan-only"]);
    // Two agents on one machine are one machine.
    sees(&leaving, "2 other agents seen, on 1 other machine");
    sees(&one, "2 other agents seen, on 1 other machine");
    leaving_up.stop().ok();
    let gone = Instant::now();
    // Without a goodbye its records last for two minutes, and the name for more than an hour.
    sees(&one, "1 other agent seen, on this machine");
    assert!(
        gone.elapsed() < Duration::from_secs(10),
        "{:?}",
        gone.elapsed()
    );
}

/// Waits until the doctor says so of the local network.
#[track_caller]
fn sees(home: &Home, what: &str) {
    let until = Instant::now() + MEETING;
    loop {
        let report = home.json_one(["doctor"]);
        let checks = report["checks"].as_array().unwrap();
        let lan = checks.iter().find(|check| check["name"] == "lan").unwrap();
        let found = lan["found"].as_str().unwrap();
        if found.starts_with(what) {
            return;
        }
        assert!(Instant::now() < until, "{found}, not {what}");
    }
}

#[test]
fn two_machines_on_one_network_follow_each_other_and_talk_without_a_server() {
    let Some(network) = Network::new() else {
        return;
    };
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let link = author.append("/notes", "one\ntwo\n");
    let _author_up = network.up(0, &author, &[]);
    let _reader_up = network.up(1, &reader, &["--lan-only"]);

    let last = reader.follow(&link, &[]);
    assert_eq!(last["have"], 2, "{last:#}");
    let status = reader.status();
    assert_webrtc(&status);
    assert_eq!(status["lan"]["neighbours"], 1, "{status:#}");
    let found = status["found"].as_object().unwrap();
    assert!(!found.is_empty(), "{status:#}");
    assert!(
        found.keys().all(|by| by == "lan" || by == "own"),
        "{found:?}"
    );
    let text = reader.run(["status"]).ok().text().to_owned();
    assert!(text.contains("1 other agent on this network"), "{text}");

    share_a_room(&author, &reader);
    author.run(["send", "garden", "over the garden fence"]).ok();
    reader.hear("garden", "over the garden fence");
}

#[test]
fn who_met_once_meets_again_when_the_signal_server_is_gone() {
    let Some(network) = Network::new() else {
        return;
    };
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let mut signal = network.start(0, None, &["signal", "serve", "--listen", "10.77.0.1:0"]);
    let server = signal.line().expect("the first line is the URL");
    // No mDNS: nothing but what is remembered can help.
    let start = |machine: usize, home: &Home| {
        let point = format!("ws://10.77.0.{}:41077", machine + 1);
        let flags = [
            "--no-lan",
            "--public-url",
            &point,
            "--meeting-port",
            "41077",
        ];
        network.up(
            machine,
            home,
            &[&flags[..], &["--signal", &server]].concat(),
        )
    };
    let (author_up, reader_up) = (start(0, &author), start(1, &reader));
    share_a_room(&author, &reader);
    author.run(["send", "garden", "hello"]).ok();
    reader.hear("garden", "hello");
    for home in [&author, &reader] {
        let told = || {
            let status = home.status();
            let routes = status["routes"].as_array().unwrap();
            routes.iter().any(|route| route["path"] == "told")
        };
        let patience = std::time::Instant::now() + MEETING;
        while !told() {
            assert!(patience > std::time::Instant::now(), "{:#}", home.status());
            std::thread::yield_now();
        }
    }
    author_up.stop().ok();
    reader_up.stop().ok();
    signal.kill_now();

    let _author_up = start(0, &author);
    let _reader_up = start(1, &reader);
    author.run(["send", "garden", "still here"]).ok();
    reader.hear("garden", "still here");
    let status = reader.status();
    let found = status["found"].as_object().unwrap();
    assert!(!found.is_empty(), "{status:#}");
    assert!(
        found.keys().all(|by| by == "route" || by == "own"),
        "{found:?}"
    );
    let signals = status["signals"].as_array().unwrap();
    let server = signals.iter().find(|one| one["found_by"] == "signal");
    assert_eq!(server.unwrap()["connected"], false, "{status:#}");
}

#[test]
fn who_is_offline_meets_nobody_and_says_so() {
    let home = Home::init("hermit");
    let up = home.start(["up", "--offline"]);
    let mut up = up;
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    home.append("/notes", "alone\n");
    let status = home.status();
    assert_eq!(status["network"], false, "{status:#}");
    let other = Home::init("other");
    let link = other.append("/notes", "far away\n");
    home.run(["follow", &link, "--once"])
        .exits(4)
        .says("--offline");
    up.stop().ok();
}
