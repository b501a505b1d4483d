//! Instances as facts, driven without Redis: every frame goes through the real codec.

use std::net::{IpAddr, Ipv4Addr};

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::{KeyPair, PublicKey, Time};

use super::*;
use crate::join::sign_join;
use crate::limits::{BUS_ALIVE_INTERVAL, BUS_GONE_AFTER, BUS_TIME_WINDOW};
use crate::rules::{BusOutput, ConnectionId, Output, RuleSettings, Rules};
use crate::{ClientMessage, ServerMessage, ServerName, SignalKind, Topic};

const TOPIC: Topic = Topic([1; 32]);
const STARTED_MS: u64 = 1_800_000_000_000;

fn secret(byte: u8) -> BusSecret {
    BusSecret::new(&[byte; 32]).unwrap()
}

/// One instance with its rules, and what its clients were sent.
struct Node {
    id: InstanceId,
    bus: Bus,
    rules: Rules,
    received: BTreeMap<ConnectionId, Vec<ServerMessage>>,
}

impl Node {
    fn new(id: u8) -> Node {
        let own = InstanceId([id; 16]);
        let mut rules = Rules::new(RuleSettings::default(), 1);
        rules.join_cluster(own, STARTED_MS);
        Node {
            id: own,
            bus: Bus::new(own, secret(b'9'), BusSettings::default()),
            rules,
            received: BTreeMap::new(),
        }
    }

    fn peers_told(&mut self, id: ConnectionId) -> Vec<(bool, PublicKey)> {
        let messages = self.received.remove(&id).unwrap_or_default();
        let told = |message| match message {
            ServerMessage::PeerJoined { peer, .. } => Some((true, peer)),
            ServerMessage::PeerLeft { peer, .. } => Some((false, peer)),
            _ => None,
        };
        messages.into_iter().filter_map(told).collect()
    }
}

/// Instances on one bus that hands everything to everybody, unless it is cut.
struct World {
    now: Time,
    nodes: Vec<Node>,
    /// Every frame that was published, with whom it was for.
    published: Vec<Outgoing>,
    cut: bool,
}

impl World {
    fn with(count: u8) -> World {
        let mut world = World {
            now: Time::ZERO,
            nodes: (1..=count).map(Node::new).collect(),
            published: Vec::new(),
            cut: false,
        };
        for at in 0..world.nodes.len() {
            world.connect_bus(at);
        }
        world
    }

    fn unix_ms(&self) -> u64 {
        STARTED_MS + u64::try_from(self.now.since(Time::ZERO).as_millis()).unwrap()
    }

    fn connect_bus(&mut self, at: usize) {
        self.nodes[at].rules.handle_bus(true);
        let now = self.now;
        self.nodes[at].bus.handle_connected(now);
        self.settle();
    }

    fn cut_bus(&mut self) {
        for node in &mut self.nodes {
            node.rules.handle_bus(false);
            node.bus.handle_disconnected();
        }
    }

    /// Does everything that is to be done, until nothing is.
    fn settle(&mut self) {
        let (now, unix_ms) = (self.now, self.unix_ms());
        loop {
            let mut frames = Vec::new();
            for node in &mut self.nodes {
                while let Some(event) = node.bus.poll_event() {
                    match event {
                        BusEvent::AllWanted => {
                            let all = node.rules.all_memberships();
                            node.bus.say_all(now, unix_ms, &all);
                        }
                        event => node.rules.handle_bus_event(now, event),
                    }
                }
                node.bus.say_due(now, unix_ms);
                while let Some(output) = node.rules.poll_bus_output() {
                    match output {
                        BusOutput::Change(change) => {
                            node.bus.say_changes(now, unix_ms, vec![change]);
                        }
                        BusOutput::Pass(pass) => {
                            node.bus.pass(unix_ms, pass.instance, pass.passed);
                        }
                    }
                }
                while let Some(output) = node.rules.poll_output() {
                    if let Output::Send { to, frame } = output {
                        let message = ServerMessage::decode(frame).unwrap();
                        node.received.entry(to).or_default().push(message);
                    }
                }
                while let Some(outgoing) = node.bus.poll_outgoing() {
                    frames.push(outgoing);
                }
            }
            if frames.is_empty() {
                return;
            }
            for outgoing in frames {
                if !self.cut {
                    self.deliver(&outgoing);
                }
                self.published.push(outgoing);
            }
        }
    }

    fn deliver(&mut self, outgoing: &Outgoing) {
        let (now, unix_ms) = (self.now, self.unix_ms());
        for node in &mut self.nodes {
            let for_it = match outgoing.to {
                Destination::Everybody => true,
                Destination::One(to) => to == node.id,
            };
            if for_it {
                node.bus.handle_frame(now, unix_ms, &outgoing.frame);
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(1));
            left -= step;
            self.now = self.now + step;
            for node in &mut self.nodes {
                node.bus.handle_timeout(self.now);
            }
            self.settle();
        }
    }

    fn client(&mut self, at: usize, seed: u8) -> (ConnectionId, PublicKey) {
        let name = ServerName::new("signal.example", 443);
        let key = KeyPair::from_seed(&[seed; 32]);
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, seed));
        let (now, rules) = (self.now, &mut self.nodes[at].rules);
        let id = rules
            .handle_connect(now, address, vec![name.clone()], [7; 32])
            .unwrap();
        let join = ClientMessage::Join {
            topic: TOPIC,
            client_key: key.public_key(),
            signature: sign_join(&key, &[7; 32], &name, &TOPIC),
            ice_servers: false,
        };
        rules.handle_frame(now, id, join.encode());
        self.settle();
        (id, key.public_key())
    }

    fn send(&mut self, at: usize, from: ConnectionId, to: PublicKey, body: &'static [u8]) {
        let message = ClientMessage::Send {
            topic: TOPIC,
            to,
            kind: SignalKind::Offer,
            body: Bytes::from_static(body),
        };
        let now = self.now;
        self.nodes[at]
            .rules
            .handle_frame(now, from, message.encode());
        self.settle();
    }

    fn leave(&mut self, at: usize, id: ConnectionId) {
        self.nodes[at].rules.handle_disconnect(id);
        self.settle();
    }

    fn remote(&self, at: usize) -> usize {
        self.nodes[at].rules.counts().remote_memberships
    }
}

#[test]
fn clients_of_different_instances_meet_exchange_signals_and_part() {
    let mut world = World::with(3);
    let (a, a_key) = world.client(0, 1);
    let (b, b_key) = world.client(1, 2);
    let (c, c_key) = world.client(2, 3);
    let listed = |world: &World, at: usize, id| {
        let messages = &world.nodes[at].received[&id];
        let peers = messages.iter().find_map(|message| match message {
            ServerMessage::Joined { peers, .. } => Some(peers.clone()),
            _ => None,
        });
        peers.unwrap()
    };
    assert_eq!(listed(&world, 1, b), [a_key]);
    let mut both = vec![a_key, b_key];
    both.sort();
    let mut seen = listed(&world, 2, c);
    seen.sort();
    assert_eq!(seen, both);
    assert_eq!(world.nodes[0].peers_told(a), [(true, b_key), (true, c_key)]);
    world.send(0, a, c_key, b"the offer");
    let got = world.nodes[2].received.remove(&c).unwrap();
    let signal = ServerMessage::Signal {
        topic: TOPIC,
        from: a_key,
        kind: SignalKind::Offer,
        body: Bytes::from_static(b"the offer"),
    };
    assert!(got.contains(&signal), "{got:?}");
    world.leave(1, b);
    assert_eq!(world.nodes[0].peers_told(a), [(false, b_key)]);
    assert_eq!(world.nodes[2].peers_told(c), [(false, b_key)]);
}

#[test]
fn an_instance_that_comes_later_hears_of_everybody() {
    let mut world = World::with(2);
    for seed in 1..=5 {
        world.client(usize::from(seed % 2), seed);
    }
    world.nodes.push(Node::new(3));
    world.connect_bus(2);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.remote(2), 5);
    assert_eq!(world.nodes[2].bus.instances(), 2);
}

#[test]
fn a_killed_instance_is_gone_within_90_seconds_and_one_that_says_bye_at_once() {
    let mut world = World::with(3);
    let (a, _) = world.client(0, 1);
    let (_, b_key) = world.client(1, 2);
    let (_, c_key) = world.client(2, 3);
    world.nodes[0].peers_told(a);
    let (now, unix_ms) = (world.now, world.unix_ms());
    world.nodes[2].bus.say_bye(now, unix_ms);
    world.settle();
    assert_eq!(world.nodes[0].peers_told(a), [(false, c_key)]);
    world.nodes.truncate(2);
    world.nodes.pop();
    world.advance(BUS_GONE_AFTER - BUS_ALIVE_INTERVAL);
    assert_eq!(world.nodes[0].peers_told(a), [], "it may only be slow");
    world.advance(BUS_ALIVE_INTERVAL + Duration::from_secs(2));
    assert_eq!(world.nodes[0].peers_told(a), [(false, b_key)]);
    assert!(BUS_GONE_AFTER + Duration::from_secs(2) < Duration::from_secs(90));
}

#[test]
fn an_outage_loses_nothing_inside_an_instance_and_all_is_right_after_it() {
    let mut world = World::with(2);
    let (a, a_key) = world.client(0, 1);
    let (b, b_key) = world.client(1, 2);
    world.nodes[0].peers_told(a);
    world.cut_bus();
    let (c, c_key) = world.client(0, 3);
    assert_eq!(
        world.nodes[0].peers_told(a),
        [(true, c_key)],
        "within one instance"
    );
    world.leave(1, b);
    let (_, d_key) = world.client(1, 4);
    world.send(0, a, b_key, b"nobody is reached");
    let told = world.nodes[0].received.remove(&a).unwrap();
    assert!(matches!(told[..], [ServerMessage::Error(_)]), "{told:?}");
    world.send(0, a, c_key, b"inside");
    let got = world.nodes[0].received.remove(&c).unwrap();
    assert!(
        got.iter()
            .any(|message| matches!(message, ServerMessage::Signal { .. }))
    );
    world.advance(Duration::from_secs(10));
    assert_eq!(
        world.nodes[0].peers_told(a),
        [],
        "nobody is given up for 10 s"
    );
    for at in 0..2 {
        world.connect_bus(at);
    }
    world.advance(Duration::from_secs(3));
    let mut told = world.nodes[0].peers_told(a);
    told.sort();
    assert_eq!(told, [(false, b_key), (true, d_key)]);
    assert_eq!((world.remote(0), world.remote(1)), (1, 2));
    assert_ne!(a_key, d_key);
}

#[test]
fn a_lost_frame_is_noticed_and_made_good() {
    let mut world = World::with(2);
    let (a, _) = world.client(0, 1);
    world.cut = true;
    let (lost, lost_key) = world.client(1, 2);
    world.cut = false;
    assert_eq!(world.nodes[0].peers_told(a), []);
    let (_, next_key) = world.client(1, 3);
    world.advance(Duration::from_secs(2));
    let mut told = world.nodes[0].peers_told(a);
    told.sort();
    let mut both = vec![(true, lost_key), (true, next_key)];
    both.sort();
    assert_eq!(told, both);
    // And a departure that was not heard of.
    world.cut = true;
    world.leave(1, lost);
    world.cut = false;
    world.advance(BUS_ALIVE_INTERVAL + Duration::from_secs(2));
    assert_eq!(world.nodes[0].peers_told(a), [(false, lost_key)]);
}

#[test]
fn forged_changed_old_and_repeated_frames_are_not_believed() {
    let mut world = World::with(2);
    let (a, _) = world.client(0, 1);
    let (b, b_key) = world.client(1, 2);
    world.nodes[0].peers_told(a);
    let joined = world.published.clone();
    world.leave(1, b);
    assert_eq!(world.nodes[0].peers_told(a), [(false, b_key)]);

    // All that was ever said, again, and everything with one bit changed.
    for outgoing in &joined {
        world.deliver(outgoing);
        let mut changed = outgoing.frame.to_vec();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        let frame = Bytes::from(changed);
        world.deliver(&Outgoing {
            to: outgoing.to,
            frame,
        });
    }
    world.settle();
    assert_eq!(world.nodes[0].peers_told(a), []);
    assert_eq!(world.remote(0), 0);
    assert!(world.nodes[0].bus.refused().of("replayed") > 0);
    assert!(world.nodes[0].bus.refused().of("mac") > 0);

    // Somebody with another secret, and somebody with ours from long ago.
    let change = Change {
        joined: true,
        topic: TOPIC,
        key: PublicKey([5; 32]),
        since_ms: STARTED_MS,
    };
    let frame = |secret: &BusSecret, unix_ms| {
        Frame {
            to: None,
            from: InstanceId([77; 16]),
            number: 1,
            unix_ms,
            message: Message::Changes(vec![change]),
        }
        .encode(secret)
    };
    let (now, unix_ms) = (world.now, world.unix_ms());
    let window = u64::try_from(BUS_TIME_WINDOW.as_millis()).unwrap();
    let bus = &mut world.nodes[0].bus;
    bus.handle_frame(now, unix_ms, &frame(&secret(b'8'), unix_ms));
    bus.handle_frame(now, unix_ms, &frame(&secret(b'9'), unix_ms - window - 1));
    bus.handle_frame(now, unix_ms, b"short");
    world.settle();
    assert_eq!(world.remote(0), 0);
    let bus = &mut world.nodes[0].bus;
    assert_eq!(
        (bus.refused().of("time"), bus.refused().of("length")),
        (1, 1)
    );
    bus.handle_frame(now, unix_ms, &frame(&secret(b'9'), unix_ms));
    world.settle();
    assert_eq!(
        world.remote(0),
        1,
        "the same, said now and by one of us, counts"
    );
}

#[test]
fn what_a_dead_instance_said_does_not_bring_it_back() {
    let mut world = World::with(2);
    let (a, _) = world.client(0, 1);
    world.client(1, 2);
    let said = world.published.clone();
    let (now, unix_ms) = (world.now, world.unix_ms());
    world.nodes[1].bus.say_bye(now, unix_ms);
    world.settle();
    world.nodes.pop();
    world.nodes[0].peers_told(a);
    for _ in 0..300 {
        world.advance(Duration::from_secs(1));
        for outgoing in &said {
            world.deliver(outgoing);
        }
        world.settle();
    }
    assert_eq!(world.nodes[0].peers_told(a), []);
    assert_eq!(world.remote(0), 0);
}

#[test]
fn of_two_connections_with_one_key_the_later_stays_on_every_instance() {
    let mut world = World::with(3);
    // The clock of the one that it leaves is ahead: what counted was the time, and not who came later.
    let ahead = Duration::from_secs(5);
    let (own, rules) = (world.nodes[0].id, &mut world.nodes[0].rules);
    rules.join_cluster(own, STARTED_MS + u64::try_from(ahead.as_millis()).unwrap());
    rules.handle_bus(true);
    let (watcher, _) = world.client(2, 9);
    let (old, key) = world.client(0, 1);
    world.advance(Duration::from_secs(1));
    let (new, _) = world.client(1, 1);
    let told = world.nodes[0].received.remove(&old).unwrap();
    assert!(
        told.iter()
            .any(|message| matches!(message, ServerMessage::Error(refusal)
                if refusal.code == crate::RefusalCode::Replaced)),
        "{told:?}"
    );
    world.nodes[1].received.clear();
    world.send(2, watcher, key, b"to the later one");
    assert!(world.nodes[1].received.contains_key(&new));
    assert_eq!(world.nodes[0].rules.counts().memberships, 0);
    // The old one's end does not end the new one.
    world.leave(0, old);
    assert_eq!((world.remote(0), world.remote(2)), (2, 1));
}

#[test]
fn at_one_moment_everybody_comes_to_the_same() {
    let mut world = World::with(2);
    world.cut_bus();
    let (low, key) = world.client(0, 1);
    let (high, _) = world.client(1, 1);
    for at in 0..2 {
        world.connect_bus(at);
    }
    world.advance(Duration::from_secs(2));
    let counts = [0, 1].map(|at: usize| world.nodes[at].rules.counts());
    assert_eq!(
        [counts[0].memberships, counts[0].remote_memberships],
        [0, 1]
    );
    assert_eq!(
        [counts[1].memberships, counts[1].remote_memberships],
        [1, 0]
    );
    assert!(world.nodes[0].received.contains_key(&low));
    assert!(!world.nodes[1].peers_told(high).contains(&(false, key)));
}

#[test]
fn frames_come_back_as_they_were_and_nothing_else_decodes() {
    let change = |joined| Change {
        joined,
        topic: TOPIC,
        key: PublicKey([3; 32]),
        since_ms: 42,
    };
    let passed = Passed {
        topic: TOPIC,
        from: PublicKey([1; 32]),
        to: PublicKey([2; 32]),
        kind: SignalKind::Candidate,
        body: Bytes::from_static(b"body"),
    };
    for (to, message) in [
        (None, Message::Alive),
        (None, Message::Ask),
        (None, Message::Changes(vec![change(true), change(false)])),
        (
            None,
            Message::All {
                first: true,
                last: false,
                changes: vec![],
            },
        ),
        (None, Message::Bye),
        (Some(InstanceId([4; 16])), Message::Signal(passed)),
    ] {
        let frame = Frame {
            to,
            from: InstanceId([5; 16]),
            number: 6,
            unix_ms: 7,
            message,
        };
        let bytes = frame.encode(&secret(1));
        assert_eq!(Frame::decode(&bytes, &secret(1)), Ok(frame));
        assert_eq!(Frame::decode(&bytes, &secret(2)), Err(FrameError::Mac));
        for length in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..length], &secret(1)).is_err());
        }
    }
}

#[test]
fn a_secret_that_can_be_guessed_is_none_and_none_is_shown() {
    assert_eq!(BusSecret::new(b"short\n").unwrap_err().actual, 5);
    let secret = BusSecret::new(b"0123456789abcdef0123456789abcdef\n").unwrap();
    assert_eq!(format!("{secret:?}"), "BusSecret(..)");
    assert_eq!(
        secret.channel(),
        BusSecret::new(b"0123456789abcdef0123456789abcdef")
            .unwrap()
            .channel()
    );
}
