//! A seeder over real WebRTC: it brings a member everything, and nothing that it holds or logs tells
//! what the members say.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::support;
use crate::support::story::EVERYTHING;
use crate::support::{Home, MEETING, Signal};
use kinlog_feeds::crypto::{Secret, derive, namespace};
use testkit::needles::Needles;
use testkit::process::{Running, WAIT_MAX};

const ROOM: &str = "behind the green door";
const BEFORE: &str = "the key is under the third flowerpot";
const AWAY: &str = "the cat sleeps in the piano";

/// Adds what a member knows and nobody else may.
fn add_secrets_of(needles: &mut Needles, home: &Home) {
    let name = |what: &str| format!("{what} of {}", home.name);
    needles.add(&name("name"), home.name.as_bytes());
    let epochs = home.sealed("epochs", "secret", "id");
    assert!(!epochs.is_empty());
    // Of some epochs a member has the act key alone: it is no less secret.
    for secret in epochs {
        needles.add(&name("epoch secret"), &secret);
        let secret = Secret::new(secret.try_into().unwrap());
        for (what, namespace) in [
            ("content key", namespace::CONTENT),
            ("act key", namespace::ACT),
        ] {
            needles.add(&name(what), derive(&secret, namespace, &[]).expose());
        }
    }
    let state = home.state_db();
    let mut rows = state.prepare("SELECT id FROM rooms").unwrap();
    let ids = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    for id in ids {
        needles.add(&name("room id"), &id.unwrap());
    }
}

fn kept(seeder: &Home) -> u64 {
    let list = seeder.json_one(["seed", "list"]);
    let grants = list["grants"].as_array().unwrap();
    let blocks = grants.iter().filter_map(|one| one["blocks"].as_u64());
    blocks.max().unwrap_or(0)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + MEETING;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
    }
}

#[test]
fn a_seeder_brings_a_member_everything_and_learns_nothing() {
    let signal = Signal::start();
    let (ann, bob) = (Home::init("annabelle"), Home::init("bartholomew"));
    let (cem, sue) = (Home::init("cemalettin"), Home::init("susanna"));
    let (ann_up, bob_up) = (ann.up(&signal), bob.up(&signal));
    let cem_up = cem.up(&signal);
    ann.run(["room", "create", ROOM]).ok();
    let invite = ann.json_one(["room", "invite", ROOM])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    for member in [&bob, &cem] {
        member.json(["room", "join", &invite]);
    }
    ann.run(["send", ROOM, BEFORE]).ok();
    cem.hear(ROOM, BEFORE);
    cem_up.stop().ok();

    let seeder = sue.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let granted = ann.json_one(["room", "grant", ROOM, "--to", &seeder]);
    let link = granted["link"].as_str().unwrap();
    let mut command = sue.command(["up", "--signal", &signal.url, "--json"]);
    command.env("KINLOG_LOG", EVERYTHING);
    let mut sue_up = Running::start(&mut command);
    sue_up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    sue.run(["seed", "accept", link]).ok();
    wait_until("the seeder gets the room", || kept(&sue) > 0);
    let before = kept(&sue);
    bob.run(["send", ROOM, AWAY]).ok();
    ann.hear(ROOM, AWAY);
    wait_until("the seeder gets what is new", || kept(&sue) > before);
    ann_up.stop().ok();
    bob_up.stop().ok();

    let cem_up = cem.up(&signal);
    cem.hear(ROOM, AWAY);
    support::assert_webrtc(&cem.status());
    cem_up.stop().ok();

    let mut needles = Needles::new();
    for home in [&ann, &bob, &cem] {
        add_secrets_of(&mut needles, home);
    }
    for (name, text) in [("room name", ROOM), ("message", BEFORE), ("answer", AWAY)] {
        needles.add(name, text.as_bytes());
    }
    let pid = sue_up.pid();
    assert_eq!(needles.found_in_memory(pid), BTreeSet::new(), "in memory");
    let logged = sue_up.stop().ok().stderr;
    assert!(logged.contains("TRACE"), "the log is not at TRACE");
    assert_eq!(
        needles.found_in(logged.as_bytes()),
        BTreeSet::new(),
        "in the log"
    );
    let mut searched = 0;
    for file in sue.files() {
        let bytes = std::fs::read(&file).unwrap();
        searched += bytes.len();
        assert_eq!(
            needles.found_in(&bytes),
            BTreeSet::new(),
            "{}",
            file.display()
        );
    }
    assert!(searched > 100_000, "only {searched} bytes were searched");
    let in_members = cem.files().into_iter().any(|file| {
        let found = needles.found_in(&std::fs::read(file).unwrap());
        found.iter().any(|name| name.starts_with("answer"))
    });
    assert!(
        in_members,
        "the search is blind: a member's index has the texts"
    );
}
