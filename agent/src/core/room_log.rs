//! The acts of a room as they are held: read off its feeds once, evaluated together.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kinlog_feeds::Bitfield;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_feeds::store::Store;
use kinlog_indexer::RoomId;
use kinlog_indexer::authority::{
    ActHeads, ActPlace, Announcement, Authority, EndingSort, EpochRow, HeldAct, Refusal, RoomActs,
};
use kinlog_indexer::entry::{Act, ActHash, Body, Deed, Envelope, Membership, OPEN_BLOCK};
use kinlog_indexer::seal::{EpochId, SEALED_SECRET_BYTES, SealedBlock, open_entry};

use crate::knowledge::{
    Announced, Gone, Granted, Keyring, Member, MemberDevice, OpenInvite, Standing,
};

/// What was read of a room's feeds.
///
/// Kept in memory: some hundred bytes an act, a bit a block, and a place for each block whose key is not
/// held and may be that of an act.
#[derive(Debug)]
pub(crate) struct RoomLog {
    room: RoomId,
    acts: RoomActs,
    looked_at: BTreeMap<FeedKey, Bitfield>,
    /// Acts came that nobody asked about yet.
    has_news: bool,
    unopened: BTreeMap<EpochId, Vec<(FeedKey, u64)>>,
    /// Keys of devices, by their entries feeds.
    x25519: BTreeMap<FeedKey, [u8; 32]>,
    /// Secrets of epochs sealed to each device, by the acts that announce them.
    copies: BTreeMap<(ActHash, DeviceKey), [u8; SEALED_SECRET_BYTES]>,
}

impl RoomLog {
    pub(crate) fn new(room: RoomId) -> Self {
        RoomLog {
            room,
            acts: RoomActs::default(),
            looked_at: BTreeMap::new(),
            has_news: false,
            unopened: BTreeMap::new(),
            x25519: BTreeMap::new(),
            copies: BTreeMap::new(),
        }
    }

    /// Reads what is held of `feeds` and was not looked at before.
    pub(crate) fn look<'a>(
        &mut self,
        store: &Store,
        feeds: impl IntoIterator<Item = &'a FeedKey>,
        keys: &Keyring,
    ) {
        self.open_waiting(store, keys);
        for key in feeds {
            let Some(feed) = store.feed(key) else {
                continue;
            };
            let looked_at = self.looked_at.entry(*key).or_default();
            let held = feed.have().without(looked_at, 0..feed.head().length);
            for index in held.into_iter().flatten() {
                let looked_at = self.looked_at.entry(*key).or_default();
                looked_at.set(index, true);
                // A damaged block is told of by whoever asks for it.
                let Some(block) = feed.get(index).ok().flatten() else {
                    continue;
                };
                self.take(key, index, &block, keys);
            }
        }
    }

    /// Returns whether acts came since this was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Opens blocks whose key came.
    fn open_waiting(&mut self, store: &Store, keys: &Keyring) {
        let ids: Vec<EpochId> = self
            .unopened
            .keys()
            .filter(|id| keys.act_key(id).is_some() || keys.secret(id).is_some())
            .copied()
            .collect();
        for id in ids {
            for (key, index) in self.unopened.remove(&id).unwrap_or_default() {
                let block = store.feed(&key).and_then(|feed| feed.get(index).ok()?);
                if let Some(block) = block {
                    self.take(&key, index, &block, keys);
                }
            }
        }
    }

    fn take(&mut self, feed: &FeedKey, index: u64, block: &Bytes, keys: &Keyring) {
        // What counts of open blocks the rules say, here and in the index.
        if block.first() == Some(&OPEN_BLOCK) {
            return self.take_entry(feed, index, &block.slice(1..), None);
        }
        let Ok(SealedBlock { epoch }) = SealedBlock::head(block) else {
            return;
        };
        let Some(key) = keys.act_key(&epoch) else {
            if keys.secret(&epoch).is_none() {
                let places = self.unopened.entry(epoch).or_default();
                places.push((*feed, index));
            }
            return;
        };
        if let Ok(entry) = open_entry(key, feed, index, block) {
            self.take_entry(feed, index, &entry, Some(epoch));
        }
    }

    fn take_entry(
        &mut self,
        feed: &FeedKey,
        index: u64,
        entry: &Bytes,
        sealed_by: Option<EpochId>,
    ) {
        let Ok(envelope) = Envelope::decode(entry) else {
            return;
        };
        let body = Body::decode(envelope.tag, envelope.format, &envelope.body);
        let Ok(Body::Act(act)) = body else {
            return;
        };
        let place = ActPlace {
            feed: *feed,
            index,
            dated_ms: envelope.clock.ms,
            sealed_by,
        };
        self.add(place, entry, &act);
    }

    /// Takes an act of this device that is about to be written; `Err` where what was seen before it says,
    /// for ever, that it may not be done. Whoever does not write it then forgets the
    /// log.
    pub(crate) fn add_own(
        &mut self,
        place: ActPlace,
        entry: &[u8],
        act: &Act,
    ) -> Result<ActHash, Refusal> {
        let hash = self.add(place, entry, act);
        self.acts
            .refusal(&hash)
            .map_or(Ok(hash), |refusal| Err(refusal.clone()))
    }

    fn add(&mut self, place: ActPlace, entry: &[u8], act: &Act) -> ActHash {
        match &act.deed {
            Deed::Genesis(genesis) => self.note_device(&genesis.owner),
            Deed::Admit(admit) => self.note_device(&admit.member),
            Deed::DeviceJoin(join) => self.note_device(&join.device),
            _ => {}
        }
        let held = HeldAct::verify(&self.room, place, entry, act);
        let hash = held.hash();
        if let Deed::Epoch(epoch) = &act.deed {
            let copies = epoch.copies.iter();
            let copies = copies.map(|copy| ((held.hash(), copy.device), copy.sealed));
            self.copies.extend(copies);
        }
        self.has_news |= self.acts.add(held);
        hash
    }

    fn note_device(&mut self, member: &Membership) {
        if let Ok(device) = member.verify(&self.room) {
            self.x25519.insert(member.entries_feed, device.x25519);
        }
    }

    /// Returns what the next act in `own` goes after.
    pub(crate) fn heads(&mut self, own: &FeedKey) -> ActHeads {
        self.acts.heads(own)
    }

    /// Returns the identity sets of an agent that acts carry.
    pub(crate) fn identity_sets(&self, agent: &AgentId) -> Vec<Bytes> {
        self.acts.identity_sets(agent).to_vec()
    }

    /// Returns an epoch's secret as an act sealed it to a device: nobody else's word about the same epoch
    /// takes its place.
    pub(crate) fn copy(
        &self,
        announced_by: &ActHash,
        device: &DeviceKey,
    ) -> Option<&[u8; SEALED_SECRET_BYTES]> {
        self.copies.get(&(*announced_by, *device))
    }

    /// Returns where the room stands. The epoch of its genesis has no act of its own: it is the one of
    /// `keys` that opened the genesis.
    pub(crate) fn standing(&mut self, keys: &Keyring) -> Standing {
        let authority = self.acts.authority();
        let mut standing = Standing {
            newer_rules: authority.newer_rules,
            by_rank: authority.by_rank(),
            ..Standing::default()
        };
        for (agent, member) in &authority.members {
            match (member.role, &member.ended) {
                (Some(role), _) => {
                    let devices = self.devices_of(&authority, agent);
                    standing.members.insert(*agent, Member { role, devices });
                }
                (None, Some(ended)) => {
                    let by = match ended.sort {
                        EndingSort::Left => *agent,
                        _ => ended.agent,
                    };
                    let reason = ended.reason.clone();
                    standing.gone.insert(*agent, Gone { by, reason });
                }
                (None, None) => {}
            }
        }
        for (id, epoch) in &authority.epochs {
            standing.epochs.insert(*id, announced(epoch, keys, id));
        }
        for (id, epoch) in &authority.lapsed {
            standing.lapsed.insert(*id, announced(epoch, keys, id));
        }
        for (entries, feed) in &authority.feeds {
            let cuts = [(entries, &feed.cut), (&feed.blobs_feed, &feed.blobs_cut)];
            let cuts = cuts
                .into_iter()
                .filter_map(|(key, cut)| Some((*key, cut.as_ref()?.cut)));
            standing.cuts.extend(cuts);
        }
        if let Some(start) = &authority.start {
            standing.name = start.name.clone();
            standing.history = Some(start.history);
            standing.genesis_act_id = start.sealed_by;
            standing.genesis_commitment = Some(start.commitment);
            let first = keys
                .secrets()
                .find(|(_, secret)| Some(secret.act_key().epoch_id()) == start.sealed_by);
            if let Some((id, _)) = first {
                let given = authority.given.get(id).into_iter().flatten().copied();
                let announced = Announced {
                    act: None,
                    act_id: start.sealed_by,
                    commitment: Some(start.commitment),
                    copies: Vec::new(),
                    oldest: None,
                    parents: Vec::new(),
                    recipients: authority.recipients(id, id),
                    entitled: given.chain([start.device]).collect(),
                    at_ms: start.dated_ms,
                };
                standing.epochs.insert(*id, announced);
            }
        }
        let open = authority.invites.iter();
        for (act, invite) in open.filter(|(_, invite)| invite.revoked_by.is_none()) {
            let key = invite.public_key;
            let invite = OpenInvite {
                act: *act,
                role: invite.role,
                expires_at_ms: invite.expires_at_ms,
                uses: invite.uses,
                used: invite.used,
                by: invite.agent,
            };
            standing.invite_acts.insert(invite.act, key);
            // Of several acts with one key the one that lets in furthest: whoever copied the key of
            // another's invite ends nothing by it.
            let known = standing.invites.get(&key).map(OpenInvite::reach);
            if known.is_none_or(|known| known < invite.reach()) {
                standing.invites.insert(key, invite);
            }
        }
        for row in authority.grants.values() {
            let (grant, by) = (row.grant, row.agent);
            if row.revoked_by.is_some() {
                standing.revoked_grants.insert((grant.hash, by));
                continue;
            }
            standing
                .grants
                .insert((grant.hash, by), Granted { grant, by });
        }
        standing
    }

    fn devices_of(
        &self,
        authority: &Authority,
        agent: &AgentId,
    ) -> BTreeMap<DeviceKey, MemberDevice> {
        let feeds = authority.feeds.iter();
        let live = feeds.filter(|(_, feed)| feed.agent == *agent && feed.is_live());
        let devices = live.filter_map(|(entries, feed)| {
            let device = MemberDevice {
                entries: *entries,
                blobs: feed.blobs_feed,
                x25519: *self.x25519.get(entries)?,
            };
            Some((feed.device, device))
        });
        devices.collect()
    }

    /// Returns every feed that was let in, also those of who is no member any more.
    pub(crate) fn feeds(&mut self) -> BTreeSet<(AgentId, DeviceKey, FeedKey, bool)> {
        let authority = self.acts.authority();
        let feeds = authority.feeds.iter();
        let counting = feeds.filter(|(_, feed)| feed.void.is_none());
        counting
            .flat_map(|(entries, feed)| {
                let (agent, device) = (feed.agent, feed.device);
                [
                    (agent, device, *entries, true),
                    (agent, device, feed.blobs_feed, false),
                ]
            })
            .collect()
    }
}

/// Of several announcements of one id the one that a key of ours is of comes first, else the oldest.
fn announced(epoch: &EpochRow, keys: &Keyring, id: &EpochId) -> Announced {
    let is_ours = |one: &&Announcement| match keys.secret(id) {
        Some(secret) => secret.commitment() == one.commitment,
        None => keys.act_key(&one.act_id).is_some(),
    };
    let all = epoch.announced.iter();
    let first = all.clone().find(is_ours).or(epoch.announced.first());
    let others = all.filter(|one| Some(one.act) != first.map(|first| first.act));
    Announced {
        act: first.map(|first| first.act),
        act_id: first.map(|first| first.act_id),
        commitment: first.map(|first| first.commitment),
        copies: others.map(|one| (one.act_id, one.commitment)).collect(),
        oldest: epoch.announced.first().map(|one| (epoch.depth, one.act)),
        parents: epoch.parents.iter().copied().collect(),
        recipients: epoch.recipients.clone(),
        entitled: epoch.entitled.clone(),
        at_ms: epoch.dated_ms,
    }
}
