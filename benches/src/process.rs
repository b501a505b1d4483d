//! A process at the other end: what it says line by line, what it is told; it ends with its owner.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

/// A child whose stdin and stdout are ours.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Process> {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {shown}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok(Process {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Starts this program as one end of a transfer.
    pub(crate) fn end(words: &[&str]) -> Result<Process> {
        Process::start(Command::new(env::current_exe()?).arg("end").args(words))
    }

    /// Returns the next line, without its end.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("the other process ended: {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }

    /// Tells it a line.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is open")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Returns the next line as JSON.
    pub(crate) fn json(&mut self) -> Result<Value> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("the other process said {line:?}"))
    }

    /// Passes what each says on to the other, until each has said a JSON line; returns both.
    pub(crate) fn introduce(&mut self, other: &mut Process) -> Result<(Value, Value)> {
        let (stdin, other_stdin) = (&mut self.stdin, &mut other.stdin);
        let (stdout, other_stdout) = (&mut self.stdout, &mut other.stdout);
        thread::scope(|scope| {
            let theirs = scope.spawn(|| pass_on(other_stdout, stdin));
            let ours = pass_on(stdout, other_stdin)?;
            let theirs = theirs
                .join()
                .map_err(|_| anyhow!("a reader ended early"))??;
            Ok((ours, theirs))
        })
    }
}

/// Passes lines on until one is JSON, and returns that.
fn pass_on(from: &mut BufReader<ChildStdout>, to: &mut Option<ChildStdin>) -> Result<Value> {
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            bail!("the other process ended");
        }
        if let Ok(value) = serde_json::from_str(&line) {
            return Ok(value);
        }
        to.as_mut()
            .context("stdin is open")?
            .write_all(line.as_bytes())?;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ends see their stdin close and tidy up; one that does not is killed with its owner.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
