//! Writing entries: after what was seen, dated, sealed where the room asks for it.

use kinlog_feeds::store::Appended;
use kinlog_indexer::authority::{ActHeads, ActPlace};
use kinlog_indexer::clock::HybridClock;
use kinlog_indexer::entry::{Body, Entry, Envelope, Link, LinkScope, Links, OPEN_BLOCK};
use kinlog_indexer::index::{StoreTrees, TreeHashes};
use kinlog_indexer::seal::{ContentKey, EpochSecret, open_entry, seal_entry};
use kinlog_indexer::{Clock, RoomId};

use crate::api::Error;
use crate::core::{Core, lock};
use crate::failure::chain;
use crate::keys::{DIRECTORY_ID, PRIVATE_DIRECTORY_ID, random};
use crate::state::OwnFeed;
use crate::wall_ms;

/// Where entries are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// In the open, under the own agent id.
    Public,
    /// For the own devices, sealed in an epoch of theirs.
    Private(&'a EpochSecret),
    /// Beside what is for the own devices, readable for whoever has it: their epochs, sealed to them.
    PrivateOpen,
    /// In a room; the n-th entry is sealed with the n-th key.
    Room(&'a RoomId, &'a [ContentKey]),
}

impl Core {
    /// Writes entries to an own feed; durable and indexed on return.
    pub(crate) fn write_entries(
        &self,
        own: &OwnFeed,
        place: Place<'_>,
        bodies: Vec<Body>,
    ) -> Result<Appended, Error> {
        self.guard.check()?;
        let appended = {
            let _turn = lock(&self.writing);
            let appended = self.append_entries(own, place, bodies)?;
            self.append_snapshot(own, place);
            appended
        };
        self.changed();
        Ok(appended)
    }

    /// Puts a directory together when it is time to. One that is not written is tried again with the
    /// next entry: nothing names it.
    fn append_snapshot(&self, own: &OwnFeed, place: Place<'_>) {
        let is_time = matches!(place, Place::Public | Place::Private(_));
        if !is_time || !is_directory(own) {
            return;
        }
        let device = self.keys.device();
        let next = self.index(|index| index.next_snapshot(&self.agent, &device, &own.key));
        let written = next.and_then(|next| {
            let (Some(next), feed) = (next, self.feed(&own.key)?) else {
                return Ok(());
            };
            // At once: a root with some of its pages never stands alone.
            let bodies = next.bodies(feed.head().length);
            self.append_entries(own, place, bodies).map(|_| ())
        });
        if let Err(error) = written {
            tracing::warn!(%error, directory = %own.key, "no snapshot of the directory");
        }
    }

    /// Returns the link to the newest snapshot of a directory, which every entry after it carries.
    fn root_link(&self, own: &OwnFeed, scope: LinkScope) -> Result<Option<Link>, Error> {
        if !is_directory(own) {
            return Ok(None);
        }
        let Some(root) = self.index(|index| index.snapshot_root(&own.key))? else {
            return Ok(None);
        };
        let hash = StoreTrees::of(self.store.clone()).tree_hash(&own.key, root + 1);
        Ok(hash.map(|hash| Link::new(&scope, &own.key, root, &hash)))
    }

    /// Appends entries; `writing` is held.
    fn append_entries(
        &self,
        own: &OwnFeed,
        place: Place<'_>,
        bodies: Vec<Body>,
    ) -> Result<Appended, Error> {
        let appended = self.append_checked(own, place, bodies);
        if let (Err(_), Place::Room(room, _)) = (&appended, place) {
            // It may have taken acts that are not written.
            self.forget_log(room);
        }
        appended
    }

    fn append_checked(
        &self,
        own: &OwnFeed,
        place: Place<'_>,
        bodies: Vec<Body>,
    ) -> Result<Appended, Error> {
        let feed = self.feed(&own.key)?;
        let scope = match place {
            Place::Public => LinkScope::Author(self.agent),
            Place::Private(_) | Place::PrivateOpen => LinkScope::Room(self.own_room()),
            Place::Room(room, _) => LinkScope::Room(*room),
        };
        // Acts name the acts that were seen; each one in a row the one before it.
        let mut seen = match place {
            Place::Room(room, _) if bodies.iter().any(is_act) => self.act_heads(room, &own.key)?,
            _ => ActHeads::default(),
        };
        let frontier = self.index(|index| index.frontier(scope, &own.key))?;
        let trees = StoreTrees::of(self.store.clone());
        let (mut links, mut depth) =
            frontier.next(&own.key, |feed, length| trees.tree_hash(feed, length));
        let root = self.root_link(own, scope)?;
        let private = match place {
            Place::Private(epoch) => Some(epoch.content_key()),
            _ => None,
        };
        let first = feed.head().length;
        let mut blocks = Vec::with_capacity(bodies.len());
        for (number, mut body) in bodies.into_iter().enumerate() {
            let index = first + blocks.len() as u64;
            let clock = lock(&self.clock).tick(wall_ms());
            if let Body::Act(act) = &mut body {
                act.parents = seen.parents();
                act.seq = seen.seq;
            }
            let entry = Entry {
                links: match root {
                    Some(root) => links.clone().and(root),
                    None => links.clone(),
                },
                depth,
                clock,
                body,
            };
            let key = match place {
                Place::Public | Place::PrivateOpen => None,
                Place::Private(_) => private.as_ref(),
                Place::Room(_, keys) => Some(keys.get(number).ok_or_else(|| {
                    Error::general(format!("entry {number} of a batch has no key"))
                })?),
            };
            let plain = entry.encode().map_err(|error| refused(&error))?;
            if let (Body::Act(act), Place::Room(room, _)) = (&entry.body, place) {
                let place = ActPlace {
                    feed: own.key,
                    index,
                    dated_ms: clock.ms,
                    sealed_by: key.map(ContentKey::epoch_id),
                };
                let Some(hash) = self.own_act(room, place, &plain, act)? else {
                    continue;
                };
                seen = ActHeads {
                    heads: vec![hash],
                    own: None,
                    seq: seen.seq + 1,
                };
            }
            blocks.push(match key {
                None => entry.encode_open().map_err(|error| refused(&error))?,
                Some(key) => seal_entry(key, &own.key, index, &random()?, &plain)
                    .map_err(|error| refused(&error))?,
            });
            // The next one follows this one, and so everything this one links to.
            links = Links::default();
            depth += 1;
        }
        let appended = feed.append_batch(&self.keys.feed(&own.id), &blocks)?;
        if own.path.is_some() {
            lock(&self.unvouched).insert(own.key);
        }
        // It is durable: peers need not wait until the index here has it.
        if let Some(network) = self.network() {
            network.appended(&own.key);
        }
        // Inside the turn: the next writer's frontier is to see this entry.
        self.catch_up_feed(&own.key)?;
        Ok(appended)
    }

    /// Goes on from the newest date among the own entries, so that dates never go back.
    pub(super) fn restore_clock(&self) {
        let own = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values();
            let own = knowledge.own_epochs.known();
            let keys: Vec<ContentKey> = rooms
                .flat_map(|room| room.keys.opening())
                .chain(own.map(|(_, epoch)| epoch.secret.content_key()))
                .collect();
            (
                knowledge
                    .own
                    .values()
                    .filter(|feed| feed.is_entries)
                    .cloned()
                    .collect::<Vec<_>>(),
                keys,
            )
        });
        let (feeds, keys) = own;
        let newest = feeds
            .iter()
            .filter_map(|feed| self.last_date(feed, &keys))
            .max();
        *lock(&self.clock) = HybridClock::after(newest.unwrap_or_default());
    }

    fn last_date(&self, own: &OwnFeed, keys: &[ContentKey]) -> Option<Clock> {
        let feed = self.store.feed(&own.key)?;
        let last = feed.head().length.checked_sub(1)?;
        let block = feed.get(last).ok().flatten()?;
        let entry = match block.first() {
            Some(&OPEN_BLOCK) => block.slice(1..),
            _ => keys
                .iter()
                .find_map(|key| open_entry(key, &own.key, last, &block).ok())?,
        };
        Envelope::decode(&entry).ok().map(|envelope| envelope.clock)
    }
}

fn refused(error: &dyn std::error::Error) -> Error {
    Error::usage(format!("entry: {}", chain(error)))
}

fn is_directory(own: &OwnFeed) -> bool {
    own.id == DIRECTORY_ID || own.id == PRIVATE_DIRECTORY_ID
}

fn is_act(body: &Body) -> bool {
    matches!(body, Body::Act(_))
}
