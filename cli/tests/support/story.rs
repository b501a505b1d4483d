//! Commands run with every log there is, and what each of them was given and said.

use std::collections::BTreeSet;

use testkit::needles::Needles;
use testkit::process::{Finished, Running, WAIT_MAX, run};

use super::{Home, MEETING, Signal, kinlog};

/// All that can be logged, and what peers say in confidence, too.
pub const EVERYTHING: &str = "trace,kinlog_swarm::frames=trace";

/// Names the lines of what peers say.
pub const FRAMES: &str = "kinlog_swarm::frames";

/// What one command was given and said.
#[derive(Debug)]
struct Said {
    /// Its name, without arguments.
    command: String,
    arguments: Vec<u8>,
    stdout: Vec<u8>,
    /// The lines of the log on stderr.
    log: Vec<u8>,
    /// What peers said, which is logged for those alone who ask for it by name.
    frames: Vec<u8>,
    /// The other lines there.
    notes: Vec<u8>,
}

/// Commands that were run, one after the other.
#[derive(Debug, Default)]
pub struct Story {
    /// Every command that does something, by name.
    all: BTreeSet<String>,
    said: Vec<Said>,
}

/// Returns the names of all commands that do something of their own, from what `--help` tells.
pub fn all_commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut families = vec![Vec::new()];
    while let Some(family) = families.pop() {
        let help = run(kinlog().args(&family).arg("--help"), b"").ok();
        let text = help.text();
        let usage = text.split("Usage:").nth(1).expect("how it is used");
        let usage = usage.split("\n\n").next().expect("a first part");
        // A family with a default is a command too.
        if !usage.lines().all(|line| line.contains("<COMMAND>")) {
            found.insert(family.join(" "));
        }
        let listed = text.split("\nCommands:\n").nth(1).unwrap_or_default();
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            // Two spaces and the name; what is further in goes on with a description.
            let name = line.strip_prefix("  ").unwrap_or_default();
            let name = name.split(' ').next().unwrap_or_default();
            if !name.is_empty() && name != "help" {
                families.push([family.clone(), vec![name.to_owned()]].concat());
            }
        }
    }
    found
}

impl Story {
    pub fn new() -> Story {
        Story {
            all: all_commands(),
            said: Vec::new(),
        }
    }

    /// Runs a command that succeeds, with `input` on stdin.
    #[track_caller]
    pub fn tell(&mut self, home: &Home, words: &[&str], input: &str) -> Finished {
        self.end(home, words, input, 0)
    }

    /// Runs a command that exits with `code`.
    #[track_caller]
    pub fn end(&mut self, home: &Home, words: &[&str], input: &str, code: i32) -> Finished {
        let finished = run(traced(home, words).arg("-vv"), input.as_bytes());
        self.take(words, finished.exits(code))
    }

    /// Runs a command with `--json` that answers with one object.
    #[track_caller]
    pub fn ask(&mut self, home: &Home, words: &[&str]) -> serde_json::Value {
        let asked = [words, &["--json"]].concat();
        let mut answers = self.tell(home, &asked, "").json();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Starts a command that stays; [`Story::stop`] ends it.
    #[track_caller]
    pub fn start(&self, home: &Home, words: &[&str]) -> Running {
        Running::start(traced(home, words).arg("--json"))
    }

    /// Starts `kinlog up` with that much log, and waits until it is ready.
    #[track_caller]
    pub fn up(&self, home: &Home, signal: &Signal, log: &str) -> Running {
        let mut up = home.command(["up", "--signal", &signal.url, "--json"]);
        let mut up = Running::start(up.env("KINLOG_LOG", log));
        up.wait_json("word that it is ready", WAIT_MAX, |value| {
            (value["event"] == "ready").then_some(())
        });
        up
    }

    /// Stops a command as ctrl-c does, and takes down what it said.
    #[track_caller]
    pub fn stop(&mut self, running: Running, words: &[&str]) -> Finished {
        self.take(words, running.stop())
    }

    /// Waits for the end of a command that was started.
    #[track_caller]
    pub fn finish(&mut self, running: Running, words: &[&str]) {
        self.take(words, running.finish(MEETING).ok());
    }

    /// Takes down what a command said.
    pub fn take(&mut self, words: &[&str], finished: Finished) -> Finished {
        let (log, notes): (Vec<&str>, Vec<&str>) =
            finished.stderr.lines().partition(|line| is_log(line));
        let (frames, log): (Vec<&str>, Vec<&str>) =
            log.into_iter().partition(|line| line.contains(FRAMES));
        self.said.push(Said {
            command: self.name(words),
            arguments: words.join("\0").into_bytes(),
            stdout: finished.stdout.clone(),
            log: log.join("\n").into_bytes(),
            frames: frames.join("\n").into_bytes(),
            notes: notes.join("\n").into_bytes(),
        });
        finished
    }

    /// Returns the name of a command: its first words, as many as the help knows.
    fn name(&self, words: &[&str]) -> String {
        let names = (1..=words.len())
            .rev()
            .map(|length| words[..length].join(" "));
        let mut known = names.filter(|name| self.all.contains(name));
        known.next().expect("a command that the help knows")
    }

    /// Returns the names of the commands that were run.
    pub fn told(&self) -> BTreeSet<String> {
        self.said.iter().map(|said| said.command.clone()).collect()
    }

    /// Returns what stands in arguments, as `command: name (spelling)`.
    pub fn found_in_arguments(&self, needles: &Needles) -> BTreeSet<String> {
        self.found(needles, |said| &said.arguments)
    }

    /// Returns what stands in logs.
    pub fn found_in_logs(&self, needles: &Needles) -> BTreeSet<String> {
        self.found(needles, |said| &said.log)
    }

    /// Returns what stands in what peers said.
    pub fn found_in_frames(&self, needles: &Needles) -> BTreeSet<String> {
        self.found(needles, |said| &said.frames)
    }

    /// Returns what stands on stdout, or on stderr for a person to read.
    pub fn found_in_answers(&self, needles: &Needles) -> BTreeSet<String> {
        let mut found = self.found(needles, |said| &said.stdout);
        found.extend(self.found(needles, |said| &said.notes));
        found
    }

    /// Returns how many bytes of logs there are, and of what peers said.
    pub fn bytes_logged(&self) -> (usize, usize) {
        let log = self.said.iter().map(|said| said.log.len()).sum();
        (log, self.said.iter().map(|said| said.frames.len()).sum())
    }

    fn found(&self, needles: &Needles, part: impl Fn(&Said) -> &Vec<u8>) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for said in &self.said {
            let found = needles.found_in(part(said)).into_iter();
            all.extend(found.map(|name| format!("{}: {name}", said.command)));
        }
        all
    }
}

fn traced(home: &Home, words: &[&str]) -> std::process::Command {
    let mut command = home.command(words);
    command.env("KINLOG_LOG", EVERYTHING);
    command
}

/// Tells the log's lines from what a person reads.
fn is_log(line: &str) -> bool {
    let levels = [
        "TRACE ",
        "DEBUG ",
        " INFO ",
        " WARN ",
        "ERROR ",
        "{\"timestamp\"",
    ];
    levels.iter().any(|level| line.starts_with(level))
}
