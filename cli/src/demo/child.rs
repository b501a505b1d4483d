//! Other `kinlog` processes: started, listened to, stopped, and killed whatever happens.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinlog_agent::api::Reply;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::demo::limits::{PROCESS_WAIT_MAX, STDERR_LINES_KEPT, STOP_WAIT_MAX};
use crate::error::Failure;
use crate::output::clean;
use crate::target::NO_LAN;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it is, for messages: `author: kinlog up`.
    label: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: StderrTail,
}

impl Running {
    /// Starts `kinlog --json ARGUMENTS`, in the home of an agent if one is given.
    pub(crate) fn start(
        who: &str,
        home: Option<&Path>,
        arguments: &[&str],
    ) -> Result<Running, Failure> {
        let label = format!("{who}: kinlog {}", shown(arguments));
        let program = std::env::current_exe()
            .map_err(|error| Failure::io("the path of this program", &error))?;
        let mut command = Command::new(program);
        command
            .arg("--json")
            .args(arguments)
            .env_remove("KINLOG_HOME")
            // One port is not for five.
            .env_remove("KINLOG_METRICS")
            .env_remove("KINLOG_STATE")
            // What it shows is its own, whoever else is on this network.
            .env(NO_LAN, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-c reaches the demo, which then stops its children in order.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(home) = home {
            // Nothing of the demo stays behind among the person's own things.
            let state = home.with_file_name("state");
            command.arg("--home").arg(home).arg("--state").arg(state);
        }
        let mut child = command
            .spawn()
            .map_err(|error| Failure::io(&label, &error))?;
        let piped = |name: &str| Failure::general(format!("{label}: no {name}"));
        let stdout = child.stdout.take().ok_or_else(|| piped("stdout"))?;
        let stderr = child.stderr.take().ok_or_else(|| piped("stderr"))?;
        Ok(Running {
            stdin: child.stdin.take(),
            child,
            lines: BufReader::new(stdout).lines(),
            stderr: StderrTail::collect(stderr),
            label,
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns the next line of stdout, `None` when the process closed it.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, Failure> {
        self.lines
            .next_line()
            .await
            .map_err(|error| Failure::io(&self.label, &error))
    }

    /// Reads answers until `found` sees what it looks for.
    pub(crate) async fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, Failure> {
        let search = async {
            while let Some(line) = self.line().await? {
                let value: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if let Some(found) = found(&value) {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        match timeout(limit, search).await {
            Ok(Ok(Some(found))) => Ok(found),
            Ok(Ok(None)) => Err(self.failed(&format!("ended before {what}")).await),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.told(&format!("no {what} within {} s", limit.as_secs()))),
        }
    }

    /// Closes stdin, by which a service knows that it shall stop, and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        drop(self.stdin.take());
        let ended = timeout(STOP_WAIT_MAX, async {
            while self.line().await?.is_some() {}
            self.child
                .wait()
                .await
                .map_err(|error| Failure::io(&self.label, &error))
        })
        .await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.told(&format!("stopped with {status}"))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.told(&format!(
                "did not stop within {} s",
                STOP_WAIT_MAX.as_secs()
            ))),
        }
    }

    /// Kills the process and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }

    /// Waits for the end of a command and returns its answers.
    async fn answers(mut self, limit: Duration) -> Result<Vec<Value>, Failure> {
        drop(self.stdin.take());
        let mut answers = Vec::new();
        let ended = timeout(limit, async {
            while let Some(line) = self.line().await? {
                answers.push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
            self.child
                .wait()
                .await
                .map_err(|error| Failure::io(&self.label, &error))
        })
        .await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(answers),
            Ok(Ok(status)) => Err(self.told(&format!("ended with {status}"))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.told(&format!("did not end within {} s", limit.as_secs()))),
        }
    }

    async fn failed(&mut self, what: &str) -> Failure {
        match timeout(PROCESS_WAIT_MAX, self.child.wait()).await {
            Ok(Ok(status)) => self.told(&format!("{what}, with {status}")),
            _ => self.told(what),
        }
    }

    /// A failure with what the process told last.
    fn told(&self, what: &str) -> Failure {
        let tail = self.stderr.tail();
        let told = if tail.is_empty() {
            "it told nothing".to_owned()
        } else {
            tail.join("\n  ")
        };
        Failure::general(format!("{}: {what}\n  {told}", self.label))
    }
}

/// Runs a command to its end and returns its answers.
pub(crate) async fn run(
    who: &str,
    home: &Path,
    arguments: &[&str],
    limit: Duration,
) -> Result<Vec<Value>, Failure> {
    Running::start(who, Some(home), arguments)?
        .answers(limit)
        .await
}

/// Reads one answer of a command in the agent's own types.
pub(crate) fn reply(value: &Value) -> Option<Reply> {
    serde_json::from_value(value.clone()).ok()
}

/// The last lines a child wrote on stderr.
#[derive(Clone, Debug, Default)]
struct StderrTail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl StderrTail {
    fn collect(stderr: ChildStderr) -> Self {
        let tail = StderrTail::default();
        let kept = tail.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == STDERR_LINES_KEPT {
                    kept.pop_front();
                }
                kept.push_back(clean(&line));
            }
        });
        tail
    }

    fn tail(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

/// Arguments as a person would type them, without the long ones.
fn shown(arguments: &[&str]) -> String {
    const LONG: usize = 40;
    let words = arguments
        .iter()
        .filter(|word| !word.starts_with("--until"))
        .map(|word| match word.char_indices().nth(LONG) {
            Some((end, _)) => format!("{}…", &word[..end]),
            None => (*word).to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}
