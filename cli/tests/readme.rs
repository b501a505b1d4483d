//! The README is walked as a newcomer types it, and every command in the docs exists.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Home, MEETING, kinlog, noise};
use testkit::process::{Finished, Folder, Running, WAIT_MAX, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

/// A command as it stands in a fenced block, and the machine named above the block.
#[derive(Debug)]
struct Line {
    machine: Option<String>,
    command: String,
}

/// Returns the lines of fenced and indented blocks that begin with `kinlog `.
fn commands(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut machine, mut fenced) = (None, false);
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("<!-- on ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        {
            machine = Some(name.to_owned());
        } else if line.starts_with("```") {
            fenced = !fenced;
            if !fenced {
                machine = None;
            }
        } else if (fenced || line.starts_with("    ")) && line.trim().starts_with("kinlog ") {
            lines.push(Line {
                machine: machine.clone(),
                command: line.trim().to_owned(),
            });
        }
    }
    lines
}

/// Splits a command as a shell does, as far as the docs need it: quotes, `&`, a comment.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for character in command.chars() {
        match (character, quote) {
            (mark @ ('"' | '\''), None) => quote = Some(mark),
            (mark, Some(open)) if mark == open => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            (other, _) => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty() && word != "&");
    let comment = words.iter().position(|word| word.starts_with('#'));
    words.truncate(comment.unwrap_or(words.len()));
    words.remove(0);
    words
}

#[test]
fn every_command_in_the_docs_exists() {
    let mut files = vec!["README.md".into(), "CONTRIBUTING.md".into()];
    let mut folders = vec![PathBuf::from("docs"), PathBuf::from("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(repository().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(repository().join(&file)).unwrap();
        for line in commands(&text) {
            // `--help` ends the parsing where it stands: what comes before it must be known.
            let finished = run(kinlog().args(words(&line.command)).arg("--help"), b"");
            assert_eq!(
                finished.code,
                0,
                "{}: {}\n{}",
                file.display(),
                line.command,
                finished.stderr
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} commands were found");
}

/// The file with the password that the newcomer has in mind.
struct Password(Folder);

impl Password {
    fn path(&self) -> PathBuf {
        self.0.join("password")
    }
}

impl Default for Password {
    fn default() -> Self {
        let password = Password(Folder::new("password"));
        std::fs::write(password.path(), b"under the third flowerpot\n").unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(password.path(), private).unwrap();
        password
    }
}

/// A newcomer's machines, and what they have read on their screens so far.
#[derive(Default)]
struct Walk {
    machines: BTreeMap<String, Home>,
    /// What stands in the README, and what to type instead.
    instead: BTreeMap<&'static str, String>,
    password: Password,
    /// Processes that stay, the youngest last: dropped (killed) with the walk.
    staying: Vec<Running>,
}

impl Walk {
    fn step(&mut self, line: &Line) {
        let machine = line.machine.clone().expect("a block says on which machine");
        let mut typed = line.command.clone();
        for (written, real) in &self.instead {
            typed = typed.replace(written, real);
        }
        let mut words = words(&typed);
        if words[0] == "init" && !words.iter().any(|word| word.starts_with("--phrase")) {
            // Without a terminal nobody can be asked for the words.
            words.push("--discard-phrase".to_owned());
        }
        let home = self
            .machines
            .entry(machine.clone())
            .or_insert_with(|| Home::empty(&machine));
        let mut command = home.command(&words);
        command.current_dir(home.beside("."));
        // Without a terminal nobody can be asked for the password.
        command.env("KINLOG_SIGN_IN_PASSWORD_FILE", self.password.path());
        match (words[0].as_str(), words.get(1).map(String::as_str)) {
            ("signal", _) => {
                let mut server = Running::start(&mut command);
                let url = server.line().expect("the first line is the URL");
                self.instead.insert("ws://meeting.example:4848", url);
                self.staying.push(server);
            }
            ("up", _) => self.stays(command.arg("--json"), |value| value["event"] == "ready"),
            ("seed", _) => self.stays(command.arg("--json"), |value| value["complete"] == true),
            ("read", _) if words.iter().any(|word| word == "--watch") => {
                self.stays(command.arg("--json"), |value| {
                    value["text"] == "dinner at seven?"
                });
            }
            ("feed", Some("serve")) => {
                let mut server = Running::start(&mut command);
                let address = server.line().expect("the first line is the address");
                self.instead.insert("desk.example:4500", address);
                self.staying.push(server);
            }
            _ => {
                let finished = run(&mut command, b"").ok();
                self.read_screen(&words, &finished);
            }
        }
    }

    fn stays(
        &mut self,
        command: &mut std::process::Command,
        is_there: impl Fn(&serde_json::Value) -> bool,
    ) {
        let mut running = Running::start(command);
        running.wait_json("what the command is for", MEETING.max(WAIT_MAX), |value| {
            is_there(value).then_some(())
        });
        self.staying.push(running);
    }

    /// Takes from the screen what a person copies to the next command.
    fn read_screen(&mut self, words: &[String], finished: &Finished) {
        let printed = format!("{}\n{}", finished.text(), finished.stderr);
        let link = |start: &str| {
            printed
                .split_whitespace()
                .find(|word| word.starts_with(start))
                .map(str::to_owned)
        };
        match (words[0].as_str(), words.get(1).map(String::as_str)) {
            ("publish", _) => {
                let link = link("kinlog://agent/").expect("publish prints the link");
                let key = link["kinlog://agent/".len()..].split('/').next().unwrap();
                self.instead
                    .insert("kinlog://agent/<key>", format!("kinlog://agent/{key}"));
            }
            ("room", Some("invite")) => {
                let link = link("kinlog://join/#").expect("invite prints the link");
                self.instead.insert("kinlog://join/#<invite>", link);
            }
            ("feed", Some("import")) if words[2].starts_with('/') => {
                let desk = &self.machines["desk"];
                let info = desk.json_one(["feed", "info", &words[2]]);
                let key = info["key"].as_str().expect("a feed has a key").to_owned();
                self.instead.insert("<feed-key>", key);
            }
            _ => {}
        }
    }
}

#[test]
fn the_readme_works_as_it_is_typed() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let mut walk = Walk::default();
    walk.instead
        .insert("0.0.0.0:4848", "127.0.0.1:0".to_owned());
    walk.instead
        .insert("0.0.0.0:4500", "127.0.0.1:0".to_owned());
    let desk = Home::empty("desk");
    desk.write("garden.md", b"# Garden\n\nThe tomatoes want water.\n");
    desk.write("kitchen.md", b"# Kitchen\n\nBread on Sunday.\n");
    let photos = noise(3, 700_000);
    desk.write("photos.tar", &photos);
    walk.machines.insert("desk".to_owned(), desk);

    let mut carried = false;
    for line in commands(&readme) {
        walk.step(&line);
        let bundle = walk.machines["desk"].beside("photos.bundle");
        if !carried && bundle.exists() {
            // What a stick does for people.
            let rack = walk.machines["rack"].beside("photos.bundle");
            std::fs::copy(bundle, rack).unwrap();
            carried = true;
        }
        let code = walk.machines["desk"].beside("code.txt");
        if !walk.machines.contains_key("phone") && code.exists() {
            // What paper does for people.
            let phone = Home::empty("phone");
            std::fs::copy(code, phone.beside("code.txt")).unwrap();
            walk.machines.insert("phone".to_owned(), phone);
        }
    }

    let laptop = &walk.machines["laptop"];
    assert_eq!(std::fs::read(laptop.beside("copy.tar")).unwrap(), photos);
    assert!(carried, "the README carries a bundle by hand");
    let seen = walk.machines["desk"].json_one(["device", "list"]);
    let names = seen["devices"].as_array().unwrap().iter();
    assert!(
        names.into_iter().any(|device| device["name"] == "phone"),
        "{seen}"
    );
    assert_eq!(laptop.json(["search", "tomatoes"])[0]["kind"], "document");
    let rack = &walk.machines["rack"];
    rack.run(["feed", "verify", &walk.instead["<feed-key>"]])
        .ok();
    assert!(walk.staying.len() >= 7, "only {} stay", walk.staying.len());
}
