//! The paths that Kinlog itself writes: shared ones, with a feed of each device.

use kinlog_indexer::entry::{Body, Content, PathKind};

use crate::api::Error;
use crate::core::{Core, NewPath};
use crate::knowledge::Line;
use crate::links::FeedPath;
use crate::state::OwnFeed;

/// Pins, contacts, preferences; private.
pub(crate) const SETTINGS: &str = "/settings";

/// What the agent calls itself.
pub(crate) const PROFILE: &str = "/profile";

/// What it says of others.
pub(crate) const TRUST: &str = "/trust";

/// Refuses a path that Kinlog itself writes.
pub(crate) fn check_unreserved(path: &FeedPath) -> Result<(), Error> {
    let written_by = match path.as_str() {
        SETTINGS => "pin`, `kinlog contact` and `kinlog preference",
        PROFILE => "profile set",
        TRUST => "vouch` and `kinlog attest",
        _ => return Ok(()),
    };
    Err(
        Error::usage(format!("path {path} is kept by Kinlog itself")).hint(format!(
            "`kinlog {written_by}` write there; choose another path"
        )),
    )
}

impl Line {
    /// Returns whether this is a device's part of such a path.
    pub(crate) fn is_part_of(&self, path: &str) -> bool {
        self.path.as_str() == path && self.kind == PathKind::Shared && self.is_entries
    }
}

impl Core {
    /// Returns this device's feed at the path where a body belongs; makes it, if need be.
    pub(super) fn reserved_feed(&self, body: &Body) -> Result<OwnFeed, Error> {
        let (path, is_private) = match body {
            Body::Setting(_) | Body::Contact(_) | Body::Preference(_) => (SETTINGS, true),
            Body::Profile(_) => (PROFILE, false),
            _ => (TRUST, false),
        };
        let path: FeedPath = path.parse().map_err(Error::from)?;
        let new = NewPath {
            content: Content::Entries,
            kind: PathKind::Shared,
            is_private,
        };
        match self.knowledge(|knowledge| knowledge.own_path(&path).cloned()) {
            Some(own)
                if (own.is_private, own.is_entries, own.kind) == (is_private, true, new.kind) =>
            {
                Ok(own)
            }
            Some(_) => Err(Error::usage(format!(
                "path {path} holds something else: Kinlog keeps entries of its own there"
            ))),
            None => self.create_path(&path, new),
        }
    }
}
