//! A page in a real Chromium, without a window, as the far end of a data channel.
//!
//! It is told what to do by the pipe of the Chrome DevTools Protocol: no port is open, and Chromium ends when the
//! pipe does, however the process ended that held it. Nothing here panics: benchmarks use it, too.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::Folder;

/// The program, of the Debian package of the same name.
const PROGRAM: &str = "chromium";

/// How long a command may take whose answer is not waited for on purpose, and the start: two seconds on a free
/// machine.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long Chromium may take to end by itself once its pipe is closed; then it is killed.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest message of Chromium that is taken, 16 MiB.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// It looks at nothing but its page: no updates, no names to resolve, no profile of anybody. With loopback among its
/// candidates, and addresses instead of names of mDNS in them.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--allow-loopback-in-peer-connection",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--no-startup-window",
    "--remote-debugging-pipe",
];

const SCRIPT: &str = include_str!("page.js");

/// Bytes of the body of a description before its text: a version, and the number of the attempt (docs/protocol.md).
const BODY_HEAD_BYTES: usize = 9;

/// A Chromium with one page; both end with it.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<Value>,
    /// Which page is meant.
    session: Option<String>,
    commands: u64,
    _profile: Folder,
}

impl Chromium {
    /// Starts it and waits for its page.
    ///
    /// # Errors
    /// It is not installed, or does not answer within [`WAIT_MAX`].
    pub fn start() -> io::Result<Chromium> {
        let profile = Folder::new("chromium");
        // It reads commands from the third file and writes answers to the fourth.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 >/dev/null"#, PROGRAM])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What it says there is of a desktop that is not there.
            .stderr(Stdio::null())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (say, heard) = channel();
        let mut stdout = BufReader::new(stdout.ok_or_else(|| broken("stdout is piped"))?);
        std::thread::spawn(move || {
            while let Ok(Some(value)) = message(&mut stdout)
                && say.send(value).is_ok()
            {}
        });
        let mut chromium = Chromium {
            child,
            stdin,
            heard,
            session: None,
            commands: 0,
            _profile: profile,
        };
        chromium.take_page()?;
        Ok(chromium)
    }

    fn take_page(&mut self) -> io::Result<()> {
        // Only who may listen to the microphone is told all addresses, that of loopback included.
        let permissions = json!({ "permissions": ["audioCapture"] });
        self.command("Browser.grantPermissions", &permissions, WAIT_MAX)?;
        let page = json!({ "url": "about:blank" });
        let page = self.command("Target.createTarget", &page, WAIT_MAX)?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.command("Target.attachToTarget", &attach, WAIT_MAX)?;
        let session = attached["sessionId"].as_str();
        self.session = Some(
            session
                .ok_or_else(|| broken("a page has a session"))?
                .into(),
        );
        self.evaluate(SCRIPT, WAIT_MAX).map(drop)
    }

    /// Evaluates an expression in the page, and returns what it, or its promise, comes to.
    ///
    /// # Errors
    /// It throws, or takes longer than `wait`, or Chromium is gone.
    pub fn evaluate(&mut self, expression: &str, wait: Duration) -> io::Result<Value> {
        let parameters = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
        });
        let mut answer = self.command("Runtime.evaluate", &parameters, wait)?;
        match answer.get("exceptionDetails") {
            None => Ok(answer["result"]["value"].take()),
            Some(details) => {
                let thrown = details["exception"]["description"].as_str();
                let thrown = thrown.map_or_else(|| details.to_string(), str::to_owned);
                Err(broken(&format!("the page threw {thrown}")))
            }
        }
    }

    /// Returns the description of an offer of the page, with all its candidates.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn offer(&mut self) -> io::Result<String> {
        text(self.evaluate("end.offer()", WAIT_MAX)?)
    }

    /// Gives the page the answer to its offer.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn accept(&mut self, answer: &str) -> io::Result<()> {
        let call = format!("end.accept({})", json!(answer));
        self.evaluate(&call, WAIT_MAX).map(drop)
    }

    /// Gives the page an offer, and returns its answer, with all its candidates.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn answer(&mut self, offer: &str) -> io::Result<String> {
        let call = format!("end.answer({})", json!(offer));
        text(self.evaluate(&call, WAIT_MAX)?)
    }

    fn command(&mut self, method: &str, parameters: &Value, wait: Duration) -> io::Result<Value> {
        self.commands += 1;
        let mut command = json!({ "id": self.commands, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let stdin = self.stdin.as_mut();
        let stdin = stdin.ok_or_else(ended)?;
        let written = stdin.write_all(format!("{command}\0").as_bytes());
        written.map_err(|_| ended())?;
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut heard = self.heard.recv_timeout(left).map_err(|error| match error {
                RecvTimeoutError::Timeout => {
                    let text = format!("{method} took Chromium longer than {wait:?}");
                    io::Error::new(io::ErrorKind::TimedOut, text)
                }
                RecvTimeoutError::Disconnected => ended(),
            })?;
            // Everything else is an event, or the answer to a command that took too long.
            if heard["id"].as_u64() != Some(self.commands) {
                continue;
            }
            match heard.get("error") {
                None => return Ok(heard["result"].take()),
                Some(error) => return Err(broken(&format!("{method}: {error}"))),
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its pipe closes, so it ends with all its processes, which do not write to their folder any more then; the
        // thread that listens to it ends with the last of them.
        drop(self.stdin.take());
        let until = Instant::now() + END_WAIT_MAX;
        let left = || until.saturating_duration_since(Instant::now());
        while self.heard.recv_timeout(left()).is_ok() {}
        // Both fail only when it is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one message, which ends with a byte of zero; `None` at the end.
fn message(from: &mut impl io::BufRead) -> io::Result<Option<Value>> {
    let mut bytes = Vec::new();
    from.take(MESSAGE_BYTES_MAX).read_until(0, &mut bytes)?;
    match bytes.pop() {
        None => Ok(None),
        Some(0) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Some(_) => Err(broken("a message has no end")),
    }
}

/// Returns the body by which our side is told a description of the page, as attempt 1.
pub fn body_of(description: &str) -> Vec<u8> {
    let head: [u8; BODY_HEAD_BYTES] = [1, 1, 0, 0, 0, 0, 0, 0, 0];
    [&head[..], description.as_bytes()].concat()
}

/// Returns the description that a body of our side carries.
///
/// # Errors
/// It carries none.
pub fn description_of(body: &[u8]) -> io::Result<&str> {
    let text = body.get(BODY_HEAD_BYTES..).map(std::str::from_utf8);
    match text {
        Some(Ok(text)) => Ok(text),
        _ => Err(broken("a body carries a description")),
    }
}

fn text(value: Value) -> io::Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(broken(&format!("a description is text, not {other}"))),
    }
}

fn ended() -> io::Error {
    broken("Chromium ended, or does not start; is the Debian package chromium installed?")
}

fn broken(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}
