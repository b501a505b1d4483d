//! Where the demo plays: a folder, the processes, and what the audience is told.

use std::path::PathBuf;
use std::time::Duration;

use crate::demo::cast::{Introducer, Player};
use crate::error::Failure;
use crate::output::Output;

/// Everything that has to be taken down again.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) output: &'a Output,
    pub(crate) introducer: Option<Introducer>,
    pub(crate) players: Vec<Player>,
    acts: u32,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(folder: PathBuf, output: &'a Output) -> Self {
        Stage {
            folder,
            output,
            introducer: None,
            players: Vec::new(),
            acts: 0,
        }
    }

    /// Returns the agent of that name.
    pub(crate) fn player(&self, name: &str) -> Result<&Player, Failure> {
        self.players
            .iter()
            .find(|player| player.name == name)
            .ok_or_else(|| absent(name))
    }

    pub(crate) fn player_mut(&mut self, name: &str) -> Result<&mut Player, Failure> {
        self.players
            .iter_mut()
            .find(|player| player.name == name)
            .ok_or_else(|| absent(name))
    }

    pub(crate) fn signal_url(&self) -> Result<String, Failure> {
        self.introducer
            .as_ref()
            .map(|server| server.url.clone())
            .ok_or_else(|| absent("signal server"))
    }

    /// Starts a new act.
    pub(crate) fn act(&mut self, title: &str) {
        self.acts += 1;
        let paint = self.output.paint_words();
        self.output.say(format!(
            "\n{} {}",
            paint.faint(&self.acts.to_string()),
            paint.strong(title)
        ));
    }

    /// Tells one thing that an agent did.
    pub(crate) fn tell(&self, who: &str, what: &str) {
        let paint = self.output.paint_words();
        self.output
            .say(format!("  {} {what}", paint.name(&format!("{who:<14}"))));
    }

    /// Kills every process that still runs.
    pub(crate) async fn kill_all(&mut self) {
        for player in &mut self.players {
            player.kill().await;
        }
        if let Some(server) = self.introducer.take() {
            server.kill().await;
        }
    }
}

fn absent(who: &str) -> Failure {
    Failure::general(format!("{who} is not on the stage"))
}

/// Returns a time as people read it.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
