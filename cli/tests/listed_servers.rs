//! People are met at the signal servers that they list in their profiles.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use crate::support::{Home, Signal};

#[test]
fn who_follows_somebody_meets_them_at_a_server_that_only_their_profile_names() {
    let (first, second) = (Signal::start(), Signal::start());
    let (author, reader) = (Home::init("author"), Home::init("reader"));
    let link = author.append("/notes", "one\n");
    author
        .run(["profile", "set", "--signal", "http://x.example"])
        .exits(2);
    let listed = author.json_one(["profile", "set", "--signal", &second.url]);
    let listed = listed["signal_urls"][0].as_str().unwrap().to_owned();
    let author_up = author.up(&first);
    let reader_up = reader.up(&first);
    reader.follow(&link, &[]);
    let told = reader.run(["profile", "show", &link]).ok();
    assert!(
        told.text().contains(&format!("met at    {listed}")),
        "{}",
        told.text()
    );
    author_up.stop().ok();
    reader_up.stop().ok();

    // Where both met is gone. The author is at the other server, which nobody told the reader to use.
    let gone = first.url.clone();
    drop(first);
    let _author_up = author.up(&second);
    author.append("/notes", "two\n");
    let mut reader_up = reader.start(["up", "--no-listed-servers", "--signal", &gone]);
    ready(&mut reader_up);
    let hosts = reader.json_one(["doctor", "--egress"])["hosts"].to_string();
    assert!(!hosts.contains("lists it"), "{hosts}");
    reader_up.stop().ok();

    let mut reader_up = reader.start(["up", "--signal", &gone]);
    ready(&mut reader_up);
    reader.follow(&link, &["--range", "0..2"]);
    let status = reader.status();
    let signals = status["signals"].as_array().unwrap();
    let joined = signals
        .iter()
        .find(|one| one["url"] == listed.as_str())
        .unwrap();
    assert_eq!(joined["found_by"], "route", "{status:#}");
    let hosts = reader.json_one(["doctor", "--egress"]);
    let hosts = hosts["hosts"].as_array().unwrap();
    let host = hosts
        .iter()
        .find(|host| host["host"] == listed.as_str())
        .unwrap();
    let why = host["why"].as_str().unwrap();
    assert!(
        why.starts_with("signal server: author ") && why.ends_with(" lists it"),
        "{why}"
    );
    reader_up.stop().ok();

    author.run(["profile", "set", "--no-signals"]).ok();
    assert!(author.json_one(["profile", "show"])["signal_urls"].is_null());
}

fn ready(up: &mut testkit::process::Running) {
    up.wait_json(
        "word that it is ready",
        testkit::process::WAIT_MAX,
        |value| (value["event"] == "ready").then_some(()),
    );
}
