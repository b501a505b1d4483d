//! Rooms that are written act by act, each after those that are named: what a quarrel comes to too seldom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use kinlog_feeds::crypto::FeedKey;
use kinlog_feeds::tree::{Head, append};
use kinlog_indexer::authority::{ActPlace, HeldAct, RoomActs};
use kinlog_indexer::entry::{
    Act, ActHash, Admit, Body, Cut, Deed, DeviceJoin, DeviceRevoke, Entry, Epoch, EpochCopy,
    Genesis, Invite, InviteUse, Leave, Links, Message, Parents, Remove, Role, RoleChange,
};
use kinlog_indexer::seal::{ContentKey, seal_entry};
use kinlog_indexer::{Clock, RoomId, Text};
use testkit::random::Random;

use crate::quarrel::people::{self, ADDED_BY_ROOT, SETS, Writer, agent, sets};
use crate::quarrel::{genesis, invite_pair, secret};

const OWNER: Writer = who(0, 0);
const ADA: Writer = who(1, 0);
const BEN: Writer = who(2, 0);
const CLEO: Writer = who(3, 0);

/// Acts of a fight, at most.
const ACTS: usize = 26;

const fn who(person: u8, device: u8) -> Writer {
    let time = 0;
    Writer {
        person,
        device,
        time,
    }
}

/// An act that was written: by whom, and the numbers of those that it reaches.
struct Done {
    by: Writer,
    hash: ActHash,
    past: BTreeSet<usize>,
}

pub(crate) struct Scene {
    pub(crate) room: RoomId,
    pub(crate) feeds: BTreeMap<FeedKey, Vec<Bytes>>,
    acts: Vec<Done>,
    held: RoomActs,
    /// What was tried: dates the next entry.
    step: u64,
}

/// The golden scenes.
pub(crate) fn scenes() -> [Scene; 2] {
    [dropped_and_left(), freed()]
}

/// A thief whose device another dropped retires a device that was revoked since. And somebody announces
/// epochs, and leaves them behind.
fn dropped_and_left() -> Scene {
    let (laptop, stolen) = (who(2, 1), BEN);
    let mut room = Scene::new();
    let ada = room.after(&[0], OWNER, admit(ADA, Role::Admin));
    let ben = room.after(&[ada], OWNER, admit(laptop, Role::Member));
    let old = room.after(&[ben], laptop, join(stolen));
    let made = room.after(&[old], laptop, invite(1, Role::Member));
    let cleo = admit_by(CLEO, Role::Member, 1, room.acts[made].hash);
    let cleo = room.after(&[made], laptop, cleo);
    let kept = room.cut(laptop, 3);
    let dropped = room.after(&[cleo], ADA, revoke(stolen, Vec::new()));
    room.after(&[old], stolen, revoke(laptop, vec![kept]));

    let all = [OWNER, ADA, laptop, CLEO];
    let one = room.after(&[dropped], CLEO, epoch(1, &[0], &all));
    let left_behind = room.after(&[one], CLEO, epoch(2, &[0], &all));
    let text = Text::new("milk").unwrap();
    room.write(
        CLEO,
        Body::Message(Message::new(text)),
        &secret(2).content_key(),
    );
    let kept = room.cut(CLEO, 3);
    let left = room.after(&[left_behind], CLEO, leave(vec![kept]));
    // Only one of the two is joined; then Ada gives one, which she says is its own parent, to the owner alone.
    let next = room.after(&[left], OWNER, epoch(3, &[1], &all[..3]));
    let aside = room.after(&[next], ADA, epoch(4, &[3, 4], &[OWNER]));
    // An act is opened by the key of whichever epoch its author knows of.
    for (by, number) in [(OWNER, 3), (laptop, 2)] {
        let deed = invite(number + 1, Role::Guest);
        let act = room.act(&[aside], by, deed);
        room.write(by, act, &secret(number).act_key());
    }
    room
}

/// What own words alone take back stays open, and is freed by a vouch that comes later in the order.
fn freed() -> Scene {
    let (second, third) = (who(1, 1), who(1, 2));
    let mut room = Scene::new();
    let ada = room.after(&[0], OWNER, admit(ADA, Role::Owner));
    let ben = room.after(&[ada], OWNER, admit(BEN, Role::Admin));
    let cleo = room.after(&[ben], OWNER, admit(CLEO, Role::Admin));
    let old = room.after(&[cleo], ADA, join(third));
    let joined = room.after(&[old], ADA, join(second));
    let removed = room.after(&[joined], second, remove(3));
    room.after(&[joined], CLEO, invite(5, Role::Admin));
    let lowered = room.after(&[removed], ADA, role(1, Role::Member));
    room.after(&[lowered], BEN, role(1, Role::Guest));
    room.after(&[old], third, revoke(ADA, Vec::new()));
    room
}

/// Agents with several devices each revoke these, and each other's, leave, give each other roles and
/// announce epochs; most of it on old parents, and all of it authorised.
pub(crate) fn fight(seed: u64) -> Scene {
    let mut random = Random::new(seed);
    let mut room = Scene::new();
    let (mut last, mut feeds) = (0, vec![OWNER]);
    for person in 1..3 {
        let role = [Role::Admin, Role::Owner][random.index(2)];
        last = room.after(&[last], OWNER, admit(who(person, 0), role));
        feeds.push(who(person, 0));
    }
    for device in 1..3 {
        let person = random.below(3) as u8;
        last = room.after(&[last], who(person, 0), join(who(person, device)));
        feeds.push(who(person, device));
    }
    let common = last;
    for _ in 0..6 * ACTS {
        let count = room.acts.len();
        if count >= ACTS {
            break;
        }
        let by = feeds[random.index(feeds.len())];
        let some = |random: &mut Random| common + random.index(count - common);
        let mut parents = match random.below(3) {
            0 => BTreeSet::from([common]),
            1 => BTreeSet::from([some(&mut random)]),
            _ => BTreeSet::from([some(&mut random), some(&mut random), count - 1]),
        };
        parents.extend((common..count).rev().find(|at| room.acts[*at].by == by));
        let parents: Vec<usize> = parents.into_iter().collect();
        let (deed, come) = some_deed(&mut random, by);
        if room.try_after(&parents, by, deed).is_some() {
            feeds.extend(come);
        }
    }
    room
}

/// Something that somebody does, and the device that comes in by it.
fn some_deed(random: &mut Random, by: Writer) -> (Deed, Option<Writer>) {
    let person = random.below(3) as u8;
    let one = who(person, random.index(ADDED_BY_ROOT) as u8);
    let own = who(by.person, one.device);
    let some_role = Role::ALL[random.index(4)];
    let deed = match random.below(22) {
        0..3 => return (join(own), Some(own)),
        3..6 => revoke(own, Vec::new()),
        6..9 => revoke(one, Vec::new()),
        9..15 => role(person, some_role),
        15 => leave(Vec::new()),
        16 => remove(person),
        17 => return (admit(CLEO, some_role), Some(CLEO)),
        18..20 => {
            let number = 1 + random.below(12) as u8;
            let parents = [random.below(12) as u8, random.below(12) as u8];
            let one = [OWNER, ADA, BEN, who(1, 1)];
            let given = random.index(one.len() + 1);
            epoch(number, &parents, &one[..given])
        }
        _ => invite(random.below(100) as u8, Role::Guest),
    };
    (deed, None)
}

/// The set in which the root added a device, after those of smaller numbers.
fn set_to_join(device: u8) -> usize {
    SETS - 2 * ADDED_BY_ROOT + usize::from(device)
}

/// The set in which the root revoked that device too, the later the greater its number is.
fn set_to_revoke(device: u8) -> usize {
    set_to_join(device) + ADDED_BY_ROOT
}

/// The genesis of every such room.
fn begun() -> &'static (Genesis, RoomId) {
    static BEGUN: OnceLock<(Genesis, RoomId)> = OnceLock::new();
    BEGUN.get_or_init(genesis)
}

fn admit(who: Writer, role: Role) -> Deed {
    Deed::Admit(Admit {
        member: who.membership(&begun().1, set_to_join(who.device)),
        role,
        invite: None,
        epochs: vec![secret(0).epoch_id()],
    })
}

/// An admission by the invite with that number, which that act made.
fn admit_by(who: Writer, role: Role, number: u8, made: ActHash) -> Deed {
    let member = who.membership(&begun().1, set_to_join(who.device));
    let mut invite = InviteUse::sign(&invite_pair(number), &begun().1, &member);
    invite.act = made;
    Deed::Admit(Admit {
        member,
        role,
        invite: Some(invite),
        epochs: vec![secret(0).epoch_id()],
    })
}

fn join(who: Writer) -> Deed {
    Deed::DeviceJoin(DeviceJoin {
        device: who.membership(&begun().1, set_to_join(who.device)),
        epochs: Vec::new(),
    })
}

fn revoke(who: Writer, cuts: Vec<Cut>) -> Deed {
    Deed::DeviceRevoke(DeviceRevoke {
        agent: agent(who.person),
        device: people::device(who.person, who.device),
        identity_set: sets(who.person)[set_to_revoke(who.device)].clone(),
        cuts,
    })
}

fn role(person: u8, role: Role) -> Deed {
    let agent = agent(person);
    Deed::Role(RoleChange { agent, role })
}

fn remove(person: u8) -> Deed {
    Deed::Remove(Remove {
        agent: agent(person),
        cuts: Vec::new(),
        reason: Text::new("enough").unwrap(),
    })
}

fn leave(cuts: Vec<Cut>) -> Deed {
    Deed::Leave(Leave { cuts })
}

fn invite(number: u8, role: Role) -> Deed {
    Deed::Invite(Invite {
        public_key: invite_pair(number).public_key(),
        role,
        expires_at_ms: None,
        uses: None,
    })
}

fn epoch(number: u8, parents: &[u8], given: &[Writer]) -> Deed {
    let copy = |who: &Writer| EpochCopy {
        device: people::device(who.person, who.device),
        sealed: [number; 81],
    };
    let parents = parents.iter().map(|parent| secret(*parent).epoch_id());
    Deed::Epoch(Epoch {
        id: secret(number).epoch_id(),
        act_id: secret(number).act_key().epoch_id(),
        commitment: secret(number).commitment(),
        parents: parents.collect(),
        copies: given.iter().map(copy).collect(),
    })
}

impl Scene {
    fn new() -> Scene {
        let (genesis, room) = begun().clone();
        let mut scene = Scene {
            room,
            feeds: BTreeMap::new(),
            acts: Vec::new(),
            held: RoomActs::default(),
            step: 0,
        };
        scene.after(&[], OWNER, Deed::Genesis(genesis));
        scene
    }

    /// Does what somebody may do; returns the number of the act.
    fn after(&mut self, parents: &[usize], by: Writer, deed: Deed) -> usize {
        let done = self.try_after(parents, by, deed);
        done.expect("a scene is of acts that are authorised")
    }

    /// Does it if it is authorised after the acts with these numbers and all that they reach.
    fn try_after(&mut self, parents: &[usize], by: Writer, deed: Deed) -> Option<usize> {
        let act = self.act(parents, by, deed);
        let hash = self.write(by, act, &secret(0).act_key())?;
        let past = self.past(parents);
        self.acts.push(Done { by, hash, past });
        Some(self.acts.len() - 1)
    }

    fn past(&self, parents: &[usize]) -> BTreeSet<usize> {
        let mut past: BTreeSet<usize> = parents.iter().copied().collect();
        for parent in parents {
            past.extend(&self.acts[*parent].past);
        }
        past
    }

    fn act(&self, parents: &[usize], by: Writer, deed: Deed) -> Body {
        let past = self.past(parents);
        let seq = past.iter().filter(|at| self.acts[**at].by == by).count() as u64;
        let parents = parents.iter().map(|at| self.acts[*at].hash);
        let parents = Parents::new(parents, None);
        Body::Act(Box::new(Act { parents, seq, deed }))
    }

    /// The first blocks of a feed.
    fn cut(&self, who: Writer, length: usize) -> Cut {
        let blocks = &self.feeds[&who.feed()][..length];
        let head = append(&Head::default(), blocks).unwrap().head;
        Cut {
            feed: who.feed(),
            length: length as u64,
            tree_hash: head.tree_hash(),
        }
    }

    /// Writes an entry; an act that is not authorised is not written, and has no hash.
    fn write(&mut self, by: Writer, body: Body, key: &ContentKey) -> Option<ActHash> {
        self.step += 1;
        let feed = by.feed();
        let clock = Clock {
            ms: 1_000 + self.step,
            counter: 0,
        };
        let entry = Entry {
            links: Links::default(),
            depth: self.step,
            clock,
            body,
        };
        let plain = entry.encode().unwrap();
        let index = self.feeds.get(&feed).map_or(0, Vec::len) as u64;
        let hash = ActHash::of(&self.room, &feed, index, &plain);
        if let Body::Act(act) = &entry.body {
            let place = ActPlace {
                feed,
                index,
                dated_ms: clock.ms,
                sealed_by: Some(key.epoch_id()),
            };
            self.held
                .add(HeldAct::verify(&self.room, place, &plain, act));
            if self.held.refusal(&hash).is_some() {
                return None;
            }
        }
        let nonce = [self.step as u8; 24];
        let block = seal_entry(key, &feed, index, &nonce, &plain).unwrap();
        self.feeds.entry(feed).or_default().push(block);
        Some(hash)
    }
}
