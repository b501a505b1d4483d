//! Two and more agents over real WebRTC, introduced by a signal server of the test's own.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::time::{Duration, Instant};

use crate::support::{Home, MEETING, Signal, assert_webrtc, noise};

#[test]
fn what_one_appends_the_other_follows() {
    let signal = Signal::start();
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let link = author.append("/notes", "one\ntwo\n");
    let author_up = author.up(&signal);
    let reader_up = reader.up(&signal);

    let mut following = reader.start(["follow", &link]);
    following.wait_json("both blocks", MEETING, |value| {
        (value["complete"] == true && value["have"] == 2).then_some(())
    });
    assert_webrtc(&reader.status());
    // It stays open, and what is appended later comes too.
    author.append("/notes", "three\n");
    following.wait_json("the third block", MEETING, |value| {
        (value["have"] == 3).then_some(())
    });
    following.stop().ok();

    assert_eq!(
        reader.run(["feed", "read", &link]).ok().text(),
        "one\ntwo\nthree\n"
    );
    let pins = reader.json_one(["pins"]);
    assert!(pins.to_string().contains("/notes"), "{pins:#}");
    let feed = reader.feed_at("/notes");
    assert_eq!(feed["in_sync"], true, "{feed:#}");
    assert!(!feed["why"].as_array().unwrap().is_empty(), "{feed:#}");

    author_up.stop().ok();
    reader_up.stop().ok();
    assert_eq!(
        reader.run(["feed", "read", &link]).ok().text(),
        "one\ntwo\nthree\n"
    );
    reader.run(["feed", "verify", &link]).ok();
}

#[test]
fn follow_works_without_a_running_agent() {
    let signal = Signal::start();
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let link = author.append("/notes", "one\ntwo\n");
    let _up = author.up(&signal);
    // The link carries the server; nothing else tells the reader where to ask.
    let with_server = format!("{link}#s={}", signal.url);
    let last = reader
        .json(["follow", &with_server, "--once"])
        .pop()
        .unwrap();
    assert_eq!(
        (last["complete"].as_bool(), last["have"].as_u64()),
        (Some(true), Some(2))
    );
    assert_eq!(
        reader.run(["feed", "read", &link]).ok().text(),
        "one\ntwo\n"
    );
}

#[test]
fn a_running_agent_is_named_to_whoever_wants_its_home() {
    let signal = Signal::start();
    let home = Home::init("busy");
    let up = home.up(&signal);
    home.run(["up", "--signal", &signal.url])
        .exits(6)
        .says(&up.pid().to_string());
    // Commands go to the running one instead.
    home.append("/notes", "written through the socket\n");
    assert_eq!(
        home.run(["feed", "read", "/notes"]).ok().text(),
        "written through the socket\n"
    );
    let stopped = up.stop().ok();
    assert_eq!(stopped.json().last().unwrap()["event"], "stopped");
    assert_eq!(
        home.run(["feed", "read", "/notes"]).ok().text(),
        "written through the socket\n"
    );
}

#[test]
fn a_killed_agent_leaves_a_home_that_opens_again() {
    let signal = Signal::start();
    let home = Home::init("killed");
    let up = home.up(&signal);
    let directory = |home: &Home| {
        let feeds = home.json_one(["feed", "list"])["feeds"].clone();
        let mut lengths = feeds.as_array().unwrap().iter();
        let directory = lengths.find(|feed| feed["role"] == "directory");
        directory.unwrap_or_else(|| panic!("{feeds:#}"))["length"]
            .as_u64()
            .unwrap()
    };
    home.append("/notes", "acknowledged\n");
    let before = directory(&home);
    up.kill();
    assert_eq!(
        home.run(["feed", "read", "/notes"]).ok().text(),
        "acknowledged\n"
    );
    home.run(["feed", "verify", "/notes"]).ok();

    // The kill kept the directory from committing to what was appended; the next stop does.
    home.up(&signal).stop().ok();
    assert_eq!(directory(&home), before + 1, "one commitment of heads");
    home.up(&signal).stop().ok();
    assert_eq!(directory(&home), before + 1, "nothing grew since");
}

#[test]
fn follow_says_which_step_found_nobody() {
    let signal = Signal::start();
    let (author, reader) = (Home::init("absent"), Home::init("alone"));
    let link = author.append("/notes", "one\n");
    let _up = reader.up(&signal);
    let started = Instant::now();
    let mut following = reader.start(["follow", &link]);
    let told = following.wait_json("word that nobody is there", MEETING, |value| {
        (value["nobody"] == true).then(|| value.clone())
    });
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(told["step"], "peers");
    let agent = author.json_one(["id"])["agent"].clone();
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(agent.as_str().unwrap()), "{message}");
    // The wish stays open: when the author comes, it is fulfilled.
    let _author_up = author.up(&signal);
    following.wait_json("the block", MEETING, |value| {
        (value["complete"] == true).then_some(())
    });
}

#[test]
fn without_a_signal_server_there_is_no_peer() {
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let link = author.append("/notes", "one\n");
    reader
        .run(["follow", &link, "--once"])
        .exits(4)
        .says("signal");
    // Nobody listens on port 1.
    let unreachable = format!("{link}#s=ws://127.0.0.1:1");
    let started = Instant::now();
    reader
        .run(["follow", &unreachable, "--once"])
        .exits(4)
        .says("no signal server")
        .says("127.0.0.1:1");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let report = reader
        .run(["follow", &unreachable, "--once", "--json"])
        .exits(4);
    assert_eq!(report.json().last().unwrap()["kind"], "no_peers");
    // The wish is kept, nothing else was written.
    assert_eq!(
        reader.json_one(["pins"])["pins"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        reader.json_one(["status"])["store"]["blocks"],
        2,
        "its own profile, and the first epoch of its private directory"
    );
}

#[test]
fn two_agents_talk_in_a_room() {
    let signal = Signal::start();
    let (host, guest) = (Home::init("host"), Home::init("guest"));
    let host_up = host.up(&signal);
    let guest_up = guest.up(&signal);
    host.run(["room", "create", "kitchen"]).ok();
    host.run(["send", "kitchen", "before you came"]).ok();
    let invite = host.json_one(["room", "invite", "kitchen"])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(invite.starts_with("kinlog://join/#"), "{invite}");

    let joined = guest.json(["room", "join", &invite]).pop().unwrap();
    assert_eq!(joined["name"], "kitchen");
    guest.hear("kitchen", "before you came");
    guest.run(["send", "kitchen", "good to be here"]).ok();
    host.hear("kitchen", "good to be here");
    host.run(["send", "kitchen", "welcome"]).ok();
    guest.hear("kitchen", "welcome");

    let texts = |home: &Home| {
        let messages = home.json(["read", "kitchen"]);
        messages
            .iter()
            .map(|message| message["text"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&host),
        ["before you came", "good to be here", "welcome"]
    );
    assert_eq!(texts(&host), texts(&guest));
    assert_eq!(
        guest.json(["read", "kitchen", "--last", "1"])[0]["text"],
        "welcome"
    );
    assert_eq!(guest.json(["search", "welcome"])[0]["kind"], "message");
    let authors = guest.json(["read", "kitchen"]);
    assert_eq!(authors[1]["author_name"], "guest");
    assert_eq!(authors[0]["author_name"], "host");
    assert_webrtc(&guest.status());

    host_up.stop().ok();
    guest_up.stop().ok();
    assert_eq!(texts(&host), texts(&guest));
}

#[test]
fn a_join_that_nobody_answers_ends_and_is_asked_again() {
    let signal = Signal::start();
    let (host, guest) = (Home::init("host"), Home::init("guest"));
    // The server's address reaches the invitation while the host is up.
    let host_up = host.up(&signal);
    host.run(["room", "create", "kitchen"]).ok();
    let invite = host.json_one(["room", "invite", "kitchen"])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    host_up.stop().ok();

    let guest_up = guest.up(&signal);
    guest
        .run(["room", "join", &invite, "--wait", "2"])
        .exits(4)
        .says("waiting for a member");
    guest_up.stop().ok();

    let _guest_up = guest.up(&signal);
    let _host_up = host.up(&signal);
    host.run(["send", "kitchen", "there you are"]).ok();
    let until = Instant::now() + MEETING;
    // There is nothing to watch before the room is there: ask until it is.
    while guest.json_one(["room", "list"])["rooms"][0]["name"] != "kitchen" {
        assert!(Instant::now() < until, "the join was not asked for again");
    }
    guest.hear("kitchen", "there you are");
}

#[test]
fn a_latecomer_gets_it_from_the_seeder_when_the_author_is_gone() {
    let signal = Signal::start();
    let (author, seeder, late) = (
        Home::init("author"),
        Home::init("seeder"),
        Home::init("late"),
    );
    let file = author.write("file.bin", &noise(6, 3_000_000));
    let link = author.import("/files/one", &file);
    let author_up = author.up(&signal);
    let _seeder_up = seeder.up(&signal);
    let mut seeding = seeder.start(["seed", &link]);
    seeding.wait_json("a whole copy", MEETING, |value| {
        (value["complete"] == true && value["path"] == "/files/one").then_some(())
    });
    author_up.stop().ok();

    let _late_up = late.up(&signal);
    late.follow(&link, &["--once"]);
    let out = late.beside("out.bin");
    late.run(["feed", "export", &link, out.to_str().unwrap()])
        .ok();
    assert!(
        std::fs::read(&out).unwrap() == std::fs::read(&file).unwrap(),
        "the copy differs"
    );
}

#[test]
fn replication_goes_on_when_the_signal_server_dies() {
    let mut signal = Signal::start();
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let link = author.append("/notes", "one\n");
    let _author_up = author.up(&signal);
    let _reader_up = reader.up(&signal);
    let mut following = reader.start(["follow", &link]);
    following.wait_json("the first block", MEETING, |value| {
        (value["complete"] == true).then_some(())
    });

    signal.running.kill_now();
    author.append("/notes", "after the server died\n");
    following.wait_json("the second block", MEETING, |value| {
        (value["have"] == 2).then_some(())
    });
    let status = reader.status();
    assert_eq!(status["signals"][0]["connected"], false, "{status:#}");
    assert_webrtc(&status);
    assert_eq!(
        reader.run(["feed", "read", &link]).ok().text(),
        "one\nafter the server died\n"
    );
}
