//! Backups: made of a home in use, checked by a drill, and a device that is gone comes back from one.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Home, MEETING, Signal};
use kinlog_feeds::crypto::Secret;
use serde_json::Value;
use testkit::needles::Needles;
use testkit::process::WAIT_MAX;

/// Makes a home whose 24 words and backup passphrase stand beside it.
fn home_with_words(name: &str) -> Home {
    let home = Home::empty(name);
    let words = home.beside("words");
    home.run([
        "init",
        "--name",
        name,
        "--phrase-file",
        words.to_str().unwrap(),
    ])
    .ok();
    passphrase(&home, "passphrase", "a passphrase of the backup");
    home
}

fn passphrase(home: &Home, name: &str, text: &str) -> PathBuf {
    let file = home.write(name, text.as_bytes());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Returns the arguments of a backup command with its passphrase.
fn arguments<'a>(home: &Home, command: &'a str, file: &'a str) -> Vec<String> {
    let flag = match command {
        "create" => "--new-passphrase-file",
        _ => "--passphrase-file",
    };
    let passphrase = home.beside("passphrase");
    ["backup", command, file, flag, passphrase.to_str().unwrap()]
        .map(str::to_owned)
        .into()
}

/// Makes a backup beside the home, and returns its path and what it says of itself.
#[track_caller]
fn backup(home: &Home, name: &str) -> (String, Value) {
    let file = home.beside(name).to_str().unwrap().to_owned();
    let made = home.json_one(arguments(home, "create", &file));
    (file, made)
}

/// Makes another home from a backup of `of`.
#[track_caller]
fn restore(of: &Home, file: &str, name: &str) -> Home {
    let home = Home::empty(name);
    let words = std::fs::read(of.beside("words")).unwrap();
    home.run_with(arguments(of, "restore", file), &words).ok();
    home
}

#[test]
fn a_drill_says_what_is_in_a_backup_and_touches_no_home() {
    let ann = home_with_words("ann");
    ann.append("/notes", "one\ntwo\n");
    ann.run(["room", "create", "garden"]).ok();
    ann.run(["room", "invite", "garden"]).ok();
    let mut up = ann.start(["up"]);
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    // The agent runs meanwhile, and what it wrote last is in.
    ann.run(["room", "create", "kitchen"]).ok();
    let (file, made) = backup(&ann, "ann.backup");
    up.stop().ok();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!ann.path().join("state.copy").exists());

    let elsewhere = Home::empty("elsewhere");
    let verified = elsewhere.json_one(arguments(&ann, "verify", &file));
    assert_eq!(verified, made);
    assert!(!elsewhere.path().exists());
    let id = ann.json_one(["id"]);
    for field in ["agent", "device", "name"] {
        assert_eq!(verified[field], id[field], "{field}");
    }
    for (field, number) in [
        ("paths", 1),
        ("rooms", 2),
        ("epochs", 2),
        ("invites", 1),
        ("identities", 1),
    ] {
        assert_eq!(verified[field], number, "{field} of {verified}");
    }
    let shown = elsewhere.run(arguments(&ann, "verify", &file)).ok();
    assert!(
        shown.text().contains("1 path, 2 rooms, 2 room keys"),
        "{}",
        shown.text()
    );

    ann.run(arguments(&ann, "create", &file))
        .exits(2)
        .says("not overwritten");
}

#[test]
fn a_backup_that_is_altered_cut_or_opened_with_another_passphrase_is_refused() {
    let ann = home_with_words("ann");
    let (file, _) = backup(&ann, "ann.backup");
    let whole = std::fs::read(&file).unwrap();
    let verify = arguments(&ann, "verify", &file);
    let check = |bytes: &[u8], code: i32, says: &str| {
        std::fs::write(&file, bytes).unwrap();
        ann.run(&verify).exits(code).says(says);
    };
    let altered = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    check(&altered(0, b'x'), 5, "no backup of kinlog");
    check(&altered(8, 9), 5, "version 9");
    // The passes of argon2id.
    check(&altered(14, 1), 5, "weaker than");
    check(&altered(17, 200), 5, "heavier than");
    check(&altered(200, !whole[200]), 5, "chunk 0 is altered");
    check(&whole[..whole.len() - 1], 5, "altered");
    check(&whole[..60], 5, "no backup of kinlog");
    check(b"", 5, "no backup of kinlog");
    std::fs::write(&file, &whole).unwrap();
    ann.run(&verify).ok();
    passphrase(&ann, "passphrase", "another passphrase");
    ann.run(&verify).exits(6).says("not the passphrase");
    ann.run([
        "backup",
        "verify",
        "/does/not/exist",
        "--passphrase-file",
        &verify[4],
    ])
    .exits(3);
}

#[test]
fn no_secret_and_no_name_stands_in_a_backup_in_clear() {
    let ann = home_with_words("ann");
    ann.run(["room", "create", "behind the green door"]).ok();
    ann.run(["room", "invite", "behind the green door"]).ok();
    let (file, _) = backup(&ann, "ann.backup");
    let mut needles = Needles::new();
    needles.add("device secret", ann.device_secret().expose());
    needles.add("home key", ann.home_key().expose());
    needles.add("room name", b"behind the green door");
    needles.add("passphrase", b"a passphrase of the backup");
    needles.add("SQLite", b"SQLite format 3");
    needles.add("epoch secret", &ann.sealed("epochs", "secret", "id")[0]);
    needles.add(
        "invite seed",
        &ann.sealed("invites", "seed", "public_key")[0],
    );
    assert_eq!(
        needles.found_in(&std::fs::read(&file).unwrap()),
        Default::default()
    );
    assert!(
        !needles
            .found_in(&std::fs::read(ann.path().join("home.key")).unwrap())
            .is_empty()
    );
}

#[test]
fn a_restored_home_is_a_new_device_that_goes_on_where_the_lost_one_ended() {
    let signal = Signal::start();
    let (ann, bob) = (home_with_words("ann"), Home::init("bob"));
    let link = ann.append("/notes", "one\ntwo\n");
    let lost = ann.json_one(["id"]);
    let ann_up = ann.up(&signal);
    let bob_up = bob.up(&signal);
    bob.follow(&link, &["--once"]);
    ann.run(["room", "create", "garden"]).ok();
    let invite = ann.json_one(["room", "invite", "garden"])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    bob.json(["room", "join", &invite]);
    ann.run(["send", "garden", "said before the backup"]).ok();
    bob.hear("garden", "said before the backup");
    let (file, _) = backup(&ann, "ann.backup");

    // What is published after the backup was made is the path's all the same.
    ann.append("/notes", "three\n");
    let mut following = bob.start(["follow", &link]);
    let mut holds = |blocks: u64| {
        following.wait_json("the path as it goes on", MEETING, |value| {
            (value["have"] == blocks && value["complete"] == true).then_some(())
        });
    };
    holds(3);
    ann_up.stop().ok();
    let secret = ann.device_secret();
    std::fs::remove_dir_all(ann.path()).unwrap();

    let again = restore(&ann, &file, "again");
    let id = again.json_one(["id"]);
    assert_eq!((&id["agent"], &id["name"]), (&lost["agent"], &lost["name"]));
    assert_ne!(id["device"], lost["device"]);
    assert_ne!(again.device_secret(), secret);
    again.append("/notes", "four\n");
    let again_up = again.up(&signal);
    holds(4);
    let read = bob.run(["feed", "read", &link]).ok();
    assert_eq!(read.text(), "one\ntwo\nthree\nfour\n");

    // Its room's history opens with the keys of the backup.
    let invite = bob.json_one(["room", "invite", "garden"])["link"]
        .as_str()
        .unwrap()
        .to_owned();
    again.json(["room", "join", &invite]);
    again.hear("garden", "said before the backup");
    again.run(["send", "garden", "back again"]).ok();
    bob.hear("garden", "back again");
    again_up.stop().ok();
    bob_up.stop().ok();
}

#[test]
fn a_backup_is_restored_by_whoever_has_its_passphrase_and_the_words_into_an_empty_folder() {
    let ann = home_with_words("ann");
    ann.append("/notes", "never published\n");
    let (file, _) = backup(&ann, "ann.backup");
    let words = std::fs::read(ann.beside("words")).unwrap();
    let other = home_with_words("other");
    let others = std::fs::read(other.beside("words")).unwrap();

    let restore = arguments(&ann, "restore", &file);
    ann.run_with(&restore, &words).exits(2).says("lives in");
    let empty = Home::empty("empty");
    empty
        .run_with(&restore, &others)
        .exits(2)
        .says("another agent");
    empty
        .run_with(&restore, b"one two three\n")
        .exits(2)
        .says("24 words");
    empty
        .run_with(arguments(&other, "restore", "/dev/null"), &words)
        .exits(5);
    assert!(!empty.path().exists());
    assert_eq!(
        std::fs::read_dir(empty.beside("")).unwrap().count(),
        0,
        "nothing is left behind"
    );

    let restored = empty.run_with(&restore, &words).ok();
    restored.says("1 path").says("not in it: 1 block of 1 feed");
    // What nobody was shown came to nothing: the path begins anew.
    empty.append("/notes", "published later\n");
    assert_eq!(
        empty.run(["feed", "read", "/notes"]).ok().text(),
        "published later\n"
    );
    // Two restored homes are two devices.
    let second = Home::empty("second");
    second.run_with(&restore, &words).ok();
    assert_ne!(
        second.json_one(["id"])["device"],
        empty.json_one(["id"])["device"]
    );
    let secret: Secret = second.device_secret();
    assert_ne!(secret, empty.device_secret());
}

#[test]
fn a_linked_device_approves_a_restored_one_and_no_words_are_needed() {
    let ann = home_with_words("ann");
    ann.append("/notes", "one\n");
    let spare = Home::empty("spare");
    link(&ann, &spare, |code, request| {
        words([
            "init",
            "--name",
            "spare",
            "--link",
            code,
            "--request",
            request,
        ])
    });
    spare.run(answered(&spare, &ann, &["init"])).ok();
    let (file, made) = backup(&ann, "ann.backup");
    assert_eq!(made["unpublished"]["blocks"], 1, "{made}");

    let again = Home::empty("again");
    let restore = arguments(&ann, "restore", &file);
    link(&spare, &again, |code, request| {
        let mut asking = restore.clone();
        asking.extend(words(["--link", code, "--request", request]));
        asking
    });
    let restore: Vec<&str> = restore.iter().map(String::as_str).collect();
    let restored = again.run(answered(&again, &spare, &restore)).ok();
    restored.says("1 path");
    assert!(!again.beside("home.linking").exists());
    let (before, id) = (ann.json_one(["id"]), again.json_one(["id"]));
    assert_eq!(id["agent"], before["agent"]);
    assert_ne!(id["device"], before["device"]);
    // The one that approved it knows it, and it knows its own state.
    for home in [&spare, &again] {
        let devices = home.json_one(["device", "list"]);
        let devices = devices["devices"].as_array().unwrap().clone();
        assert!(
            devices.iter().any(|one| one["key"] == id["device"]),
            "{devices:?}"
        );
    }
    again.append("/other", "written by the new device\n");

    // A code of somebody else's device approves nothing, and that device is not even asked.
    let other = home_with_words("other");
    let code = other.run(["device", "link", "--offline"]).ok();
    let code = code.text().trim().to_owned();
    let elsewhere = Home::empty("elsewhere");
    let mut asking = arguments(&ann, "restore", &file);
    asking.extend(words(["--link", &code]));
    elsewhere.run(asking).exits(2).says("another agent");
    assert!(!elsewhere.path().exists());
}

fn words<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(str::to_owned).into()
}

/// Lets `new` ask `old` by file with what `ask` says for a code and a request, and `old` answer.
#[track_caller]
fn link(old: &Home, new: &Home, ask: impl Fn(&str, &str) -> Vec<String>) {
    let code = old.run(["device", "link", "--offline"]).ok();
    let (request, answer) = (new.beside("request"), old.beside("answer"));
    let _ = std::fs::remove_file(&answer);
    let (request, answer) = (request.to_str().unwrap(), answer.to_str().unwrap());
    let asked = new.json_one(ask(code.text().trim(), request));
    let shown = asked["words"].as_str().unwrap();
    std::fs::write(new.beside("words-shown"), shown).unwrap();
    old.run([
        "device",
        "link",
        "--request",
        request,
        "--answer",
        answer,
        "--yes-words",
        shown,
    ])
    .ok();
}

/// Returns `command` with the answer that `old` gave to `new`.
fn answered(new: &Home, old: &Home, command: &[&str]) -> Vec<String> {
    let shown = std::fs::read_to_string(new.beside("words-shown")).unwrap();
    let answer = old.beside("answer");
    let rest = ["--answer", answer.to_str().unwrap(), "--yes-words", &shown];
    let all = command.iter().chain(&rest);
    all.map(|part| (*part).to_owned()).collect()
}
