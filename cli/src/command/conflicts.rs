//! `kinlog feed conflicts`: feeds whose author signed two histories, and the proof of it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use kinlog_agent::api::{ConflictInfo, ErrorKind, Reply, Request};
use kinlog_feeds::conflict::ConflictProof;
use kinlog_feeds::limits::CONFLICT_PROOF_BYTES_MAX;
use kinlog_feeds::text::{decode_hex, encode_hex};
use serde::Serialize;

use crate::command::unexpected;
use crate::error::Failure;
use crate::home::absolute;
use crate::output::{Output, clean, count};
use crate::target::{Context, Ended};

#[derive(Debug, Args)]
pub(crate) struct ConflictsArguments {
    /// Own path, key or link [default: all feeds]
    #[arg(conflicts_with = "check")]
    feed: Option<String>,
    /// Write the proof into a file that anybody can check
    #[arg(long, value_name = "FILE", requires = "feed")]
    export: Option<PathBuf>,
    /// Check a proof that somebody exported; needs no home and no network
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

pub(crate) async fn run(
    arguments: ConflictsArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    if let Some(file) = arguments.check {
        return check(&file, context.output);
    }
    let export = arguments.export.as_deref().map(absolute).transpose()?;
    let output = context.output;
    let request = Request::FeedConflicts {
        feed: arguments.feed,
    };
    let ended = context
        .follow(request, Bytes::new(), |answer| {
            let Reply::Conflicts { conflicts } = &answer.reply else {
                return Err(unexpected(&answer.reply));
            };
            if let (Some(file), [conflict]) = (&export, conflicts.as_slice()) {
                write_proof(file, conflict)?;
                output.say(format!("proof written to {}", file.display()));
            }
            if output.is_json() {
                return output.json(&answer.reply);
            }
            if conflicts.is_empty() {
                output.say("no conflicts");
            }
            conflicts
                .iter()
                .try_for_each(|conflict| show(conflict, output))
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}

fn show(conflict: &ConflictInfo, output: &Output) -> Result<(), Failure> {
    let row = |name: &str, value: String| output.data(&format!("{name:<14}{value}"));
    row("key", conflict.key.to_string())?;
    if let Some(path) = &conflict.path {
        row("path", clean(path))?;
    }
    if let Some(agent) = &conflict.agent {
        row("author", agent.to_string())?;
    }
    row("conflict", output.paint().bad(&clean(&conflict.what)))?;
    for head in &conflict.heads {
        let (fork, hash) = (head.fork, clean(&head.tree_hash));
        row(
            "signed head",
            format!("fork {fork}, {}, tree {hash}", count(head.length, "block")),
        )?;
    }
    row("kept", count(conflict.length, "block"))
}

fn write_proof(file: &Path, conflict: &ConflictInfo) -> Result<(), Failure> {
    let bytes = decode_hex(&conflict.proof)
        .map_err(|error| Failure::general(format!("the agent's proof: {error}")))?;
    std::fs::write(file, bytes).map_err(|error| Failure::io(file.display(), &error))
}

/// A proof that holds, as `--json` prints it.
#[derive(Serialize)]
struct CheckedProof {
    reply: &'static str,
    key: String,
    what: String,
    heads: [CheckedHead; 2],
}

#[derive(Serialize)]
struct CheckedHead {
    fork: u64,
    length: u64,
    tree_hash: String,
}

fn check(file: &Path, output: &Output) -> Result<(), Failure> {
    let refused = |error: &std::io::Error| Failure::io(file.display(), error);
    let size = std::fs::metadata(file)
        .map_err(|error| refused(&error))?
        .len();
    let place = file.display();
    if size > CONFLICT_PROOF_BYTES_MAX as u64 {
        let message = format!("{place}: {size} bytes are no conflict proof");
        return Err(Failure::new(ErrorKind::Verification, message));
    }
    let bytes = std::fs::read(file).map_err(|error| refused(&error))?;
    let proof = ConflictProof::decode(&bytes).map_err(|error| {
        let message = format!("{place}: {error}");
        Failure::new(ErrorKind::Verification, message)
    })?;
    let key = proof.feed().to_string();
    if output.is_json() {
        let head = |signed: &kinlog_feeds::tree::SignedHead| CheckedHead {
            fork: signed.head.fork,
            length: signed.head.length,
            tree_hash: encode_hex(&signed.tree_hash.0),
        };
        return output.json(&CheckedProof {
            reply: "conflict_proof",
            key,
            what: proof.to_string(),
            heads: proof.heads().map(head),
        });
    }
    output.say(format!(
        "{} the author of feed {key} signed both",
        output.paint_words().good("the proof holds:")
    ));
    output.data(&proof.to_string())
}
