//! A new device signs in with a password and a code, in processes of their own.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::story::EVERYTHING;
use crate::support::{Home, MEETING, Signal};
use kinlog_agent::sign_in::{Capsule, SignInCode, SignInRecord};
use kinlog_agent::vault::Passphrase;
use kinlog_feeds::crypto::device_seed;
use testkit::needles::Needles;
use testkit::process::{Running, run};

const PASSWORD: &str = "under the third flowerpot";

fn private(home: &Home, name: &str, text: &str) -> PathBuf {
    let file = home.write(name, text.as_bytes());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Makes a sign-in; returns the file with its code.
fn create(home: &Home) -> PathBuf {
    let password = private(home, "password", &format!("{PASSWORD}\n"));
    let code = home.beside("code.txt");
    let (password, file) = (password.to_str().unwrap(), code.to_str().unwrap());
    let words = [
        "sign-in",
        "create",
        "--password-file",
        password,
        "--write-code",
        file,
    ];
    home.run(words).ok().says("move it to paper");
    code
}

/// The command that signs in, with every log there is.
fn use_command(home: &Home, signal: &Signal, agent: &str, password: &Path, code: &Path) -> Command {
    let mut command = home.command(["sign-in", "use", "--agent", agent, "--signal", &signal.url]);
    command
        .args(["--name", "phone", "--password-file"])
        .arg(password)
        .arg("--code-file")
        .arg(code)
        .env("KINLOG_LOG", EVERYTHING);
    command
}

fn agent(home: &Home) -> String {
    home.json_one(["id"])["agent"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_device_signs_in_and_its_secrets_are_nowhere() {
    let signal = Signal::start();
    let desk = Home::init("desk");
    let code_file = create(&desk);
    let link = desk.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let mut up = Running::start(
        desk.command(["up", "--signal", &signal.url, "--json"])
            .env("KINLOG_LOG", EVERYTHING),
    );
    up.wait_json("word that it is ready", MEETING, |value| {
        (value["event"] == "ready").then_some(())
    });

    let phone = Home::empty("phone");
    let password = private(&phone, "password", &format!("{PASSWORD}\n"));
    let signing_in = Running::start(&mut use_command(
        &phone, &signal, &link, &password, &code_file,
    ));
    let argv = std::fs::read(format!("/proc/{}/cmdline", signing_in.pid())).unwrap();
    let finished = signing_in.finish(MEETING).ok();
    let (said, log) = (finished.text().to_owned(), finished.stderr.clone());
    assert!(log.contains("phone is a device of desk now"), "{log}");
    assert!(
        !log.contains("no other device has taken that up yet"),
        "{log}"
    );

    let devices = desk.json_one(["device", "list"]);
    let names: Vec<&str> = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"desk") && names.contains(&"phone"),
        "{names:?}"
    );
    assert_eq!(agent(&phone), agent(&desk));
    let status = desk.json_one(["sign-in"]);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["keys"][0]["devices"][0], "phone");
    let shown = desk.run(["sign-in"]).ok();
    assert!(shown.text().contains("added phone"), "{}", shown.text());

    // What the password and the code open.
    let code = std::fs::read_to_string(&code_file).unwrap();
    let code = SignInCode::parse(&code).unwrap();
    let record: Vec<u8> = desk
        .state_db()
        .query_row("SELECT record FROM sign_ins", [], |row| row.get(0))
        .unwrap();
    let record = SignInRecord::decode(&record).unwrap();
    let typed = Passphrase::typed(PASSWORD).unwrap();
    let capsule = Capsule::open(&record.sealed, &record.agent, &typed, &code).unwrap();
    let mut needles = Needles::new();
    needles.add("password", PASSWORD.as_bytes());
    needles.add("code", code.expose());
    needles.add("code as text", code.text().as_bytes());
    needles.add(
        "code without dashes",
        code.text().replace('-', "").as_bytes(),
    );
    needles.add("seed", capsule.secret().expose());
    needles.add("signing seed", device_seed(capsule.secret()).expose());
    let up_log = up.stop().ok().stderr;
    assert!(up_log.len() + log.len() > 1000, "the logs say something");
    for (what, hay) in [
        ("argv", &argv[..]),
        ("what it printed", said.as_bytes()),
        ("the log of signing in", log.as_bytes()),
        ("the log of the other device", up_log.as_bytes()),
    ] {
        let found = needles.found_in(hay);
        assert!(found.is_empty(), "{what}: {found:?}");
    }
    for home in [&desk, &phone] {
        let files = home.files();
        assert!(files.len() > 4);
        for file in files {
            let found = needles.found_in(&std::fs::read(&file).unwrap_or_default());
            assert!(found.is_empty(), "{}: {found:?}", file.display());
        }
    }
    // The search finds what is there.
    let planted = needles.found_in(&std::fs::read(&code_file).unwrap());
    assert!(!planted.is_empty());
}

#[test]
fn what_was_revoked_or_mistyped_adds_no_device() {
    let signal = Signal::start();
    let desk = Home::init("desk");
    let code = create(&desk);
    let agent = agent(&desk);
    let _up = desk.up(&signal);
    let phone = Home::empty("phone");
    let right = private(&phone, "password", PASSWORD);
    let wrong = private(&phone, "wrong", "under the second flowerpot");
    let try_it = |password: &Path, code: &Path| {
        run(
            use_command(&phone, &signal, &agent, password, code).args(["--wait", "20"]),
            b"",
        )
    };
    try_it(&wrong, &code)
        .exits(6)
        .says("this password and code together open no sign-in");
    let mistyped = private(
        &phone,
        "mistyped",
        "yyyy-yyyy-yyyy-yyyy-yyyy-yyyy-yyyy-yyyo",
    );
    try_it(&right, &mistyped)
        .exits(2)
        .says("check does not fit");
    let words = ["sign-in", "use", "--agent", &agent, "--code", "abcd"];
    phone.run(words).exits(2);
    assert!(!phone.path().exists());

    desk.run(["sign-in", "revoke"]).ok().says("revoked");
    let status = desk.json_one(["sign-in", "status"]);
    assert_eq!(status["state"], "none");
    assert_eq!(status["keys"][0]["revoked"], true);
    desk.run(["sign-in", "revoke"]).exits(3);
    run(
        use_command(&phone, &signal, &agent, &right, &code).args(["--wait", "5"]),
        b"",
    )
    .exits(6)
    .says("this password and code together open no sign-in");
    assert!(!phone.path().exists());
}
