//! Feeds whose writer contradicted itself, and plain feeds cut by ours.

use kinlog_feeds::conflict::{ConflictProof, Contradiction};
use kinlog_feeds::store::{Feed, TruncateError};
use kinlog_feeds::text::encode_hex;

use crate::api::{AnswerSender, ConflictHead, ConflictInfo, Error, ErrorKind, Reply};
use crate::core::Core;
use crate::failure::chain;
use crate::requests::Ended;
use crate::requests::feeds::feed_info;

/// Lists the conflicts of one feed or of all; ends with an error of kind conflict if there are any.
pub(super) fn list(core: &Core, name: Option<&str>, to: &AnswerSender) -> Result<(), Ended> {
    let feeds = match name {
        Some(name) => vec![core.feed(&core.feed_key(name)?)?],
        None => core.store.feeds(),
    };
    let mut conflicts = Vec::new();
    for feed in &feeds {
        if let Some(proof) = feed.conflict().map_err(Error::from)? {
            conflicts.push(conflict_info(core, feed, &proof)?);
        }
    }
    let count = conflicts.len();
    to.blocking_answer(Reply::Conflicts { conflicts }.into())?;
    let message = match count {
        0 => return Ok(()),
        1 => "a feed is stopped: its author signed two histories of it".to_owned(),
        count => format!("{count} feeds are stopped: their authors signed two histories"),
    };
    Err(Error::new(ErrorKind::Conflict, message)
        .hint("what was stored before stays and is served; --export FILE lets others check it")
        .into())
}

fn conflict_info(core: &Core, feed: &Feed, proof: &ConflictProof) -> Result<ConflictInfo, Error> {
    let info = feed_info(core, feed)?;
    let heads = proof.heads().map(|signed| ConflictHead {
        fork: signed.head.fork,
        length: signed.head.length,
        tree_hash: encode_hex(&signed.tree_hash.0),
    });
    let first_block = match proof.contradiction() {
        Contradiction::Trees { .. } => Some(proof.blocks().start),
        Contradiction::Fork => None,
    };
    Ok(ConflictInfo {
        key: info.key,
        path: info.path,
        agent: info.agent,
        length: info.length,
        what: proof.to_string(),
        first_block,
        heads: heads.to_vec(),
        proof: encode_hex(&proof.encode()),
    })
}

/// Cuts an own plain feed to its first `length` blocks.
pub(super) fn truncate(core: &Core, name: &str, length: u64) -> Result<Reply, Error> {
    let own = core.own_feed(name)?;
    let feed = core.feed(&own.key)?;
    feed.truncate(&core.keys.feed(&own.id), length)?;
    core.cut(&own.key);
    Ok(Reply::Feed(feed_info(core, &feed)?))
}

/// Returns what one line says of a feed that is stopped.
pub(super) fn summary(feed: &Feed) -> Option<String> {
    if !feed.is_stopped() {
        return None;
    }
    Some(match feed.conflict() {
        Ok(Some(proof)) => proof.to_string(),
        Ok(None) => return None,
        Err(error) => chain(&error),
    })
}

impl From<TruncateError> for Error {
    fn from(error: TruncateError) -> Self {
        let message = chain(&error);
        match error {
            TruncateError::NotPlain { .. } => Error::usage(message).hint(
                "only plain feeds (kinlog feed create --plain) can be cut; readers of any other \
                 would see two histories and stop",
            ),
            TruncateError::TooShort { .. } => Error::usage(message),
            TruncateError::NotHeld { .. } => Error::not_found(message),
            TruncateError::NotWritable { .. } => Error::permission(message),
            TruncateError::Refused { refused, .. } => (&refused).into(),
            TruncateError::Conflict { .. } => Error::new(ErrorKind::Conflict, message)
                .hint("`kinlog feed conflicts` shows both histories"),
            TruncateError::Store(error) => error.into(),
            _ => Error::general(message),
        }
    }
}
