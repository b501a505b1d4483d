//! Feeds without a network: append, read, import, export, verify, and what is refused on the way.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::path::{Path, PathBuf};

use crate::support;
use crate::support::{Home, noise};

#[test]
fn lines_come_back_as_they_went_in() {
    let home = Home::init("lines");
    let link = home.append("/notes", "one\n\nthree, ünïcode\nno end");
    assert!(
        link.starts_with("kinlog://agent/") && link.contains("/notes"),
        "{link}"
    );
    home.append("/notes", "five\n");

    let read = home.run(["feed", "read", "/notes"]).ok();
    assert_eq!(read.text(), "one\n\nthree, ünïcode\nno end\nfive\n");
    assert_eq!(
        home.run(["feed", "read", "/notes", "1..3"]).ok().text(),
        "\nthree, ünïcode\n"
    );
    assert_eq!(
        home.run(["feed", "read", "/notes", "last:1"]).ok().text(),
        "five\n"
    );

    let blocks = home.json(["feed", "read", "/notes", "2..4"]);
    assert_eq!(blocks[0]["index"], 2);
    assert_eq!(blocks[0]["text"], "three, ünïcode");
    assert_eq!(blocks[1]["bytes"], 6);

    let info = home.json_one(["feed", "info", "/notes"]);
    assert_eq!(
        (info["length"].as_u64(), info["fork"].as_u64()),
        (Some(5), Some(0))
    );
    assert_eq!(info["key"].as_str().unwrap().len(), 52);
    // The same feed by its key and by its link.
    assert_eq!(
        home.json_one(["feed", "info", info["key"].as_str().unwrap()])["length"],
        5
    );
    assert_eq!(home.json_one(["feed", "info", &link])["key"], info["key"]);
}

#[test]
fn more_lines_than_one_commit_takes_are_appended_in_order() {
    let home = Home::init("many");
    let lines = (0..70_000)
        .map(|number| format!("{number}\n"))
        .collect::<String>();
    home.append("/numbers", &lines);
    assert_eq!(home.run(["feed", "read", "/numbers"]).ok().text(), lines);
    let verified = home.json_one(["feed", "verify", "/numbers"]);
    assert_eq!(verified["blocks_checked"], 70_000);
}

#[test]
fn a_file_goes_in_and_comes_out_equal() {
    let home = Home::init("file");
    let content = noise(1, 1_000_000);
    let file = home.write("file.bin", &content);
    let link = home.import("/files/one", &file);
    assert!(link.contains("/files/one"), "{link}");
    let info = home.json_one(["feed", "info", "/files/one"]);
    assert_eq!(info["length"], 1_000_000_u64.div_ceil(65_536));
    assert_eq!(info["byte_length"], 1_000_000);

    let out = home.beside("out.bin");
    home.run([
        Path::new("feed"),
        Path::new("export"),
        Path::new("/files/one"),
        &out,
    ])
    .ok();
    assert!(std::fs::read(&out).unwrap() == content, "the copy differs");

    let part = home.beside("part.bin");
    let part_shown = part.to_str().unwrap();
    home.run([
        "feed",
        "export",
        "/files/one",
        part_shown,
        "--range",
        "2..4",
    ])
    .ok();
    assert!(
        std::fs::read(&part).unwrap() == content[2 * 65_536..4 * 65_536],
        "the part differs"
    );

    home.run(["feed", "verify", "/files/one"]).ok();
}

#[test]
fn an_export_of_what_is_not_there_leaves_no_file() {
    let home = Home::init("half");
    home.append("/notes", "one\ntwo\n");
    let out = home.beside("out.txt");
    let shown = out.to_str().unwrap();
    let finished = home.run(["feed", "export", "/notes", shown, "--range", "1..9"]);
    assert_ne!(finished.code, 0);
    assert!(!out.exists(), "half a file");
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let home = Home::init("text");
    home.run_with(["feed", "append", "/notes"], b"fine\nnot \xff fine\n")
        .exits(2)
        .says("line 2")
        .says("byte 4");
    home.run(["feed", "info", "/notes"]).exits(3);

    let bad = home.write("bad.md", b"# Title\n\nbroken \xc3\x28 here\n");
    let good = home.write("good.md", b"# Title\n\nfine\n");
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    home.run(["publish", "/paths/x", good, bad])
        .exits(2)
        .says("bad.md")
        .says("line 3");
    home.run(["feed", "info", "/paths/x"]).exits(3);

    use std::os::unix::ffi::OsStrExt;
    let text = std::ffi::OsStr::from_bytes(b"hello \xff");
    home.run(["room", "create", "kitchen"]).ok();
    home.run([std::ffi::OsStr::new("send"), "kitchen".as_ref(), text])
        .exits(2);
    assert_eq!(home.json(["read", "kitchen"]).len(), 0);
}

#[test]
fn a_block_larger_than_allowed_is_refused() {
    let home = Home::init("large");
    let line = vec![b'x'; 1024 * 1024 + 1];
    home.run_with(["feed", "append", "/notes"], &line)
        .exits(2)
        .says("line 1");
    home.run(["feed", "info", "/notes"]).exits(3);
    let whole = vec![b'x'; 1024 * 1024];
    home.run_with(["feed", "append", "/notes"], &whole).ok();
    assert_eq!(
        home.json_one(["feed", "info", "/notes"])["byte_length"],
        1024 * 1024
    );
}

#[test]
fn feeds_that_do_not_exist_are_not_found() {
    let home = Home::init("missing");
    let nobody = kinlog_key(7);
    for feed in ["/nothing", &nobody] {
        home.run(["feed", "info", feed]).exits(3).says(feed);
        home.run(["feed", "read", feed]).exits(3);
        home.run(["feed", "verify", feed]).exits(3);
    }
    home.run(["read", "nowhere"]).exits(3).says("nowhere");
    home.run(["send", "nowhere", "hello"]).exits(3);
    home.run(["room", "invite", "nowhere"]).exits(3);
    home.run(["unfollow", &format!("kinlog://feed/{nobody}")])
        .exits(3);
}

/// z-base-32 of 32 equal bytes, as `kinlog_feeds::text` writes it.
fn kinlog_key(byte: u8) -> String {
    kinlog_feeds::text::encode(&[byte; 32])
}

#[test]
fn damaged_links_and_keys_are_usage_errors() {
    let home = Home::init("links");
    let link = home.append("/notes", "one\n");
    // A changed character of the key breaks its check.
    let at = "kinlog://agent/".len() + 3;
    let mut damaged = link.clone().into_bytes();
    damaged[at] = if damaged[at] == b'y' { b'b' } else { b'y' };
    let damaged = String::from_utf8(damaged).unwrap();
    home.run(["follow", &damaged, "--once"]).exits(2);
    home.run(["feed", "info", &damaged]).exits(2);
    home.run(["follow", &link[..40], "--once"]).exits(2);
    home.run(["follow", "kinlog://planet/earth", "--once"])
        .exits(2);
    home.run(["follow", "not a link", "--once"]).exits(2);
    home.run(["room", "join", "kinlog://join/#AAAA"]).exits(2);
    home.run(["feed", "read", "/notes", "5..5"]).exits(2);
    home.run(["feed", "create", "no-slash"]).exits(2);
    assert_eq!(
        home.json_one(["pins"])["pins"].as_array().unwrap().len(),
        0,
        "nothing was pinned"
    );
}

#[test]
fn room_invites_with_a_damaged_part_are_refused() {
    let home = Home::init("invites");
    home.run(["room", "create", "kitchen"]).ok();
    let invite = home.json_one(["room", "invite", "kitchen"])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let guest = Home::init("guest");
    let start = invite.find('#').unwrap() + 1;
    for at in (start..invite.len()).step_by(7) {
        let mut damaged = invite.clone().into_bytes();
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        guest
            .run([
                "room",
                "join",
                std::str::from_utf8(&damaged).unwrap(),
                "--wait",
                "1",
            ])
            .exits(2);
    }
}

/// Changes one byte of `content` wherever it stands in the files of a home.
fn alter(home: &Home, content: &[u8]) -> PathBuf {
    for file in home.files() {
        let mut bytes = std::fs::read(&file).unwrap();
        if let Some(at) = bytes
            .windows(content.len())
            .position(|part| part == content)
        {
            bytes[at + content.len() / 2] ^= 0x20;
            std::fs::write(&file, bytes).unwrap();
            return file;
        }
    }
    panic!("the block stands in no file of the home");
}

#[test]
fn an_altered_block_is_named_and_never_shown() {
    let home = Home::init("altered");
    home.append(
        "/notes",
        "an honest line\nanother honest line\nthe third honest line\n",
    );
    alter(&home, b"another honest line");

    let verified = home.run(["feed", "verify", "/notes"]).exits(5);
    let key = kinlog_key_of(&home, "/notes");
    assert!(
        verified.text().contains(&key) && verified.text().contains("block 1"),
        "{}",
        verified.text()
    );

    let read = home.run(["feed", "read", "/notes", "1..2"]).exits(5);
    assert_eq!(read.text(), "", "altered bytes were shown");
    let out = home.beside("out.txt");
    home.run(["feed", "export", "/notes", out.to_str().unwrap()])
        .exits(5);
    assert!(!out.exists());
    // What is whole can still be read.
    assert_eq!(
        home.run(["feed", "read", "/notes", "2..3"]).ok().text(),
        "the third honest line\n"
    );
}

fn kinlog_key_of(home: &Home, path: &str) -> String {
    home.json_one(["feed", "info", path])["key"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn every_command_without_peers_answers_in_json() {
    let home = Home::empty("surface");
    let init = home.json_one(["init", "--name", "surface", "--discard-phrase"]);
    let created = home.json_one(["feed", "create", "/empty"]);
    assert_eq!(
        (&created["length"], &created["path"]),
        (&0.into(), &"/empty".into())
    );
    home.append("/notes", "one\n");
    let other = format!("kinlog://feed/{}", kinlog_key(7));
    let text = home.write("text.md", b"# Title\n\nword\n");
    let text = text.to_str().unwrap();
    let out = home.beside("out.txt");
    // Nobody is there: the pin stays, and is what `unfollow` takes away again.
    home.run(["follow", &other, "--once", "--json"]).exits(4);
    home.json(["room", "create", "kitchen"]);
    let commands: [&[&str]; 18] = [
        &["id"],
        &["status"],
        &["feed", "list"],
        &["feed", "info", "/notes"],
        &["feed", "read", "/notes"],
        &["feed", "import", "/file", text],
        &["feed", "export", "/notes", out.to_str().unwrap()],
        &["feed", "verify", "/notes"],
        &["publish", "/paths/x", text],
        &["pins"],
        &["unfollow", &other],
        &["room", "invite", "kitchen"],
        &["room", "list"],
        &["send", "kitchen", "hello"],
        &["read", "kitchen"],
        &["read", "kitchen", "--last", "1"],
        &["search", "hello"],
        &["search", "word"],
    ];
    for command in commands {
        assert!(!home.json(command).is_empty(), "{command:?} says nothing");
    }
    let list = home.json_one(["feed", "list"]);
    for feed in list["feeds"].as_array().unwrap() {
        assert_eq!(feed["key"].as_str().unwrap().len(), 52, "{feed:#}");
        assert!(feed["length"].is_u64(), "{feed:#}");
    }
    assert_eq!(home.json_one(["id"])["agent"], init["agent"]);

    let mut serving = home.start(["feed", "serve", "/notes", "--tcp", "127.0.0.1:0"]);
    let key = serving.wait_json("the address", testkit::process::WAIT_MAX, |value| {
        value["address"].as_str()?;
        value["key"].as_str().map(str::to_owned)
    });
    // The home is served to other commands meanwhile.
    assert_eq!(key, kinlog_key_of(&home, "/notes"));
    serving.stop().ok();
    let mut command = support::kinlog();
    let mut signal = testkit::process::Running::start(command.args([
        "signal",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--json",
    ]));
    signal.wait_json("the URL", testkit::process::WAIT_MAX, |value| {
        value["url"].as_str()?.starts_with("ws://").then_some(())
    });
    signal.stop().ok();
}

#[test]
fn errors_are_objects_with_json() {
    let home = Home::init("objects");
    let finished = home.run(["--json", "feed", "info", "/nothing"]).exits(3);
    let error = &finished.json()[0];
    assert_eq!(
        (error["v"].as_u64(), error["exit"].as_u64()),
        (Some(1), Some(3))
    );
    assert_eq!(error["kind"], "not_found");
    assert!(error["error"].as_str().unwrap().contains("/nothing"));
}

#[test]
fn control_characters_of_others_do_not_reach_the_terminal() {
    const HOSTILE: &str = "hello \u{1b}]0;owned\u{7} world";
    let home = Home::init("escapes");
    home.run(["room", "create", "kitchen"]).ok();
    home.run(["send", "kitchen", HOSTILE]).ok();
    let lesson = home.write(
        "lesson.md",
        format!("# A title \u{1b}[2J\n\n{HOSTILE}\n").as_bytes(),
    );
    home.run(["publish", "/paths/x", lesson.to_str().unwrap()])
        .ok();
    let commands: [&[&str]; 4] = [
        &["room", "list"],
        &["read", "kitchen"],
        &["search", "world"],
        &["status"],
    ];
    for command in commands {
        let shown = home.run(command).ok();
        let hostile = |byte: &u8| byte.is_ascii_control() && *byte != b'\n';
        assert!(
            !shown.stdout.iter().any(hostile),
            "{command:?}: {:?}",
            shown.text()
        );
    }
    assert!(
        home.run(["search", "world"]).ok().text().lines().count() >= 4,
        "both are found"
    );
    // Scripts get the text as it is.
    assert_eq!(home.json(["read", "kitchen"])[0]["text"], HOSTILE);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::init("pipe");
    let lines = (0..50_000)
        .map(|number| format!("{number}\n"))
        .collect::<String>();
    home.append("/numbers", &lines);
    let command = format!(
        "{} --home {} --state {} feed read /numbers | head -n 1",
        env!("CARGO_BIN_EXE_kinlog"),
        home.path().display(),
        home.state().display()
    );
    let finished = testkit::process::run(
        std::process::Command::new("bash").args(["-c", &format!("set -o pipefail; {command}")]),
        b"",
    );
    assert_eq!(
        (finished.code, finished.text(), finished.stderr.as_str()),
        (0, "0\n", "")
    );
}

#[test]
fn documents_are_found_by_their_words() {
    let home = Home::init("documents");
    let lesson = home.write(
        "lesson.md",
        b"# Trees and proofs\n\nA proof grows with the logarithm.\n",
    );
    let published = home.json_one(["publish", "/paths/trees", lesson.to_str().unwrap()]);
    assert_eq!(published["documents"][0]["title"], "Trees and proofs");
    let found = home.json_one(["search", "logarithm"]);
    assert_eq!(
        (&found["kind"], &found["title"]),
        (&"document".into(), &"Trees and proofs".into())
    );
    assert!(found["path"].as_str().unwrap().contains("/paths/trees"));
    assert_eq!(home.json(["search", "absentword"]).len(), 0);
}
