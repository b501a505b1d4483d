//! `kinlog init`: an identity from 24 words that are shown once.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use kinlog_agent::api::ErrorKind;
use kinlog_agent::home::{Layout, Phrase, check, init, set_passphrase};
use kinlog_agent::vault::Passphrase;
use zeroize::Zeroizing;

use crate::command::link::{self, NewDeviceArguments};
use crate::error::Failure;
use crate::home::absolute;
use crate::output::clean;
use crate::passphrase;
use crate::target::{Context, blocking, interrupted};

/// Times a word may be mistyped before the whole begins anew.
const TRIES_MAX: u32 = 3;

#[derive(Args, Debug)]
pub(crate) struct InitArguments {
    /// The name others see
    #[arg(long)]
    name: Option<String>,

    /// Write the 24 words into this new file instead of showing them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["discard_phrase", "link", "answer"])]
    phrase_file: Option<PathBuf>,

    /// Forget the 24 words: the identity ends with this device
    #[arg(long, conflicts_with_all = ["link", "answer"])]
    discard_phrase: bool,

    /// Put the home under a passphrase; the terminal is asked for it
    #[arg(long)]
    passphrase: bool,

    /// The same, with the passphrase in the first line of this file (0600)
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    new_device: NewDeviceArguments,
}

pub(crate) async fn run(arguments: InitArguments, context: &Context<'_>) -> Result<(), Failure> {
    let layout = Layout::new(&context.home);
    if layout.is_initialised() {
        return Err(
            Failure::usage(format!("{} is a home already", context.home.display()))
                .hint("`kinlog id` shows whose; give another --home for a second agent"),
        );
    }
    let name = arguments.name.unwrap_or_else(default_name);
    check(&context.home, &name)?;
    let passphrase = match (arguments.passphrase, &arguments.new_passphrase_file) {
        (false, None) => None,
        (_, file) => {
            let home = context.home.display().to_string();
            Some(passphrase::choose(file.as_deref(), &home).await?)
        }
    };
    if arguments.new_device.is_given() {
        let is_made = link::join(arguments.new_device, &name, context).await?;
        if is_made && let Some(passphrase) = passphrase {
            put_under(context, passphrase).await?;
        }
        return Ok(());
    }
    let phrase = Phrase::generate().map_err(|error| Failure::general(error.to_string()))?;
    let phrase_file = match (&arguments.phrase_file, arguments.discard_phrase) {
        (Some(file), _) => Some(write_phrase(&absolute(file)?, &phrase)?),
        (None, true) => None,
        (None, false) => {
            show_and_ask_back(&phrase, context).await?;
            None
        }
    };
    let made = match init(&context.home, &context.state, &name, &phrase) {
        Ok(made) => made,
        Err(error) => {
            // Words of an identity that does not exist would mislead whoever finds them.
            if let Some(file) = &phrase_file {
                let _ = std::fs::remove_file(file);
            }
            return Err(error.into());
        }
    };
    if let Some(passphrase) = passphrase {
        put_under(context, passphrase).await?;
    }
    let output = context.output;
    if output.is_json() {
        return output.json(&made);
    }
    let paint = output.paint_words();
    output.say(format!(
        "{} is ready in {}",
        paint.strong(&clean(&name)),
        context.home.display()
    ));
    if let Some(file) = &phrase_file {
        output.say(format!(
            "the 24 words are in {}: move them to paper, off this device",
            file.display()
        ));
    }
    if arguments.discard_phrase {
        output.say(paint.warn(
            "the 24 words are gone: nothing brings this identity back if this device is lost",
        ));
    }
    output.data(&made.link)?;
    output.say("\nNext:");
    output.say("  echo 'hello' | kinlog feed append /notes    write something");
    output.say("  kinlog up --signal ws://HOST:PORT           go online");
    output.say("  kinlog signal serve --listen 0.0.0.0:4848   run the server for that");
    output.say("  kinlog follow LINK                          follow somebody");
    Ok(())
}

async fn put_under(context: &Context<'_>, passphrase: Passphrase) -> Result<(), Failure> {
    let (home, state) = (context.home.clone(), context.state.clone());
    blocking(move || Ok(set_passphrase(&home, &state, None, &passphrase)?)).await?;
    Ok(())
}

/// Makes 24 new words and writes them into `file`, or shows them.
pub(crate) async fn keep_phrase(
    file: Option<&Path>,
    context: &Context<'_>,
) -> Result<(Phrase, Option<PathBuf>), Failure> {
    let phrase = Phrase::generate().map_err(|error| Failure::general(error.to_string()))?;
    let written = match file {
        Some(file) => Some(write_phrase(&absolute(file)?, &phrase)?),
        None => {
            show_and_ask_back(&phrase, context).await?;
            None
        }
    };
    Ok((phrase, written))
}

pub(crate) fn default_name() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "nameless".to_owned())
}

/// Writes the words into a new file that only its owner reads, durably, before anything uses them.
fn write_phrase(file: &Path, phrase: &Phrase) -> Result<PathBuf, Failure> {
    let mut words = Zeroizing::new(phrase.words().join(" "));
    words.push('\n');
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| {
            open.write_all(words.as_bytes())?;
            open.sync_all()?;
            File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
        });
    match written {
        Ok(()) => Ok(file.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(format!(
            "{} exists: it is not overwritten",
            file.display()
        ))
        .hint("name a file that does not exist yet")),
        Err(error) => Err(Failure::io(file.display(), &error)),
    }
}

/// Shows the words once, takes them off the screen and asks two of them back.
async fn show_and_ask_back(phrase: &Phrase, context: &Context<'_>) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage("no terminal to show the 24 words on").hint(
            "give --phrase-file FILE to write them down, or --discard-phrase to do without",
        ));
    }
    let words = phrase.words();
    let ask = ask_positions()?;
    let mut screen = WordScreen::open();
    let paint = context.output.paint_words();
    screen.line(&format!("{}\n", paint.strong("Your 24 words")));
    for row in 0..8 {
        let cell = |column: usize| {
            let at = column * 8 + row;
            format!(
                "{:>4}  {:<12}",
                paint.faint(&format!("{:>2}", at + 1)),
                words[at]
            )
        };
        screen.line(&format!("{}{}{}", cell(0), cell(1), cell(2)));
    }
    screen.line("\nWrite them on paper, in this order. They are your identity: whoever has");
    screen.line("them is you, and without them nobody can bring it back.");
    screen.line("They are shown this once and stored nowhere.");
    screen.line("\nPress Enter when they are written down.");
    prompt().await?;
    drop(screen);

    for at in ask {
        let mut tries = 0;
        loop {
            eprint!("word {}: ", at + 1);
            if prompt().await?.trim().eq_ignore_ascii_case(words[at]) {
                break;
            }
            tries += 1;
            if tries == TRIES_MAX {
                return Err(Failure::usage(format!(
                    "word {} was not it; nothing was made",
                    at + 1
                ))
                .hint("run `kinlog init` again: it shows 24 new words"));
            }
            context.output.say("that is not it, look again");
        }
    }
    Ok(())
}

/// Chooses one word of the first half and one of the second.
fn ask_positions() -> Result<[usize; 2], Failure> {
    let mut random = [0u8; 2];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::general(format!("no random numbers: {error}")))?;
    Ok([
        usize::from(random[0]) % 12,
        12 + usize::from(random[1]) % 12,
    ])
}

/// Reads a line from the terminal; ctrl-c and the end of input end the command.
pub(crate) async fn prompt() -> Result<Zeroizing<String>, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = Zeroizing::new(String::new());
        io::stdin().read_line(&mut line).map(|bytes| (bytes, line))
    });
    tokio::select! {
        () = interrupted() => Err(Failure::Interrupted),
        read = read => match read {
            Ok(Ok((0, _))) => Err(Failure::Interrupted),
            Ok(Ok((_, line))) => Ok(line),
            Ok(Err(error)) => Err(Failure::io("stdin", &error)),
            Err(error) => Err(Failure::new(ErrorKind::General, error.to_string())),
        }
    }
}

/// The terminal's second screen, so that the words do not stay in what can be scrolled back.
pub(crate) struct WordScreen;

impl WordScreen {
    pub(crate) fn open() -> Self {
        eprint!("\u{1b}[?1049h\u{1b}[H\u{1b}[2J");
        WordScreen
    }

    pub(crate) fn line(&mut self, line: &str) {
        eprintln!("{line}");
    }
}

impl Drop for WordScreen {
    fn drop(&mut self) {
        eprint!("\u{1b}[2J\u{1b}[H\u{1b}[?1049l");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_words_are_one_of_each_half() {
        for _ in 0..100 {
            let [first, second] = ask_positions().expect("random numbers");
            assert!(first < 12 && (12..24).contains(&second));
        }
    }
}
