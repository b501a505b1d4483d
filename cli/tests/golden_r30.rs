//! The worked example, verbatim: PUT {#bob: {app_x, private_stuff}}, GET #bob/app_x. Whoever asks for
//! `app_x` stores `app_x` and discards `private_stuff`: it is nowhere in the store, the index, `state.db`,
//! the log or a frame, and nothing tells how many private paths there are.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use crate::support::frames::{decrypted_frames, start_with_frames};
use crate::support::{Home, MEETING, Signal};
use kinlog_feeds::FeedKey;
use serde_json::Value;
use testkit::needles::Needles;

const APP_X: &str = "what bob says to app x\n";
const PRIVATE_STUFF: &str = "what bob keeps to himself";

/// Every word about `private_stuff` that a reader could come upon.
fn secrets(bob: &Home) -> Needles {
    let mut secrets = Needles::new();
    secrets.add("the label", b"private_stuff");
    secrets.add("a line", PRIVATE_STUFF.as_bytes());
    let key: FeedKey = bob.feed_at("/private_stuff")["key"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    secrets.add("the feed's key", key.as_bytes());
    secrets.add("the feed's discovery key", key.discovery_key().as_bytes());
    let state = rusqlite::Connection::open_with_flags(
        bob.path().join("state.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    );
    let state = state.unwrap();
    let id: Vec<u8> = state
        .query_row(
            "SELECT feed_id FROM own_feeds WHERE feed_key = ?1",
            [key.as_bytes()],
            |row| row.get(0),
        )
        .unwrap();
    secrets.add("the feed's id", &id);
    let epoch: Vec<u8> = state
        .query_row("SELECT id FROM own_epochs", [], |row| row.get(0))
        .unwrap();
    secrets.add("the epoch's id", &epoch);
    secrets
}

/// The public directory as it stands: length and tree hash say everything that it says.
fn public_directory(home: &Home) -> Value {
    let list = home.json_one(["feed", "list"]);
    let feeds = list["feeds"].as_array().unwrap().clone();
    let directory = feeds
        .into_iter()
        .find(|feed| feed["role"] == "directory")
        .unwrap();
    serde_json::json!([directory["length"], directory["byte_length"]])
}

#[test]
fn put_app_x_and_private_stuff_get_app_x_store_app_x_discard_private_stuff() {
    let signal = Signal::start();
    let bob = Home::init("bob");
    let app_x = bob.append("/app_x", APP_X);
    let told = public_directory(&bob);
    bob.run(["feed", "create", "--private", "/private_stuff"])
        .ok();
    bob.run_with(
        ["feed", "append", "/private_stuff"],
        PRIVATE_STUFF.as_bytes(),
    )
    .ok();
    for more in ["/private_stuff/2", "/private_stuff/3"] {
        bob.run(["feed", "create", "--private", more]).ok();
    }
    assert_eq!(
        public_directory(&bob),
        told,
        "the public directory tells of private paths"
    );
    let secrets = secrets(&bob);
    let mut command = bob.command(["up", "--json", "--signal", &signal.url]);
    let bob_up = start_with_frames(&mut command);

    // GET #bob/app_x
    let alice = Home::init("alice");
    let mut command = alice.command(["up", "--json", "--signal", &signal.url]);
    let alice_up = start_with_frames(&mut command);
    let mut following = alice.start(["follow", &app_x]);
    following.wait_json("a whole copy", MEETING, |value| {
        (value["complete"] == true).then_some(())
    });
    // What is written to both while she listens comes of one alone.
    bob.run_with(["feed", "append", "/private_stuff"], b"more of it")
        .ok();
    bob.append("/app_x", "news\n");
    following.wait_json("the news", MEETING, |value| {
        (value["have"] == 2).then_some(())
    });
    following.kill();

    // Somebody who was told the label asks for it: to them it does not exist.
    let carol = Home::init("carol");
    let carol_up = carol.up(&signal);
    let private_stuff = app_x.replace("/app_x", "/private_stuff");
    carol.run(["follow", &private_stuff, "--once"]).exits(3);
    carol_up.stop().ok();

    // Store app_x.
    let read = alice.run(["feed", "read", &app_x]).ok();
    assert_eq!(read.stdout, format!("{APP_X}news\n").as_bytes());
    let heard = alice_up.stop().ok().stderr;
    let frames = decrypted_frames(&heard);
    let said = decrypted_frames(&bob_up.stop().ok().stderr);
    assert!(
        frames.len() > 20 && said.len() > 20,
        "{} and {} frames",
        frames.len(),
        said.len()
    );

    // Discard private_stuff.
    let mut found = Vec::new();
    for frame in frames.iter().chain(&said) {
        found.extend(
            secrets
                .found_in(frame)
                .into_iter()
                .map(|what| format!("{what} in a frame")),
        );
    }
    for file in alice.files().into_iter().filter(|file| file.is_file()) {
        let content = std::fs::read(&file).unwrap();
        let words = secrets.found_in(&content).into_iter();
        found.extend(words.map(|what| format!("{what} in {}", file.display())));
    }
    assert_eq!(found, Vec::<String>::new());
    let feeds = alice.json_one(["feed", "list"]);
    let of_bob = feeds["feeds"].as_array().unwrap().iter();
    let of_bob = of_bob.filter(|feed| feed["role"] == "followed").count();
    assert_eq!(of_bob, 1, "{feeds:#}");

    // The same needles are found where they belong.
    let mut at_home = 0;
    for file in bob.files().into_iter().filter(|file| file.is_file()) {
        at_home += secrets.found_in(&std::fs::read(&file).unwrap()).len();
    }
    assert!(at_home >= 3, "the needles find nothing even in bob's home");
}
