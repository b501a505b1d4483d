//! Whether it connects, and why not: what the commands say about peers that are there and that are not.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Home, MEETING, Signal};

/// Puts two homes into a room.
fn in_a_room(host: &Home, guest: &Home) {
    host.run(["room", "create", "kitchen"]).ok();
    let invite = host.json_one(["room", "invite", "kitchen"])["link"].clone();
    guest.run(["room", "join", invite.as_str().unwrap()]).ok();
}

fn peer<'a>(peers: &'a Value, name: &str) -> &'a Value {
    let peers = peers["peers"].as_array().unwrap();
    let is_meant = |peer: &&Value| peer["name"].as_str().unwrap().starts_with(name);
    peers
        .iter()
        .find(is_meant)
        .unwrap_or_else(|| panic!("no {name} in {peers:#?}"))
}

#[test]
fn a_member_is_green_while_it_is_there_and_gray_when_it_is_gone() {
    let signal = Signal::start();
    let (host, guest) = (Home::init("host"), Home::init("guest"));
    let _host_up = host.up(&signal);
    let guest_up = guest.up(&signal);
    in_a_room(&host, &guest);
    guest.run(["send", "kitchen", "here I am"]).ok();
    host.hear("kitchen", "here I am");

    let pongs = host.json(["ping", "guest", "--count", "2", "--wait", "60"]);
    assert_eq!(pongs.len(), 2, "{pongs:#?}");
    for pong in &pongs {
        assert_eq!(pong["certain"], true, "{pong}");
        assert!(pong["round_trip_us"].as_u64().unwrap() > 0, "{pong}");
        assert_eq!(pong["sentence"], "direct on this machine", "{pong}");
    }

    let peers = host.json_one(["peers"]);
    let seen = peer(&peers, "guest");
    assert_eq!(seen["state"], "direct", "{seen:#}");
    assert_eq!(seen["color"], "green", "{seen:#}");
    assert_eq!(seen["way"]["kind"], "machine", "{seen:#}");
    assert_eq!(seen["rooms"], serde_json::json!(["kitchen"]), "{seen:#}");
    assert_eq!(
        host.json_one(["peers", "kitchen"])["peers"][0]["agent"],
        seen["agent"]
    );
    let shown = host.run(["peers"]).ok();
    let line = shown
        .text()
        .lines()
        .find(|line| line.contains("guest"))
        .unwrap();
    assert!(line.starts_with("● direct"), "{line}");
    assert!(line.chars().count() <= 80, "{line}");

    let mut watching = host.start(["peers", "--watch"]);
    watching.wait_json("everybody", MEETING, |value| {
        (value["reply"] == "peers").then_some(())
    });
    guest_up.stop().ok();
    let gone = watching.wait_json("word that the guest is gone", MEETING, |value| {
        let is_offline = value["peer"]["state"] == "offline";
        (value["reply"] == "peer_changed" && is_offline).then(|| value["peer"].clone())
    });
    assert_eq!(gone["color"], "gray");
    assert!(gone["last_seen_ms"].as_u64().is_some(), "{gone:#}");
    watching.stop().ok();
}

#[test]
fn a_ping_that_reaches_nobody_says_what_was_tried() {
    let signal = Signal::start();
    let (absent, alone) = (Home::init("absent"), Home::init("alone"));
    let agent = absent.json_one(["id"])["agent"]
        .as_str()
        .unwrap()
        .to_owned();
    let _up = alone.up(&signal);
    let started = Instant::now();
    alone
        .run(["ping", &agent, "--wait", "2"])
        .exits(4)
        .says("signal server ws://127.0.0.1")
        .says("reachable")
        .says("0 peers in its topic")
        .says("after")
        .says("is it running");
    assert!(started.elapsed() < Duration::from_secs(20));
    let told = alone
        .run(["ping", &agent, "--wait", "1", "--json"])
        .exits(4)
        .json();
    assert_eq!(told[0]["reply"], "not_reached", "{told:#?}");
    let steps = told[0]["steps"].as_array().unwrap();
    assert!(
        steps.iter().all(|step| step["after_ms"].is_u64()),
        "{steps:#?}"
    );
    alone.run(["ping", "nobody at all"]).exits(3);

    // Its topic was entered for the ping alone: an agent that nobody follows is not looked for.
    assert!(!alone.status()["sessions"].to_string().contains(&agent));
    // Once it is there, it is reached, though nothing of it is followed.
    let _absent_up = absent.up(&signal);
    let pongs = alone.json(["ping", &agent, "--count", "1", "--wait", "60"]);
    assert_eq!(pongs[0]["certain"], false, "{pongs:#?}");
}

#[test]
fn peers_are_known_also_while_the_network_is_off() {
    let (home, other) = (Home::init("home"), Home::init("other"));
    let agent = other.json_one(["id"])["agent"].as_str().unwrap().to_owned();
    home.run(["contact", "add", &agent, "Otto"]).ok();
    let peers = home.json_one(["peers"]);
    assert_eq!(peers["network"], false);
    let seen = peer(&peers, "Otto");
    assert_eq!(seen["state"], "offline", "{seen:#}");
    assert_eq!(seen["is"], serde_json::json!(["contact"]));
    home.run(["peers"]).ok().says("the network is off");
    home.run(["ping", "Otto", "--wait", "1"])
        .exits(4)
        .says("no signal server is known");
}
