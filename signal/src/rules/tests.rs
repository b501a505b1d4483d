//! The rules as facts, driven without sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::{KeyPair, PublicKey, Time};
use proptest::prelude::*;

use super::*;
use crate::join::sign_join;
use crate::limits::{
    BODY_BYTES_MAX, FRAME_BYTES_MAX, JOIN_WITHIN, OFFENCES_MAX, PEERS_LISTED_MAX, Rate,
    STALE_AFTER, SWEEP_INTERVAL,
};
use crate::{ClientMessage, RefusalCode, ServerMessage, ServerName, SignalKind, Topic};

const TOPIC: Topic = Topic([1; 32]);
const OTHER_TOPIC: Topic = Topic([2; 32]);

fn name() -> ServerName {
    ServerName::new("signal.example", 443)
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

/// Rules with a clock, and what each connection was sent.
struct World {
    rules: Rules,
    now: Time,
    received: BTreeMap<ConnectionId, Vec<ServerMessage>>,
    closed: BTreeMap<ConnectionId, CloseReason>,
}

impl World {
    fn new() -> Self {
        World::with(RuleSettings::default())
    }

    fn with(settings: RuleSettings) -> Self {
        World {
            rules: Rules::new(settings, 1),
            now: Time::ZERO,
            received: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.rules.poll_output() {
            match output {
                Output::Send { to, frame } => {
                    let message =
                        ServerMessage::decode(frame).expect("the rules send valid frames");
                    self.received.entry(to).or_default().push(message);
                }
                Output::TellIceServers { to, .. } => panic!("{to:?} asked for nothing"),
                Output::Close { connection, reason } => {
                    self.closed.insert(connection, reason);
                }
            }
        }
    }

    fn connect_from(&mut self, from: IpAddr) -> Result<ConnectionId, ConnectError> {
        let result = self
            .rules
            .handle_connect(self.now, from, vec![name()], [7; 32]);
        self.drain();
        if let Ok(id) = result {
            let greeting = self.take(id);
            assert!(
                matches!(greeting[..], [ServerMessage::Hello { nonce, .. }] if nonce == [7; 32])
            );
        }
        result
    }

    fn connect(&mut self) -> ConnectionId {
        self.connect_from(address(1)).unwrap()
    }

    fn send(&mut self, from: ConnectionId, message: &ClientMessage) -> Duration {
        self.frame(from, message.encode())
    }

    fn frame(&mut self, from: ConnectionId, frame: Bytes) -> Duration {
        let pause = self.rules.handle_frame(self.now, from, frame);
        self.drain();
        pause
    }

    fn join(&mut self, from: ConnectionId, topic: Topic, seed: u8) -> PublicKey {
        let key = KeyPair::from_seed(&[seed; 32]);
        self.send(from, &join(&key, topic));
        key.public_key()
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.rules.handle_timeout(self.now);
        self.drain();
    }

    fn take(&mut self, id: ConnectionId) -> Vec<ServerMessage> {
        self.received.remove(&id).unwrap_or_default()
    }

    fn refusal(&mut self, id: ConnectionId) -> Option<RefusalCode> {
        match &self.take(id)[..] {
            [ServerMessage::Error(refusal)] => Some(refusal.code),
            _ => None,
        }
    }
}

fn join(key: &KeyPair, topic: Topic) -> ClientMessage {
    let signature = sign_join(key, &[7; 32], &name(), &topic);
    ClientMessage::Join {
        topic,
        client_key: key.public_key(),
        signature,
        ice_servers: false,
    }
}

fn signal(topic: Topic, to: PublicKey) -> ClientMessage {
    ClientMessage::Send {
        topic,
        to,
        kind: SignalKind::Offer,
        body: Bytes::from_static(b"sdp"),
    }
}

#[test]
fn peers_of_a_topic_are_introduced_to_each_other() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    let key_a = world.join(a, TOPIC, 1);
    assert_eq!(
        world.take(a),
        [ServerMessage::Joined {
            topic: TOPIC,
            peers: vec![]
        }]
    );
    let key_b = world.join(b, TOPIC, 2);
    assert_eq!(
        world.take(b),
        [ServerMessage::Joined {
            topic: TOPIC,
            peers: vec![key_a]
        }]
    );
    assert_eq!(
        world.take(a),
        [ServerMessage::PeerJoined {
            topic: TOPIC,
            peer: key_b
        }]
    );
    world.send(b, &ClientMessage::Leave { topic: TOPIC });
    assert_eq!(
        world.take(a),
        [ServerMessage::PeerLeft {
            topic: TOPIC,
            peer: key_b
        }]
    );
    assert_eq!(world.take(b), []);
}

#[test]
fn signals_reach_the_named_peer_and_nobody_else() {
    let mut world = World::new();
    let (a, b, c) = (world.connect(), world.connect(), world.connect());
    let key_a = world.join(a, TOPIC, 1);
    let key_b = world.join(b, TOPIC, 2);
    world.join(c, TOPIC, 3);
    for id in [a, b, c] {
        world.take(id);
    }
    world.send(a, &signal(TOPIC, key_b));
    let body = Bytes::from_static(b"sdp");
    let kind = SignalKind::Offer;
    assert_eq!(
        world.take(b),
        [ServerMessage::Signal {
            topic: TOPIC,
            from: key_a,
            kind,
            body
        }]
    );
    assert_eq!((world.take(a), world.take(c)), (vec![], vec![]));
}

#[test]
fn a_connection_sees_only_topics_it_joined() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    let key_a = world.join(a, TOPIC, 1);
    world.join(b, OTHER_TOPIC, 2);
    world.take(b);
    world.send(b, &signal(TOPIC, key_a));
    assert_eq!(world.refusal(b), Some(RefusalCode::NotJoined));
    world.send(b, &signal(OTHER_TOPIC, key_a));
    assert_eq!(world.refusal(b), Some(RefusalCode::NoSuchPeer));
    assert_eq!(
        world.take(a),
        [ServerMessage::Joined {
            topic: TOPIC,
            peers: vec![]
        }]
    );
}

#[test]
fn a_lost_connection_leaves_every_topic() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    for topic in [TOPIC, OTHER_TOPIC] {
        world.join(a, topic, 1);
        world.join(b, topic, 2);
    }
    world.take(b);
    world.rules.handle_disconnect(a);
    world.drain();
    assert_eq!(world.take(b).len(), 2);
    world.rules.handle_disconnect(b);
    let counts = world.rules.counts();
    assert_eq!(
        (counts.connections, counts.topics, counts.memberships),
        (0, 0, 0)
    );
}

#[test]
fn a_join_with_a_foreign_nonce_server_or_key_is_refused() {
    let mut world = World::new();
    let a = world.connect();
    let key = KeyPair::from_seed(&[1; 32]);
    let client_key = key.public_key();
    let elsewhere = ServerName::new("other.example", 443);
    for signature in [
        sign_join(&key, &[8; 32], &name(), &TOPIC),
        sign_join(&key, &[7; 32], &elsewhere, &TOPIC),
        sign_join(&key, &[7; 32], &name(), &OTHER_TOPIC),
        sign_join(&KeyPair::from_seed(&[2; 32]), &[7; 32], &name(), &TOPIC),
    ] {
        world.send(
            a,
            &ClientMessage::Join {
                topic: TOPIC,
                client_key,
                signature,
                ice_servers: false,
            },
        );
        assert_eq!(world.refusal(a), Some(RefusalCode::BadSignature));
    }
    assert_eq!(world.rules.counts().memberships, 0);
}

#[test]
fn the_second_join_of_a_key_replaces_the_first() {
    let mut world = World::new();
    let (old, new, peer) = (world.connect(), world.connect(), world.connect());
    let key_peer = world.join(peer, TOPIC, 9);
    let key = world.join(old, TOPIC, 1);
    world.take(peer);
    world.take(old);
    world.join(new, TOPIC, 1);
    assert_eq!(
        world.take(new),
        [ServerMessage::Joined {
            topic: TOPIC,
            peers: vec![key_peer]
        }]
    );
    assert_eq!(world.refusal(old), Some(RefusalCode::Replaced));
    let (left, joined) = (
        ServerMessage::PeerLeft {
            topic: TOPIC,
            peer: key,
        },
        ServerMessage::PeerJoined {
            topic: TOPIC,
            peer: key,
        },
    );
    assert_eq!(world.take(peer), [left, joined]);
    world.rules.handle_disconnect(old);
    world.drain();
    assert_eq!(
        world.take(peer),
        [],
        "the replaced connection takes nobody with it"
    );
    assert_eq!(world.rules.counts().memberships, 2);
}

#[test]
fn joining_again_on_the_same_connection_changes_nothing_for_others() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    world.join(a, TOPIC, 1);
    world.join(b, TOPIC, 2);
    world.take(b);
    world.join(a, TOPIC, 1);
    assert_eq!(world.take(b), []);
    world.join(a, TOPIC, 3);
    assert_eq!(
        world.take(b).len(),
        2,
        "another key: one peer left, one joined"
    );
    assert_eq!(world.rules.counts().memberships, 2);
}

#[test]
fn a_large_topic_lists_some_of_its_peers() {
    let free = Rate {
        per_second: 1_000_000,
        burst: 1_000_000,
    };
    let settings = RuleSettings {
        topic_join_rate: free,
        ..RuleSettings::default()
    };
    let mut world = World::with(settings);
    for seed in 0..200 {
        let id = world.connect();
        world.join(id, TOPIC, seed);
    }
    let id = world.connect();
    world.join(id, TOPIC, 201);
    let [ServerMessage::Joined { peers, .. }] = &world.take(id)[..] else {
        panic!("joined")
    };
    assert_eq!(peers.len(), PEERS_LISTED_MAX);
    let distinct: std::collections::BTreeSet<_> = peers.iter().collect();
    assert_eq!(distinct.len(), PEERS_LISTED_MAX);
}

#[test]
fn a_full_topic_a_full_connection_and_a_full_server_say_so() {
    let settings = RuleSettings {
        peers_per_topic_max: 2,
        topics_per_connection_max: 2,
        memberships_max: 4,
        ..RuleSettings::default()
    };
    let mut world = World::with(settings);
    let ids: Vec<ConnectionId> = (0..4).map(|_| world.connect()).collect();
    world.join(ids[0], TOPIC, 1);
    world.join(ids[1], TOPIC, 2);
    world.join(ids[2], TOPIC, 3);
    assert_eq!(world.refusal(ids[2]), Some(RefusalCode::TopicFull));
    world.join(ids[0], OTHER_TOPIC, 1);
    world.take(ids[0]);
    world.join(ids[0], Topic([3; 32]), 1);
    assert_eq!(world.refusal(ids[0]), Some(RefusalCode::TooManyTopics));
    world.join(ids[2], OTHER_TOPIC, 3);
    world.take(ids[2]);
    world.join(ids[3], Topic([4; 32]), 4);
    assert_eq!(world.refusal(ids[3]), Some(RefusalCode::ServerFull));
}

#[test]
fn a_flood_is_slowed_and_nobody_else_is() {
    let mut world = World::new();
    let offender = world.connect_from(address(66)).unwrap();
    let (a, b) = (world.connect(), world.connect());
    world.join(offender, TOPIC, 66);
    let key_a = world.join(a, TOPIC, 1);
    let key_b = world.join(b, TOPIC, 2);
    let mut pause = Duration::ZERO;
    for _ in 0..2_000 {
        pause = world.send(offender, &signal(TOPIC, key_a));
    }
    assert!(pause > Duration::from_secs(10), "{pause:?}");
    assert_eq!(world.send(a, &signal(TOPIC, key_b)), Duration::ZERO);
    world.take(a);
    world.now = world.now + pause;
    assert!(world.send(offender, &signal(TOPIC, key_a)) < Duration::from_millis(20));
    assert_eq!(world.take(a).len(), 1, "slowed, but nothing was lost");
}

#[test]
fn many_connections_of_one_address_share_its_tokens() {
    let mut world = World::new();
    let crowd: Vec<ConnectionId> = (0..100)
        .map(|_| world.connect_from(address(66)).unwrap())
        .collect();
    let honest = world.connect();
    let mut pause = Duration::ZERO;
    for id in crowd.iter().cycle().take(10_000) {
        pause = world.send(*id, &ClientMessage::Ping);
    }
    assert!(pause > Duration::from_secs(3), "{pause:?}");
    assert_eq!(world.send(honest, &ClientMessage::Ping), Duration::ZERO);
}

#[test]
fn empty_frames_cost_tokens_and_end_the_connection() {
    let mut world = World::new();
    let a = world.connect();
    for _ in 1..OFFENCES_MAX {
        world.frame(a, Bytes::new());
        assert_eq!(world.refusal(a), Some(RefusalCode::Malformed));
    }
    world.frame(a, Bytes::new());
    assert_eq!(world.closed.get(&a), Some(&CloseReason::Offences));
    let slow = Rate {
        per_second: 1,
        burst: 1,
    };
    let mut world = World::with(RuleSettings {
        connection_rate: slow,
        ..RuleSettings::default()
    });
    let a = world.connect();
    world.frame(a, Bytes::new());
    assert_eq!(world.frame(a, Bytes::new()), Duration::from_secs(1));
}

#[test]
fn oversize_frames_and_bodies_are_refused() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    let key = world.join(b, TOPIC, 2);
    world.join(a, TOPIC, 1);
    world.take(a);
    world.take(b);
    let body = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
    let long = ClientMessage::Send {
        topic: TOPIC,
        to: key,
        kind: SignalKind::Offer,
        body,
    };
    world.send(a, &long);
    assert_eq!(world.refusal(a), Some(RefusalCode::Malformed));
    assert_eq!(world.take(b), []);
    world.frame(a, Bytes::from(vec![0; FRAME_BYTES_MAX + 1]));
    assert_eq!(world.closed.get(&a), Some(&CloseReason::FrameTooLong));
}

#[test]
fn silent_connections_are_closed_and_pings_keep_others_open() {
    let mut world = World::new();
    let (silent, alive) = (world.connect(), world.connect());
    world.join(silent, TOPIC, 1);
    world.join(alive, TOPIC, 2);
    world.take(alive);
    let mut passed = Duration::ZERO;
    while passed <= STALE_AFTER {
        world.send(alive, &ClientMessage::Ping);
        world.advance(SWEEP_INTERVAL);
        passed += SWEEP_INTERVAL;
    }
    assert_eq!(world.closed.get(&silent), Some(&CloseReason::Stale));
    assert!(!world.closed.contains_key(&alive));
    let told = |message: &ServerMessage| matches!(message, ServerMessage::PeerLeft { .. });
    assert!(world.take(alive).iter().any(told));
}

#[test]
fn connections_that_join_nothing_are_closed() {
    let mut world = World::new();
    let (idle, busy) = (world.connect(), world.connect());
    world.join(busy, TOPIC, 1);
    world.advance(JOIN_WITHIN);
    assert_eq!(world.closed.get(&idle), Some(&CloseReason::NothingJoined));
    assert!(!world.closed.contains_key(&busy));
}

#[test]
fn newcomers_push_out_the_oldest_that_joined_nothing() {
    let mut world = World::with(RuleSettings {
        unjoined_max: 2,
        ..RuleSettings::default()
    });
    let member = world.connect();
    world.join(member, TOPIC, 1);
    let ids: Vec<ConnectionId> = (0..3).map(|_| world.connect()).collect();
    assert_eq!(world.closed.keys().copied().collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(world.rules.counts().unjoined, 2);
}

#[test]
fn a_full_address_and_a_full_server_take_no_connection() {
    let settings = RuleSettings {
        connections_max: 3,
        connections_per_address_max: 2,
        ..RuleSettings::default()
    };
    let mut world = World::with(settings);
    let (first, _second) = (world.connect(), world.connect());
    assert_eq!(
        world.connect_from(address(1)),
        Err(ConnectError::AddressFull)
    );
    world.connect_from(address(2)).unwrap();
    assert_eq!(
        world.connect_from(address(3)),
        Err(ConnectError::ServerFull)
    );
    world.rules.handle_disconnect(first);
    world.connect_from(address(1)).unwrap();
    let nameless = world
        .rules
        .handle_connect(world.now, address(4), vec![], [7; 32]);
    assert_eq!(nameless, Err(ConnectError::NoServerName));
}

#[test]
fn a_topic_that_is_joined_too_often_names_the_time_to_come_back() {
    let rate = Rate {
        per_second: 1,
        burst: 2,
    };
    let mut world = World::with(RuleSettings {
        topic_join_rate: rate,
        ..RuleSettings::default()
    });
    for seed in 1..=2 {
        let id = world.connect();
        world.join(id, TOPIC, seed);
    }
    let late = world.connect();
    world.join(late, TOPIC, 3);
    let [ServerMessage::Error(refusal)] = &world.take(late)[..] else {
        panic!("refused")
    };
    assert_eq!(
        (refusal.code, refusal.retry_after_ms),
        (RefusalCode::RateLimited, 1_000)
    );
    world.join(late, OTHER_TOPIC, 3);
    assert!(matches!(
        world.take(late)[..],
        [ServerMessage::Joined { .. }]
    ));
    world.now = world.now + Duration::from_secs(1);
    world.join(late, TOPIC, 3);
    assert!(matches!(
        world.take(late)[..],
        [ServerMessage::Joined { .. }]
    ));
}

/// One thing a hostile crowd may do.
#[derive(Clone, Debug)]
enum Act {
    Connect(u8),
    Disconnect(usize),
    Bytes(usize, Vec<u8>),
    Join(usize, u8, u8),
    Leave(usize, u8),
    Send(usize, u8, u8, Vec<u8>),
    Wait(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0..12usize;
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        (0..4u8).prop_map(Act::Connect),
        who.clone().prop_map(Act::Disconnect),
        (who.clone(), bytes.clone()).prop_map(|(who, bytes)| Act::Bytes(who, bytes)),
        (who.clone(), 0..4u8, 0..6u8).prop_map(|(who, topic, key)| Act::Join(who, topic, key)),
        (who.clone(), 0..4u8).prop_map(|(who, topic)| Act::Leave(who, topic)),
        (who, 0..4u8, 0..6u8, bytes)
            .prop_map(|(who, topic, to, body)| Act::Send(who, topic, to, body)),
        (0..40_000_000u32).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = ClientMessage::decode(Bytes::from(frame.clone())) {
            prop_assert_eq!(ClientMessage::decode(message.encode()), Ok(message));
        }
        if let Ok(message) = ServerMessage::decode(Bytes::from(frame)) {
            prop_assert_eq!(ServerMessage::decode(message.encode()), Ok(message));
        }
    }

    #[test]
    fn damaged_messages_never_panic(at in 0..200usize, flip in 1..=255u8, cut in 0..200usize) {
        let mut frame = join(&KeyPair::from_seed(&[1; 32]), TOPIC).encode().to_vec();
        let at = at % frame.len();
        frame[at] ^= flip;
        frame.truncate(frame.len() - cut % frame.len());
        let mut world = World::new();
        let id = world.connect();
        world.frame(id, Bytes::from(frame));
        // A flip in the topic, key or signature breaks the signature; any other the message.
        prop_assert_eq!(world.rules.counts().memberships, 0);
    }

    /// Whatever a crowd does, counts agree with a model and nobody hears of a topic it is not in.
    #[test]
    fn any_crowd_keeps_the_books_straight(acts in prop::collection::vec(act(), 1..120)) {
        let settings = RuleSettings { peers_per_topic_max: 4, ..RuleSettings::default() };
        let mut world = World::with(settings);
        let mut open: Vec<ConnectionId> = Vec::new();
        let mut inside: BTreeMap<(Topic, PublicKey), ConnectionId> = BTreeMap::new();
        for act in acts {
            let at = |who: usize| open.get(who % open.len().max(1)).copied();
            match act {
                Act::Connect(from) => open.extend(world.connect_from(address(from))),
                Act::Disconnect(who) => if let Some(id) = at(who) {
                    world.rules.handle_disconnect(id);
                    world.drain();
                    open.retain(|held| *held != id);
                    inside.retain(|_, held| *held != id);
                },
                Act::Bytes(who, bytes) => if let Some(id) = at(who) {
                    world.frame(id, Bytes::from(bytes));
                },
                Act::Join(who, topic, key) => if let Some(id) = at(who) {
                    world.take(id);
                    let topic = Topic([topic; 32]);
                    let key = world.join(id, topic, key);
                    let joined = |m: &ServerMessage| matches!(m, ServerMessage::Joined { .. });
                    if world.received.get(&id).is_some_and(|all| all.iter().any(joined)) {
                        inside.retain(|(held, _), owner| *owner != id || *held != topic);
                        inside.insert((topic, key), id);
                    }
                },
                Act::Leave(who, topic) => if let Some(id) = at(who) {
                    let topic = Topic([topic; 32]);
                    world.send(id, &ClientMessage::Leave { topic });
                    inside.retain(|(held, _), owner| *owner != id || *held != topic);
                },
                Act::Send(who, topic, to, body) => if let Some(id) = at(who) {
                    let (topic, body) = (Topic([topic; 32]), Bytes::from(body));
                    let to = KeyPair::from_seed(&[to; 32]).public_key();
                    world.received.clear();
                    world.send(id, &ClientMessage::Send { topic, to, kind: SignalKind::Answer, body });
                    for (receiver, messages) in &world.received {
                        if messages.iter().any(|m| matches!(m, ServerMessage::Signal { .. })) {
                            prop_assert_eq!(inside.get(&(topic, to)), Some(receiver));
                            let sender_is_in = |((held, _), owner): (&(Topic, PublicKey), &ConnectionId)| {
                                *held == topic && *owner == id
                            };
                            prop_assert!(inside.iter().any(sender_is_in));
                        }
                    }
                },
                Act::Wait(micros) => world.advance(Duration::from_micros(micros.into())),
            }
            let closed: Vec<ConnectionId> = world.closed.keys().copied().collect();
            open.retain(|held| !closed.contains(held));
            inside.retain(|_, held| !closed.contains(held));
            let counts = world.rules.counts();
            prop_assert_eq!(counts.connections, open.len());
            prop_assert_eq!(counts.memberships, inside.len());
        }
    }
}

#[test]
fn ice_servers_are_told_before_the_peers_to_whoever_asks_and_is_in_the_topic() {
    let settings = RuleSettings {
        tells_ice_servers: true,
        ..RuleSettings::default()
    };
    let mut rules = Rules::new(settings, 1);
    let address = "192.0.2.1".parse().unwrap();
    let elsewhere = ServerName::new("other.example", 443);
    let names = vec![elsewhere, name()];
    let id = rules
        .handle_connect(Time::ZERO, address, names, [7; 32])
        .unwrap();
    let key = KeyPair::from_seed(&[1; 32]);
    let outputs =
        |rules: &mut Rules| -> Vec<Output> { std::iter::from_fn(|| rules.poll_output()).collect() };
    outputs(&mut rules);
    let get = ClientMessage::GetIceServers { topic: TOPIC };
    rules.handle_frame(Time::ZERO, id, get.encode());
    let [Output::Send { frame, .. }] = &outputs(&mut rules)[..] else {
        panic!("one refusal");
    };
    let Ok(ServerMessage::Error(refusal)) = ServerMessage::decode(frame.clone()) else {
        panic!("a refusal");
    };
    assert_eq!(refusal.code, RefusalCode::NotJoined);
    let mut asking = join(&key, TOPIC);
    if let ClientMessage::Join { ice_servers, .. } = &mut asking {
        *ice_servers = true;
    }
    rules.handle_frame(Time::ZERO, id, asking.encode());
    let told = Output::TellIceServers {
        to: id,
        topic: TOPIC,
        key: key.public_key(),
        name: name(),
    };
    let after = outputs(&mut rules);
    assert_eq!(after[0], told, "by the name that the signature covers");
    assert!(matches!(&after[1..], [Output::Send { .. }]), "and Joined");
    rules.handle_frame(Time::ZERO, id, get.encode());
    assert_eq!(outputs(&mut rules), [told]);
    rules.handle_frame(Time::ZERO, id, join(&key, OTHER_TOPIC).encode());
    assert_eq!(
        outputs(&mut rules).len(),
        1,
        "who does not ask is told nothing"
    );
}
