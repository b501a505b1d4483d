//! What the signal server opens, is sent and holds in memory: nothing that names anybody or anything.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::support::{Home, MEETING, Signal};
use kinlog_feeds::crypto::{
    KeyPair, Secret, derive, device_dh_secret, device_seed, feed_seed, namespace,
};
use kinlog_signal::{Client, ClientConfig, ClientEvent, SignalKind, Topic};
use serde_json::Value;
use testkit::needles::Needles;
use testkit::process::{Folder, WAIT_MAX};
use tokio::sync::mpsc::Receiver;

const ROOM: &str = "behind the green door";
const MESSAGE: &str = "the key is under the third flowerpot";
const NOTE: &str = "a public note that only followers ask for";

/// System calls by which a file could be made, written to or moved.
const TRACED: &str = "trace=open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,\
                      link,linkat,symlink,symlinkat,truncate,memfd_create";

/// Makes a home whose phrase stays beside it.
fn home_with_words(name: &str) -> Home {
    let home = Home::empty(name);
    let words = home.beside("words.txt");
    home.run([
        "init",
        "--name",
        name,
        "--phrase-file",
        words.to_str().unwrap(),
    ])
    .ok();
    home
}

/// Adds everything that belongs to an agent and to nobody else.
fn add_all_of(needles: &mut Needles, home: &Home) {
    let name = |what: &str| format!("{what} of {}", home.name);
    let secret = home.device_secret();
    needles.add(&name("device secret"), secret.expose());
    needles.add(&name("home key"), home.home_key().expose());
    needles.add(&name("device signing seed"), device_seed(&secret).expose());
    needles.add(
        &name("device DH secret"),
        device_dh_secret(&secret).expose(),
    );

    let id = home.json_one(["id"]);
    let key = |value: &Value| kinlog_feeds::text::decode_key(value.as_str().unwrap()).unwrap();
    needles.add(&name("agent id"), &key(&id["agent"]));
    needles.add(&name("device key"), &key(&id["device"]));
    let feeds = home.json_one(["feed", "list"])["feeds"]
        .as_array()
        .unwrap()
        .clone();
    assert!(!feeds.is_empty());
    for feed in feeds {
        needles.add(&name("feed key"), &key(&feed["key"]));
        needles.add(&name("discovery key"), &key(&feed["discovery_key"]));
    }

    let state = home.state_db();
    let blobs = |query: &str| {
        let mut rows = state.prepare(query).unwrap();
        let rows = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let epochs = home.sealed("epochs", "secret", "id");
    assert!(!epochs.is_empty());
    for epoch in epochs {
        needles.add(&name("epoch secret"), &epoch);
        let epoch = Secret::new(epoch.try_into().unwrap());
        needles.add(
            &name("content key"),
            derive(&epoch, namespace::CONTENT, &[]).expose(),
        );
        needles.add(
            &name("meet key"),
            derive(&epoch, namespace::MEET, &[]).expose(),
        );
    }
    let own_feeds = blobs("SELECT feed_id FROM own_feeds");
    assert!(
        own_feeds.len() > 2,
        "the directory, and two feeds in the room"
    );
    for id in own_feeds {
        let id = id.try_into().unwrap();
        needles.add(&name("feed seed"), feed_seed(&secret, &id).expose());
    }
    let record = std::fs::read(home.path().join("install")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    for field in ["install", "mark", "store"] {
        let value = record[field].as_str().unwrap();
        needles.add(&name(field), value.as_bytes());
        let value = kinlog_feeds::text::decode(value).unwrap();
        needles.add(&name(field), &value);
    }
    let words = std::fs::read_to_string(home.beside("words.txt")).unwrap();
    let words = words.split_whitespace().collect::<Vec<_>>();
    assert_eq!(words.len(), 24);
    needles.add(&name("phrase"), words.join(" ").as_bytes());
    // A part of it is as bad.
    needles.add(
        &name("words of the phrase"),
        words[8..12].join(" ").as_bytes(),
    );
    for seed in home.sealed("invites", "seed", "public_key") {
        needles.add(&name("invite seed"), &seed);
    }
    for room in blobs("SELECT id FROM rooms") {
        needles.add(&name("room id"), &room);
    }
}

/// Somebody who does send values that can be found, through the same socket as everybody.
struct Planter {
    runtime: tokio::runtime::Runtime,
    /// Held so that their topic stays joined.
    clients: Vec<(Client, Receiver<ClientEvent>)>,
}

impl Planter {
    /// Joins a topic that is the planted value itself, and sends another value to a peer in it.
    fn start(url: &str, topic: [u8; 32], body: &'static [u8]) -> Planter {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let clients = runtime.block_on(async {
            let mut clients = Vec::new();
            let mut met = None;
            for seed in [1, 2] {
                let (client, mut events) = Client::start(ClientConfig::new(url.parse().unwrap()));
                client.join(Topic(topic), KeyPair::from_seed(&[seed; 32]));
                let joined = async {
                    while let Some(event) = events.recv().await {
                        if let ClientEvent::Joined { peers, .. } = event {
                            return peers;
                        }
                    }
                    panic!("the client ended");
                };
                let peers = tokio::time::timeout(WAIT_MAX, joined).await.unwrap();
                met = peers.first().copied();
                clients.push((client, events));
            }
            let other = met.expect("the second meets the first");
            clients[1]
                .0
                .send(Topic(topic), other, SignalKind::Offer, body.into())
                .unwrap();
            let arrived = async {
                while let Some(event) = clients[0].1.recv().await {
                    if matches!(event, ClientEvent::Signal { .. }) {
                        return;
                    }
                }
                panic!("the client ended");
            };
            tokio::time::timeout(WAIT_MAX, arrived).await.unwrap();
            clients
        });
        Planter { runtime, clients }
    }

    fn stop(self) {
        drop(self.clients);
        self.runtime.shutdown_background();
    }
}

/// Returns how many connections the server counts.
fn connections(url: &str) -> u64 {
    let address = url.trim_start_matches("ws://");
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET /api/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let health: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    health["connections"]
        .as_u64()
        .unwrap_or_else(|| panic!("{health}"))
}

fn only_child_of(parent: u32) -> u32 {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let children = children.split_whitespace().collect::<Vec<_>>();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0].parse().unwrap()
}

/// Returns the calls of a trace that open something for writing, make or move something.
fn writing_calls(trace: &str) -> Vec<&str> {
    let writing = [
        "O_WRONLY",
        "O_RDWR",
        "O_CREAT",
        "O_TRUNC",
        "O_APPEND",
        "O_TMPFILE",
    ];
    let calls = trace.lines().filter(|line| line.contains('('));
    // A thread that was gone before strace could read its call: it called nothing.
    let calls = calls.filter(|line| !line.ends_with("???( <unfinished ...>"));
    calls
        .filter(|line| {
            let opens = ["open(", "openat(", "openat2("]
                .iter()
                .any(|call| line.contains(call));
            !opens || writing.iter().any(|flag| line.contains(flag))
        })
        .collect()
}

/// Returns the frames that the server recorded, one line each.
fn recorded_frames(stderr: &str) -> Vec<Vec<u8>> {
    stderr
        .lines()
        .filter_map(|line| line.strip_prefix("in ").or(line.strip_prefix("out ")))
        .map(|hex| kinlog_feeds::text::decode_hex(hex).unwrap())
        .collect()
}

#[test]
fn strace_sees_the_signal_server_write_no_file_and_it_learns_no_name() {
    let folder = Folder::new("signal");
    let trace = folder.join("trace");
    let mut command = Command::new("strace");
    command
        .args(["--follow-forks", "--seccomp-bpf", "-e", TRACED, "--output"])
        .arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_kinlog")).arg("--quiet");
    let flags = ["--test-record-frames", "--until-stdin-closes"];
    let signal = Signal::from(&mut command, &flags);
    let server = only_child_of(signal.running.pid());

    // They follow, invite, join and talk: everything for which they meet.
    let (one, other) = (home_with_words("one"), home_with_words("other"));
    let link = one.append("/notes", &format!("{NOTE}\n"));
    let one_up = one.up(&signal);
    let other_up = other.up(&signal);
    other.follow(&link, &["--once"]);
    one.run(["room", "create", ROOM]).ok();
    let invite = one.json_one(["room", "invite", ROOM])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    other.json(["room", "join", &invite]);
    one.run(["send", ROOM, MESSAGE]).ok();
    other.hear(ROOM, MESSAGE);

    let mut needles = Needles::new();
    add_all_of(&mut needles, &one);
    add_all_of(&mut needles, &other);
    for (name, text) in [("room name", ROOM), ("message", MESSAGE), ("note", NOTE)] {
        needles.add(name, text.as_bytes());
    }
    needles.add("invite link", invite.split('#').nth(1).unwrap().as_bytes());
    let topic = *b"a planted topic of 32 bytes here";
    let body = b"a planted body that a signal may carry";
    let planter = Planter::start(&signal.url, topic, body);
    let mut planted = Needles::new();
    planted.add("topic", &topic);

    assert_eq!(
        needles.found_in_memory(server),
        BTreeSet::new(),
        "while they are connected"
    );
    assert!(
        planted.found_in_memory(server).contains("topic (raw)"),
        "the search is blind"
    );

    one_up.stop().ok();
    other_up.stop().ok();
    let until = Instant::now() + MEETING;
    while connections(&signal.url) > 2 {
        assert!(
            Instant::now() < until,
            "the server still counts {}",
            connections(&signal.url)
        );
    }
    assert_eq!(
        needles.found_in_memory(server),
        BTreeSet::new(),
        "after they left"
    );
    assert!(
        planted.found_in_memory(server).contains("topic (raw)"),
        "the search is blind"
    );

    planter.stop();
    let finished = signal.running.finish(WAIT_MAX).ok();
    let frames = recorded_frames(&finished.stderr);
    assert!(
        frames.len() > 20,
        "only {} frames were recorded",
        frames.len()
    );
    planted.add("body", body);
    let mut seen = BTreeSet::new();
    for frame in &frames {
        assert_eq!(needles.found_in(frame), BTreeSet::new(), "in a frame");
        seen.extend(planted.found_in(frame));
    }
    let expected = ["body (raw)", "topic (raw)"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected), "the search is blind");

    check_trace(&trace);
}

/// The server stores nothing: neither on disk, as the test above sees, nor in memory that nobody uses
/// any more, where what was passed on would lie until something else comes to lie there.
#[test]
fn what_clients_say_is_gone_from_memory_when_it_was_passed_on() {
    let signal = Signal::start();
    let server = signal.running.pid();
    let topic = *b"a topic that both clients are in";
    let body = b"a body that was passed on to somebody";
    let planter = Planter::start(&signal.url, topic, body);
    let mut needles = Needles::new();
    needles.add("topic", &topic);
    needles.add("body", body);
    let until = Instant::now() + WAIT_MAX;
    let mut found = needles.found_in_memory(server);
    // Whoever passed it on lets go of it a moment after it arrived.
    while found.contains("body (raw)") && Instant::now() < until {
        found = needles.found_in_memory(server);
    }
    assert_eq!(found, BTreeSet::from(["topic (raw)".to_owned()]));
    planter.stop();
    let until = Instant::now() + MEETING;
    while connections(&signal.url) > 0 {
        assert!(Instant::now() < until, "the clients are gone");
    }
    let found = needles.found_in_memory(server);
    assert!(!found.contains("body (raw)"), "after they left");
}

#[track_caller]
fn check_trace(trace: &Path) {
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(
        trace.contains("O_RDONLY"),
        "the trace shows no file that was opened:\n{trace}"
    );
    assert_eq!(writing_calls(&trace), Vec::<&str>::new());
}

#[test]
fn a_file_opened_for_writing_is_noticed() {
    let trace = "\
7 openat(AT_FDCWD, \"/lib/libc.so.6\", O_RDONLY|O_CLOEXEC) = 3
7 openat(AT_FDCWD, \"/tmp/log\", O_WRONLY|O_CREAT|O_APPEND, 0644) = 4
7 rename(\"/tmp/log\", \"/tmp/log.1\") = 0
7 +++ exited with 0 +++";
    assert_eq!(writing_calls(trace).len(), 2);
}
