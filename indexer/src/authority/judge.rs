//! Whether an act is authorised: what its past makes of it, for ever.

use std::cmp::Reverse;

use kinlog_feeds::crypto::AgentId;

use crate::authority::Refusal;
use crate::authority::bits::Bits;
use crate::authority::carried::DevicesOf;
use crate::authority::graph::{Graph, Number, Order, Standing};
use crate::authority::held::{HeldAct, InviteName, Joining, What};
use crate::authority::state::{Rank, State};
use crate::entry::{ActHash, Invite, Role};
use crate::limits::{FEED_ACTS_MAX, FEED_ACTS_OF_ADMINS_MAX, ROOM_DEVICES_MAX, ROOM_MEMBERS_MAX};
use crate::mistake::{Mistake, makes};

/// An act before its judgement, with its past.
pub(super) struct Judge<'a> {
    pub(super) graph: &'a Graph,
    pub(super) state: State<'a>,
    pub(super) past: &'a Bits,
    pub(super) devices_of: DevicesOf,
    pub(super) act: &'a HeldAct,
    pub(super) depth: u32,
}

/// Who does it, and as what.
struct Author {
    agent: AgentId,
    role: Role,
    giver: Number,
    brought: Number,
}

/// What an act takes beyond an author.
#[derive(Default)]
struct Needs {
    role: Option<Role>,
    invite: Option<Number>,
    used_before: u32,
    begins: bool,
    confirms: Vec<Number>,
    ends: Vec<Number>,
}

impl Needs {
    fn role(role: Role) -> Self {
        Needs {
            role: Some(role),
            ..Needs::default()
        }
    }
}

impl Judge<'_> {
    /// Returns what the act stands on, or why it is not authorised. `number` will be its number.
    pub(super) fn judge(&self, number: Number) -> Result<Standing, Refusal> {
        if let What::Genesis { owner, .. } = &self.act.what {
            return self.genesis(number, owner);
        }
        if let What::NewerGenesis { rules } = self.act.what {
            let is_ours = self.act.verifies;
            return Err(match is_ours {
                true => Refusal::NewerRules { rules },
                false => Refusal::OtherGenesis,
            });
        }
        self.is_sealed_right()?;
        let author = self.author()?;
        self.is_in_sequence(author.role)?;
        if !self.act.verifies {
            return Err(Refusal::Carried);
        }
        let needs = self.needs(&author)?;
        let needed = needs.role.unwrap_or(Role::Guest);
        if author.role < needed {
            let actual = author.role;
            return Err(Refusal::Role { needed, actual });
        }
        let joining = self.graph.what(author.brought).joining();
        let joining = joining.expect("what brought a device in names it");
        let about_oneself = match &self.act.what {
            What::Leave(_) => true,
            What::Role(change) => change.agent == author.agent,
            _ => false,
        };
        let revokes_own =
            matches!(&self.act.what, What::DeviceRevoke { agent, .. } if *agent == author.agent);
        let sort = if revokes_own { 1 } else { 3 };
        Ok(Standing {
            agent: author.agent,
            device: joining.device,
            giver: author.giver,
            brought: author.brought,
            invite: needs.invite,
            used_before: needs.used_before,
            begins: needs.begins,
            confirms: needs.confirms,
            ends: needs.ends,
            order: Order {
                sort,
                role: Reverse(author.role),
                giver: self.graph.age(author.giver),
                goes_on: !about_oneself,
                own: (self.depth, self.tie(number)),
            },
        })
    }

    /// What decides between acts of one rank and depth: nothing that anybody could hurry.
    fn tie(&self, number: Number) -> ActHash {
        let mut tie = self.act.hash;
        if makes(Mistake::TieByArrival) {
            tie.0 = [0; 32];
            tie.0[28..].copy_from_slice(&number.to_be_bytes());
        }
        tie
    }

    fn genesis(&self, number: Number, owner: &Joining) -> Result<Standing, Refusal> {
        if !self.act.verifies || self.graph.genesis.is_some() {
            return Err(Refusal::OtherGenesis);
        }
        Ok(Standing {
            agent: owner.agent,
            device: owner.device,
            giver: number,
            brought: number,
            invite: None,
            used_before: 0,
            begins: true,
            confirms: Vec::new(),
            ends: Vec::new(),
            order: Order {
                sort: 0,
                role: Reverse(Role::Owner),
                giver: (self.depth, self.act.hash),
                goes_on: true,
                own: (self.depth, self.act.hash),
            },
        })
    }

    /// Acts are readable by all members: sealed as the genesis is, or under an act key whose epoch
    /// is announced in their past.
    fn is_sealed_right(&self) -> Result<(), Refusal> {
        let sealed_by = self.act.sealed_by;
        let genesis = self.graph.genesis;
        // Without the genesis in its past it is a stranger's, whether others hold that or not.
        let Some(genesis) = genesis.filter(|genesis| self.past.contains(*genesis)) else {
            return Ok(());
        };
        if self.graph.node(genesis).act.sealed_by == sealed_by {
            return Ok(());
        }
        // What is open where the genesis is sealed was written by somebody without a key.
        let id = sealed_by.ok_or(Refusal::Sealed)?;
        let announced = self.state.counting(self.graph.epochs.get(&id));
        let mut announced = announced.filter(|number| {
            matches!(self.graph.what(*number), What::Epoch { act_id, .. } if *act_id == id)
        });
        announced.next().map(|_| ()).ok_or(Refusal::Sealed)
    }

    /// The act's past holds each act that its feed has before it, once, and the feed has not as
    /// many as it may.
    fn is_in_sequence(&self, role: Role) -> Result<(), Refusal> {
        let seq = self.act.seq;
        let limit = feed_acts_max(role);
        // Nothing goes after a leaving.
        if seq >= limit && !matches!(self.act.what, What::Leave(_)) {
            return Err(Refusal::TooMany { limit });
        }
        let feed = self.act.feed;
        let own = self.graph.of_feed.get(&feed);
        let count = own.map_or(0, |own| self.past.count_common(own));
        // The last one's own past holds each one before it.
        let follows = seq.checked_sub(1).is_none_or(|before| {
            let mut before = self.graph.at_seq.get(&(feed, before)).into_iter().flatten();
            before.any(|number| {
                self.past.contains(*number) && self.graph.node(*number).act.index < self.act.index
            })
        });
        match follows && count == seq {
            true => Ok(()),
            false => Err(Refusal::Sequence { seq, count }),
        }
    }

    fn author(&self) -> Result<Author, Refusal> {
        let brought = self.state.admission(&self.act.feed);
        let brought = brought.ok_or(Refusal::Stranger)?;
        let ending = self.state.endings(brought).into_iter();
        if let Some(by) = ending.min_by_key(|number| self.graph.age(*number)) {
            let by = self.graph.hash(by);
            return Err(Refusal::Cut { by });
        }
        let joining = self.graph.what(brought).joining();
        let agent = joining.expect("what brought a device in names it").agent;
        let role = self.state.role(&agent);
        let (role, giver) = role.ok_or(Refusal::NoMember { agent })?;
        Ok(Author {
            agent,
            role,
            giver,
            brought,
        })
    }

    fn needs(&self, author: &Author) -> Result<Needs, Refusal> {
        match &self.act.what {
            What::Genesis { .. } | What::NewerGenesis { .. } | What::Forgotten => {
                Err(Refusal::OtherGenesis)
            }
            What::Admit {
                joining,
                role,
                invite,
                ..
            } => self.admit(author, joining, *role, *invite),
            What::DeviceJoin { joining, .. } => {
                if joining.agent != author.agent {
                    let agent = joining.agent;
                    return Err(Refusal::OtherAgent { agent });
                }
                self.arrival(joining)?;
                Ok(Needs::role(Role::Guest))
            }
            What::Invite(invite) => {
                let known = self.graph.invites.get(&invite.public_key);
                if self.state.counting(known).next().is_some() {
                    return Err(Refusal::KnownInvite);
                }
                not_above_own(author, invite.role)?;
                let admins = invite.role > Role::Member;
                Ok(Needs::role(if admins { invite.role } else { Role::Member }))
            }
            What::Role(change) => self.change_of_role(author, &change.agent, change.role),
            What::Remove { agent, .. } => {
                if *agent == author.agent {
                    return Err(Refusal::Oneself);
                }
                let rank = match self.state.role(agent) {
                    Some(target) => self.state.rank(target),
                    None => self.left(agent)?,
                };
                self.ranks_below(author, agent, rank)?;
                self.leaves_an_owner(agent)?;
                Ok(Needs::role(rank.0.0.max(Role::Admin)))
            }
            What::Leave(_) => {
                self.leaves_an_owner(&author.agent)?;
                Ok(Needs::role(Role::Guest))
            }
            What::DeviceRevoke { agent, device, .. } => {
                if *agent == author.agent {
                    return match self.state.may_cut(agent, device) {
                        true => Ok(Needs::role(Role::Guest)),
                        false => Err(Refusal::NotLive),
                    };
                }
                if !self.state.has_device(agent, device) {
                    return Err(Refusal::NotLive);
                }
                let target = self.target(agent)?;
                self.ranks_below(author, agent, self.state.rank(target))?;
                Ok(Needs::role(target.0.max(Role::Admin)))
            }
            What::InviteRevoke(name) => {
                let (number, _) = self.invite(name)?;
                Ok(self.own_or_admin(author, number))
            }
            What::Epoch { id, act_id, .. } => {
                let one = self.state.counting(self.graph.epochs.get(id));
                let other = self.state.counting(self.graph.epochs.get(act_id));
                let first = self.graph.genesis.map(|genesis| self.graph.node(genesis));
                let first = first.and_then(|first| first.act.sealed_by);
                let is_first = first.is_some_and(|first| [*id, *act_id].contains(&first));
                if is_first || one.chain(other).next().is_some() {
                    return Err(Refusal::KnownEpoch);
                }
                Ok(Needs::role(Role::Guest))
            }
            What::Grant(grant) => {
                let known = self.state.counting(self.graph.grants.get(&grant.hash));
                if known.count() > 0 {
                    return Err(Refusal::KnownGrant);
                }
                Ok(Needs::role(Role::Member))
            }
            What::GrantRevoke(hash) => {
                let given = self.state.counting(self.graph.grants.get(hash));
                let given: Vec<Number> = given.collect();
                let is_own = |given: &Number| self.graph.standing(*given).agent == author.agent;
                let own = given.iter().copied().filter(is_own);
                let own: Vec<Number> = own.collect();
                let first = own.first().or(given.first()).ok_or(Refusal::NoGrant)?;
                // Whoever gave the same grant once more ends that one alone.
                let ends_all = author.role >= Role::Admin;
                let mut needs = self.own_or_admin(author, *first);
                needs.ends = if ends_all { given } else { own };
                Ok(needs)
            }
            What::Delete => Ok(Needs::role(Role::Admin)),
        }
    }

    fn admit(
        &self,
        author: &Author,
        joining: &Joining,
        role: Role,
        invite: Option<InviteName>,
    ) -> Result<Needs, Refusal> {
        self.arrival(joining)?;
        // A member's further device brings no role with it.
        let begins = self.state.role(&joining.agent).is_none();
        if begins {
            not_above_own(author, role)?;
            self.has_room_for_members()?;
        }
        let mut needs = Needs::role(Role::Admin);
        if let Some(name) = invite {
            needs = self.admit_by(role, &name)?;
        }
        needs.begins = begins;
        if begins {
            needs.role = needs.role.max(Some(role));
        }
        Ok(needs)
    }

    /// Returns the invite of this name, in the act's past.
    fn invite(&self, name: &InviteName) -> Result<(Number, &Invite), Refusal> {
        let number = self.graph.by_hash.get(&name.act).copied();
        let number = number.filter(|number| self.state.counts(*number));
        let number = number.ok_or(Refusal::NoInvite)?;
        match self.graph.what(number) {
            What::Invite(invite) if invite.public_key == name.key => Ok((number, invite)),
            _ => Err(Refusal::NoInvite),
        }
    }

    fn admit_by(&self, given: Role, name: &InviteName) -> Result<Needs, Refusal> {
        let (number, invite) = self.invite(name)?;
        if given > invite.role {
            let invite = invite.role;
            return Err(Refusal::InviteRole { given, invite });
        }
        let revokes = self
            .state
            .counting(self.graph.invite_revokes.get(&name.act));
        if let Some(by) = revokes.min_by_key(|number| self.graph.age(*number)) {
            let by = self.graph.hash(by);
            return Err(Refusal::InviteRevoked { by });
        }
        let dated_ms = self.act.dated_ms;
        let expired = invite.expires_at_ms.filter(|end| dated_ms > *end);
        if let Some(expired_ms) = expired.filter(|_| !makes(Mistake::ExpiredInvite)) {
            return Err(Refusal::InviteExpired {
                expired_ms,
                dated_ms,
            });
        }
        let used = self
            .state
            .counting(self.graph.invite_uses.get(&name.act))
            .count() as u32;
        if let Some(uses) = invite.uses.filter(|uses| used >= *uses) {
            return Err(Refusal::InviteUsedUp { uses });
        }
        Ok(Needs {
            role: Some(Role::Member),
            invite: Some(number),
            used_before: used,
            ..Needs::default()
        })
    }

    /// A device that comes in is its agent's, and comes with feeds that were never here.
    fn arrival(&self, joining: &Joining) -> Result<(), Refusal> {
        let feed = joining.feed;
        if self.state.admission(&feed).is_some() {
            return Err(Refusal::KnownFeed { feed });
        }
        if self.state.has_device(&joining.agent, &joining.device) {
            return Err(Refusal::KnownDevice);
        }
        let (agent, device) = (&joining.agent, &joining.device);
        let revokes = self.graph.revokes.get(&(*agent, *device));
        if self.state.counting(revokes).next().is_some() {
            return Err(Refusal::NoDevice);
        }
        let devices = self
            .graph
            .devices_in(agent, self.past, Some(&joining.set), self.devices_of);
        if !devices.present.contains(device) {
            return Err(Refusal::NoDevice);
        }
        self.has_room_for_devices()
    }

    fn change_of_role(
        &self,
        author: &Author,
        agent: &AgentId,
        role: Role,
    ) -> Result<Needs, Refusal> {
        let target = self.target(agent)?;
        not_above_own(author, role)?;
        // The role that somebody has, given once more, makes its giver a later one: a lower rank.
        if role <= target.0 && *agent != author.agent {
            self.ranks_below(author, agent, self.state.rank(target))?;
        }
        // Or one's own old word would bring back what one has been since.
        if *agent == author.agent && role >= target.0 {
            let own = target.0;
            return Err(Refusal::NotLower { given: role, own });
        }
        if role < target.0 && target.0 == Role::Owner {
            self.leaves_an_owner(agent)?;
        }
        let mut needs = Needs::role(target.0.max(role).max(Role::Admin));
        needs.confirms = self.state.live(agent);
        Ok(needs)
    }

    fn target(&self, agent: &AgentId) -> Result<(Role, Number), Refusal> {
        let role = self.state.role(agent);
        role.ok_or(Refusal::NoTarget { agent: *agent })
    }

    /// Returns the rank in which an agent left, the highest of several: what its other devices did
    /// at the same time can still be ended, and cut.
    fn left(&self, agent: &AgentId) -> Result<Rank, Refusal> {
        let newest = self.state.newest(agent).into_iter();
        let left = newest.filter(|number| matches!(self.graph.what(*number), What::Leave(_)));
        let ranks = left.map(|number| {
            let order = self.graph.standing(number).order;
            (order.role, order.giver)
        });
        ranks.min().ok_or(Refusal::NoTarget { agent: *agent })
    }

    fn ranks_below(&self, author: &Author, agent: &AgentId, target: Rank) -> Result<(), Refusal> {
        let own = self.state.rank((author.role, author.giver));
        if target.0 == own.0 && target < own {
            return Err(Refusal::HigherRank { agent: *agent });
        }
        Ok(())
    }

    fn leaves_an_owner(&self, without: &AgentId) -> Result<(), Refusal> {
        let owners: Vec<AgentId> = self.state.owners().map(|(agent, _)| agent).collect();
        if owners == [*without] {
            return Err(Refusal::LastOwner);
        }
        Ok(())
    }

    /// One's own takes no role to end; another's takes an admin.
    fn own_or_admin(&self, author: &Author, act: Number) -> Needs {
        let standing = self.graph.standing(act);
        let is_own = standing.agent == author.agent;
        Needs::role(if is_own { Role::Guest } else { Role::Admin })
    }

    fn has_room_for_members(&self) -> Result<(), Refusal> {
        if self.graph.about.len() < ROOM_MEMBERS_MAX {
            return Ok(());
        }
        let agents = self.graph.about.keys();
        let members = agents.filter(|agent| self.state.role(agent).is_some());
        if members.count() >= ROOM_MEMBERS_MAX {
            return Err(Refusal::Members);
        }
        Ok(())
    }

    fn has_room_for_devices(&self) -> Result<(), Refusal> {
        if self.graph.admissions.len() < ROOM_DEVICES_MAX {
            return Ok(());
        }
        let agents = self.graph.arrivals.keys();
        let devices: usize = agents.map(|agent| self.state.live(agent).len()).sum();
        if devices >= ROOM_DEVICES_MAX {
            return Err(Refusal::Devices);
        }
        Ok(())
    }
}

/// Returns how many acts a feed may have whose author has a role.
pub const fn feed_acts_max(role: Role) -> u64 {
    match role {
        Role::Guest | Role::Member => FEED_ACTS_MAX,
        Role::Admin | Role::Owner => FEED_ACTS_OF_ADMINS_MAX,
    }
}

fn not_above_own(author: &Author, given: Role) -> Result<(), Refusal> {
    let own = author.role;
    if given > own {
        return Err(Refusal::AboveOwn { given, own });
    }
    Ok(())
}
