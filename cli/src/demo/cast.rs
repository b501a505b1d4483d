//! Who plays: four agents with homes of their own, and the server that introduces them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kinlog_agent::api::{Reply, Status};
use serde_json::Value;

use crate::demo::child::{self, Running, reply};
use crate::demo::limits::{MEETING_WAIT_MAX, PROCESS_WAIT_MAX};
use crate::error::Failure;

/// One agent: a home, and a process while it is up.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) name: &'static str,
    pub(crate) home: PathBuf,
    /// Its agent id, as others see it.
    pub(crate) id: String,
    up: Option<Running>,
}

impl Player {
    /// Makes a home in `folder`.
    pub(crate) async fn init(name: &'static str, folder: &Path) -> Result<Player, Failure> {
        let home = folder.join(name);
        let made = child::run(
            name,
            &home,
            &["init", "--name", name, "--discard-phrase"],
            PROCESS_WAIT_MAX,
        )
        .await?;
        let id = made
            .iter()
            .find_map(|value| value["agent"].as_str())
            .ok_or_else(|| Failure::general(format!("{name}: kinlog init named no agent")))?
            .to_owned();
        Ok(Player {
            name,
            home,
            id,
            up: None,
        })
    }

    /// Starts `kinlog up` and waits until it is ready.
    pub(crate) async fn up(&mut self, signal_url: &str) -> Result<(), Failure> {
        let arguments = ["up", "--signal", signal_url, "--until-stdin-closes"];
        let mut up = Running::start(self.name, Some(&self.home), &arguments)?;
        up.wait_for("word that it is ready", PROCESS_WAIT_MAX, |value| {
            (value["event"] == "ready").then_some(())
        })
        .await?;
        self.up = Some(up);
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.up.as_ref().and_then(Running::pid)
    }

    /// Stops `kinlog up` and waits for the end of its process.
    pub(crate) async fn down(&mut self) -> Result<(), Failure> {
        match self.up.take() {
            Some(up) => up.stop().await,
            None => Ok(()),
        }
    }

    /// Kills whatever runs.
    pub(crate) async fn kill(&mut self) {
        if let Some(up) = self.up.take() {
            up.kill().await;
        }
    }

    /// Runs a command in this home to its end.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<Vec<Reply>, Failure> {
        self.ask_within(arguments, PROCESS_WAIT_MAX).await
    }

    /// Runs a command that waits for others.
    pub(crate) async fn ask_others(&self, arguments: &[&str]) -> Result<Vec<Reply>, Failure> {
        self.ask_within(arguments, MEETING_WAIT_MAX).await
    }

    async fn ask_within(&self, arguments: &[&str], limit: Duration) -> Result<Vec<Reply>, Failure> {
        let answers = child::run(self.name, &self.home, arguments, limit).await?;
        answers
            .iter()
            .map(|value| {
                reply(value).ok_or_else(|| {
                    Failure::general(format!("{}: {value} is no answer we know", self.name))
                })
            })
            .collect()
    }

    /// Runs a command that stays open until `found` sees what it looks for, then ends it.
    pub(crate) async fn watch<T>(
        &self,
        arguments: &[&str],
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Reply) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut running = Running::start(self.name, Some(&self.home), arguments)?;
        let result = running
            .wait_for(what, limit, |value: &Value| {
                reply(value).as_ref().and_then(&mut found)
            })
            .await;
        running.kill().await;
        result
    }

    /// Returns what this agent says about itself.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        for reply in self.ask(&["status"]).await? {
            if let Reply::Status(status) = reply {
                return Ok(*status);
            }
        }
        Err(Failure::general(format!(
            "{}: kinlog status told nothing",
            self.name
        )))
    }
}

/// The server that introduces the agents.
#[derive(Debug)]
pub(crate) struct Introducer {
    pub(crate) url: String,
    running: Running,
}

impl Introducer {
    pub(crate) async fn start() -> Result<Introducer, Failure> {
        let arguments = [
            "signal",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--until-stdin-closes",
        ];
        let mut running = Running::start("signal server", None, &arguments)?;
        let url = running
            .wait_for("URL", PROCESS_WAIT_MAX, |value| {
                value["url"].as_str().map(str::to_owned)
            })
            .await?;
        Ok(Introducer { url, running })
    }

    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.running.stop().await
    }

    pub(crate) async fn kill(self) {
        self.running.kill().await;
    }
}
