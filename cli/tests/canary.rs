//! Registered secrets and texts: in no file of a locked home, in no log at TRACE, in no argument.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use support::Home;
use testkit::needles::Needles;
use testkit::process::{Running, WAIT_MAX, run};

const PASSPHRASE: &str = "correct horse battery staple";
const ROOM: &str = "behind the green door";
const PRIVATE_PATH: &str = "/diary-of-the-locksmith";
const MESSAGE: &str = "the key is under the third flowerpot";

fn image(home: &Home, needles: &Needles) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in home.files().into_iter().filter(|file| file.is_file()) {
        found.extend(needles.found_in(&std::fs::read(&file).unwrap()));
    }
    found
}

#[test]
fn a_locked_home_its_logs_and_its_arguments_show_no_secret() {
    let home = Home::empty("ann");
    let words = home.beside("words");
    let init = [
        "init",
        "--name",
        "ann",
        "--phrase-file",
        words.to_str().unwrap(),
    ];
    home.run(init).ok();
    let passphrase = home.write("passphrase", PASSPHRASE.as_bytes());
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let passphrase = passphrase.to_str().unwrap();
    home.run(["room", "create", ROOM]).ok();
    home.run(["room", "invite", ROOM]).ok();
    home.run(["feed", "create", PRIVATE_PATH, "--private"]).ok();

    let words = std::fs::read_to_string(&words).unwrap();
    let mut needles = Needles::new();
    needles.add("device secret", home.device_secret().expose());
    needles.add("home key", home.home_key().expose());
    needles.add("phrase", words.trim().as_bytes());
    needles.add("passphrase", PASSPHRASE.as_bytes());
    for secret in home.sealed("epochs", "secret", "id") {
        needles.add("epoch secret", &secret);
    }
    for seed in home.sealed("invites", "seed", "public_key") {
        needles.add("invite seed", &seed);
    }
    let mut texts = Needles::new();
    texts.add("message", MESSAGE.as_bytes());
    texts.add("room", ROOM.as_bytes());
    texts.add("private path", PRIVATE_PATH.as_bytes());

    // What each command logs when it tells all it can.
    let mut log = Vec::new();
    let backup = home.beside("ann.backup");
    let backup = backup.to_str().unwrap();
    let set = ["passphrase", "set", "--new-passphrase-file", passphrase];
    let create = [
        "backup",
        "create",
        backup,
        "--new-passphrase-file",
        passphrase,
    ];
    let verify = ["backup", "verify", backup, "--passphrase-file", passphrase];
    let unlock = ["unlock", "--passphrase-file", passphrase];
    let send = ["send", ROOM, MESSAGE];
    let commands: [&[&str]; 9] = [
        &["id"],
        &["status"],
        &send,
        &set,
        &create,
        &verify,
        &["lock"],
        &unlock,
        &["device", "list"],
    ];
    for command in commands {
        let finished = run(
            home.command(command).arg("-vv").env("KINLOG_LOG", "trace"),
            b"",
        )
        .ok();
        log.extend_from_slice(finished.stderr.as_bytes());
    }
    // A running agent: its arguments, and what it says when it is killed.
    let mut up = home.command(["up", "--json"]);
    let mut up = Running::start(up.env("KINLOG_LOG", "trace"));
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    let arguments = std::fs::read(format!("/proc/{}/cmdline", up.pid())).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", up.pid())).unwrap();
    for shown in [arguments, environment] {
        assert_eq!(needles.found_in(&shown), BTreeSet::new());
    }
    let found = needles.found_in_memory(up.pid());
    assert!(
        found.iter().any(|one| one.starts_with("epoch secret")),
        "the search is blind: {found:?}"
    );
    up.kill_now();
    log.extend_from_slice(up.all_stderr().as_bytes());
    assert!(!log.is_empty(), "nothing is logged at TRACE");
    assert_eq!(needles.found_in(&log), BTreeSet::new(), "in the log");

    // What is on the disk once it is locked: whoever was killed left no trace either.
    assert!(
        !image(&home, &texts).is_empty(),
        "the index holds texts while it is unlocked"
    );
    home.run(["lock"]).ok();
    assert_eq!(
        image(&home, &needles),
        BTreeSet::new(),
        "in the locked home"
    );
    assert_eq!(
        image(&home, &texts),
        BTreeSet::new(),
        "texts in the locked home"
    );
    let keys = std::fs::read_dir(home.state().join("keys")).unwrap();
    assert_eq!(keys.count(), 0, "a key is left");
}
