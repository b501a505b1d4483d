//! What may become of a path: another label, another device that writes it, an end.

use kinlog_feeds::crypto::Hash;
use kinlog_indexer::entry::{
    Body, Cut, DirectoryRedirect, DirectoryRename, DirectoryRetire, PathKind,
};
use kinlog_indexer::index::{StoreTrees, TreeHashes};

use crate::api::Error;
use crate::core::{Core, lock};
use crate::keys::random;
use crate::knowledge::Line;
use crate::links::FeedPath;
use crate::settings::check_unreserved;
use crate::state::OwnFeed;

impl Core {
    /// Returns the own feed that a path goes on in; `None` for a path that no device of ours has.
    ///
    /// # Errors
    /// `Permission` when another device writes it.
    pub(crate) fn writable(&self, path: &FeedPath) -> Result<Option<OwnFeed>, Error> {
        let is_known = self.knowledge(|knowledge| {
            knowledge.own_path(path).is_some() || knowledge.own_line(path).is_some()
        });
        match is_known {
            true => self.own_feed(path.as_str()).map(Some),
            false => Ok(None),
        }
    }

    /// Gives a path that this device writes another label, and leads its readers there.
    pub(crate) fn rename_path(&self, from: &FeedPath, to: &FeedPath) -> Result<OwnFeed, Error> {
        for path in [from, to] {
            check_unreserved(path)?;
        }
        let own = self.own_feed(from.as_str())?;
        self.check_free(to)?;
        let label = |path: &FeedPath| {
            let text = path.as_str().try_into();
            text.map_err(|error| Error::usage(format!("path: {error}")))
        };
        // Whoever looks for one of the feeds before it finds it by the label of the last.
        let rename = DirectoryRename {
            feed: own.key,
            label: label(to)?,
        };
        let redirect = DirectoryRedirect {
            from: label(from)?,
            to: label(to)?,
        };
        let bodies = vec![
            Body::DirectoryRename(rename),
            Body::DirectoryRedirect(redirect),
        ];
        self.write_to_directory(own.is_private, bodies)?;
        self.set_own_path(&own, Some(to))?;
        self.replan()?;
        Ok(OwnFeed {
            path: Some(to.clone()),
            ..own
        })
    }

    /// Goes on here with a path that another device of this agent writes, after as much of it as is known.
    pub(crate) fn take_path(&self, path: &FeedPath) -> Result<OwnFeed, Error> {
        let line = self.knowledge(|knowledge| {
            let line = knowledge.own_line(path).cloned()?;
            Some((line.clone(), knowledge.private_line(&line.key).is_some()))
        });
        let Some((line, is_private)) = line else {
            return Err(
                Error::not_found(format!("no device of yours lists a path {path}"))
                    .hint("`kinlog feed list` shows what is known here"),
            );
        };
        if self.knowledge(|knowledge| knowledge.own.contains_key(&line.key)) {
            return Err(Error::usage(format!("path {path} is written here already")));
        }
        if line.kind == PathKind::Shared {
            return Err(Error::usage(format!(
                "path {path} is shared: each device writes its own part"
            ))
            .hint(format!(
                "`kinlog feed create {path} --kind shared` begins this one's"
            )));
        }
        let continues = self.newest_known(&line)?;
        // An older part of it that was written here stands under its successor from now on.
        let older = self.knowledge(|knowledge| knowledge.own_path(&line.path).cloned());
        if let Some(older) = older {
            self.set_own_path(&older, None)?;
        }
        let id = random()?;
        let own = self.make_feed(OwnFeed {
            path: Some(line.path.clone()),
            is_entries: line.is_entries,
            is_private,
            kind: line.kind,
            ..OwnFeed::entries(self.keys.feed_key(&id), id)
        })?;
        // Who reads the line asks for the feed at once: it is served before it is listed.
        self.replan()?;
        let body = self.line(&own, &line.path, Some(continues))?;
        self.write_to_directory(is_private, vec![body])?;
        self.replan()?;
        Ok(own)
    }

    /// Lists a path no longer. Its blocks stay here, and with whoever holds them.
    pub(crate) fn retire_path(&self, path: &FeedPath) -> Result<OwnFeed, Error> {
        check_unreserved(path)?;
        let own = self.own_feed(path.as_str())?;
        // After a crash in between the path is still listed, and can be retired again.
        self.set_own_path(&own, None)?;
        let body = Body::DirectoryRetire(DirectoryRetire { feed: own.key });
        self.write_to_directory(own.is_private, vec![body])?;
        self.replan()?;
        Ok(OwnFeed { path: None, ..own })
    }

    /// Refuses a path that a device of this agent has.
    pub(super) fn check_free(&self, path: &FeedPath) -> Result<(), Error> {
        let (is_own, device) = self.knowledge(|knowledge| {
            let line = knowledge.own_line(path).filter(|line| line.path == *path);
            let line = line.filter(|line| line.kind == PathKind::Log);
            let device = line.map(|line| knowledge.device_name(&line.device));
            (knowledge.own_path(path).is_some(), device)
        });
        match (is_own, device) {
            (true, _) => Err(Error::usage(format!("path {path} exists already"))
                .hint("append to it, or choose another path")),
            (false, Some(device)) => Err(Error::usage(format!(
                "path {path} exists already: another device of yours, {device}, writes it"
            ))
            .hint(format!("`kinlog feed take {path}` goes on with it here"))),
            (false, None) => Ok(()),
        }
    }

    /// Returns how much of a feed is known: of what is held and what its device vouched for, the longer.
    fn newest_known(&self, line: &Line) -> Result<Cut, Error> {
        let vouched = self.index(|index| index.vouched_head(&self.agent, &line.key))?;
        let vouched = vouched.map(|head| (head.length, head.tree_hash));
        let trees = StoreTrees::of(self.store.clone());
        let held = self.store.feed(&line.key).and_then(|feed| {
            let length = feed.head().length;
            // What a revoked device wrote behind its cut is not gone on with.
            let accepted = self.knowledge(|knowledge| knowledge.accepted(&line.key));
            if accepted.is_some_and(|accepted| accepted < length) {
                return None;
            }
            Some((length, trees.tree_hash(&line.key, length)?))
        });
        let longest = vouched
            .into_iter()
            .chain(held)
            .max_by_key(|(length, _)| *length);
        let (length, tree_hash) = longest.unwrap_or((0, Hash([0; 32])));
        Ok(Cut {
            feed: line.key,
            length,
            tree_hash,
        })
    }

    fn set_own_path(&self, own: &OwnFeed, path: Option<&FeedPath>) -> Result<(), Error> {
        let _turn = lock(&self.learning);
        self.state.set_path(&own.key, path)?;
        self.knowledge(|knowledge| {
            if let Some(known) = knowledge.own.get_mut(&own.key) {
                known.path = path.cloned();
            }
        });
        Ok(())
    }
}
