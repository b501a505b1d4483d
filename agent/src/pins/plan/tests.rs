use kinlog_feeds::crypto::{AgentId, DeviceKey, KeyPair, Secret};
use kinlog_feeds::manifest::Manifest;
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::{PathKind, Role};
use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};
use kinlog_indexer::seal::EpochSecret;

use super::*;
use crate::knowledge::{KnownAgent, KnownRoom, Line, Member, MemberDevice};
use crate::links::Invite;
use crate::rooms::RoomFeed;
use crate::state::{OpenJoin, OwnFeed, PinTarget};

const OWN: u8 = 1;
const OTHER: u8 = 2;

/// An agent with feeds `10 * number + n` at the paths.
fn known(number: u8, paths: &[&str]) -> KnownAgent {
    let root = KeyPair::from_seed(&[number; 32]);
    let agent = AgentId(root.public_key().0);
    let pair = KeyPair::from_seed(&[number + 100; 32]);
    let device = DeviceKey(pair.public_key().0);
    let [public, private] = directories(number);
    let card = DeviceCard::sign(&agent, &pair, [number; 32], &public, &private);
    let set = IdentitySet::begin(
        &root,
        card,
        Powers::ALL,
        "laptop".try_into().expect("short"),
    );
    let mut known = KnownAgent::verify(&agent, set.encode()).expect("holds");
    known.lines = (10 * number..)
        .zip(paths)
        .map(|(feed, path)| Line {
            path: path.parse().expect("valid"),
            former: Vec::new(),
            key: key(feed),
            device,
            is_entries: false,
            kind: PathKind::Log,
            start: 0,
            cut: None,
            is_unvouched: false,
        })
        .collect();
    known
}

/// The pairs of an agent's directories.
fn directories(number: u8) -> [KeyPair; 2] {
    [150, 200].map(|more| KeyPair::from_seed(&[more + number; 32]))
}

/// The public directory of an agent.
fn directory(number: u8) -> FeedKey {
    Manifest::single(directories(number)[0].public_key()).key()
}

/// The private directory of an agent.
fn private_directory(number: u8) -> FeedKey {
    Manifest::single(directories(number)[1].public_key()).key()
}

fn key(number: u8) -> FeedKey {
    FeedKey([number; 32])
}

fn own_feed(key: FeedKey, path: Option<&str>, is_plain: bool) -> (FeedKey, OwnFeed) {
    let feed = OwnFeed {
        path: path.map(|path| path.parse().expect("valid")),
        is_entries: false,
        is_plain,
        ..OwnFeed::entries(key, key.0[..16].try_into().expect("16 bytes"))
    };
    (feed.key, feed)
}

fn knowledge() -> Knowledge {
    let own = known(OWN, &["/mine"]);
    let other = known(OTHER, &["/paths/a", "/paths/b", "/notes"]);
    let mut knowledge = Knowledge::new(own.identity.agent);
    knowledge.own = [
        own_feed(key(10), Some("/mine"), false),
        own_feed(directory(OWN), None, false),
        own_feed(private_directory(OWN), None, false),
        own_feed(key(90), None, true),
    ]
    .into();
    for agent in [own, other] {
        knowledge.agents.insert(agent.identity.agent, agent);
    }
    knowledge
}

fn other(knowledge: &Knowledge) -> AgentId {
    let agents = knowledge.agents.keys().copied();
    agents
        .into_iter()
        .find(|agent| *agent != knowledge.agent)
        .expect("two agents")
}

fn pin(target: PinTarget, selection: Selection) -> Pin {
    let (tier, reason) = ("gift".to_owned(), "follow".to_owned());
    Pin {
        target,
        selection,
        live: true,
        tier,
        reason,
        depth: 0,
        is_local: false,
    }
}

fn of(knowledge: &Knowledge) -> Plan {
    plan(knowledge, &[], Switches::default(), &|_: &FeedKey| 50)
}

#[test]
fn an_agent_that_pins_nothing_serves_its_own_and_asks_for_heads_of_it_only() {
    let knowledge = knowledge();
    let plan = of(&knowledge);
    let expected = [(Label::Agent, knowledge.agent.0), (Label::Feed, [90; 32])];
    assert_eq!(plan.topics, expected.into());
    let heads = Interest {
        want: Want::None,
        live: true,
    };
    let own = [key(10), key(90), directory(OWN), private_directory(OWN)];
    let own = own.map(|key| (key, heads.clone()));
    assert_eq!(plan.interests, own.into());
    let offered = &plan.view.agents[&knowledge.agent.0];
    assert_eq!(offered.serves, [key(10), directory(OWN)].into());
    assert_eq!(offered.wants, offered.serves);
    assert!(
        offered.is_followed,
        "a device of ours may know of more devices"
    );
    assert!(plan.view.feeds[&[90; 32]].serves);
}

#[test]
fn a_device_that_may_not_write_fetches_what_others_have_of_its_feeds() {
    let mut knowledge = knowledge();
    knowledge.must_renew = true;
    let plan = of(&knowledge);
    assert!(plan.interests.values().all(|one| one.want == Want::All));
    assert_eq!(plan.interests.len(), 4);
}

#[test]
#[allow(clippy::single_range_in_vec_init)] // a list of one run
fn a_pinned_path_brings_its_feed_the_directory_and_nothing_else() {
    let mut knowledge = knowledge();
    let agent = other(&knowledge);
    let path = Some("/paths/a".parse().expect("valid"));
    knowledge.pins = vec![pin(PinTarget::Path(agent, path), Selection::Last(7))];
    let plan = of(&knowledge);
    assert!(plan.topics.contains(&(Label::Agent, agent.0)));
    assert!(
        !plan.topics.contains(&(Label::Feed, [20; 32])),
        "no topic of the feed itself"
    );
    let wants: Vec<_> = plan
        .interests
        .iter()
        .filter(|(key, _)| !knowledge.own.contains_key(*key))
        .map(|(key, interest)| (*key, interest.want.clone()))
        .collect();
    assert_eq!(
        wants,
        [
            (key(20), Want::Last(7)),
            // The newest entry of the directory leads on to the rest.
            (directory(OTHER), Want::Ranges(vec![49..50]))
        ]
    );
    let offered = &plan.view.agents[&agent.0];
    assert_eq!(offered.serves, [key(20), directory(OTHER)].into());
    assert_eq!(offered.serves, offered.wants);
    assert!(offered.is_followed && offered.identity.is_some());
    assert!(plan.why[&key(20)][0].contains("/paths/a"));
}

/// A room of ours with the feeds 60 (entries) and 61 (files) of another member.
fn room(epoch: &EpochSecret) -> KnownRoom {
    let feed = |number: u8, is_entries| RoomFeed {
        key: key(number),
        agent: AgentId([number; 32]),
        device: DeviceKey([number; 32]),
        is_entries,
    };
    let mut room = KnownRoom {
        feeds: [feed(60, true), feed(61, false)]
            .map(|feed| (feed.key, feed))
            .into(),
        ..KnownRoom::new(RoomId([5; 32]), "family", key(10))
    };
    room.keys.add_secret(epoch.clone());
    room.standing.history = Some(kinlog_indexer::entry::History::Full);
    for number in [60, 61] {
        let device = MemberDevice {
            entries: key(60),
            blobs: key(61),
            x25519: [0; 32],
        };
        let member = Member {
            role: Role::Member,
            devices: [(DeviceKey([number; 32]), device)].into(),
        };
        room.standing.members.insert(AgentId([number; 32]), member);
    }
    room
}

#[test]
fn listing_a_feed_of_a_room_or_of_ours_does_not_publish_it() {
    let mut knowledge = knowledge();
    let room = room(&EpochSecret::new([9; 32]));
    knowledge.rooms.insert(room.id, room);
    knowledge.own.extend([own_feed(key(70), None, false)]);
    let agent = other(&knowledge);
    let listed = knowledge.agents.get_mut(&agent).expect("known");
    for (line, stolen) in listed.lines.iter_mut().zip([60, 61, 70]) {
        line.key = key(stolen);
    }
    knowledge.pins = vec![pin(PinTarget::Path(agent, None), Selection::All)];
    let plan = of(&knowledge);
    let offered = &plan.view.agents[&agent.0];
    assert_eq!(offered.serves, [directory(OTHER)].into());
    assert_eq!(offered.serves, offered.wants);

    let room = knowledge.rooms.values_mut().next().expect("one");
    let feed = RoomFeed {
        key: directory(OTHER),
        ..room.feeds[&key(60)].clone()
    };
    room.feeds.insert(feed.key, feed);
    assert!(of(&knowledge).view.agents[&agent.0].serves.is_empty());
}

#[test]
fn a_prefix_covers_what_lies_below_and_the_switch_everything() {
    let mut knowledge = knowledge();
    let agent = other(&knowledge);
    let path = Some("/paths".parse().expect("valid"));
    knowledge.pins = vec![pin(PinTarget::Path(agent, path), Selection::All)];
    let feeds = |plan: Plan| plan.asked.into_keys().collect::<Vec<_>>();
    assert_eq!(feeds(of(&knowledge)), [key(20), key(21), directory(OTHER)]);
    let switches = Switches {
        without_pin_filter: true,
        ..Switches::default()
    };
    let all = plan(&knowledge, &[], switches, &|_: &FeedKey| 50);
    assert_eq!(feeds(all), [key(20), key(21), key(22), directory(OTHER)]);
}

#[test]
fn an_agent_of_whom_nothing_is_held_is_met_for_its_identity() {
    let mut knowledge = knowledge();
    let stranger = AgentId([77; 32]);
    knowledge.pins = vec![pin(PinTarget::Path(stranger, None), Selection::All)];
    let plan = of(&knowledge);
    assert!(plan.topics.contains(&(Label::Agent, stranger.0)));
    let offered = &plan.view.agents[&stranger.0];
    assert!(offered.is_followed && offered.identity.is_none() && offered.serves.is_empty());
}

#[test]
fn a_feed_link_joins_the_topic_of_the_feed() {
    let mut knowledge = knowledge();
    knowledge.pins = vec![pin(PinTarget::Feed(key(55)), Selection::Range(0..9))];
    let plan = of(&knowledge);
    assert!(plan.topics.contains(&(Label::Feed, [55; 32])));
    assert_eq!(plan.interests[&key(55)].want, Want::Range(0..9));
    assert!(plan.view.feeds[&[55; 32]].serves && plan.view.feeds[&[55; 32]].wants);
}

#[test]
fn a_room_is_met_by_its_meet_key_and_its_entries_are_fetched_whole() {
    let mut knowledge = knowledge();
    let epoch = EpochSecret::new([9; 32]);
    let room = room(&epoch);
    knowledge.rooms.insert(room.id, room);
    let invite = Invite {
        room: RoomId([6; 32]),
        seed: Secret::new([7; 32]),
        signal_urls: vec![],
    };
    let waiting = invite.public_key();
    knowledge.joins.push(OpenJoin {
        invite,
        entries_id: [1; 16],
        blobs_id: [2; 16],
    });
    knowledge
        .invites
        .insert(kinlog_feeds::PublicKey([8; 32]), RoomId([5; 32]));
    let plan = of(&knowledge);
    let meet_key = *epoch.meet_key().expose();
    for topic in [
        (Label::Room, meet_key),
        (Label::Invite, [8; 32]),
        (Label::Invite, waiting.0),
    ] {
        assert!(plan.topics.contains(&topic));
    }
    assert_eq!(plan.interests[&key(60)].want, Want::All);
    assert_eq!(plan.interests[&key(61)].want, Want::None);
    let offered = &plan.view.rooms[&meet_key];
    assert_eq!(
        offered.devices,
        [DeviceKey([60; 32]), DeviceKey([61; 32])].into()
    );
    assert_eq!(offered.wants, [key(60), key(61)].into());
    assert!(plan.view.invites.contains(&[8; 32]) && !plan.view.invites.contains(&waiting.0));
}
