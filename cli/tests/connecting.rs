//! Whether it connects, and why not: what the commands say about peers that are there and that are not.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::time::{Duration, Instant};

use crate::support::{Home, MEETING, Signal};
use serde_json::Value;
use testkit::process::{Running, WAIT_MAX};

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

/// Returns the check of a name that begins so.
fn check<'a>(report: &'a Value, name: &str, found: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let is_meant =
        |check: &&Value| check["name"] == name && check["found"].as_str().unwrap().contains(found);
    checks
        .iter()
        .find(is_meant)
        .unwrap_or_else(|| panic!("no {name} with {found:?} in {checks:#?}"))
}

#[test]
fn the_doctor_says_what_is_well_and_what_to_do_about_the_rest() {
    let mut signal = Signal::start();
    let home = Home::init("patient");
    let up = home.up(&signal);
    let report = home.json_one(["doctor"]);
    let pid = up.pid().to_string();
    assert_eq!(check(&report, "home", &pid)["health"], "ok");
    assert_eq!(check(&report, "signal", "greeted")["health"], "ok");
    assert_eq!(check(&report, "clock", "127.0.0.1")["health"], "ok");
    assert!(check(&report, "disk", "free")["health"].is_string());
    check(&report, "buffers", "receive");
    check(&report, "files", "open");

    signal.running.kill_now();
    let report = home.json_one(["doctor"]);
    let gone = check(&report, "signal", &signal.url);
    assert_eq!(gone["health"], "bad", "{gone}");
    assert!(gone["hint"].as_str().unwrap().contains("--signal"));
    up.stop().ok();

    // Without a running agent it looks at what there is, and says what it cannot tell.
    let report = home.json_one(["doctor"]);
    assert_eq!(check(&report, "home", "no agent")["health"], "warn");
    check(&report, "lan", "no agent is running");
    let nobody = Home::empty("nobody");
    let report = nobody.json_one(["doctor"]);
    assert_eq!(check(&report, "home", "")["health"], "bad");
    check(&report, "disk", "free");
}

#[test]
fn every_host_that_was_contacted_is_listed_with_the_reason() {
    let signal = Signal::start();
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    assert_eq!(
        reader.json_one(["doctor", "--egress"])["hosts"],
        serde_json::json!([])
    );
    let link = author.append("/notes", "one\n");
    let _author_up = author.up(&signal);
    let reader_up = reader.up(&signal);
    reader.follow(&link, &["--once"]);
    let listed = |home: &Home| {
        let hosts = home.json_one(["doctor", "--egress"])["hosts"].clone();
        let hosts = hosts.as_array().unwrap().iter();
        let pair = |host: &Value| {
            let text = |name: &str| host[name].as_str().unwrap().to_owned();
            (text("host"), text("why"))
        };
        hosts.map(pair).collect::<Vec<_>>()
    };
    let hosts = listed(&reader);
    let is_listed = |host: &str, why: &str| {
        hosts
            .iter()
            .any(|(known, reason)| known.starts_with(host) && reason.starts_with(why))
    };
    assert!(is_listed(&signal.url, "signal server"), "{hosts:#?}");
    assert!(is_listed("", "peer: connected"), "{hosts:#?}");
    assert!(is_listed("", "peer: address tried"), "{hosts:#?}");
    // It is kept: also when nothing runs any more.
    reader_up.stop().ok();
    assert_eq!(listed(&reader).len(), hosts.len());
}

#[test]
fn a_join_and_a_follow_that_find_nobody_say_what_was_tried() {
    let signal = Signal::start();
    let (host, guest) = (Home::init("host"), Home::init("guest"));
    let host_up = host.up(&signal);
    host.run(["room", "create", "kitchen"]).ok();
    let invite = host.json_one(["room", "invite", "kitchen"])["link"].clone();
    let link = host.append("/notes", "one\n");
    host_up.stop().ok();

    let _guest_up = guest.up(&signal);
    let told = |arguments: &[&str]| {
        let started = Instant::now();
        let mut running = guest.start(arguments.iter().copied());
        let steps = running.wait_json("what was tried", MEETING, |value| {
            let steps = value["steps"].as_array()?;
            (!steps.is_empty()).then(|| steps.clone())
        });
        running.kill();
        let took = started.elapsed();
        assert!(took < Duration::from_secs(15), "about 10 s: {took:?}");
        steps
    };
    for steps in [
        told(&["follow", &link]),
        told(&["room", "join", invite.as_str().unwrap()]),
    ] {
        let found: Vec<&str> = steps
            .iter()
            .map(|step| step["found"].as_str().unwrap())
            .collect();
        let says = |words: &str| found.iter().any(|found| found.contains(words));
        assert!(
            says("reachable") && says("0 peers in its topic"),
            "{found:?}"
        );
    }
    let bare = link.split('#').next().unwrap();
    let unreachable = format!("{bare}#s=ws://127.0.0.1:1");
    let alone = Home::init("alone");
    alone
        .run(["follow", &unreachable, "--once"])
        .exits(4)
        .says("nobody at all is connected")
        .says("signal server ws://127.0.0.1:1");
}

/// Starts an agent that knows no server.
fn up_alone(home: &Home) -> Running {
    let mut up = home.start(["up", "--no-lan"]);
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    up
}

fn offer(home: &Home) -> String {
    let told = home.json_one(["pair", "offer"]);
    assert_eq!(told["what"], "offer");
    told["text"].as_str().unwrap().to_owned()
}

/// Begins to answer an offer; returns the process that waits, and the answer.
fn answer(home: &Home, offer: &str) -> (Running, String) {
    let mut answering = home.start(["pair", "answer", offer]);
    let text = answering.wait_json("the answer", MEETING, |value| {
        (value["what"] == "answer").then(|| value["text"].as_str().unwrap().to_owned())
    });
    (answering, text)
}

#[test]
fn two_machines_meet_by_texts_alone_and_exchange_what_both_may_have() {
    let (host, guest, stranger) = (
        Home::init("host"),
        Home::init("guest"),
        Home::init("stranger"),
    );
    let link = {
        let signal = Signal::start();
        let (host_up, guest_up) = (host.up(&signal), guest.up(&signal));
        in_a_room(&host, &guest);
        guest_up.stop().ok();
        let link = host.append("/notes", "written while apart\n");
        host.run(["send", "kitchen", "said while apart"]).ok();
        host_up.stop().ok();
        link
    };
    // The server is gone, for ever.
    let (_host_up, _guest_up) = (up_alone(&host), up_alone(&guest));
    guest.run(["pin", &link]).ok();
    let (mut answering, text) = answer(&guest, &offer(&host));
    let paired = host.json_one(["pair", "finish", &text]);
    assert_eq!(paired["reply"], "paired", "{paired:#}");
    assert_eq!(
        paired["rooms"],
        serde_json::json!(["kitchen"]),
        "{paired:#}"
    );
    let paired = answering.wait_json("word of the pairing", MEETING, |value| {
        (value["reply"] == "paired").then(|| value.clone())
    });
    assert_eq!(paired["followed"], true, "{paired:#}");
    guest.hear("kitchen", "said while apart");
    guest.follow(&link, &[]);
    assert_eq!(
        guest.run(["feed", "read", &link]).ok().text(),
        "written while apart\n"
    );
    let peers = guest.json_one(["peers"]);
    let seen = peer(&peers, "host");
    assert_eq!(
        (&seen["state"], &seen["met_by"][0]),
        (&"direct".into(), &"code".into())
    );
    guest.run(["send", "kitchen", "and back"]).ok();
    host.hear("kitchen", "and back");

    // Who is in no room gets public feeds alone.
    let _stranger_up = up_alone(&stranger);
    stranger.run(["pin", &link]).ok();
    let (mut answering, text) = answer(&stranger, &offer(&host));
    let paired = host.json_one(["pair", "finish", &text]);
    assert_eq!(paired["rooms"], serde_json::json!([]), "{paired:#}");
    answering.wait_json("word of the pairing", MEETING, |value| {
        (value["reply"] == "paired").then_some(())
    });
    let until = Instant::now() + MEETING;
    while stranger.run(["feed", "read", &link]).text() != "written while apart\n" {
        assert!(Instant::now() < until, "a public feed does not come");
    }
    let feeds = stranger.status()["feeds"].to_string();
    let rooms = host.status()["feeds"].clone();
    for feed in rooms.as_array().unwrap() {
        let is_of_room = feed["why"].to_string().contains("kitchen");
        let key = feed["key"].as_str().unwrap();
        assert!(!(is_of_room && feeds.contains(key)), "{feed:#}");
    }
}

#[test]
fn texts_that_pair_nothing_say_why() {
    let (one, other, third) = (Home::init("one"), Home::init("other"), Home::init("third"));
    let _ups = [up_alone(&one), up_alone(&other), up_alone(&third)];
    let first = offer(&one);
    let refused = |home: &Home, arguments: &[&str], code: i32, words: &str| {
        home.run(arguments.iter().copied()).exits(code).says(words);
    };
    refused(
        &other,
        &["pair", "answer", "kinlog://join/#AAAA"],
        2,
        "begins with",
    );
    refused(
        &other,
        &["pair", "answer", &first[..first.len() - 9]],
        2,
        "missing",
    );
    let changed = first.replacen("AA", "AB", 1);
    assert_ne!(changed, first);
    refused(&other, &["pair", "answer", &changed], 2, "changed");
    refused(&one, &["pair", "answer", &first], 2, "made here");
    refused(&one, &["pair", "finish", &first], 2, "is an offer");
    let (_answering, text) = answer(&other, &first);
    refused(&third, &["pair", "finish", &text], 3, "no offer is open");
    // One offer at a time: the newer one takes the place of the first.
    offer(&one);
    refused(&one, &["pair", "finish", &text], 2, "another offer");
}
