//! Where a passphrase comes from: the terminal, without echo, or a file; never the command line, which other
//! users of the machine can read.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kinlog_agent::api::ErrorKind;
use kinlog_agent::vault::Passphrase;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::target::interrupted;

/// Variable that names the file with the passphrase of the home.
pub(crate) const FILE_VARIABLE: &str = "KINLOG_PASSPHRASE_FILE";

/// Bytes read of a passphrase's file, 4 KiB: more than any passphrase has.
const FILE_BYTES_MAX: u64 = 4096;

/// Times a new passphrase may be typed in two ways before the command ends.
const TRIES_MAX: u32 = 3;

/// Returns the passphrase that opens something: of `file`, else typed.
pub(crate) async fn ask(file: Option<&Path>, what: &str) -> Result<Passphrase, Failure> {
    let text = match file {
        Some(file) => read(file)?,
        None => typed_passphrase(&format!("passphrase of {what}: ")).await?,
    };
    Passphrase::typed(&text).map_err(|error| Failure::usage(error.to_string()))
}

/// Returns a passphrase that is to protect something: of `file`, else typed twice.
pub(crate) async fn choose(file: Option<&Path>, what: &str) -> Result<Passphrase, Failure> {
    let chosen = |text: &str| {
        Passphrase::choose(text).map_err(|error| {
            Failure::usage(error.to_string())
                .hint("several words that only you put together are good")
        })
    };
    if let Some(file) = file {
        return chosen(&read(file)?);
    }
    for _ in 0..TRIES_MAX {
        let text = typed_passphrase(&format!("new passphrase of {what}: ")).await?;
        let passphrase = chosen(&text)?;
        if *typed_passphrase("the same again: ").await? == *text {
            return Ok(passphrase);
        }
        eprintln!("these were not the same");
    }
    Err(Failure::usage(
        "the passphrase was not typed the same twice",
    ))
}

/// Returns the file that the environment names.
pub(crate) fn file_of_environment() -> Option<PathBuf> {
    let file = std::env::var_os(FILE_VARIABLE)?;
    (!file.is_empty()).then(|| file.into())
}

/// Reads the first line of a file that only its owner may read.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::io(path.display(), &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        let message = format!(
            "{} has mode {mode:o}: others may read what is in it, expected 600",
            path.display()
        );
        return Err(Failure::new(ErrorKind::Permission, message)
            .hint(format!("chmod 600 {}", path.display())));
    }
    // Room for all of it at once: nothing is left behind by a text that grows.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::usage(format!(
            "{} has nothing in its first line",
            path.display()
        )));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

async fn typed_passphrase(question: &str) -> Result<Zeroizing<String>, Failure> {
    let hint = format!("name a file with it: --passphrase-file FILE, or {FILE_VARIABLE}");
    typed("the passphrase", question, &hint).await
}

/// Asks on the terminal, which does not show what is typed; `hint` says what to do without one.
pub(crate) async fn typed(
    what: &str,
    question: &str,
    hint: &str,
) -> Result<Zeroizing<String>, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("no terminal to ask for {what} on")).hint(hint));
    }
    let echo = EchoOff::start()?;
    eprint!("{question}");
    let read = tokio::task::spawn_blocking(|| {
        let mut line = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
        io::stdin().read_line(&mut line).map(|bytes| (bytes, line))
    });
    let line = tokio::select! {
        () = interrupted() => Err(Failure::Interrupted),
        read = read => match read {
            Ok(Ok((0, _))) => Err(Failure::Interrupted),
            Ok(Ok((_, line))) => Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())),
            Ok(Err(error)) => Err(Failure::io("stdin", &error)),
            Err(error) => Err(Failure::general(error.to_string())),
        },
    };
    drop(echo);
    eprintln!();
    line
}

/// A terminal that does not show what is typed, until this is dropped.
struct EchoOff {
    before: Termios,
}

impl EchoOff {
    fn start() -> Result<EchoOff, Failure> {
        let failed = |error: rustix::io::Errno| Failure::io("terminal", &error.into());
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(EchoOff { before })
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing either.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
