//! Secret words and answers that people type: from the terminal, or from stdin when it is none; never from
//! the command line, which other users of the machine can read.

use std::io::{self, IsTerminal};

use kinlog_agent::home::Phrase;
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::output::Output;
use crate::target::interrupted;

/// Bytes of 24 words with much room between them, 1 KiB: the longest has 8 letters.
const PHRASE_BYTES_MAX: usize = 1024;

/// Reads the 24 words of an agent.
pub(crate) async fn read_phrase(output: &Output) -> Result<Phrase, Failure> {
    if io::stdin().is_terminal() {
        output.say("The 24 words of this agent, in one line or several:");
    }
    let words = until_interrupted(|| {
        let mut words = Zeroizing::new(String::with_capacity(PHRASE_BYTES_MAX));
        while words.split_whitespace().count() < 24 && words.len() < PHRASE_BYTES_MAX {
            if io::stdin().read_line(&mut words)? == 0 {
                break;
            }
        }
        Ok(words)
    })
    .await?;
    Phrase::parse(&words).map_err(|error| Failure::usage(error.to_string()))
}

/// Asks whether the words of a link stand on both devices; returns the words, or what was typed in
/// place of them. `None`: there is nobody to ask.
pub(crate) async fn compare(words: &str, output: &Output) -> Result<Option<String>, Failure> {
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        let strong = output.paint_words().strong(words);
        output.say(format!("\nThis device shows:  {strong}"));
        output.say("Does the other one show the same words? Type yes, or the words it shows:");
    }
    let line = until_interrupted(|| {
        let mut line = Zeroizing::new(String::new());
        io::stdin().read_line(&mut line)?;
        Ok(line)
    })
    .await?;
    let line = line.trim();
    if line.is_empty() && !is_terminal {
        return Ok(None);
    }
    Ok(Some(match line {
        "yes" | "y" if is_terminal => words.to_owned(),
        other => other.to_owned(),
    }))
}

/// Reads a line that is no secret; empty at the end of stdin.
pub(crate) async fn read_line() -> Result<String, Failure> {
    let line = until_interrupted(|| {
        let mut line = Zeroizing::new(String::new());
        io::stdin().read_line(&mut line)?;
        Ok(line)
    });
    Ok(line.await?.as_str().to_owned())
}

/// Reads on a thread of its own; ctrl-c ends the wait.
async fn until_interrupted(
    read: impl FnOnce() -> io::Result<Zeroizing<String>> + Send + 'static,
) -> Result<Zeroizing<String>, Failure> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Not one of the runtime's: it may wait until the end of the process, which does not wait for it.
    std::thread::spawn(move || {
        // Whoever waited is gone.
        let _ = sender.send(read());
    });
    tokio::select! {
        () = interrupted() => Err(Failure::Interrupted),
        read = receiver => match read {
            Ok(read) => read.map_err(|error| Failure::io("stdin", &error)),
            Err(_) => Err(Failure::Interrupted),
        },
    }
}
