//! Taking what the acts of a room come to into what is known: who is in it, its keys, its feeds.

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::RoomId;
use kinlog_indexer::authority::{ActHeads, ActPlace, Refusal, feed_acts_max};
use kinlog_indexer::entry::{Act, ActHash, Deed};
use kinlog_indexer::identity::IdentitySet;
use kinlog_indexer::seal::{ContentKey, EpochSecret, open_sealed_secret};

use crate::api::{Error, ErrorKind};
use crate::core::{Core, RoomLog, lock};
use crate::failure::chain;
use crate::knowledge::{KnownAgent, KnownRoom};
use crate::limits::ACTS_LEFT_TOLD_MAX;
use crate::rooms::RoomFeed;
use crate::state::StoredEpoch;

impl Core {
    /// Returns what the next act of this device in a room goes after.
    pub(super) fn act_heads(&self, room: &RoomId, own: &FeedKey) -> Result<ActHeads, Error> {
        let known = self.knowledge(|knowledge| knowledge.rooms.get(room).cloned());
        // Of a room that is being made nothing was written yet.
        Ok(known.map_or_else(ActHeads::default, |known| {
            self.in_log(&known, |log| log.heads(own))
        }))
    }

    /// Takes an act of this device that is about to be written, and returns its name; `None` where it is
    /// to be left out, because what it takes back is gone already.
    ///
    /// # Errors
    /// What the room's rules refuse: written, it would say nothing, and neither would whatever goes after
    /// it. Nothing that was taken since the last one was written may be written then, and
    /// [`forget_log`](Self::forget_log) has to follow.
    pub(super) fn own_act(
        &self,
        room: &RoomId,
        place: ActPlace,
        entry: &[u8],
        act: &Act,
    ) -> Result<Option<ActHash>, Error> {
        let known = self.knowledge(|knowledge| knowledge.rooms.get(room).cloned());
        // Of a room that is being made nobody knows anything yet.
        let Some(known) = known else {
            return Ok(Some(ActHash::of(room, &place.feed, place.index, entry)));
        };
        match self.in_log(&known, |log| log.add_own(place, entry, act)) {
            Ok(hash) => Ok(Some(hash)),
            Err(_) if matches!(act.deed, Deed::InviteRevoke(_) | Deed::GrantRevoke(_)) => Ok(None),
            Err(refusal) => Err(refused_act(&known, &refusal)),
        }
    }

    /// Returns how many acts this device's feed in a room has, and may have; `None` where its agent is no
    /// member.
    pub(crate) fn own_acts(&self, room: &KnownRoom) -> Option<(u64, u64)> {
        let role = room.standing.role(&self.agent)?;
        let written = self.in_log(room, |log| log.heads(&room.entries).seq);
        Some((written, feed_acts_max(role)))
    }

    /// Returns how many acts this device may still do in a room, when they are few.
    pub(crate) fn acts_left(&self, room: &KnownRoom) -> Option<u64> {
        let (done, max) = self.own_acts(room)?;
        Some(max.saturating_sub(done)).filter(|left| *left <= ACTS_LEFT_TOLD_MAX)
    }

    /// Looks at the newest acts of a room, and returns what `work` finds.
    fn in_log<T>(&self, room: &KnownRoom, work: impl FnOnce(&mut RoomLog) -> T) -> T {
        let mut logs = lock(&self.logs);
        let log = logs.entry(room.id).or_insert_with(|| RoomLog::new(room.id));
        let entries = room.feeds.values().filter(|feed| feed.is_entries);
        log.look(&self.store, entries.map(|feed| &feed.key), &room.keys);
        work(log)
    }

    /// Returns what is known of an agent: what its sessions brought, and the identity sets that acts of
    /// rooms carry. `None` where nothing is.
    pub(crate) fn known_agent(&self, agent: &AgentId) -> Option<KnownAgent> {
        let (known, rooms) = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values().cloned().collect::<Vec<_>>();
            (knowledge.agents.get(agent).cloned(), rooms)
        });
        let carried = rooms.iter();
        let carried = carried.flat_map(|room| self.in_log(room, |log| log.identity_sets(agent)));
        let mut sets = Vec::new();
        for set in carried {
            match IdentitySet::decode(&set).and_then(|set| set.check(agent)) {
                Ok(set) => sets.push(set),
                Err(error) => {
                    tracing::debug!(%agent, error = chain(&error), "identity set in an act");
                }
            }
        }
        KnownAgent::together(agent, known, &sets)
    }

    /// Forgets the acts of a room.
    pub(crate) fn forget_log(&self, room: &RoomId) {
        lock(&self.logs).remove(room);
    }

    /// Learns of a room anew if acts came, or keys are missing that its entries may hold.
    pub(super) fn learn_acts(&self, room: &RoomId) -> Result<(), Error> {
        let Some(known) = self.knowledge(|knowledge| knowledge.rooms.get(room).cloned()) else {
            return Ok(());
        };
        let is_new = {
            let mut logs = lock(&self.logs);
            let log = logs
                .entry(known.id)
                .or_insert_with(|| RoomLog::new(known.id));
            let entries = known.feeds.values().filter(|feed| feed.is_entries);
            log.look(&self.store, entries.map(|feed| &feed.key), &known.keys);
            log.take_news()
        };
        let act_ids = known.standing.act_ids();
        let mut missing = act_ids.filter(|id| known.keys.act_key(id).is_none());
        if is_new || missing.next().is_some() || known.lacks_secrets() {
            self.learn_room(room)?;
        }
        Ok(())
    }

    /// Takes what the acts of a room come to into what is known, and what it brings (keys for this
    /// device, members' feeds) into `state.db`.
    pub(super) fn learn_room(&self, room: &RoomId) -> Result<(), Error> {
        let _turn = lock(&self.learning);
        let Some(known) = self.knowledge(|knowledge| knowledge.rooms.get(room).cloned()) else {
            return Ok(());
        };
        let mut known = self.look_at_room(&known)?;
        // Each key may open entries that tell of more.
        loop {
            let new = self.new_keys(&known)?;
            if new.is_empty() {
                break;
            }
            self.state.add_epochs(&new)?;
            for key in &new {
                known.keys.add(key);
            }
            for key in known.keys.opening() {
                self.index(|index| index.put_epoch_key(*room, key))?;
            }
            known = self.look_at_room(&known)?;
        }
        self.knowledge(|knowledge| {
            if knowledge.rooms.contains_key(room) {
                knowledge.rooms.insert(*room, known);
            }
            knowledge.open_invites();
        });
        Ok(())
    }

    /// Returns a room as its acts have it now.
    fn look_at_room(&self, known: &KnownRoom) -> Result<KnownRoom, Error> {
        let (standing, feeds) = self.in_log(known, |log| (log.standing(&known.keys), log.feeds()));
        let mut now = KnownRoom {
            standing,
            ..known.clone()
        };
        if !now.standing.name.is_empty() && now.standing.name != known.name {
            now.name = now.standing.name.clone();
            self.state.set_room_name(&known.id, &now.name)?;
        }
        for (agent, device, key, is_entries) in feeds {
            if !now.feeds.contains_key(&key) && self.may_join_room(&known.id, &key) {
                let feed = RoomFeed {
                    key,
                    agent,
                    device,
                    is_entries,
                };
                self.state.add_room_feed(&known.id, &feed)?;
                now.feeds.insert(key, feed);
            }
        }
        Ok(now)
    }

    /// Returns the keys that entries of the room hand to this device and that are not held yet: of epochs
    /// that count, or did, as they were announced.
    fn new_keys(&self, room: &KnownRoom) -> Result<Vec<StoredEpoch>, Error> {
        let own = self.keys.device();
        let mut secrets = Vec::new();
        let standing = &room.standing;
        for (id, announced) in standing.epochs.iter().chain(&standing.lapsed) {
            if room.keys.secret(id).is_some() || room.is_destroyed(id) {
                continue;
            }
            let Some(act) = announced.act else { continue };
            let copy = self.in_log(room, |log| log.copy(&act, &own).copied());
            let Some(copy) = copy else { continue };
            match open_sealed_secret(self.keys.dh(), &room.id, &copy) {
                Ok(secret) if secret.epoch_id() == *id => secrets.push(secret),
                Ok(_) => tracing::warn!(epoch = %id, "copy of an epoch is of another"),
                Err(error) => {
                    tracing::warn!(epoch = %id, error = chain(&error), "copy of an epoch")
                }
            }
        }
        let handed_on = self.index(|index| index.epoch_keys(&room.id))?;
        let handed = handed_on.iter().flat_map(|keys| keys.secrets());
        secrets.extend(handed.copied().map(EpochSecret::new));
        let act_keys = handed_on.iter().flat_map(|keys| keys.act_keys());
        let act_keys: Vec<_> = act_keys.copied().map(ContentKey::new).collect();
        Ok(room.new_keys(&secrets, &act_keys))
    }
}

fn refused_act(room: &KnownRoom, refusal: &Refusal) -> Error {
    let label = room.label();
    match refusal {
        Refusal::TooMany { limit } => Error::new(
            ErrorKind::Quota,
            format!("room {label}: this device has done all of the {limit} acts that its role may there, and nothing was written"),
        )
        .hint("what you say does not count as an act; for more acts use another device of yours, or have an admin remove and invite you again"),
        refusal => Error::permission(format!("room {label} refuses this for ever, and nothing was written: {refusal}"))
            .hint(format!("`kinlog room members {label}` shows who is what there")),
    }
}
