//! What each session may have and what is wanted through it; made by the plan, read by the network.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::crypto::{DeviceKey, FeedKey, Hash};
use kinlog_feeds::limits::UINT_MAX;
use kinlog_swarm::{Label, SessionId, SessionInfo};

use crate::limits::PAIR_FEEDS_MAX;

/// Everything the host answers from.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// By agent id.
    pub(crate) agents: HashMap<[u8; 32], AgentView>,
    /// By feed key.
    pub(crate) feeds: HashMap<[u8; 32], FeedView>,
    /// By meet key.
    pub(crate) rooms: HashMap<[u8; 32], RoomView>,
    /// Blocks that are kept by seed grants, by meet key: for whoever proves that key. What is kept
    /// opens for members alone.
    pub(crate) seeded: HashMap<[u8; 32], BTreeMap<FeedKey, Vec<Range<u64>>>>,
    /// What sessions with seeders may have, as far as they proved their grants.
    pub(crate) granted: HashMap<SessionId, GrantedView>,
    /// Public keys of invites to our rooms.
    pub(crate) invites: HashSet<[u8; 32]>,
    /// Public keys of codes that are shown here.
    pub(crate) codes: HashSet<[u8; 32]>,
    /// Keys of machines that are met by texts which were carried.
    pub(crate) pairs: HashSet<[u8; 32]>,
    /// Sign-in records with their numbers, by the key of their code's topic; `None` is wanted, not held.
    pub(crate) sign_ins: HashMap<[u8; 32], Option<(u64, Bytes)>>,
    /// The sign-in record of this agent.
    pub(crate) own_sign_in: Option<(u64, Bytes)>,
    /// Other devices of this agent.
    pub(crate) siblings: BTreeSet<DeviceKey>,
}

/// Sessions of whoever knows an agent's id.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentView {
    /// The identity set, when held.
    pub(crate) identity: Option<(Hash, Bytes)>,
    /// Something of the agent is pinned, so its identity set is wanted.
    pub(crate) is_followed: bool,
    /// Its public directories, and its public feeds that are pinned here.
    pub(crate) serves: BTreeSet<FeedKey>,
    pub(crate) wants: BTreeSet<FeedKey>,
}

/// Sessions of whoever knows a feed's key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedView {
    pub(crate) serves: bool,
    pub(crate) wants: bool,
}

/// Sessions of whoever knows a room's meet key; feeds go to devices of members, and are to everybody
/// else as if they were not there.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomView {
    /// Its id, when it is one of this device's rooms.
    pub(crate) room: Option<[u8; 32]>,
    pub(crate) devices: BTreeSet<DeviceKey>,
    pub(crate) serves: BTreeSet<FeedKey>,
    pub(crate) wants: BTreeSet<FeedKey>,
}

/// A session with a seeder that showed a grant for a room of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct GrantedView {
    /// The meet key of the grant.
    pub(crate) meet_key: [u8; 32],
    /// Blocks it may have.
    pub(crate) serves: BTreeMap<FeedKey, Vec<Range<u64>>>,
    /// Feeds of which it may have blocks for us.
    pub(crate) wants: BTreeSet<FeedKey>,
}

/// What may be exchanged with somebody.
struct May<'a> {
    serves: &'a BTreeSet<FeedKey>,
    wants: &'a BTreeSet<FeedKey>,
}

impl View {
    /// Leaves out the feeds that are not held: they are offered once they are.
    pub(crate) fn retain(&mut self, is_held: impl Fn(&FeedKey) -> bool) {
        for agent in self.agents.values_mut() {
            agent.serves.retain(&is_held);
            agent.wants.retain(&is_held);
        }
        self.feeds.retain(|key, _| is_held(&FeedKey(*key)));
        for room in self.rooms.values_mut() {
            room.serves.retain(&is_held);
            room.wants.retain(&is_held);
        }
        for kept in self.seeded.values_mut() {
            kept.retain(|key, _| is_held(key));
        }
        for granted in self.granted.values_mut() {
            granted.serves.retain(|key, _| is_held(key));
            granted.wants.retain(&is_held);
        }
    }

    /// Returns the feeds that a session may have.
    pub(crate) fn serves(&self, session: &SessionInfo) -> Vec<FeedKey> {
        match session.label {
            Label::Agent => self.agents.get(&session.key).map(|one| list(&one.serves)),
            Label::Feed => self.feed(session, |feed| feed.serves),
            Label::Room => match self.member_of(session) {
                Some(room) => Some(list(&room.serves)),
                None => Some(self.shared_with(session).into_keys().collect()),
            },
            Label::Code => self.paired(session, |may| may.serves),
            Label::Invite | Label::Net => None,
        }
        .unwrap_or_default()
    }

    /// Returns the feeds that are wanted through a session.
    pub(crate) fn wants(&self, session: &SessionInfo) -> Vec<FeedKey> {
        match session.label {
            Label::Agent => self.agents.get(&session.key).map(|one| list(&one.wants)),
            Label::Feed => self.feed(session, |feed| feed.wants),
            Label::Room => match self.member_of(session) {
                Some(room) => Some(list(&room.wants)),
                None => match self.granted_to(session) {
                    Some(granted) => Some(list(&granted.wants)),
                    None => Some(self.shared_with(session).into_keys().collect()),
                },
            },
            Label::Code => self.paired(session, |may| may.wants),
            Label::Invite | Label::Net => None,
        }
        .unwrap_or_default()
    }

    /// Returns the feeds of which a session is shown these blocks alone.
    pub(crate) fn limits(&self, session: &SessionInfo) -> BTreeMap<FeedKey, Vec<Range<u64>>> {
        match session.label {
            Label::Room if self.member_of(session).is_none() => {
                let mut shared = self.shared_with(session);
                shared.retain(|_, ranges| !ranges.contains(&(0..UINT_MAX)));
                shared
            }
            _ => BTreeMap::new(),
        }
    }

    /// Returns what goes over a session by a text that was carried: what both sides could exchange in
    /// topics, too. Public feeds go to whoever names them; those of a room to a device of a member, and
    /// those of this agent's devices to its siblings. The text alone gives nothing.
    fn paired(
        &self,
        session: &SessionInfo,
        which: impl Fn(May<'_>) -> &BTreeSet<FeedKey>,
    ) -> Option<Vec<FeedKey>> {
        let device = session.remote_certificate?.device;
        if !self.pairs.contains(&session.key) {
            return None;
        }
        let mut keys = BTreeSet::new();
        for room in self
            .rooms
            .values()
            .filter(|room| room.devices.contains(&device))
        {
            let (serves, wants) = (&room.serves, &room.wants);
            keys.extend(which(May { serves, wants }));
        }
        for agent in self.agents.values() {
            let (serves, wants) = (&agent.serves, &agent.wants);
            keys.extend(which(May { serves, wants }));
        }
        let none = BTreeSet::new();
        for (key, feed) in &self.feeds {
            let one = BTreeSet::from([FeedKey(*key)]);
            let of = |may: bool| if may { &one } else { &none };
            let (serves, wants) = (of(feed.serves), of(feed.wants));
            keys.extend(which(May { serves, wants }));
        }
        Some(keys.into_iter().take(PAIR_FEEDS_MAX).collect())
    }

    /// Returns what a session gets that is no member's, as far as one can tell: a seeder what it was
    /// granted, and of a seeder whoever knows the meet key.
    fn shared_with(&self, session: &SessionInfo) -> BTreeMap<FeedKey, Vec<Range<u64>>> {
        let shared = match self.granted_to(session) {
            Some(granted) => Some(&granted.serves),
            None => self.seeded.get(&session.key),
        };
        shared.cloned().unwrap_or_default()
    }

    fn granted_to(&self, session: &SessionInfo) -> Option<&GrantedView> {
        let granted = self.granted.get(&session.id)?;
        (granted.meet_key == session.key).then_some(granted)
    }

    fn feed(&self, session: &SessionInfo, may: impl Fn(&FeedView) -> bool) -> Option<Vec<FeedKey>> {
        self.feeds
            .get(&session.key)
            .filter(|feed| may(feed))
            .map(|_| vec![FeedKey(session.key)])
    }

    /// Returns whether the other side has shown that it is another device of this agent.
    pub(crate) fn is_sibling(&self, session: &SessionInfo) -> bool {
        let certificate = session.remote_certificate;
        certificate.is_some_and(|certificate| self.siblings.contains(&certificate.device))
    }

    /// Returns the sign-in record that a session may have: the other side has proved its code, or is
    /// another device of this agent.
    pub(crate) fn sign_in(&self, session: &SessionInfo) -> Option<&(u64, Bytes)> {
        if session.label == Label::Code {
            return self.sign_ins.get(&session.key)?.as_ref();
        }
        let own = self.own_sign_in.as_ref();
        own.filter(|_| self.is_sibling(session))
    }

    /// Returns whether a sign-in record is looked at that a session brings.
    pub(crate) fn takes_sign_in(&self, session: &SessionInfo) -> bool {
        let by_code = session.label == Label::Code && self.sign_ins.contains_key(&session.key);
        by_code || self.is_sibling(session)
    }

    /// Returns the device that speaks in a session about a room of this device's, as its certificate says, when it
    /// is in that room as far as one can tell.
    pub(crate) fn speaker_in(&self, session: &SessionInfo, room: &[u8; 32]) -> Option<DeviceKey> {
        let device = session.remote_certificate?.device;
        let is_in =
            |view: &RoomView| view.room.as_ref() == Some(room) && view.devices.contains(&device);
        let is_said_there = match session.label {
            Label::Room => self.rooms.get(&session.key).is_some_and(is_in),
            Label::Code if self.pairs.contains(&session.key) => self.rooms.values().any(is_in),
            _ => false,
        };
        is_said_there.then_some(device)
    }

    /// Returns the room of a session whose certificate is a member device.
    fn member_of(&self, session: &SessionInfo) -> Option<&RoomView> {
        let certificate = session.remote_certificate?;
        self.rooms
            .get(&session.key)
            .filter(|room| room.devices.contains(&certificate.device))
    }
}

fn list(keys: &BTreeSet<FeedKey>) -> Vec<FeedKey> {
    keys.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use kinlog_swarm::{Certificate, SessionRole, Transport};

    use super::*;

    fn session(label: Label, key: u8, device: Option<u8>) -> SessionInfo {
        SessionInfo {
            id: SessionId(1),
            label,
            key: [key; 32],
            role: SessionRole::Initiator,
            remote_certificate: device.map(|device| Certificate {
                device: DeviceKey([device; 32]),
                identity_hash: Hash::default(),
            }),
            transport: Transport::Memory,
            path: None,
            plain: false,
        }
    }

    #[test]
    fn a_feed_that_is_not_held_is_offered_to_nobody() {
        let (held, listed) = (FeedKey([9; 32]), FeedKey([8; 32]));
        let both = BTreeSet::from([held, listed]);
        let agent = AgentView {
            serves: both.clone(),
            wants: both.clone(),
            ..AgentView::default()
        };
        let room = RoomView {
            room: None,
            devices: [DeviceKey([1; 32])].into(),
            serves: both.clone(),
            wants: both,
        };
        let feed = FeedView {
            serves: true,
            wants: true,
        };
        let mut view = View {
            agents: [([4; 32], agent)].into(),
            rooms: [([5; 32], room)].into(),
            feeds: [(held.0, feed), (listed.0, feed)].into(),
            ..View::default()
        };
        view.retain(|key| *key == held);
        for offered in [
            session(Label::Agent, 4, None),
            session(Label::Room, 5, Some(1)),
            session(Label::Feed, 9, None),
        ] {
            assert_eq!(view.serves(&offered), [held]);
            assert_eq!(view.wants(&offered), [held]);
        }
        let not_held = session(Label::Feed, 8, None);
        assert_eq!(
            (view.serves(&not_held), view.wants(&not_held)),
            (vec![], vec![])
        );
    }

    #[test]
    fn room_feeds_are_for_member_devices_only() {
        let feed = FeedKey([9; 32]);
        let room = RoomView {
            room: None,
            devices: [DeviceKey([1; 32])].into(),
            serves: [feed].into(),
            wants: [feed].into(),
        };
        let view = View {
            rooms: [([5; 32], room)].into(),
            ..View::default()
        };
        assert_eq!(view.serves(&session(Label::Room, 5, Some(1))), [feed]);
        assert_eq!(view.wants(&session(Label::Room, 5, Some(1))), [feed]);
        for other in [
            session(Label::Room, 5, Some(2)),
            session(Label::Room, 5, None),
            session(Label::Room, 6, Some(1)),
            session(Label::Agent, 5, Some(1)),
            session(Label::Invite, 5, Some(1)),
        ] {
            assert_eq!(view.serves(&other), []);
            assert_eq!(view.wants(&other), []);
        }
    }

    #[test]
    fn a_sign_in_record_is_for_who_proves_its_code_and_for_siblings_only() {
        let record = Some((3, Bytes::from_static(b"record")));
        let view = View {
            sign_ins: [([5; 32], record.clone()), ([6; 32], None)].into(),
            own_sign_in: record.clone(),
            siblings: [DeviceKey([1; 32])].into(),
            ..View::default()
        };
        for may in [
            session(Label::Code, 5, None),
            session(Label::Room, 9, Some(1)),
            session(Label::Agent, 9, Some(1)),
        ] {
            assert_eq!(view.sign_in(&may), record.as_ref());
            assert!(view.takes_sign_in(&may));
        }
        for other in [
            session(Label::Code, 7, None),
            session(Label::Agent, 5, None),
            session(Label::Feed, 5, None),
            session(Label::Invite, 5, Some(2)),
            session(Label::Room, 5, Some(2)),
        ] {
            assert_eq!(view.sign_in(&other), None);
            assert!(!view.takes_sign_in(&other));
        }
        let wanted = session(Label::Code, 6, None);
        assert_eq!(
            (view.sign_in(&wanted), view.takes_sign_in(&wanted)),
            (None, true)
        );
    }

    #[test]
    fn a_seeder_gets_the_blocks_of_its_grant_in_the_session_in_which_it_proved_it() {
        let (granted, other) = (FeedKey([9; 32]), FeedKey([8; 32]));
        let room = RoomView {
            room: None,
            devices: [DeviceKey([1; 32])].into(),
            serves: [granted, other].into(),
            wants: [granted, other].into(),
        };
        let seeder = GrantedView {
            meet_key: [5; 32],
            serves: [(granted, vec![3..9, 20..22])].into(),
            wants: [granted].into(),
        };
        let view = View {
            rooms: [([5; 32], room)].into(),
            granted: [(SessionId(1), seeder.clone())].into(),
            ..View::default()
        };
        let session_of = |label, key, id| SessionInfo {
            id: SessionId(id),
            ..session(label, key, Some(2))
        };
        let proven = session_of(Label::Room, 5, 1);
        assert_eq!(view.serves(&proven), [granted]);
        assert_eq!(view.wants(&proven), [granted]);
        assert_eq!(view.limits(&proven), seeder.serves);
        for stranger in [
            session_of(Label::Room, 5, 2),
            session_of(Label::Room, 6, 1),
            session_of(Label::Agent, 5, 1),
        ] {
            assert_eq!(view.serves(&stranger), []);
            assert_eq!(view.wants(&stranger), []);
            assert!(view.limits(&stranger).is_empty());
        }
        let member = session(Label::Room, 5, Some(1));
        assert_eq!(view.serves(&member), [other, granted]);
        assert!(view.limits(&member).is_empty(), "a member gets everything");
    }

    #[test]
    fn what_is_kept_for_a_room_is_for_whoever_knows_its_meet_key() {
        let kept = BTreeMap::from([(FeedKey([9; 32]), vec![0..7, 9..12])]);
        let view = View {
            seeded: [([5; 32], kept.clone())].into(),
            ..View::default()
        };
        let met = session(Label::Room, 5, Some(1));
        assert_eq!(view.serves(&met), [FeedKey([9; 32])]);
        assert_eq!(view.wants(&met), [FeedKey([9; 32])]);
        assert_eq!(view.limits(&met), kept);
        for other in [
            session(Label::Room, 6, Some(1)),
            session(Label::Feed, 5, Some(1)),
            session(Label::Agent, 5, None),
        ] {
            assert_eq!(view.serves(&other), []);
            assert_eq!(view.wants(&other), []);
        }
    }

    #[test]
    fn a_paired_machine_gets_public_feeds_and_those_of_rooms_that_its_device_is_in() {
        let (public, followed) = (FeedKey([1; 32]), FeedKey([2; 32]));
        let (common, foreign, sibling) = (FeedKey([3; 32]), FeedKey([4; 32]), FeedKey([5; 32]));
        let room = |device: u8, feed: FeedKey| RoomView {
            room: None,
            devices: [DeviceKey([device; 32])].into(),
            serves: [feed].into(),
            wants: [feed].into(),
        };
        let view = View {
            agents: [(
                [7; 32],
                AgentView {
                    serves: [public].into(),
                    wants: [followed].into(),
                    ..AgentView::default()
                },
            )]
            .into(),
            rooms: [
                ([11; 32], room(1, common)),
                ([12; 32], room(2, foreign)),
                ([13; 32], room(3, sibling)),
            ]
            .into(),
            pairs: [[9; 32]].into(),
            ..View::default()
        };
        let member = session(Label::Code, 9, Some(1));
        assert_eq!(view.serves(&member), [public, common]);
        assert_eq!(view.wants(&member), [followed, common]);
        let own_device = session(Label::Code, 9, Some(3));
        assert_eq!(view.serves(&own_device), [public, sibling]);
        // Whoever has the text, and is nobody's member, gets nothing that is private.
        let stranger = session(Label::Code, 9, Some(8));
        assert_eq!(view.serves(&stranger), [public]);
        for nobody in [
            session(Label::Code, 9, None),
            session(Label::Code, 8, Some(1)),
            session(Label::Invite, 9, Some(1)),
        ] {
            assert_eq!(view.serves(&nobody), []);
            assert_eq!(view.wants(&nobody), []);
        }
    }

    #[test]
    fn a_feed_is_served_under_its_own_topic_only_when_it_is_followed_by_its_key() {
        let feed = FeedView {
            serves: true,
            wants: false,
        };
        let view = View {
            feeds: [([5; 32], feed)].into(),
            ..View::default()
        };
        assert_eq!(
            view.serves(&session(Label::Feed, 5, None)),
            [FeedKey([5; 32])]
        );
        assert_eq!(view.wants(&session(Label::Feed, 5, None)), []);
        assert_eq!(view.serves(&session(Label::Feed, 6, None)), []);
    }
}
