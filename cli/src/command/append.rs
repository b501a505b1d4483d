//! `kinlog feed append`: lines of stdin become blocks, in commits that one request takes.

use std::io::{self, BufRead, IsTerminal};

use kinlog_agent::api::{Answer, Reply, Request};
use kinlog_agent::home::Layout;

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Output, bytes, count};
use crate::target::{Context, Ended, Session, interrupted};

/// Blocks in one commit of `feed append`: what one request takes.
const APPEND_BLOCKS_MAX: usize = kinlog_agent::limits::APPEND_BLOCKS_MAX;

/// Bytes in one commit of `feed append`: half of what one request takes, so that the largest block
/// still fits behind them.
const APPEND_BYTES_MAX: usize = kinlog_agent::limits::FRAME_PAYLOAD_BYTES_MAX / 2;

/// Appends a block per line of stdin, in commits of at most [`APPEND_BLOCKS_MAX`] lines.
pub(super) async fn append(path: String, context: &Context<'_>) -> Result<(), Failure> {
    // Before anybody types lines for nothing; the home itself is opened when there are some, so that
    // what is read from it can be piped into it.
    Layout::new(&context.home).check_initialised()?;
    if io::stdin().is_terminal() {
        context.output.say("a block per line; ctrl-d ends");
    }
    let first = next_lines(0).await.map_err(|failure| {
        failure.hint("nothing was appended; kinlog feed import takes files of any kind")
    })?;
    if first.lengths.is_empty() {
        context.output.say("nothing on stdin, nothing appended");
        return Ok(());
    }
    let session = Session::open(context).await?;
    let appended = append_batches(&path, first, &session).await;
    session.close().await?;
    show_appended(&appended?, context.output)
}

/// Appends `first` and what follows it on stdin; returns the last answer, its start that of the first.
async fn append_batches(path: &str, first: Lines, session: &Session) -> Result<Reply, Failure> {
    let mut lines = first;
    let mut lines_before = 0;
    let mut first_start = None;
    loop {
        lines_before += lines.lengths.len();
        let end = lines.end;
        let request = Request::FeedAppend {
            path: path.to_owned(),
            lengths: lines.lengths,
        };
        let mut reply = None;
        let mut keep = |answer: Answer| {
            reply = Some(answer.reply);
            Ok(())
        };
        if session
            .follow(request, lines.content.into(), &mut keep)
            .await?
            == Ended::Interrupted
        {
            return Err(Failure::Interrupted);
        }
        let Some(Reply::Appended {
            key,
            path,
            start,
            length,
            byte_length,
            link,
        }) = reply
        else {
            return Err(Failure::general("the agent did not say what it appended"));
        };
        let start = *first_start.get_or_insert(start);
        let appended = Reply::Appended {
            key,
            path,
            start,
            length,
            byte_length,
            link,
        };
        if end {
            return Ok(appended);
        }
        lines = next_lines(lines_before).await.map_err(|failure| {
            failure.hint(format!("the {lines_before} lines before were appended"))
        })?;
        if lines.lengths.is_empty() {
            return Ok(appended);
        }
    }
}

/// Lines of stdin for one commit.
struct Lines {
    lengths: Vec<u32>,
    content: Vec<u8>,
    end: bool,
}

/// Waits for lines on a thread of its own, so that ctrl-c is heard meanwhile.
async fn next_lines(lines_before: usize) -> Result<Lines, Failure> {
    tokio::select! {
        () = interrupted() => Err(Failure::Interrupted),
        lines = tokio::task::spawn_blocking(move || read_lines(lines_before)) => {
            lines.map_err(|error| Failure::general(error.to_string()))?
        }
    }
}

fn read_lines(lines_before: usize) -> Result<Lines, Failure> {
    let mut stdin = io::stdin().lock();
    let mut lines = Lines {
        lengths: Vec::new(),
        content: Vec::new(),
        end: false,
    };
    while lines.lengths.len() < APPEND_BLOCKS_MAX && lines.content.len() < APPEND_BYTES_MAX {
        let start = lines.content.len();
        let number = lines_before + lines.lengths.len() + 1;
        read_line(&mut stdin, &mut lines.content, number)?;
        if lines.content.len() == start {
            lines.end = true;
            break;
        }
        if lines.content.last() == Some(&b'\n') {
            lines.content.pop();
        }
        let line = &lines.content[start..];
        if let Err(error) = std::str::from_utf8(line) {
            return Err(Failure::usage(format!(
                "line {number} of stdin is not UTF-8 text: byte {} of the line",
                error.valid_up_to()
            )));
        }
        lines
            .lengths
            .push(u32::try_from(line.len()).map_err(|_| too_long(number))?);
    }
    Ok(lines)
}

/// Reads a line with its end, but no more than a block can hold.
fn read_line(
    stdin: &mut io::StdinLock<'_>,
    into: &mut Vec<u8>,
    number: usize,
) -> Result<(), Failure> {
    let limit = kinlog_feeds::limits::KINLOG_BLOCK_BYTES_MAX as u64 + 1;
    let read = io::Read::take(stdin, limit)
        .read_until(b'\n', into)
        .map_err(|error| Failure::io("stdin", &error))?;
    if read as u64 == limit && into.last() != Some(&b'\n') {
        return Err(too_long(number));
    }
    Ok(())
}

fn too_long(number: usize) -> Failure {
    let limit = kinlog_feeds::limits::KINLOG_BLOCK_BYTES_MAX;
    Failure::usage(format!(
        "line {number} of stdin is longer than a block may be: {limit} bytes"
    ))
}

pub(super) fn show_appended(reply: &Reply, output: &Output) -> Result<(), Failure> {
    let Reply::Appended {
        key,
        start,
        length,
        byte_length,
        link,
        ..
    } = reply
    else {
        return Err(unexpected(reply));
    };
    if output.is_json() {
        return output.json(reply);
    }
    output.say(format!(
        "{} appended; {} and {} now",
        count(length - start, "block"),
        count(*length, "block"),
        bytes(*byte_length)
    ));
    output.data(&link.clone().unwrap_or_else(|| key.to_string()))
}
