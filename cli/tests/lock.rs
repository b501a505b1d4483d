//! A home under a passphrase: locked, unlocked, and what each command says meanwhile.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::Home;
use testkit::process::{WAIT_MAX, run};

fn arguments<'a>(words: &[&'a str], file: &'a std::path::Path) -> Vec<&'a str> {
    words
        .iter()
        .copied()
        .chain([file.to_str().unwrap()])
        .collect()
}

/// Makes a home with a room under a passphrase.
fn protected(name: &str) -> (Home, PathBuf) {
    let home = Home::empty(name);
    let passphrase = home.secret_file("passphrase", "correct horse battery\n");
    let init = ["init", "--discard-phrase", "--new-passphrase-file"];
    home.run(arguments(&init, &passphrase)).ok();
    home.run(["room", "create", "garden"]).ok();
    (home, passphrase)
}

fn protection(home: &Home) -> String {
    home.json_one(["passphrase"])["protection"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_locked_home_answers_nothing_but_how_to_unlock_it() {
    let (home, passphrase) = protected("ann");
    assert_eq!(protection(&home), "unlocked");
    home.run(["send", "garden", "the roses are out"]).ok();
    home.run(["lock"]).ok().says("locked");
    assert_eq!(protection(&home), "locked");
    let has_index = || {
        home.files().iter().any(|file| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name.starts_with("index.db")
        })
    };
    assert!(!has_index());
    for command in [
        &["id"][..],
        &["status"],
        &["up"],
        &["device", "list"],
        &["feed", "list"],
        &["feed", "create", "/notes"],
        &["read", "garden"],
        &["send", "garden", "not said"],
        &["room", "list"],
        &["search", "roses"],
        &["pins"],
        &["publish", "/notes", "/dev/null"],
        &["store", "stat"],
    ] {
        home.run(command)
            .exits(6)
            .says("is locked")
            .says("kinlog unlock");
    }
    home.run_with(["device", "renew"], "abandon ".repeat(23).as_bytes())
        .exits(2);

    // The environment opens it for one command.
    let opened = run(
        home.command(["read", "garden"])
            .env("KINLOG_PASSPHRASE_FILE", &passphrase),
        b"",
    );
    assert!(opened.ok().text().contains("the roses are out"));
    assert_eq!(protection(&home), "locked");
    assert!(
        !has_index(),
        "what it read stands in clear in a locked home"
    );

    home.run(arguments(&["unlock", "--passphrase-file"], &passphrase))
        .ok()
        .says("unlocked");
    for command in [["read", "garden"], ["search", "roses"]] {
        let shown = home.run(command).ok();
        assert!(shown.text().contains("the roses are out"), "{command:?}");
    }
    home.run(["unlock"]).ok();
}

#[test]
fn locking_stops_the_running_agent() {
    let (home, _) = protected("ann");
    let mut up = home.start(["up"]);
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    home.run(["lock"]).ok();
    let stopped = up.finish(WAIT_MAX).ok();
    assert!(stopped.text().contains("stopped"), "{}", stopped.text());
    home.run(["id"]).exits(6);
}

#[test]
fn a_home_without_passphrase_is_not_locked_and_its_agent_goes_on() {
    let home = Home::init("ann");
    let mut up = home.start(["up"]);
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    home.run(["lock"]).exits(2).says("kinlog passphrase set");
    home.run(["unlock"]).exits(2).says("kinlog passphrase set");
    home.run(["id"]).ok();
    let new = home.secret_file("new", "correct horse battery");
    home.run(arguments(
        &["passphrase", "set", "--new-passphrase-file"],
        &new,
    ))
    .exits(6)
    .says("in use by process");
    up.stop().ok();
    home.run(arguments(
        &["passphrase", "set", "--new-passphrase-file"],
        &new,
    ))
    .ok()
    .says("unlocked");
    assert!(!home.path().join("home.key").exists());
}

#[test]
fn a_passphrase_is_changed_and_removed_by_whoever_has_it() {
    let (home, old) = protected("ann");
    let new = home.secret_file("new", "four five six\r\nanother line");
    let wrong = home.secret_file("wrong", "four five seven");
    let change = |from: &PathBuf| {
        let (from, to) = (from.to_str().unwrap(), new.to_str().unwrap());
        let words = ["passphrase", "change", "--passphrase-file", from];
        home.run(words.into_iter().chain(["--new-passphrase-file", to]))
    };
    change(&wrong).exits(6).says("not the passphrase");
    change(&old).ok();
    home.run(["lock"]).ok();
    let unlock = ["unlock", "--passphrase-file"];
    home.run(arguments(&unlock, &old))
        .exits(6)
        .says("not the passphrase");
    home.run(arguments(&unlock, &new)).ok();
    let remove = ["passphrase", "remove", "--passphrase-file"];
    home.run(arguments(&remove, &wrong)).exits(6);
    home.run(arguments(&remove, &new)).ok();
    assert_eq!(protection(&home), "none");
    home.run(["id"]).ok();
}

#[test]
fn a_passphrase_comes_from_a_private_file_or_the_terminal() {
    let home = Home::init("ann");
    let set = ["passphrase", "set", "--new-passphrase-file"];
    let short = home.secret_file("short", "short\n");
    home.run(arguments(&set, &short))
        .exits(2)
        .says("at least 8 characters");
    let empty = home.secret_file("empty", "\n");
    home.run(arguments(&set, &empty))
        .exits(2)
        .says("first line");
    let open = home.secret_file("open", "correct horse battery\n");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    home.run(arguments(&set, &open)).exits(6).says("chmod 600");
    home.run(["passphrase", "set"])
        .exits(2)
        .says("no terminal")
        .says("--passphrase-file");
    home.run(arguments(&set, &home.beside("none"))).exits(3);
    assert_eq!(protection(&home), "none");
}

#[test]
fn what_others_may_enter_is_closed_and_keys_that_others_may_read_are_refused() {
    let home = Home::init("ann");
    let mode = |name: &str| {
        let metadata = std::fs::metadata(home.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    let open = |name: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(home.path().join(name), permissions).unwrap();
    };
    for (name, opened, closed) in [
        ("", 0o755, 0o700),
        ("store", 0o750, 0o700),
        ("index.db", 0o644, 0o600),
    ] {
        home.run(["id"]).ok();
        open(name, opened);
        home.run(["id"]).ok().says("let others in");
        assert_eq!(mode(name), closed, "{name}");
    }
    for name in ["home.key", "device.secret", "state.db"] {
        open(name, 0o640);
        home.run(["id"]).exits(6).says(name).says("chmod 600");
        open(name, 0o600);
    }
    home.run(["id"]).ok();
}
