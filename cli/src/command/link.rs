//! `kinlog device link` on the device that shows the code, and `kinlog init --link` on the new one.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kinlog_agent::NetworkConfig;
use kinlog_agent::api::{LinkAskedInfo, Reply, Request};
use kinlog_agent::linking::{LinkCode, LinkCodeError, PendingDevice, link_over_network};
use kinlog_feeds::crypto::AgentId;
use kinlog_feeds::text::{decode_hex, encode_hex};
use serde::Serialize;

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Output, clean, qr};
use crate::target::{Context, Session, blocking, interrupted, looks_at_lan};
use crate::words::compare;

/// Bytes of a request or an answer in a file: an identity set of 64 KiB in hex, with some room.
const FILE_BYTES_MAX: u64 = 192 * 1024;

#[derive(Args, Debug)]
pub(crate) struct LinkArguments {
    /// Take the request of a new device from this file, instead of showing a code
    #[arg(long, value_name = "FILE", requires = "answer")]
    request: Option<PathBuf>,

    /// Write the answer to the new device into this file
    #[arg(long, value_name = "FILE", requires = "request")]
    answer: Option<PathBuf>,

    /// Show a code for --request FILE, without going online
    #[arg(long, conflicts_with = "request")]
    offline: bool,

    /// What the new device may do: words of write, add, revoke [default: as this one]
    #[arg(long, value_delimiter = ',', value_name = "WORDS")]
    powers: Vec<String>,

    /// Words that the new device shows; without it they are asked for
    #[arg(long, value_name = "WORDS")]
    yes_words: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct NewDeviceArguments {
    /// Become one more device of the agent that shows this code
    #[arg(long, value_name = "CODE")]
    link: Option<String>,

    /// Write the request into this file, to be carried to the device that shows the code
    #[arg(long, value_name = "FILE", requires = "link")]
    request: Option<PathBuf>,

    /// Take the answer that was carried back, and finish
    #[arg(long, value_name = "FILE", conflicts_with = "link")]
    answer: Option<PathBuf>,

    /// Words that the other device shows; without it they are asked for
    #[arg(long, value_name = "WORDS")]
    yes_words: Option<String>,

    /// Signal server to meet the other device at, beside those in the code
    #[arg(long = "signal", value_name = "URL", requires = "link")]
    signals: Vec<String>,

    /// Seconds to wait for the other device
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
}

/// A device that another one has let in, and what that one answered.
pub(crate) struct LetIn {
    pub(crate) pending: PendingDevice,
    pub(crate) answer: Vec<u8>,
}

/// What the new device tells while it is linked, in JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// The words that the other device has to show.
    Words { words: &'a str },
}

impl NewDeviceArguments {
    /// Returns whether this is about an agent that exists.
    pub(crate) fn is_given(&self) -> bool {
        self.link.is_some() || self.answer.is_some()
    }
}

/// Shows a code, or answers a request that came by file.
pub(crate) async fn show(arguments: LinkArguments, context: &Context<'_>) -> Result<(), Failure> {
    if let (Some(request), Some(answer)) = (&arguments.request, &arguments.answer) {
        return answer_file(request, answer, &arguments, context).await;
    }
    let request = Request::LinkOpen {
        powers: arguments.powers.clone(),
        wait: !arguments.offline,
    };
    let session = Session::open_for(context, &request).await?;
    let result = attend(&session, request, &arguments, context.output).await;
    session.close().await?;
    result
}

/// Confirms the words of a link that another `kinlog device link` waits for.
pub(crate) async fn confirm(words: String, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(Request::LinkConfirm { words }).await? {
        linked(&reply, context.output)?;
    }
    Ok(())
}

async fn attend(
    session: &Session,
    request: Request,
    arguments: &LinkArguments,
    output: &Output,
) -> Result<(), Failure> {
    let mut answers = session.wait_for(request);
    while let Some(reply) = answers.next().await? {
        match &reply {
            Reply::LinkCode { code, .. } => show_code(code, output)?,
            Reply::LinkAsked(asked) => {
                show_asked(asked, output)?;
                let words = match &arguments.yes_words {
                    Some(words) => Some(words.clone()),
                    None => compare(&asked.words, output).await?,
                };
                if let Some(words) = words {
                    let confirm = session.request(Request::LinkConfirm { words });
                    return linked(&confirm.last().await?.reply, output);
                }
                output.say("`kinlog device confirm WORDS` goes on");
            }
            reply => return linked(reply, output),
        }
        output.flush()?;
    }
    Ok(())
}

async fn answer_file(
    request: &Path,
    answer: &Path,
    arguments: &LinkArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let output = context.output;
    let asked = read(request)?;
    let session = Session::open(context).await?;
    let answered = async {
        let reply = session.request(Request::LinkAsk { asked }).last().await?;
        let Reply::LinkAsked(asked) = reply.reply else {
            return Err(unexpected(&reply.reply));
        };
        show_asked(&asked, output)?;
        let words = match &arguments.yes_words {
            Some(words) => words.clone(),
            None => compare(&asked.words, output)
                .await?
                .ok_or_else(nobody_compared)?,
        };
        let confirm = session.request(Request::LinkConfirm { words });
        let reply = confirm.last().await?.reply;
        if let Reply::Linked { answer: hex, .. } = &reply {
            write_new(answer, hex)?;
        }
        linked(&reply, output)?;
        output.say(format!(
            "carry {} to the new device: `kinlog init --answer FILE` takes it",
            answer.display()
        ));
        Ok(())
    };
    let result = answered.await;
    session.close().await?;
    result
}

/// Makes this installation one more device of the agent that shows the code; returns whether there is a home
/// now, and not a request to be carried.
pub(crate) async fn join(
    arguments: NewDeviceArguments,
    name: &str,
    context: &Context<'_>,
) -> Result<bool, Failure> {
    let output = context.output;
    let then = "`kinlog init --answer FILE`";
    let Some(LetIn { pending, answer }) = ask(arguments, None, name, then, context).await? else {
        return Ok(false);
    };
    let (home, state) = (context.home.clone(), context.state.clone());
    let made = blocking(move || Ok(pending.finish(&home, &state, &answer)?)).await?;
    if output.is_json() {
        output.json(&made)?;
        return Ok(true);
    }
    output.say(format!(
        "this is a device of {} now, in {}",
        output.paint_words().strong(&clean(&made.name)),
        context.home.display()
    ));
    output.data(&made.link)?;
    output.say("\n`kinlog up` fetches what the other devices hold");
    Ok(true)
}

/// Asks another device of the agent to let this one in, and has the words compared.
///
/// `agent` is whose code it has to be, `then` what takes an answer that comes by file. Returns `None` when the
/// request was written into a file, to be carried.
pub(crate) async fn ask(
    arguments: NewDeviceArguments,
    agent: Option<AgentId>,
    name: &str,
    then: &str,
    context: &Context<'_>,
) -> Result<Option<LetIn>, Failure> {
    let output = context.output;
    let (home, state) = (&context.home, &context.state);
    let (pending, answer, words) = match (&arguments.link, &arguments.answer) {
        (Some(code), _) => {
            let code: LinkCode = code.parse().map_err(no_code)?;
            // Nobody is asked for what would be refused afterwards.
            if agent.is_some_and(|agent| agent != code.agent) {
                return Err(Failure::usage("the code is that of another agent")
                    .hint("`kinlog device link` on a device of the agent whose backup this is"));
            }
            let pending = PendingDevice::new(home, state, code, name)?;
            let (request, words) = pending.request();
            if let Some(file) = &arguments.request {
                pending.keep(home, state)?;
                write_new(file, &encode_hex(&request))?;
                show_words(&words, output)?;
                output.say(format!(
                    "carry {} to the device that shows the code: `kinlog device link --request FILE --answer FILE`",
                    file.display()
                ));
                output.say(format!("then {then} here, within a day"));
                return Ok(None);
            }
            show_words(&words, output)?;
            output.flush()?;
            let network = NetworkConfig {
                lan: looks_at_lan(),
                signal_urls: arguments.signals.clone(),
                ..NetworkConfig::default()
            };
            let wait = Duration::from_secs(arguments.wait);
            let asking = link_over_network(home, pending.code(), request, network, wait);
            let answer = tokio::select! {
                () = interrupted() => return Err(Failure::Interrupted),
                answer = asking => answer?,
            };
            (pending, answer.to_vec(), words)
        }
        (None, Some(file)) => {
            let pending = PendingDevice::read(home, state)?;
            let (_, words) = pending.request();
            let hex = read(file)?;
            let answer = decode_hex(&hex).map_err(|_| not_ours(file))?;
            show_words(&words, output)?;
            (pending, answer, words)
        }
        (None, None) => return Err(Failure::usage("neither --link nor --answer was given")),
    };
    let typed = match arguments.yes_words {
        Some(typed) => typed,
        None => compare(&words, output).await?.ok_or_else(nobody_compared)?,
    };
    if !typed.to_lowercase().split_whitespace().eq(words.split(' ')) {
        return Err(Failure::new(
            kinlog_agent::api::ErrorKind::Verification,
            "the words are not the same on both devices: nothing was made",
        )
        .hint("revoke the new device on the other one (`kinlog device revoke`), and begin again with a new code"));
    }
    Ok(Some(LetIn { pending, answer }))
}

fn show_code(code: &str, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Reply::LinkCode {
            code: code.to_owned(),
            until_ms: 0,
        });
    }
    output.say("On the new device, within ten minutes:  kinlog init --link CODE");
    output.say("Whoever sees the code can ask to be a device of yours; the words decide.\n");
    if std::io::stderr().is_terminal()
        && let Some(code) = qr(code)
    {
        output.say(code);
    }
    output.data(code)
}

fn show_asked(asked: &LinkAskedInfo, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Reply::LinkAsked(asked.clone()));
    }
    let paint = output.paint_words();
    output.say(format!(
        "{} asks to be a device of yours that may: {}",
        paint.strong(&clean(&asked.name)),
        clean(&asked.powers.join(", ")),
    ));
    output.data(&format!("words  {}", asked.words))
}

fn show_words(words: &str, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Event::Words { words });
    }
    output.say("The other device has to show these words:");
    output.data(&format!("words  {words}"))
}

fn linked(reply: &Reply, output: &Output) -> Result<(), Failure> {
    let Reply::Linked { device, name, .. } = reply else {
        return Err(unexpected(reply));
    };
    if output.is_json() {
        return output.json(reply);
    }
    output.say(format!(
        "{} is a device of this agent now",
        output.paint_words().strong(&clean(name))
    ));
    output.data(&device.to_string())
}

fn no_code(error: LinkCodeError) -> Failure {
    Failure::usage(error.to_string())
        .hint("take the whole code as `kinlog device link` shows it, in quotes")
}

fn nobody_compared() -> Failure {
    Failure::usage("nobody compared the words")
        .hint("type them on stdin, or give --yes-words WORDS as the other device shows them")
}

fn not_ours(file: &Path) -> Failure {
    Failure::usage(format!("{} holds no request or answer", file.display()))
        .hint("take the file as the other device wrote it")
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::io(file.display(), &error);
    if fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(not_ours(file));
    }
    let text = fs::read(file).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|_| not_ours(file))?;
    Ok(text.trim().to_owned())
}

fn write_new(file: &Path, hex: &str) -> Result<(), Failure> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut open| {
            open.write_all(hex.as_bytes())?;
            open.write_all(b"\n")?;
            open.sync_all()
        });
    written.map_err(|error| Failure::io(file.display(), &error))
}
