//! Copies, restored backups and other disks: the old device never signs again, everything else goes on.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::path::Path;
use std::process::Command;

use crate::support::{Home, MEETING, Signal};
use testkit::process::{Finished, WAIT_MAX, run};

/// Copies a folder as a person does, with `cp -a`.
#[track_caller]
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").args([from, to]), b"").ok();
}

/// Asserts that a home writes nothing and says why and what to do, but still reads.
#[track_caller]
fn assert_refuses(home: &Home, why: &str) {
    let before = home.run(["feed", "read", "/notes"]).ok().stdout;
    assert!(!before.is_empty());
    for writing in [
        &["feed", "append", "/notes"][..],
        &["feed", "append", "/new"],
        &["feed", "create", "/new"],
        &["feed", "create", "--plain"],
        &["room", "create", "kitchen"],
    ] {
        home.run_with(writing, b"more\n")
            .exits(10)
            .says(why)
            .says("kinlog device renew");
    }
    assert_eq!(home.run(["feed", "read", "/notes"]).ok().stdout, before);
    home.run(["feed", "verify", "/notes"]).ok();
    let status = home.status();
    let reason = status["must_renew"].as_str().unwrap();
    assert!(reason.contains(why), "{reason}");
    assert!(home.run(["status"]).ok().text().contains("device renew"));
    let devices = home.json_one(["device"]);
    assert_eq!(devices["devices"][0]["role"], "this");
    assert_eq!(devices["devices"][0]["must_renew"], reason);
    assert!(home.run(["device", "list"]).ok().text().contains(why));
}

/// Makes a home whose phrase is written beside it.
fn with_phrase(name: &str) -> Home {
    let home = Home::empty(name);
    let words = home.beside("words.txt");
    let words = words.to_str().unwrap();
    home.run(["init", "--name", name, "--phrase-file", words])
        .ok();
    home
}

fn words(home: &Home) -> Vec<u8> {
    std::fs::read(home.beside("words.txt")).unwrap()
}

/// Renews the device as its owner does: the words come on stdin.
fn renew(home: &Home) -> Finished {
    home.run_with(["device", "renew"], &words(home))
}

#[track_caller]
fn assert_writes(home: &Home) {
    home.append("/notes", "one more line\n");
    assert_eq!(home.status()["must_renew"], serde_json::Value::Null);
}

#[test]
fn a_copy_of_the_home_signs_nothing_and_the_original_goes_on() {
    let home = Home::init("original");
    home.append("/notes", "hello\n");
    let other = Home::empty("copy");
    copy(&home.path(), &other.path());
    // Elsewhere nothing is known of it; here it is known to be another folder.
    assert_refuses(&other, "nothing is known of this installation");
    copy(&home.state(), &other.state());
    assert_refuses(&other, "copied, restored or moved");
    assert_writes(&home);
    // Whatever the copy is told of the newer state of the original, it stays a copy.
    std::fs::remove_dir_all(other.state()).unwrap();
    copy(&home.state(), &other.state());
    assert_refuses(&other, "older than when it was last used");
}

#[test]
fn a_copy_of_the_store_folder_is_another_store() {
    let home = Home::init("store");
    home.append("/notes", "hello\n");
    let store = home.path().join("store");
    let aside = home.beside("aside");
    copy(&store, &aside);
    assert_writes(&home);
    let newest = home.beside("newest");
    std::fs::rename(&store, &newest).unwrap();
    std::fs::rename(&aside, &store).unwrap();
    assert_refuses(&home, "copied, restored or moved");
    // Nothing was signed meanwhile: with its own store back the device goes on.
    std::fs::rename(&store, &aside).unwrap();
    std::fs::rename(&newest, &store).unwrap();
    assert_writes(&home);
}

#[test]
fn a_home_restored_from_a_backup_signs_nothing() {
    let home = Home::init("restored");
    home.append("/notes", "hello\n");
    let backup = home.beside("backup");
    copy(&home.path(), &backup);
    assert_writes(&home);
    std::fs::remove_dir_all(home.path()).unwrap();
    copy(&backup, &home.path());
    assert_refuses(&home, "older than when it was last used");
}

#[test]
fn home_and_state_folder_restored_together_sign_nothing() {
    for in_place in [false, true] {
        let home = Home::init("both");
        home.append("/notes", "hello\n");
        let (backup, known) = (home.beside("backup"), home.beside("known"));
        copy(&home.path(), &backup);
        copy(&home.state(), &known);
        assert_writes(&home);
        if in_place {
            // The folders stay and their files are written over.
            copy(&backup.join("."), &home.path());
            copy(&known.join("."), &home.state());
            assert_refuses(&home, "home and state folder were restored");
        } else {
            std::fs::remove_dir_all(home.path()).unwrap();
            std::fs::remove_dir_all(home.state()).unwrap();
            copy(&backup, &home.path());
            copy(&known, &home.state());
            assert_refuses(&home, "copied, restored or moved");
        }
    }
}

#[test]
fn another_disk_at_the_same_path_signs_nothing_and_a_moved_home_does() {
    let home = Home::init("disk");
    home.append("/notes", "hello\n");
    let aside = home.beside("aside");
    std::fs::rename(home.path(), &aside).unwrap();
    // As when the content was moved to a new disk that is mounted in place of the old one.
    copy(&aside, &home.path());
    assert_refuses(&home, "copied, restored or moved");
    std::fs::remove_dir_all(home.path()).unwrap();
    std::fs::rename(&aside, home.path()).unwrap();
    assert_writes(&home);
}

#[test]
fn a_lost_state_folder_signs_nothing() {
    let home = Home::init("lost");
    home.append("/notes", "hello\n");
    std::fs::remove_dir_all(home.state()).unwrap();
    assert_refuses(&home, "nothing is known of this installation");
    assert!(!home.state().exists());
}

#[test]
fn a_stopped_process_still_holds_its_home() {
    use rustix::process::{Pid, Signal as Stop, kill_process};

    let home = Home::init("stopped");
    let mut up = home.start(["up"]);
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    let pid = Pid::from_raw(up.pid().cast_signed()).unwrap();
    kill_process(pid, Stop::STOP).unwrap();
    let second = home.run(["up"]).exits(6);
    assert!(
        second.stderr.contains(&format!("process {}", up.pid())),
        "{}",
        second.stderr
    );
    kill_process(pid, Stop::CONT).unwrap();
    up.stop().ok();
    assert_writes(&home);
}

#[test]
fn a_renewed_device_continues_the_paths() {
    let home = with_phrase("renewed");
    home.append("/notes", "one\ntwo\n");
    let link = home.append("/more", "other\n");
    let text = home.write("tree.md", b"# Trees\nof hashes\n");
    home.run(["publish", "/docs", text.to_str().unwrap()]).ok();
    let before = home.json_one(["id"]);
    std::fs::remove_dir_all(home.state()).unwrap();
    assert_refuses(&home, "nothing is known of this installation");

    let others = with_phrase("other");
    home.run_with(["device", "renew"], &words(&others))
        .exits(2)
        .says("another agent");
    home.run_with(["device", "renew"], b"one two three\n")
        .exits(2)
        .says("24 words");
    assert_refuses(&home, "nothing is known of this installation");

    let secret = std::fs::read(home.path().join("device.secret")).unwrap();
    renew(&home).ok().says("3 paths").says("4 blocks");
    assert_ne!(
        std::fs::read(home.path().join("device.secret")).unwrap(),
        secret
    );
    let after = home.json_one(["id"]);
    assert_eq!(after["agent"], before["agent"]);
    assert_ne!(after["device"], before["device"]);
    let devices = home.json_one(["device", "list"]);
    let devices = devices["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!(
        (&devices[0]["role"], &devices[0]["key"]),
        (&"this".into(), &after["device"])
    );
    assert_eq!(
        (&devices[1]["role"], &devices[1]["key"]),
        (&"former".into(), &before["device"])
    );

    assert_eq!(
        home.run(["feed", "read", "/notes"]).ok().text(),
        "one\ntwo\n"
    );
    assert_eq!(home.append("/more", "and on\n"), link);
    let read = home.run(["feed", "read", "/more"]).ok();
    assert_eq!(read.text(), "other\nand on\n");
    let last = home.run(["feed", "read", "/more", "--range", "1..2"]).ok();
    assert_eq!(last.text(), "and on\n");
    assert!(home.run(["search", "hashes"]).ok().text().contains("Trees"));
    assert_writes(&home);
    // The next device takes over from this one just the same.
    std::fs::remove_dir_all(home.state()).unwrap();
    renew(&home).ok();
    let read = home.run(["feed", "read", "/more"]).ok();
    assert_eq!(read.text(), "other\nand on\n");
    assert_writes(&home);
}

/// What happens to a home, what the guard says of it, and how it comes about.
type Case = (&'static str, &'static str, fn(&Home));

/// Everything that the guard refuses, each brought about by its own kind of damage: the way out is the same.
#[test]
fn whatever_the_guard_refuses_ends_with_a_renewed_device() {
    let cases: [Case; 11] = [
        ("record missing", "no install record", |home| {
            std::fs::remove_file(install(home)).unwrap();
        }),
        ("record damaged", "no install record", |home| {
            std::fs::write(install(home), b"noise").unwrap();
        }),
        ("record of a newer build", "no install record", |home| {
            change(&install(home), |value| value["v"] = 99.into());
        }),
        ("record of another device", "another device", |home| {
            let device = kinlog_feeds::text::encode(&[7; 32]);
            change(&install(home), |value| {
                value["device"] = device.as_str().into()
            });
        }),
        ("another machine", "not the machine", |home| {
            change(&install(home), |value| {
                value["place"]["machine"] = "elsewhere".into();
            });
        }),
        ("twin missing", "nothing is known", |home| {
            std::fs::remove_dir_all(home.state()).unwrap();
        }),
        ("twin damaged", "cannot be read", |home| {
            std::fs::write(twin(home), b"noise").unwrap();
        }),
        ("record copied", "copy of the one", |home| {
            let aside = home.beside("aside");
            copy(&install(home), &aside);
            std::fs::remove_file(install(home)).unwrap();
            copy(&aside, &install(home));
        }),
        ("home older", "older than when", |home| {
            let aside = home.beside("aside");
            copy(&install(home), &aside);
            home.append("/notes", "newer\n");
            copy(&aside, &install(home));
        }),
        ("state folder older", "state folder is older", |home| {
            let aside = home.beside("aside");
            copy(&twin(home), &aside);
            home.append("/notes", "newer\n");
            copy(&aside, &twin(home));
        }),
        (
            "store in another folder",
            "copied, restored or moved",
            |home| {
                let (store, aside) = (home.path().join("store"), home.beside("aside"));
                copy(&store, &aside);
                std::fs::remove_dir_all(&store).unwrap();
                std::fs::rename(&aside, &store).unwrap();
            },
        ),
    ];
    for (case, why, damage) in cases {
        let home = with_phrase("doubt");
        home.append("/notes", "one\n");
        damage(&home);
        let reason = home.status()["must_renew"].clone();
        let reason = reason
            .as_str()
            .unwrap_or_else(|| panic!("{case}: no doubt"));
        assert!(reason.contains(why), "{case}: {reason}");
        let before = home.json_one(["id"]);
        renew(&home).ok().says("1 path");
        let after = home.json_one(["id"]);
        assert_eq!(after["agent"], before["agent"], "{case}");
        assert_ne!(after["device"], before["device"], "{case}");
        assert_writes(&home);
        let read = home.run(["feed", "read", "/notes"]).ok();
        let read = read.text();
        assert!(read.starts_with("one\n"), "{case}: {read}");
        assert!(read.ends_with("one more line\n"), "{case}: {read}");
    }
}

#[test]
fn a_renewed_device_continues_private_paths_with_what_nobody_saw() {
    let home = with_phrase("private");
    home.run(["feed", "create", "--private", "/diary"]).ok();
    home.run_with(["feed", "append", "/diary"], b"dear diary\nsecond day\n")
        .ok();
    let text = home.write("plan.md", b"# Plans\nfor the summer\n");
    home.run(["publish", "--private", "/plans", text.to_str().unwrap()])
        .ok();
    std::fs::remove_dir_all(home.state()).unwrap();
    renew(&home).ok().says("2 paths").says("3 blocks");
    let read = home.run(["feed", "read", "/diary"]).ok();
    assert_eq!(read.text(), "dear diary\nsecond day\n");
    home.run_with(["feed", "append", "/diary"], b"third day\n")
        .ok();
    let read = home.run(["feed", "read", "/diary"]).ok();
    assert_eq!(read.text(), "dear diary\nsecond day\nthird day\n");
    let found = home.run(["search", "summer"]).ok();
    assert!(found.text().contains("Plans"), "{}", found.text());
}

fn install(home: &Home) -> std::path::PathBuf {
    home.path().join("install")
}

/// The twin of the home's install record.
fn twin(home: &Home) -> std::path::PathBuf {
    let files = std::fs::read_dir(home.state()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    paths
        .find(|path| path.extension().is_some_and(|end| end == "install"))
        .unwrap()
}

/// Changes a value of a JSON file in place.
fn change(file: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn a_device_is_not_renewed_while_another_process_holds_the_home() {
    let home = with_phrase("held");
    let mut up = home.start(["up"]);
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    let device = home.json_one(["id"])["device"].clone();
    let refused = renew(&home).exits(6);
    assert!(refused.stderr.contains(&up.pid().to_string()));
    assert_eq!(home.json_one(["id"])["device"], device);
    up.stop().ok();
}

#[test]
fn followers_see_a_path_go_on_in_a_renewed_device() {
    let signal = Signal::start();
    let author = with_phrase("author");
    let link = author.append("/notes", "one\ntwo\n");
    let reader = Home::init("reader");
    let _reader_up = reader.up(&signal);
    let author_up = author.up(&signal);
    reader.follow(&link, &["--once"]);
    let mut following = reader.start(["follow", &link]);
    author_up.stop().ok();

    // Nobody saw the third line, and the home was lost and restored.
    author.append("/notes", "three\n");
    std::fs::remove_dir_all(author.state()).unwrap();
    renew(&author).ok().says("1 path").says("1 block");
    author.append("/notes", "four\n");
    let _author_up = author.up(&signal);
    following.wait_json("the path as it goes on", MEETING, |value| {
        (value["have"] == 4 && value["complete"] == true).then_some(())
    });
    let all = "one\ntwo\nthree\nfour\n";
    assert_eq!(author.run(["feed", "read", "/notes"]).ok().text(), all);
    assert_eq!(reader.run(["feed", "read", &link]).ok().text(), all);
    author.append("/notes", "five\n");
    following.wait_json("what is written later", MEETING, |value| {
        (value["have"] == 5).then_some(())
    });
    // Whoever follows only now gets both feeds of the path.
    let late = Home::init("late");
    let _late_up = late.up(&signal);
    late.follow(&link, &["--once"]);
    let read = late.run(["feed", "read", &link]).ok();
    assert_eq!(read.text(), "one\ntwo\nthree\nfour\nfive\n");
}

#[test]
fn a_machine_that_was_set_back_learns_it_from_its_peers() {
    let signal = Signal::start();
    let author = with_phrase("author");
    let link = author.append("/notes", "one\ntwo\n");
    let reader = Home::init("reader");
    let _reader_up = reader.up(&signal);
    let author_up = author.up(&signal);
    reader.follow(&link, &["--once"]);
    author_up.stop().ok();
    // A snapshot of the whole machine: what stands where is the same when it is put back.
    let (home, state) = (author.beside("home-then"), author.beside("state-then"));
    copy(&author.path(), &home);
    copy(&author.state(), &state);
    let mut following = reader.start(["follow", &link]);
    let author_up = author.up(&signal);
    author.append("/notes", "three\n");
    following.wait_json("the third line", MEETING, |value| {
        (value["have"] == 3).then_some(())
    });
    author_up.stop().ok();
    set_back(&author, &home, &state);

    // Offline nobody can tell it, so it writes; the reader is asked before it is shown that.
    author.append("/notes", "otherwise\n");
    let mut author_up = author.up(&signal);
    author_up.wait_stderr("this device signs nothing more");
    author
        .run_with(["feed", "append", "/notes"], b"more\n")
        .exits(10)
        .says("a peer has a head of 3 blocks");
    let info = reader.json_one(["feed", "info", &link]);
    assert_eq!(info["length"], 3, "{info}");
    reader.run(["feed", "verify", &link]).ok();
    author_up.stop().ok();
    assert!(author.status()["must_renew"].is_string());

    renew(&author).ok().says("1 block");
    let _author_up = author.up(&signal);
    following.wait_json("the path as it goes on", MEETING, |value| {
        (value["have"] == 3 && value["length"] == 4).then_some(())
    });
    let all = "one\ntwo\notherwise\n";
    assert_eq!(author.run(["feed", "read", "/notes"]).ok().text(), all);
    assert_eq!(reader.run(["feed", "read", &link]).ok().text(), all);
}

/// Puts a copy in place as a snapshot of the disk does: to the install record everything stands where
/// it stood.
fn set_back(author: &Home, home: &Path, state: &Path) {
    for (now, then) in [(author.path(), home), (author.state(), state)] {
        std::fs::remove_dir_all(&now).unwrap();
        copy(then, &now);
    }
    let twin = std::fs::read_dir(author.state()).unwrap().next().unwrap();
    let twin = twin.unwrap().path();
    let record = author.path().join("install");
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let marks = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).unwrap();
        let born = metadata.created().unwrap();
        let born = born.duration_since(std::time::UNIX_EPOCH).unwrap();
        serde_json::json!({ "inode": metadata.ino(), "born_ns": born.as_nanos() as u64 })
    };
    let mut value = read(&record);
    value["place"]["folder"] = marks(&author.path().join("store"));
    let bytes = serde_json::to_vec(&value).unwrap();
    std::fs::write(&record, &bytes).unwrap();
    let hash = kinlog_feeds::crypto::blake2b_256(&[b"kinlog/install", &bytes]);
    let mut value = read(&twin);
    value["record"] = kinlog_feeds::text::encode(&hash).into();
    value["file"] = marks(&record);
    std::fs::write(&twin, serde_json::to_vec(&value).unwrap()).unwrap();
    assert_eq!(author.status()["must_renew"], serde_json::Value::Null);
}
