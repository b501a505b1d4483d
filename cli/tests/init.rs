//! How a home begins: the words, who is asked for what, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{Home, kinlog};
use testkit::process::Running;

#[test]
fn every_command_in_an_empty_home_says_run_init() {
    let home = Home::empty("empty");
    let key = kinlog_feeds::text::encode(&[7; 32]);
    let link = format!("kinlog://feed/{key}");
    let file = home.write("file.txt", b"text\n");
    let file = file.to_str().unwrap();
    let out = home.beside("out.txt");
    let commands: [&[&str]; 29] = [
        &["id"],
        &["up"],
        &["status"],
        &["device"],
        &["device", "renew"],
        &["feed", "list"],
        &["feed", "create", "/notes"],
        &["feed", "info", "/notes"],
        &["feed", "append", "/notes"],
        &["feed", "read", "/notes"],
        &["feed", "import", "/notes", file],
        &["feed", "export", "/notes", out.to_str().unwrap()],
        &["feed", "verify", "/notes"],
        &["feed", "serve", "/notes", "--tcp", "127.0.0.1:0"],
        &["feed", "pull", &key, "--tcp", "127.0.0.1:1"],
        &["publish", "/notes", file],
        &["follow", &link, "--once"],
        &["follow", &link],
        &["unfollow", &link],
        &["pins"],
        &["seed", &link],
        &["seed"],
        &["room", "list"],
        &["room", "create", "kitchen"],
        &["room", "invite", "kitchen"],
        &["send", "kitchen", "hello"],
        &["read", "kitchen"],
        &["read", "kitchen", "--watch"],
        &["search", "word"],
    ];
    for command in commands {
        home.run(command).exits(3).says("kinlog init");
        let answer = home.run(command.iter().copied().chain(["--json"])).exits(3);
        let answer = answer.json();
        assert_eq!(answer[0]["kind"], "not_found", "{command:?}");
        assert!(
            answer[0]["hint"].to_string().contains("kinlog init"),
            "{command:?}"
        );
    }
    assert!(!out.exists(), "half a file");
    assert_eq!(
        home.files(),
        Vec::<std::path::PathBuf>::new(),
        "nothing was written"
    );
}

#[test]
fn without_a_terminal_init_asks_what_to_do_with_the_words() {
    let home = Home::empty("choice");
    home.run(["init"])
        .exits(2)
        .says("--phrase-file")
        .says("--discard-phrase");
    assert!(!home.path().exists(), "nothing was made");
}

#[test]
fn the_words_go_into_a_file_that_only_the_owner_reads() {
    let home = Home::empty("words");
    let file = home.beside("words.txt");
    let finished = home
        .run([
            "init",
            "--name",
            "Ada",
            "--phrase-file",
            file.to_str().unwrap(),
        ])
        .ok();
    assert!(
        finished.text().starts_with("kinlog://agent/"),
        "{}",
        finished.text()
    );
    for next in ["feed append", "kinlog up", "kinlog follow"] {
        assert!(finished.stderr.contains(next), "{}", finished.stderr);
    }
    let words = std::fs::read_to_string(&file).unwrap();
    assert_eq!(words.split_whitespace().count(), 24);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let id = home.json_one(["id"]);
    assert_eq!(id["name"], "Ada");
    assert_eq!(id["agent"].as_str().unwrap().len(), 52);

    // No word list, not even part of it, stays in the home.
    let first_words = words
        .split_whitespace()
        .take(4)
        .collect::<Vec<_>>()
        .join(" ");
    for file in home.files() {
        let content = std::fs::read(&file).unwrap();
        let found = content
            .windows(first_words.len())
            .any(|part| part == first_words.as_bytes());
        assert!(!found, "{}", file.display());
    }
}

#[test]
fn an_existing_phrase_file_is_not_touched() {
    let home = Home::empty("kept");
    let file = home.write("words.txt", b"precious\n");
    home.run(["init", "--phrase-file", file.to_str().unwrap()])
        .exits(2)
        .says("exists");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious\n");
    assert!(!home.path().exists(), "nothing was made");
}

#[test]
fn a_home_is_initialised_once() {
    let home = Home::init("once");
    let before = home.json_one(["id"]);
    home.run(["init", "--discard-phrase"])
        .exits(2)
        .says("home already");
    assert_eq!(home.json_one(["id"]), before);
}

#[test]
fn secrets_are_for_the_owner_only() {
    let home = Home::init("modes");
    home.append("/notes", "hello\n");
    assert_eq!(
        std::fs::metadata(home.path()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let secret = home.path().join("device.secret");
    assert_eq!(
        std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777,
        0o600
    );

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    home.run(["feed", "list"]).exits(6).says("device.secret");
}

#[test]
fn kinlog_home_is_taken_when_no_home_is_given() {
    let home = Home::init("environment");
    let out = kinlog()
        .env("KINLOG_HOME", home.path())
        .env("KINLOG_STATE", home.state())
        .arg("id")
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(String::from_utf8_lossy(&out.stdout).contains("environment"));

    // Without it, XDG_DATA_HOME decides.
    let data = home.beside("data");
    let out = kinlog()
        .env("XDG_DATA_HOME", &data)
        .arg("id")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&out.stderr).contains(data.to_str().unwrap()));
}

/// Runs `kinlog init` on a terminal of its own, made by script(1).
fn init_on_a_terminal(home: &Home) -> Running {
    let command = format!(
        "stty -echo; {} --home {} --state {} init --name Ada",
        env!("CARGO_BIN_EXE_kinlog"),
        home.path().display(),
        home.state().display()
    );
    Running::start(
        Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm"),
    )
}

/// Reads the words off the screen.
fn read_words(terminal: &mut Running) -> Vec<String> {
    let mut words = vec![String::new(); 24];
    while words.iter().any(String::is_empty) {
        let line = without_escapes(&terminal.line().expect("24 words are shown"));
        let cells = line.split_whitespace().collect::<Vec<_>>();
        for pair in cells.windows(2) {
            if let Ok(number) = pair[0].parse::<usize>()
                && (1..=24).contains(&number)
                && pair[1]
                    .chars()
                    .all(|character| character.is_ascii_lowercase())
            {
                words[number - 1] = pair[1].to_owned();
            }
        }
    }
    words
}

fn without_escapes(line: &str) -> String {
    let mut plain = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // CSI sequences end with a letter.
            for part in characters.by_ref() {
                if part.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Reads up to the question and returns the number of the word that is asked for.
fn asked(terminal: &mut Running) -> usize {
    terminal.read_until("word ");
    let question = without_escapes(&terminal.read_until(": "));
    let number = question.trim_end_matches(": ");
    number
        .parse::<usize>()
        .unwrap_or_else(|_| panic!("{question:?}"))
}

#[test]
fn a_terminal_shows_the_words_once_and_asks_two_back() {
    let home = Home::empty("terminal");
    let mut terminal = init_on_a_terminal(&home);
    let words = read_words(&mut terminal);
    terminal.write(b"\n");
    for _ in 0..2 {
        let number = asked(&mut terminal);
        terminal.write(format!("{}\n", words[number - 1]).as_bytes());
    }
    let finished = terminal.finish(testkit::process::WAIT_MAX).ok();
    assert!(
        finished.text().contains("kinlog://agent/"),
        "{}",
        finished.text()
    );
    assert_eq!(home.json_one(["id"])["name"], "Ada");
}

#[test]
fn words_that_were_not_written_down_make_no_home() {
    let home = Home::empty("mistyped");
    let mut terminal = init_on_a_terminal(&home);
    read_words(&mut terminal);
    terminal.write(b"\n");
    for _ in 0..3 {
        asked(&mut terminal);
        terminal.write(b"nonsense\n");
    }
    terminal.finish(testkit::process::WAIT_MAX).exits(2);
    assert!(!home.path().exists(), "nothing was made");
}
