//! Feeds this device signs: making them, appending to them, vouching for their heads.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Appended, Feed, Kind, Role};
use kinlog_indexer::entry::{
    Body, ClaimScope, Content, Cut, DirectoryHeads, DirectoryLine, FeedClaim, Head, PathKind,
};

use crate::api::{Error, UnpublishedFeed};
use crate::core::entries::Place;
use crate::core::{Core, lock};
use crate::keys::{DIRECTORY_ID, random};
use crate::knowledge::KnownRoom;
use crate::limits::HEADS_AT_ONCE;
use crate::links::FeedPath;
use crate::settings::check_unreserved;
use crate::state::{FormerFeed, OwnFeed};

/// What a path is made as; nothing of it changes later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewPath {
    pub(crate) content: Content,
    pub(crate) kind: PathKind,
    pub(crate) is_private: bool,
}

impl NewPath {
    /// A public log of entries or bytes.
    pub(crate) const fn public(content: Content) -> Self {
        NewPath {
            content,
            kind: PathKind::Log,
            is_private: false,
        }
    }
}

impl Core {
    /// Makes the feeds in the store that `state.db` knows and a crash kept from being made.
    pub(super) fn restore_own_feeds(&self) -> Result<(), Error> {
        for feed in self.state.own_feeds()? {
            if self.store.feed(&feed.key).is_none() {
                self.create_in_store(&feed)?;
            }
        }
        Ok(())
    }

    /// Creates a path with a new feed behind it and lists it in the directory where it belongs.
    pub(crate) fn create_path(&self, path: &FeedPath, new: NewPath) -> Result<OwnFeed, Error> {
        if new.content == Content::Bytes || new.kind == PathKind::Log {
            check_unreserved(path)?;
        }
        self.check_free(path)?;
        let id = random()?;
        let feed = self.make_feed(OwnFeed {
            path: Some(path.clone()),
            is_entries: new.content == Content::Entries,
            is_private: new.is_private,
            kind: new.kind,
            ..OwnFeed::entries(self.keys.feed_key(&id), id)
        })?;
        // Who reads the line asks for the feed at once: it is served before it is listed.
        self.replan()?;
        self.list(&feed, path)?;
        self.replan()?;
        Ok(feed)
    }

    /// Lists the own paths that a crash kept from being listed.
    pub(super) fn restore_lines(&self) -> Result<(), Error> {
        let unlisted = self.knowledge(|knowledge| {
            let own = knowledge.own.values();
            let known = knowledge.agents.get(&self.agent).into_iter();
            let listed = known.flat_map(|known| &known.lines);
            let listed = listed.chain(&knowledge.private_lines);
            let listed: BTreeSet<FeedKey> = listed.map(|line| line.key).collect();
            let awaits_peers = |key: &FeedKey| {
                let mut former = knowledge.former.values();
                former.any(|feed| feed.awaits_peers() && feed.successor == Some(*key))
            };
            own.filter(|feed| !listed.contains(&feed.key))
                .filter(|feed| !awaits_peers(&feed.key))
                .filter_map(|feed| Some((feed.clone(), feed.path.clone()?)))
                .collect::<Vec<_>>()
        });
        unlisted
            .iter()
            .try_for_each(|(feed, path)| self.list(feed, path))
    }

    fn list(&self, feed: &OwnFeed, path: &FeedPath) -> Result<(), Error> {
        let body = self.line(feed, path, None)?;
        self.write_to_directory(feed.is_private, vec![body])
    }

    /// Writes to the public directory, or to the private one.
    pub(super) fn write_to_directory(
        &self,
        is_private: bool,
        bodies: Vec<Body>,
    ) -> Result<(), Error> {
        match is_private {
            true => self.write_private(bodies)?,
            false => self.write_entries(&self.directory()?, Place::Public, bodies)?,
        };
        Ok(())
    }

    /// Creates a feed that is in no directory.
    pub(crate) fn create_plain(&self) -> Result<OwnFeed, Error> {
        let feed = self.new_feed(None, false, true)?;
        self.replan()?;
        Ok(feed)
    }

    /// Creates a feed with a fresh id: first remembered, then made.
    pub(crate) fn new_feed(
        &self,
        path: Option<FeedPath>,
        is_entries: bool,
        is_plain: bool,
    ) -> Result<OwnFeed, Error> {
        self.feed_with_id(random()?, path, is_entries, is_plain)
    }

    /// Creates the feed that derives from `id`.
    pub(crate) fn feed_with_id(
        &self,
        id: [u8; 16],
        path: Option<FeedPath>,
        is_entries: bool,
        is_plain: bool,
    ) -> Result<OwnFeed, Error> {
        self.make_feed(OwnFeed {
            path,
            is_entries,
            is_plain,
            ..OwnFeed::entries(self.keys.feed_key(&id), id)
        })
    }

    /// Makes a feed of this device: first remembered, then made.
    pub(super) fn make_feed(&self, feed: OwnFeed) -> Result<OwnFeed, Error> {
        self.guard.check()?;
        let _turn = lock(&self.learning);
        self.state.add_own_feed(&feed)?;
        self.create_in_store(&feed)?;
        self.knowledge(|knowledge| knowledge.own.insert(feed.key, feed.clone()));
        Ok(feed)
    }

    /// Appends raw blocks to an own feed; durable on return.
    pub(crate) fn append(&self, own: &OwnFeed, blocks: &[Bytes]) -> Result<Appended, Error> {
        self.guard.check()?;
        let feed = self.feed(&own.key)?;
        let appended = match own.is_private {
            true => self.append_private(own, blocks)?,
            false => feed.append_batch(&self.keys.feed(&own.id), blocks)?,
        };
        if own.path.is_some() {
            lock(&self.unvouched).insert(own.key);
        }
        self.appended(&own.key, &appended);
        Ok(appended)
    }

    /// Tells network and watchers that an own feed grew.
    pub(super) fn appended(&self, key: &FeedKey, _appended: &Appended) {
        if let Some(network) = self.network() {
            network.appended(key);
        }
        self.changed();
    }

    /// Tells network and watchers that an own plain feed was cut.
    pub(crate) fn cut(&self, key: &FeedKey) {
        if let Some(network) = self.network() {
            network.appended(key);
        }
        self.changed();
    }

    /// Commits the heads of own feeds that moved to their directories.
    pub(crate) fn vouch(&self) -> Result<(), Error> {
        // A device that may not sign vouches for nothing.
        if self.guard.doubt().is_some() {
            return Ok(());
        }
        let moved = lock(&self.unvouched).clone();
        let heads: Vec<Head> = moved
            .iter()
            .filter_map(|key| {
                let head = self.store.feed(key)?.head();
                Some(Head {
                    feed: *key,
                    length: head.length,
                    tree_hash: head.tree_hash(),
                })
            })
            .collect();
        if heads.is_empty() {
            return Ok(());
        }
        let (private, public): (Vec<Head>, Vec<Head>) =
            heads.iter().partition(|head| self.is_private(&head.feed));
        for (is_private, heads) in [(false, public), (true, private)] {
            for part in heads.chunks(HEADS_AT_ONCE) {
                let part = DirectoryHeads::new(part.to_vec())
                    .map_err(|error| Error::general(format!("heads: {error}")))?;
                self.write_to_directory(is_private, vec![Body::DirectoryHeads(part)])?;
            }
        }
        // What grew meanwhile stays to be vouched for.
        let mut unvouched = lock(&self.unvouched);
        for head in heads {
            let length = self.store.feed(&head.feed).map(|feed| feed.head().length);
            if length == Some(head.length) {
                unvouched.remove(&head.feed);
            }
        }
        Ok(())
    }

    /// Notes the own heads that peers were shown.
    pub(crate) fn note_shown(&self, heads: &BTreeMap<FeedKey, u64>) {
        let mut shown = lock(&self.shown);
        for (key, length) in heads {
            let known = shown.entry(*key).or_default();
            *known = (*known).max(*length);
        }
    }

    /// Writes down which own heads peers were shown. What a crash keeps from being written down is
    /// written again by a later device, no more.
    pub(crate) fn keep_shown(&self) -> Result<(), Error> {
        let shown = std::mem::take(&mut *lock(&self.shown));
        if shown.is_empty() {
            return Ok(());
        }
        Ok(self.state.note_published(shown)?)
    }

    /// Returns the feeds that peers are shown nothing of: those of earlier devices with blocks that no
    /// peer saw, and when this one may not write any more, its own with such blocks.
    pub(crate) fn unpublished(&self) -> Result<BTreeSet<FeedKey>, Error> {
        self.keep_shown()?;
        let former = self.state.former_feeds()?.into_iter();
        let mut unpublished: BTreeSet<FeedKey> = former
            .filter(FormerFeed::has_unpublished)
            .map(|feed| feed.key)
            .collect();
        if self.guard.doubt().is_some() {
            let own = self.state.published()?.into_iter();
            let is_ahead = |(key, published): &(FeedKey, u64)| {
                let feed = self.store.feed(key);
                feed.is_some_and(|feed| feed.head().length > *published)
            };
            unpublished.extend(own.filter(is_ahead).map(|(key, _)| key));
        }
        Ok(unpublished)
    }

    /// Returns the own feeds of which this device alone has blocks, directories excepted: what they say
    /// stands in `state.db` too.
    pub(crate) fn unpublished_feeds(&self) -> Result<Vec<UnpublishedFeed>, Error> {
        self.keep_shown()?;
        let shown: BTreeMap<FeedKey, u64> = self.state.published()?.into_iter().collect();
        let mut feeds = Vec::new();
        for own in self.state.own_feeds()? {
            let head = self
                .store
                .feed(&own.key)
                .map_or(0, |feed| feed.head().length);
            let blocks = head.saturating_sub(shown.get(&own.key).copied().unwrap_or(0));
            let room =
                self.knowledge(|knowledge| knowledge.room_of(&own.key).map(KnownRoom::label));
            let name = match (&own.path, room) {
                (Some(path), _) => path.to_string(),
                (None, Some(room)) => format!("room {room}"),
                (None, None) if own.is_plain => "plain feed".to_owned(),
                (None, None) => continue,
            };
            if blocks > 0 {
                let key = own.key.into();
                feeds.push(UnpublishedFeed { key, name, blocks });
            }
        }
        Ok(feeds)
    }

    /// Finds the own public feeds that grew after the last commitment, as after a crash.
    pub(super) fn restore_unvouched(&self) -> Result<(), Error> {
        for own in self.state.own_feeds()? {
            let Some(feed) = self.store.feed(&own.key).filter(|_| own.path.is_some()) else {
                continue;
            };
            let vouched = self.index(|index| index.vouched_head(&self.agent, &own.key))?;
            if feed.head().length > vouched.map_or(0, |head| head.length) {
                lock(&self.unvouched).insert(own.key);
            }
        }
        Ok(())
    }

    pub(crate) fn directory(&self) -> Result<OwnFeed, Error> {
        let key = self.keys.feed_key(&DIRECTORY_ID);
        self.knowledge(|knowledge| knowledge.own.get(&key).cloned())
            .ok_or_else(|| Error::general("state.db does not know the public directory"))
    }

    fn create_in_store(&self, feed: &OwnFeed) -> Result<Feed, Error> {
        let kind = if feed.is_plain {
            Kind::Plain
        } else {
            Kind::Kinlog
        };
        Ok(self
            .store
            .create_feed(&self.keys.manifest(&feed.id), Role::Own, kind)?)
    }

    /// Returns the directory's line of an own path.
    pub(super) fn line(
        &self,
        feed: &OwnFeed,
        path: &FeedPath,
        continues: Option<Cut>,
    ) -> Result<Body, Error> {
        let scope = ClaimScope::Agent(self.agent);
        let (pair, device) = (self.keys.feed(&feed.id), self.keys.device());
        let line = DirectoryLine {
            label: path
                .as_str()
                .try_into()
                .map_err(|error| Error::usage(format!("path: {error}")))?,
            kind: feed
                .kind
                .as_str()
                .try_into()
                .expect("a word of a kind is within the limit"),
            content: match feed.is_entries {
                true => Content::Entries,
                false => Content::Bytes,
            },
            feed: feed.key,
            feed_id: feed.id,
            claim: FeedClaim::sign(&pair, &scope, &self.agent, &device),
            continues,
        };
        Ok(Body::DirectoryLine(line))
    }
}
