//! `kinlog pair`: two machines and no server at all; texts are carried by hand.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kinlog_agent::api::{PairedInfo, Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Output, clean, qr_svg, short_key, show_qr};
use crate::target::{Context, Session, interrupted};
use crate::words::read_line;

/// Bytes of a text in a file, with some room.
const FILE_BYTES_MAX: u64 = 128 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum PairCommand {
    /// Make a text for the other machine, and take what it answers
    Offer(ShownArguments),
    /// Take the text of the other machine, and make the answer
    Answer {
        #[command(flatten)]
        text: GivenArguments,

        #[command(flatten)]
        shown: ShownArguments,
    },
    /// Take the answer to the offer that is open here
    Finish(GivenArguments),
}

/// How a text is shown.
#[derive(Args, Debug)]
pub(crate) struct ShownArguments {
    /// Show the text as a QR code too
    #[arg(long)]
    qr: bool,

    /// Write the QR code into this new file, as a picture that any browser shows
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    qr_file: Option<PathBuf>,

    /// Write the text into this new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Returns the path of a picture.
fn svg_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(kind) if kind.eq_ignore_ascii_case("svg") => Ok(path),
        _ => Err("pictures are written as SVG: name a file that ends with .svg".to_owned()),
    }
}

/// Where a text comes from.
#[derive(Args, Debug)]
pub(crate) struct GivenArguments {
    /// kinlog://pair/#..., as the other machine shows it
    #[arg(required_unless_present = "file")]
    text: Option<String>,

    /// Read the text from this file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
}

pub(crate) async fn run(command: PairCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        PairCommand::Offer(shown) => offer(&shown, context).await,
        PairCommand::Answer { text, shown } => {
            let text = text.read()?;
            paired(Request::PairAnswer { text }, &shown, context).await
        }
        PairCommand::Finish(text) => {
            let text = text.read()?;
            let shown = ShownArguments {
                qr: false,
                qr_file: None,
                out: None,
            };
            paired(Request::PairFinish { text }, &shown, context).await
        }
    }
}

async fn offer(shown: &ShownArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let session = Session::open_for(context, &Request::PairOffer).await?;
    let result = async {
        let reply = session.request(Request::PairOffer).last().await?.reply;
        show_text(&reply, shown, output)?;
        if session.is_running() && !io::stdin().is_terminal() {
            output.say("then here, within ten minutes: kinlog pair finish TEXT");
            return Ok(());
        }
        loop {
            output.say("\nPaste what the other machine answers, and press enter:");
            let line = read_line().await?;
            if line.trim().is_empty() {
                if io::stdin().is_terminal() {
                    continue;
                }
                // Nobody pastes anything: `kinlog pair finish` may, elsewhere.
                return stay(&session).await;
            }
            let text = line.trim().to_owned();
            match session.request(Request::PairFinish { text }).last().await {
                Ok(answer) => {
                    show_paired(&answer.reply, output)?;
                    return hold(&session, output).await;
                }
                Err(error) if io::stdin().is_terminal() => {
                    output.failure(&Failure::Agent(error));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    .await;
    session.close().await?;
    result
}

/// Asks what ends with a connection, and shows it.
async fn paired(
    request: Request,
    shown: &ShownArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let output = context.output;
    let session = Session::open_for(context, &request).await?;
    let result = async {
        let mut answers = session.wait_for(request);
        while let Some(reply) = answers.next().await? {
            if let Reply::PairText { .. } = &reply {
                show_text(&reply, shown, output)?;
                output.say("\nwaiting until the other machine takes it; ctrl-c ends");
            } else {
                show_paired(&reply, output)?;
                return hold(&session, output).await;
            }
        }
        Ok(())
    }
    .await;
    session.close().await?;
    result
}

/// Keeps a connection that belongs to this process.
async fn hold(session: &Session, output: &Output) -> Result<(), Failure> {
    if session.is_running() {
        return Ok(());
    }
    output.say("no agent is running, so this command holds the connection; ctrl-c ends it");
    stay(session).await
}

async fn stay(session: &Session) -> Result<(), Failure> {
    tokio::select! {
        () = interrupted() => {}
        () = session.asked_to_stop() => {}
    }
    Ok(())
}

fn show_text(reply: &Reply, shown: &ShownArguments, output: &Output) -> Result<(), Failure> {
    let Reply::PairText { what, text, .. } = reply else {
        return Err(unexpected(reply));
    };
    if let Some(file) = &shown.out {
        write_new(file, &format!("{text}\n"))?;
    }
    if let Some(file) = &shown.qr_file {
        let picture = qr_svg(text);
        let picture = picture.ok_or_else(|| Failure::general("the text is too long for a code"))?;
        write_new(file, &picture)?;
    }
    if output.is_json() {
        output.json(reply)?;
        return output.flush();
    }
    output.say(match what.as_str() {
        "offer" => "Take this text to the other machine:  kinlog pair answer 'TEXT'",
        _ => "Take this answer back:  paste it there, or  kinlog pair finish 'TEXT'",
    });
    output.say("It is good for ten minutes. Whoever has it can connect to this machine:");
    output.say("both say who they are, and nobody gets more than it may have anyway.\n");
    output.data(text)?;
    if shown.qr {
        show_qr(text, output)?;
    }
    for file in shown.out.iter().chain(&shown.qr_file) {
        output.say(format!("written to {}", file.display()));
    }
    output.flush()
}

fn show_paired(reply: &Reply, output: &Output) -> Result<(), Failure> {
    let Reply::Paired(paired) = reply else {
        return Err(unexpected(reply));
    };
    if output.is_json() {
        output.json(reply)?;
        return output.flush();
    }
    let way = paired.way.as_ref().map(|way| way.sentence());
    output.data(&format!(
        "paired with {}  agent {}  {}",
        clean(&paired.name),
        short_key(&paired.agent),
        way.unwrap_or_default()
    ))?;
    for line in carries(paired) {
        output.say(format!("  {}", clean(&line)));
    }
    output.flush()
}

/// Returns what goes over the connection, and what does not.
fn carries(paired: &PairedInfo) -> Vec<String> {
    let mut lines = Vec::new();
    if paired.own {
        lines.push("your other device: everything that both keep, private paths too".to_owned());
    }
    if paired.followed {
        lines.push("what you follow of it is fetched".to_owned());
    }
    if !paired.rooms.is_empty() {
        lines.push(format!(
            "rooms that both are in: {}",
            paired.rooms.join(", ")
        ));
    }
    lines.push("public feeds that both know; nothing else of either".to_owned());
    lines
}

impl GivenArguments {
    fn read(self) -> Result<String, Failure> {
        match (self.text, self.file) {
            (Some(text), _) => Ok(text),
            (None, Some(file)) => read(&file),
            (None, None) => Err(Failure::usage("no text was given")),
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::io(file.display(), &error);
    if fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{} is too long for a text of `kinlog pair`",
            file.display()
        )));
    }
    fs::read_to_string(file).map_err(failed)
}

fn write_new(file: &Path, content: &str) -> Result<(), Failure> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut open| io::Write::write_all(&mut open, content.as_bytes()));
    written.map_err(|error| Failure::io(file.display(), &error))
}
