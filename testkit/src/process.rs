//! Programs under test: started, listened to, stopped and killed, without sleeping.
//!
//! Every wait is bounded and ends with a panic that shows what the program said, so that a test fails
//! where it hangs. Dropping a [`Running`] kills it; dropping a [`Folder`] removes it.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a program may take for one thing unless the test says otherwise: milliseconds on a free
/// machine, much more when all tests run at once on two cores.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// A folder of its own, removed in the end (kept when `KINLOG_TEST_KEEP` is set).
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty folder below the system's temporary one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(label: &str) -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("kinlog-{label}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Folder { path }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("KINLOG_TEST_KEEP").is_none() {
            // A killed child may still be writing; the system's cleaner takes what stays.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// What a program that ended said.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; 128 + signal when one ended it, as shells say.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: String,
}

impl Finished {
    /// Returns stdout as text.
    ///
    /// # Panics
    /// When it is no UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }

    /// Returns the lines of stdout as JSON values.
    ///
    /// # Panics
    /// When a line is no JSON.
    pub fn json(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| match serde_json::from_str(line) {
                Ok(value) => value,
                Err(error) => panic!("{error}: {line}"),
            })
            .collect()
    }

    /// Asserts success and returns itself.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    pub fn ok(self) -> Finished {
        self.exits(0)
    }

    /// Asserts an exit code and returns itself.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Finished {
        assert_eq!(
            self.code,
            code,
            "stdout:\n{}\nstderr:\n{}",
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// Asserts that stderr contains `words` and returns itself.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn says(self, words: &str) -> Finished {
        assert!(
            self.stderr.contains(words),
            "no {words:?} in:\n{}",
            self.stderr
        );
        self
    }
}

/// Runs a command to its end, with `input` on stdin.
///
/// # Panics
/// When it cannot be started or takes longer than [`WAIT_MAX`].
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    let mut running = Running::start(command);
    let mut stdin = running.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program may end without reading all of it.
        let _ = stdin.write_all(&input);
    });
    let finished = running.finish(WAIT_MAX);
    writer.join().expect("the writer does not panic");
    finished
}

/// What a program wrote on stderr, and word when there is more.
#[derive(Debug, Default)]
struct Stderr {
    bytes: Mutex<Told>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    bytes: Vec<u8>,
    closed: bool,
}

impl Stderr {
    fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_all();
    }
}

/// A program that runs; its output is collected by threads.
#[derive(Debug)]
pub struct Running {
    label: String,
    child: Child,
    stdin: Option<ChildStdin>,
    chunks: Receiver<Vec<u8>>,
    /// All of stdout so far, and how much of it the test has read.
    seen: Vec<u8>,
    read: usize,
    stderr: Arc<Stderr>,
    stderr_reader: Option<JoinHandle<()>>,
    over: bool,
}

impl Running {
    /// Starts a command with all three streams piped.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        let words = command
            .get_args()
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        let label = format!("{} {words}", command.get_program().to_string_lossy());
        let started = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => panic!("{label}: {error}"),
        };
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let mut errors = child.stderr.take().expect("stderr is piped");
        let (send, chunks) = channel();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(read) = stdout.read(&mut chunk)
                && read > 0
                && send.send(chunk[..read].to_vec()).is_ok()
            {}
        });
        let stderr = Arc::new(Stderr::default());
        let collected = Arc::clone(&stderr);
        let stderr_reader = std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(read) = errors.read(&mut chunk)
                && read > 0
            {
                collected.change(|told| told.bytes.extend_from_slice(&chunk[..read]));
            }
            collected.change(|told| told.closed = true);
        });
        Running {
            label,
            stdin: child.stdin.take(),
            child,
            chunks,
            seen: Vec::new(),
            read: 0,
            stderr,
            stderr_reader: Some(stderr_reader),
            over: false,
        }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what is on stderr so far.
    pub fn stderr(&self) -> String {
        let told = self
            .stderr
            .bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&told.bytes).into_owned()
    }

    /// Returns all of stderr of a program that was killed.
    ///
    /// # Panics
    /// When it still runs.
    pub fn all_stderr(&mut self) -> String {
        assert!(self.over, "{} still runs", self.label);
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.stderr()
    }

    /// Waits until `mark` stands on stderr.
    ///
    /// # Panics
    /// When stderr is closed without it, or after [`WAIT_MAX`].
    #[track_caller]
    pub fn wait_stderr(&mut self, mark: &str) {
        let shared = Arc::clone(&self.stderr);
        let told = shared.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let missing =
            |told: &mut Told| !told.closed && !String::from_utf8_lossy(&told.bytes).contains(mark);
        let waited = shared.more.wait_timeout_while(told, WAIT_MAX, missing);
        let (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let found = String::from_utf8_lossy(&told.bytes).contains(mark);
        drop(told);
        if !found {
            self.give_up(&format!("no {mark:?} on stderr"));
        }
    }

    /// Writes to stdin.
    ///
    /// # Panics
    /// When the program closed it.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .expect("the program reads its stdin");
    }

    /// Returns the next line of stdout without its end, `None` when the program closed it.
    ///
    /// # Panics
    /// After [`WAIT_MAX`].
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        self.line_within("a line", WAIT_MAX)
    }

    /// Reads stdout up to and with `mark`, which need not end a line.
    ///
    /// # Panics
    /// After [`WAIT_MAX`], or when the program ends before.
    #[track_caller]
    pub fn read_until(&mut self, mark: &str) -> String {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let text = String::from_utf8_lossy(&self.seen[self.read..]);
            if let Some(at) = text.find(mark) {
                let found = text[..at + mark.len()].to_owned();
                self.read += found.len();
                return found;
            }
            if !self.more(mark, until) {
                self.give_up(&format!("ended before {mark:?}"));
            }
        }
    }

    /// Lets it run for a time, or until it closes its stdout, and takes in what it says.
    ///
    /// Not to wait for anything: for tests of what happens at any moment.
    pub fn run_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(chunk) = self
            .chunks
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.seen.extend_from_slice(&chunk);
        }
    }

    #[track_caller]
    fn line_within(&mut self, what: &str, limit: Duration) -> Option<String> {
        let until = Instant::now() + limit;
        loop {
            let unread = &self.seen[self.read..];
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..end]).into_owned();
                self.read += end + 1;
                return Some(line);
            }
            if !self.more(what, until) {
                let rest = String::from_utf8_lossy(&self.seen[self.read..]).into_owned();
                self.read = self.seen.len();
                return (!rest.is_empty()).then_some(rest);
            }
        }
    }

    /// Waits for more of stdout; `false` when it is closed.
    #[track_caller]
    fn more(&mut self, what: &str, until: Instant) -> bool {
        match self
            .chunks
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(chunk) => {
                self.seen.extend_from_slice(&chunk);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => self.give_up(&format!("no {what} in time")),
        }
    }

    /// Reads JSON lines until `found` sees what the test waits for.
    ///
    /// # Panics
    /// After `limit`, or when the program ends before.
    #[track_caller]
    pub fn wait_json<T: Debug>(
        &mut self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(line) = self.line_within(what, left) else {
                self.give_up(&format!("ended before {what}"));
            };
            if let Ok(value) = serde_json::from_str::<Value>(&line)
                && let Some(found) = found(&value)
            {
                return found;
            }
        }
    }

    /// Sends the signal that ctrl-c sends.
    ///
    /// # Panics
    /// When the process is gone already.
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        let pid = rustix::process::Pid::from_raw(pid).expect("process ids are not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::INT)
            .expect("the process is there");
    }

    /// Interrupts and waits for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.interrupt();
        self.finish(WAIT_MAX)
    }

    /// Closes stdin and waits for the end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Finished {
        drop(self.stdin.take());
        let until = Instant::now() + limit;
        while self
            .line_within("end", until.saturating_duration_since(Instant::now()))
            .is_some()
        {}
        let status = self.child.wait().expect("a child can be waited for");
        self.over = true;
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("the reader does not panic");
        }
        use std::os::unix::process::ExitStatusExt;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Finished {
            code: code.expect("a process exits or is ended by a signal"),
            stdout: std::mem::take(&mut self.seen),
            stderr: self.stderr(),
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The same for a program that its owner keeps.
    pub fn kill_now(&mut self) {
        if !self.over {
            // Both fail only when it is gone, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.over = true;
        }
    }

    #[track_caller]
    fn give_up(&mut self, what: &str) -> ! {
        self.kill_now();
        panic!(
            "{}: {what}\nstdout so far:\n{}\nstderr:\n{}",
            self.label,
            String::from_utf8_lossy(&self.seen),
            self.stderr()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_code_are_collected() {
        let finished = run(
            Command::new("sh").args(["-c", "cat; echo oops >&2; exit 3"]),
            b"one\ntwo\n",
        );
        let finished = finished.exits(3).says("oops");
        assert_eq!(finished.text(), "one\ntwo\n");
    }

    #[test]
    fn a_killed_program_is_gone() {
        let mut running =
            Running::start(Command::new("sh").args(["-c", "echo up; exec sleep 1000"]));
        assert_eq!(running.line().as_deref(), Some("up"));
        let pid = running.pid();
        running.kill();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn an_interrupted_program_says_so_by_its_code() {
        let mut running =
            Running::start(Command::new("sh").args(["-c", "echo up; exec sleep 1000"]));
        assert_eq!(running.line().as_deref(), Some("up"));
        assert_eq!(running.stop().code, 130);
    }
}
