//! What follows from the acts, as rooms and people need it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey};

use crate::authority::graph::{Graph, Number};
use crate::authority::held::{HeldAct, What};
use crate::authority::state::State;
use crate::authority::verdict::{Refusal, Verdict, Void};
use crate::entry::{ActHash, Cut, Grant, History, Role};
use crate::seal::{EpochCommitment, EpochId};

/// What the acts of a room come to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Authority {
    /// How the room began; `None` until the genesis is held.
    pub start: Option<RoomStart>,
    /// The rules by which its acts are decided, where these are not the ones that this build has:
    /// then nothing else is known of it.
    pub newer_rules: Option<u32>,
    /// Every act held, with its verdict.
    pub acts: BTreeMap<ActHash, ActRow>,
    /// Everybody who is or was a member.
    pub members: BTreeMap<AgentId, Member>,
    /// Every feed that was authorised to come in, by entries feed.
    pub feeds: BTreeMap<FeedKey, RoomFeed>,
    /// Counting invites, by the acts that made them.
    pub invites: BTreeMap<ActHash, InviteRow>,
    /// Counting announcements of epochs.
    pub epochs: BTreeMap<EpochId, EpochRow>,
    /// Announcements that were authorised and are void: who did not know of that sealed what counts, and
    /// what is read, under their keys. Nobody begins to.
    pub lapsed: BTreeMap<EpochId, EpochRow>,
    /// Devices that were given an epoch when they came in, by counting acts; the epoch that the
    /// room began with is among them once somebody was.
    pub given: BTreeMap<EpochId, BTreeSet<DeviceKey>>,
    /// Counting grants.
    pub grants: BTreeMap<ActHash, GrantRow>,
}

/// How a room began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomStart {
    /// The genesis.
    pub act: ActHash,
    /// Name of the room.
    pub name: String,
    /// What later members may read.
    pub history: History,
    /// Who made it.
    pub agent: AgentId,
    /// With which device.
    pub device: DeviceKey,
    /// The feed it stands in.
    pub feed: FeedKey,
    /// Its author's clock, ms.
    pub dated_ms: u64,
    /// The id of the key that opened it: the epoch with this act id is trusted.
    pub sealed_by: Option<EpochId>,
    /// Commits to that epoch's secret.
    pub commitment: EpochCommitment,
}

/// An act and what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActRow {
    /// Feed it stands in.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
    /// Its author's clock, ms.
    pub dated_ms: u64,
    /// Body tag.
    pub tag: u64,
    /// Depth; 0 while it waits.
    pub depth: u32,
    /// Its author, where it is authorised.
    pub agent: Option<AgentId>,
    /// What it comes to.
    pub verdict: Verdict,
}

/// Somebody who is or was a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// What it may do; `None`: it is no member any more.
    pub role: Option<Role>,
    /// The act that gave the role.
    pub giver: Option<ActHash>,
    /// The act that let it in; the last one, if it came back.
    pub joined_by: ActHash,
    /// Clock of that, ms.
    pub joined_ms: u64,
    /// How it ended.
    pub ended: Option<Ending>,
}

/// How a membership ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ending {
    /// In which way.
    pub sort: EndingSort,
    /// The act.
    pub by: ActHash,
    /// Its author.
    pub agent: AgentId,
    /// Its author's clock, ms.
    pub dated_ms: u64,
    /// Why, in its author's words.
    pub reason: String,
}

/// What cuts a feed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum EndingSort {
    /// A removal.
    Removed,
    /// A leaving.
    Left,
    /// A revocation of the device.
    Revoked,
}

impl EndingSort {
    /// Returns the word that `index.db` and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndingSort::Removed => "removed",
            EndingSort::Left => "left",
            EndingSort::Revoked => "revoked",
        }
    }
}

/// A device in a room, with its feeds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomFeed {
    /// Blobs feed.
    pub blobs_feed: FeedKey,
    /// The member.
    pub agent: AgentId,
    /// Its device.
    pub device: DeviceKey,
    /// The act that let it in.
    pub admitted_by: ActHash,
    /// Clock of that, ms.
    pub admitted_ms: u64,
    /// Why that act does not count; then nothing of the feed is shown.
    pub void: Option<Void>,
    /// How much of the entries feed is accepted; `None`: everything.
    pub cut: Option<FeedCut>,
    /// How much of the blobs feed is accepted; `None`: everything.
    pub blobs_cut: Option<FeedCut>,
}

impl RoomFeed {
    /// Returns whether it is in the room and not cut.
    pub fn is_live(&self) -> bool {
        self.void.is_none() && self.cut.is_none()
    }

    /// Returns the block from which on entries that are no acts are hidden.
    pub fn shown_below(&self) -> u64 {
        match (&self.void, &self.cut) {
            (Some(_), _) => 0,
            (None, Some(cut)) => cut.cut.length,
            (None, None) => u64::MAX,
        }
    }
}

/// How much of a feed is accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FeedCut {
    /// Length and tree hash.
    pub cut: Cut,
    /// The act that says so: of several with this cut the oldest.
    pub by: ActHash,
    /// What it is.
    pub sort: EndingSort,
    /// Its author.
    pub agent: AgentId,
}

/// An invite.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InviteRow {
    /// Public key of the invitation's own key pair; several acts may bring one key.
    pub public_key: PublicKey,
    /// Its author.
    pub agent: AgentId,
    /// As what somebody is admitted.
    pub role: Role,
    /// Clock after which nobody is, ms.
    pub expires_at_ms: Option<u64>,
    /// How many are.
    pub uses: Option<u32>,
    /// How many were.
    pub used: u32,
    /// The act that ended it.
    pub revoked_by: Option<ActHash>,
}

impl InviteRow {
    /// Returns whether somebody may still be admitted by it at `now_ms`.
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.revoked_by.is_none()
            && self.uses.is_none_or(|uses| self.used < uses)
            && self.expires_at_ms.is_none_or(|end| now_ms <= end)
    }
}

/// One word on an epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// The act.
    pub act: ActHash,
    /// Its author.
    pub agent: AgentId,
    /// Commits to the act key.
    pub act_id: EpochId,
    /// Commits to the secret.
    pub commitment: EpochCommitment,
    /// Its author's device, and those for which it has a copy of the secret.
    pub devices: BTreeSet<DeviceKey>,
}

/// An announced epoch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EpochRow {
    /// Who announced it, the oldest first. There are several where somebody copied its id; a secret is
    /// the epoch's when one of them commits to it.
    pub announced: Vec<Announcement>,
    /// Depth of the oldest announcement.
    pub depth: u32,
    /// The latest of their authors' clocks, ms.
    pub dated_ms: u64,
    /// The epochs before it, as any of them says.
    pub parents: BTreeSet<EpochId>,
    /// Devices that may have its secret: by copy, or given to them when they came in.
    pub recipients: BTreeSet<DeviceKey>,
    /// Those of them to whom the oldest announcement, or an admission, gave it. Who copies an id is among the
    /// recipients without having the secret.
    pub entitled: BTreeSet<DeviceKey>,
    /// No counting announcement names it as a parent.
    pub is_head: bool,
}

/// A seeder's grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantRow {
    /// Its author.
    pub agent: AgentId,
    /// What it says.
    pub grant: Grant,
    /// The act that ended it before it expires.
    pub revoked_by: Option<ActHash>,
}

impl Authority {
    /// Returns the role of an agent.
    pub fn role(&self, agent: &AgentId) -> Option<Role> {
        self.members.get(agent)?.role
    }

    /// Returns who is a member, the highest rank first: by role, then by how old the act is that gave
    /// it.
    pub fn by_rank(&self) -> Vec<AgentId> {
        let members = self.members.iter();
        let ranks = members.filter_map(|(agent, member)| {
            let giver = member.giver?;
            let depth = self.acts.get(&giver)?.depth;
            Some(((Reverse(member.role?), depth, giver), *agent))
        });
        let mut ranks: Vec<_> = ranks.collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, agent)| agent).collect()
    }

    /// Returns the devices of members that are in the room now: whom an epoch has to reach.
    pub fn devices(&self) -> BTreeSet<DeviceKey> {
        let feeds = self.feeds.values();
        let live = feeds.filter(|feed| feed.is_live() && self.role(&feed.agent).is_some());
        live.map(|feed| feed.device).collect()
    }

    /// Returns the devices that have an epoch's secret, as the acts say; `first` is the epoch that
    /// the room began with.
    pub fn recipients(&self, epoch: &EpochId, first: &EpochId) -> BTreeSet<DeviceKey> {
        let mut recipients = self.given.get(epoch).cloned().unwrap_or_default();
        let announced = self.epochs.get(epoch);
        recipients.extend(announced.iter().flat_map(|announced| &announced.recipients));
        if epoch == first {
            recipients.extend(self.start.iter().map(|start| start.device));
        }
        recipients
    }

    /// Returns the epochs without a known child; `first` is the epoch that the room began with.
    pub fn epoch_heads(&self, first: &EpochId) -> Vec<EpochId> {
        let heads = self.epochs.iter().filter(|(_, epoch)| epoch.is_head);
        let mut heads: Vec<EpochId> = heads.map(|(id, _)| *id).collect();
        let mut parents = self.epochs.values().flat_map(|epoch| &epoch.parents);
        if !self.epochs.contains_key(first) && !parents.any(|parent| parent == first) {
            heads.push(*first);
            heads.sort_unstable();
        }
        heads
    }

    /// Returns the head epoch that reaches the devices of members now and nobody else; `None`: a
    /// writer makes a new one.
    pub fn epoch_to_write(&self, first: &EpochId) -> Option<EpochId> {
        let devices = self.devices();
        let mut heads = self.epoch_heads(first).into_iter();
        heads.find(|head| self.recipients(head, first) == devices)
    }

    pub(super) fn of(graph: &Graph, state: State<'_>) -> Self {
        let mut authority = Authority::default();
        let reader = Reader { graph, state };
        for number in state.acts() {
            authority.add_node(&reader, number);
        }
        for agent in graph.about.keys() {
            let member = reader.member(agent);
            authority
                .members
                .extend(member.map(|member| (*agent, member)));
        }
        for feed in graph.admissions.keys() {
            let row = reader.feed(feed);
            authority.feeds.extend(row.map(|row| (*feed, row)));
        }
        authority.order_epochs();
        let parents = authority.epochs.values().flat_map(|epoch| &epoch.parents);
        let parents: BTreeSet<EpochId> = parents.copied().collect();
        for (id, epoch) in &mut authority.epochs {
            epoch.is_head = !parents.contains(id);
            let given = authority.given.get(id).into_iter().flatten();
            epoch.recipients.extend(given.clone());
            epoch.entitled.extend(given);
        }
        for (id, epoch) in &mut authority.lapsed {
            epoch
                .entitled
                .extend(authority.given.get(id).into_iter().flatten());
        }
        authority
    }

    /// Puts the oldest announcement of each epoch first. A parent is older than its child by these: so
    /// whatever somebody announces, there is an epoch without a child.
    fn order_epochs(&mut self) {
        let acts = &self.acts;
        let age = |one: &Announcement| (acts.get(&one.act).map(|act| act.depth), one.act);
        let mut oldest = BTreeMap::new();
        for epoch in self.epochs.values_mut().chain(self.lapsed.values_mut()) {
            epoch.announced.sort_unstable_by_key(age);
            let first = epoch.announced.first();
            epoch.entitled = first.map_or_else(BTreeSet::new, |first| first.devices.clone());
        }
        for (id, epoch) in &mut self.epochs {
            let first = epoch.announced.first().map(age);
            epoch.depth = first.and_then(|(depth, _)| depth).unwrap_or_default();
            oldest.extend(first.map(|first| (*id, first)));
        }
        for epoch in self.lapsed.values_mut() {
            let first = epoch.announced.first().and_then(|one| acts.get(&one.act));
            epoch.depth = first.map_or(0, |act| act.depth);
        }
        for (id, epoch) in &mut self.epochs {
            let own = oldest.get(id);
            let is_older = |parent: &EpochId| oldest.get(parent).is_none_or(|age| Some(age) < own);
            epoch.parents.retain(is_older);
        }
    }

    pub(super) fn add_act(&mut self, hash: ActHash, act: &HeldAct, depth: u32, verdict: Verdict) {
        if let Verdict::Refused(Refusal::NewerRules { rules }) = verdict {
            self.newer_rules = Some(rules);
        }
        let row = ActRow {
            feed: act.feed,
            index: act.index,
            dated_ms: act.dated_ms,
            tag: act.tag,
            depth,
            agent: None,
            verdict,
        };
        self.acts.insert(hash, row);
    }

    fn add_node(&mut self, reader: &Reader<'_>, number: Number) {
        let node = reader.graph.node(number);
        let hash = node.act.hash;
        self.add_act(hash, &node.act, node.depth, reader.verdict(number));
        let agent = node.standing.agent;
        if let Some(row) = self.acts.get_mut(&hash) {
            row.agent = Some(agent);
        }
        let counts = reader.state.counts(number);
        if !counts && !matches!(node.act.what, What::Epoch { .. }) {
            return;
        }
        let dated_ms = node.act.dated_ms;
        match &node.act.what {
            What::Genesis {
                name,
                history,
                commitment,
                owner,
            } => {
                self.start = Some(RoomStart {
                    act: hash,
                    name: name.clone(),
                    history: *history,
                    agent: owner.agent,
                    device: owner.device,
                    feed: owner.feed,
                    dated_ms,
                    sealed_by: node.act.sealed_by,
                    commitment: *commitment,
                });
            }
            What::Admit {
                joining, epochs, ..
            }
            | What::DeviceJoin { joining, epochs } => {
                for epoch in epochs {
                    self.given.entry(*epoch).or_default().insert(joining.device);
                }
            }
            What::Invite(invite) => {
                let used = reader.state.counting(reader.graph.invite_uses.get(&hash));
                let row = InviteRow {
                    public_key: invite.public_key,
                    agent,
                    role: invite.role,
                    expires_at_ms: invite.expires_at_ms,
                    uses: invite.uses,
                    used: used.count() as u32,
                    revoked_by: reader.first(reader.graph.invite_revokes.get(&hash)),
                };
                self.invites.insert(hash, row);
            }
            What::Epoch {
                id,
                act_id,
                commitment,
                parents,
                devices,
            } => {
                let rows = match counts {
                    true => &mut self.epochs,
                    false => &mut self.lapsed,
                };
                let row = rows.entry(*id).or_default();
                row.announced.push(Announcement {
                    act: hash,
                    agent,
                    act_id: *act_id,
                    commitment: *commitment,
                    devices: devices
                        .iter()
                        .copied()
                        .chain([node.standing.device])
                        .collect(),
                });
                row.dated_ms = row.dated_ms.max(dated_ms);
                row.parents.extend(parents);
                row.recipients.extend(devices);
                // Who made the secret has it.
                row.recipients.insert(node.standing.device);
            }
            What::Grant(grant) => {
                let row = GrantRow {
                    agent,
                    grant: *grant,
                    revoked_by: reader.first(reader.graph.grant_revokes.get(&hash)),
                };
                self.grants.insert(hash, row);
            }
            _ => {}
        }
    }
}

/// Reads rows off the acts.
struct Reader<'a> {
    graph: &'a Graph,
    state: State<'a>,
}

impl Reader<'_> {
    fn verdict(&self, number: Number) -> Verdict {
        self.void(number).map_or(Verdict::Counts, Verdict::Void)
    }

    fn void(&self, number: Number) -> Option<Void> {
        self.state.void(number)
    }

    fn first(&self, list: Option<&Vec<Number>>) -> Option<ActHash> {
        let acts = list.into_iter().flatten().copied();
        let counting = acts.filter(|number| self.state.counts(*number));
        let first = counting.min_by_key(|number| self.graph.age(*number))?;
        Some(self.graph.hash(first))
    }

    fn member(&self, agent: &AgentId) -> Option<Member> {
        let about = self.state.counting(self.graph.about.get(agent));
        let about: Vec<Number> = about.collect();
        let begins = |number: &Number| self.graph.what(*number).joining().is_some();
        let admissions = about.iter().copied().filter(begins);
        let endings = about.iter().copied().filter(|number| {
            let what = self.graph.what(*number);
            matches!(what, What::Remove { .. } | What::Leave(_))
        });
        let endings: Vec<Number> = endings.collect();
        let is_over = |admission: &Number| {
            let mut later = endings.iter();
            later.any(|ending| self.graph.is_past(*admission, *ending))
        };
        let (over, current): (Vec<Number>, Vec<Number>) = admissions.partition(is_over);
        let age = |number: &Number| self.graph.age(*number);
        let joined = current.into_iter().min_by_key(age);
        let joined = joined.or_else(|| over.into_iter().max_by_key(age));
        let role = self.state.role(agent);
        // Whom a counting change of role names is a member, though what let the agent in came to be
        // void: later devices of it came in by that role.
        let joined = joined.or_else(|| role.map(|(_, giver)| giver))?;
        let ended = if role.is_some() {
            None
        } else {
            let newest = self.state.newest(agent).into_iter();
            let endings = newest.filter(|number| endings.contains(number));
            endings
                .min_by_key(age)
                .and_then(|number| self.ending(number))
        };
        Some(Member {
            role: role.map(|(role, _)| role),
            giver: role.map(|(_, giver)| self.graph.hash(giver)),
            joined_by: self.graph.hash(joined),
            joined_ms: self.graph.node(joined).act.dated_ms,
            ended,
        })
    }

    fn ending(&self, number: Number) -> Option<Ending> {
        let node = self.graph.node(number);
        let (sort, reason) = match &node.act.what {
            What::Remove { reason, .. } => (EndingSort::Removed, reason.clone()),
            What::Leave(_) => (EndingSort::Left, String::new()),
            // Whatever carries a set may say that a device was never one.
            what => {
                what.set()?;
                (EndingSort::Revoked, String::new())
            }
        };
        Some(Ending {
            sort,
            by: node.act.hash,
            agent: self.graph.standing(number).agent,
            dated_ms: node.act.dated_ms,
            reason,
        })
    }

    fn feed(&self, feed: &FeedKey) -> Option<RoomFeed> {
        let admissions = self.graph.admissions.get(feed)?;
        let counting = self.state.admission(feed);
        let age = |number: &Number| self.graph.age(*number);
        let all = admissions.iter().copied();
        let all = all.filter(|number| self.state.holds(*number));
        let chosen = counting.or_else(|| all.min_by_key(age))?;
        let joining = self.graph.what(chosen).joining()?;
        let endings = self.state.cutting(chosen);
        Some(RoomFeed {
            blobs_feed: joining.blobs_feed,
            agent: joining.agent,
            device: joining.device,
            admitted_by: self.graph.hash(chosen),
            admitted_ms: self.graph.node(chosen).act.dated_ms,
            void: self.void(chosen),
            cut: self.cut(feed, &endings),
            blobs_cut: self.cut(&joining.blobs_feed, &endings),
        })
    }

    /// Returns the smallest cut of a feed by what ended it; a feed that is not named is cut at 0.
    fn cut(&self, feed: &FeedKey, endings: &[Number]) -> Option<FeedCut> {
        let cuts = endings.iter().map(|number| {
            let named = self.graph.what(*number).cuts().iter();
            let named = named.filter(|cut| cut.feed == *feed).copied();
            let nothing = Cut {
                feed: *feed,
                length: 0,
                tree_hash: Hash::default(),
            };
            let cut = named.min_by_key(|cut| (cut.length, cut.tree_hash));
            (cut.unwrap_or(nothing), *number)
        });
        let smallest =
            cuts.min_by_key(|(cut, number)| (cut.length, cut.tree_hash, self.graph.age(*number)));
        let (cut, number) = smallest?;
        let ending = self.ending(number)?;
        Some(FeedCut {
            cut,
            by: ending.by,
            sort: ending.sort,
            agent: ending.agent,
        })
    }
}
