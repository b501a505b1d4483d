//! Two sessions against each other, without a link.

use bytes::Bytes;
use kinlog_feeds::limits::PLAIN_FRAME_BYTES_MAX;
use kinlog_feeds::wire::hypercore::{self, Message, Synchronize};
use kinlog_feeds::wire::kinlog::{FeedMessage, GroupHeads, GroupMessage, Held};
use kinlog_feeds::wire::{Config, Connection, Event, Role};
use kinlog_feeds::{FeedKey, Hash, KeyPair, Time};

use super::*;
use crate::node::Credentials;

const FEED_A: FeedKey = FeedKey([0xa; 32]);
const FEED_B: FeedKey = FeedKey([0xb; 32]);
const BINDING: LinkBinding = LinkBinding {
    initiator: [1; 32],
    responder: [2; 32],
};

fn config(role: SessionRole, label: Label, key: [u8; 32], binding: LinkBinding) -> SessionConfig {
    SessionConfig {
        role,
        meeting: Meeting::Topic { label, key },
        binding,
        format: 0,
        associations: false,
        introduces: None,
        static_seed: [role.byte() + 1; 32],
        ephemeral_seed: [role.byte() + 3; 32],
        stream_header: [role.byte() + 5; 24],
    }
}

fn plain(role: SessionRole) -> SessionConfig {
    SessionConfig {
        meeting: Meeting::Plain,
        ..config(role, Label::Feed, [0; 32], LinkBinding::default())
    }
}

/// One end, with everything it told.
struct End {
    session: Session,
    events: Vec<SessionEvent>,
    error: Option<SessionError>,
    sent: usize,
}

impl End {
    fn new(config: SessionConfig) -> Self {
        End {
            session: Session::new(Time::ZERO, config),
            events: vec![],
            error: None,
            sent: 0,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = self.session.handle_bytes(Time::ZERO, bytes).err();
        }
        self.drain();
    }

    fn drain(&mut self) {
        while self.error.is_none() {
            match self.session.poll_event() {
                Ok(Some(event)) => self.events.push(event),
                Ok(None) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn transmit(&mut self) -> Vec<Bytes> {
        let frames: Vec<Bytes> = match self.error {
            None => std::iter::from_fn(|| self.session.poll_transmit()).collect(),
            Some(_) => Vec::new(),
        };
        self.sent += frames.iter().map(Bytes::len).sum::<usize>();
        frames
    }

    fn is_open(&self) -> bool {
        self.events.contains(&SessionEvent::Open(None))
    }

    fn certificates(&self) -> Vec<Certificate> {
        let certificate = |event: &SessionEvent| match event {
            SessionEvent::Certified(certificate) => Some(*certificate),
            _ => None,
        };
        self.events.iter().filter_map(certificate).collect()
    }
}

struct Pair {
    initiator: End,
    responder: End,
}

impl Pair {
    fn new(initiator: SessionConfig, responder: SessionConfig) -> Self {
        let mut pair = Pair {
            initiator: End::new(initiator),
            responder: End::new(responder),
        };
        pair.exchange();
        pair
    }

    fn met_by(label: Label) -> Self {
        Pair::new(
            config(SessionRole::Initiator, label, [7; 32], BINDING),
            config(SessionRole::Responder, label, [7; 32], BINDING),
        )
    }

    fn exchange(&mut self) {
        loop {
            self.initiator.drain();
            self.responder.drain();
            let (left, right) = (self.initiator.transmit(), self.responder.transmit());
            if left.is_empty() && right.is_empty() {
                return;
            }
            left.iter().for_each(|bytes| self.responder.take(bytes));
            right.iter().for_each(|bytes| self.initiator.take(bytes));
        }
    }
}

#[test]
fn peers_that_know_the_key_open() {
    let pair = Pair::met_by(Label::Feed);
    assert!(pair.initiator.is_open() && pair.responder.is_open());
}

#[test]
fn wrong_key_or_label_ends_the_session_before_it_opens() {
    let other_key = Pair::new(
        config(SessionRole::Initiator, Label::Feed, [7; 32], BINDING),
        config(SessionRole::Responder, Label::Feed, [8; 32], BINDING),
    );
    let other_label = Pair::new(
        config(SessionRole::Initiator, Label::Room, [7; 32], BINDING),
        config(SessionRole::Responder, Label::Feed, [7; 32], BINDING),
    );
    for pair in [other_key, other_label] {
        // Whoever sees the other's hello first hangs up; the other one sees the link end.
        let refused = |end: &End| matches!(end.error, Some(SessionError::WrongCapability));
        assert!(refused(&pair.initiator) || refused(&pair.responder));
        assert!(!pair.initiator.is_open() && !pair.responder.is_open());
    }
}

#[test]
fn certificate_reaches_the_other_side_and_holds() {
    let mut pair = Pair::met_by(Label::Room);
    let device = KeyPair::from_seed(&[9; 32]);
    let identity_hash = Hash([4; 32]);
    let credentials = Credentials {
        device: device.clone(),
        identity_hash,
    };
    pair.initiator.session.certify(&credentials).unwrap();
    pair.exchange();
    let shown = pair.responder.certificates();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].device.0, device.public_key().0);
    assert_eq!(shown[0].identity_hash, identity_hash);
    assert!(pair.initiator.certificates().is_empty());
}

#[test]
fn certificate_over_swapped_fingerprints_ends_the_session() {
    // A signal server that puts itself between two peers gives each another fingerprint.
    let swapped = LinkBinding {
        initiator: [1; 32],
        responder: [66; 32],
    };
    let mut pair = Pair::new(
        config(SessionRole::Initiator, Label::Room, [7; 32], BINDING),
        config(SessionRole::Responder, Label::Room, [7; 32], swapped),
    );
    let device = KeyPair::from_seed(&[9; 32]);
    let credentials = Credentials {
        device,
        identity_hash: Hash([4; 32]),
    };
    pair.initiator.session.certify(&credentials).unwrap();
    pair.exchange();
    assert!(matches!(
        pair.responder.error,
        Some(SessionError::Certificate(_))
    ));
    assert!(pair.responder.certificates().is_empty());
}

#[test]
fn second_certificate_ends_the_session() {
    let mut pair = Pair::met_by(Label::Room);
    let device = KeyPair::from_seed(&[9; 32]);
    let credentials = Credentials {
        device,
        identity_hash: Hash([4; 32]),
    };
    pair.initiator.session.certify(&credentials).unwrap();
    pair.initiator.session.certify(&credentials).unwrap();
    pair.exchange();
    assert!(matches!(
        pair.responder.error,
        Some(SessionError::SecondCertificate)
    ));
}

#[test]
fn peers_of_another_format_part() {
    let of = |role, format| SessionConfig {
        format,
        ..config(role, Label::Feed, [7; 32], BINDING)
    };
    let pair = Pair::new(of(SessionRole::Initiator, 7), of(SessionRole::Responder, 9));
    let error = pair.responder.error.unwrap();
    assert_eq!(error.to_string(), "this peer uses format 7, this build 9");
    let pair = Pair::new(of(SessionRole::Initiator, 0), of(SessionRole::Responder, 9));
    assert!(pair.responder.is_open());
}

#[test]
fn wanted_feed_that_is_held_gets_a_channel_and_carries_messages() {
    let mut pair = Pair::met_by(Label::Feed);
    pair.responder
        .session
        .set_feeds([FEED_A, FEED_B], [])
        .unwrap();
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    assert!(
        pair.initiator
            .events
            .contains(&SessionEvent::FeedOpened(FEED_A))
    );
    assert!(
        pair.responder
            .events
            .contains(&SessionEvent::FeedOpened(FEED_A))
    );
    let nothing_of_b = |end: &End| !end.events.contains(&SessionEvent::FeedOpened(FEED_B));
    assert!(nothing_of_b(&pair.initiator) && nothing_of_b(&pair.responder));

    let message = Message::Synchronize(Synchronize {
        length: 3,
        ..Synchronize::default()
    });
    pair.responder
        .session
        .send_feed(&FEED_A, FeedMessage::Hypercore(message.clone()), true)
        .unwrap();
    pair.exchange();
    assert!(
        pair.initiator
            .events
            .contains(&SessionEvent::Feed(FEED_A, message))
    );
}

#[test]
fn feed_wanted_before_it_is_held_gets_its_channel_later() {
    let mut pair = Pair::met_by(Label::Feed);
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    assert!(
        !pair
            .initiator
            .events
            .contains(&SessionEvent::FeedOpened(FEED_A))
    );
    pair.responder.session.set_feeds([FEED_A], []).unwrap();
    pair.exchange();
    assert!(
        pair.initiator
            .events
            .contains(&SessionEvent::FeedOpened(FEED_A))
    );
}

#[test]
fn feed_that_both_want_gets_one_channel() {
    let mut pair = Pair::met_by(Label::Feed);
    pair.initiator
        .session
        .set_feeds([FEED_A], [FEED_A])
        .unwrap();
    pair.responder
        .session
        .set_feeds([FEED_A], [FEED_A])
        .unwrap();
    pair.exchange();
    for end in [&pair.initiator, &pair.responder] {
        let opened = end
            .events
            .iter()
            .filter(|it| **it == SessionEvent::FeedOpened(FEED_A));
        assert_eq!(opened.count(), 1);
        assert!(end.error.is_none());
    }
}

#[test]
fn unwanted_feed_loses_its_channel_and_gets_it_back_when_wanted_again() {
    let mut pair = Pair::met_by(Label::Feed);
    pair.responder.session.set_feeds([FEED_A], []).unwrap();
    for round in 1..=2 {
        pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
        pair.exchange();
        let opened = SessionEvent::FeedOpened(FEED_A);
        assert_eq!(
            pair.responder
                .events
                .iter()
                .filter(|it| **it == opened)
                .count(),
            round
        );
        pair.initiator.session.set_feeds([], []).unwrap();
        pair.exchange();
        let closed = SessionEvent::FeedClosed {
            key: FEED_A,
            rejected: false,
        };
        assert_eq!(
            pair.responder
                .events
                .iter()
                .filter(|it| **it == closed)
                .count(),
            round
        );
        assert_eq!(
            pair.initiator
                .events
                .iter()
                .filter(|it| **it == closed)
                .count(),
            round
        );
    }
}

#[test]
fn feed_that_is_no_longer_served_is_closed() {
    let mut pair = Pair::met_by(Label::Feed);
    pair.responder.session.set_feeds([FEED_A], []).unwrap();
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    pair.responder.session.set_feeds([], []).unwrap();
    pair.exchange();
    let closed = SessionEvent::FeedClosed {
        key: FEED_A,
        rejected: false,
    };
    assert!(pair.initiator.events.contains(&closed) && pair.responder.events.contains(&closed));
}

#[test]
fn hosts_talk_over_the_peer_channel() {
    let mut pair = Pair::met_by(Label::Agent);
    let message = PeerMessage::IdentityOffer {
        hash: Hash([3; 32]),
    };
    pair.initiator.session.send_host(message.clone()).unwrap();
    pair.exchange();
    assert!(pair.responder.events.contains(&SessionEvent::Host(message)));
}

#[test]
fn plain_peers_open_the_feed_that_is_pulled() {
    let mut pair = Pair::new(plain(SessionRole::Initiator), plain(SessionRole::Responder));
    pair.responder.session.set_feeds([FEED_A], []).unwrap();
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    assert!(
        pair.initiator
            .events
            .contains(&SessionEvent::FeedOpened(FEED_A))
    );
    assert!(
        pair.responder
            .events
            .contains(&SessionEvent::FeedOpened(FEED_A))
    );
}

#[test]
fn plain_peer_that_does_not_hold_the_feed_rejects_it() {
    let mut pair = Pair::new(plain(SessionRole::Initiator), plain(SessionRole::Responder));
    pair.responder.session.set_feeds([FEED_B], []).unwrap();
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    let rejected = SessionEvent::FeedClosed {
        key: FEED_A,
        rejected: true,
    };
    assert!(pair.initiator.events.contains(&rejected));
}

#[test]
fn side_that_never_says_hello_is_given_up() {
    let mut end = End::new(config(
        SessionRole::Initiator,
        Label::Feed,
        [7; 32],
        BINDING,
    ));
    let due = end.session.poll_timeout().unwrap();
    assert!(end.session.handle_timeout(due).is_err());
}

/// A peer that knows a topic's key and speaks the wire itself.
struct Raw {
    connection: Connection,
    events: Vec<Event>,
}

impl Raw {
    fn pump(&mut self, end: &mut End) {
        loop {
            end.drain();
            while let Ok(Some(event)) = self.connection.poll_event() {
                self.events.push(event);
            }
            let mut moved = false;
            while let Some(bytes) = self.connection.poll_transmit() {
                moved = true;
                end.take(&bytes);
            }
            for bytes in end.transmit() {
                moved = true;
                self.connection.handle_bytes(Time::ZERO, &bytes).unwrap();
            }
            if !moved {
                return;
            }
        }
    }

    fn handshake_hash(&self) -> [u8; 64] {
        let hash = |event: &Event| match event {
            Event::HandshakeComplete { hash, .. } => Some(*hash),
            _ => None,
        };
        self.events
            .iter()
            .find_map(hash)
            .expect("the handshake was pumped through")
    }
}

fn raw_against(label: Label) -> (Raw, End) {
    let mut config_raw = Config::new(Role::Initiator, [11; 32], [12; 32], [13; 24]);
    config_raw.receive_frame_max = PLAIN_FRAME_BYTES_MAX;
    let connection = Connection::new(Time::ZERO, config_raw);
    let mut raw = Raw {
        connection,
        events: Vec::new(),
    };
    let mut end = End::new(config(SessionRole::Responder, label, [7; 32], BINDING));
    raw.pump(&mut end);
    (raw, end)
}

#[test]
fn peer_without_the_peer_channel_is_refused_in_a_topic() {
    let (mut raw, mut end) = raw_against(Label::Feed);
    raw.connection.reject_remote("kinlog/peer/1", None).unwrap();
    raw.pump(&mut end);
    assert!(
        matches!(end.error, Some(SessionError::NotKinlog)),
        "{:?}",
        end.error
    );
}

#[test]
fn mirrored_hello_is_refused() {
    let (mut raw, mut end) = raw_against(Label::Feed);
    let theirs = |event: &Event| match event {
        Event::RemoteOpen { handshake, .. } => Some(handshake.clone()),
        _ => None,
    };
    let hello = raw
        .events
        .iter()
        .find_map(theirs)
        .expect("the other side opened its channel");
    raw.connection.open("kinlog/peer/1", None, &hello).unwrap();
    raw.pump(&mut end);
    assert!(
        matches!(end.error, Some(SessionError::WrongCapability)),
        "{:?}",
        end.error
    );
}

#[test]
fn feed_opened_before_the_capability_is_shown_is_rejected() {
    let (mut raw, mut end) = raw_against(Label::Feed);
    end.session.set_feeds([FEED_A], []).unwrap();
    let hash = raw.handshake_hash();
    let handshake =
        kinlog_feeds::wire::hypercore::Handshake::new(Role::Initiator, &FEED_A, &hash).encode();
    let id = FEED_A.discovery_key();
    raw.connection
        .open("hypercore/alpha", Some(&id.0), &handshake)
        .unwrap();
    raw.pump(&mut end);
    assert!(!end.events.contains(&SessionEvent::FeedOpened(FEED_A)));
    assert!(
        raw.events
            .iter()
            .any(|event| matches!(event, Event::Rejected { .. }))
    );
}

#[test]
fn discovery_key_without_the_feed_key_ends_the_session() {
    let (mut raw, mut end) = raw_against(Label::Feed);
    end.session.set_feeds([FEED_A], []).unwrap();
    let hash = raw.handshake_hash();
    let cap = hello::cap(&hash, SessionRole::Initiator, Label::Feed, &[7; 32]);
    let hello = hello::Hello {
        features: 0,
        ..hello::Hello::new(0, Label::Feed, cap)
    };
    let hello = hello.encode();
    raw.connection.open("kinlog/peer/1", None, &hello).unwrap();
    raw.pump(&mut end);
    assert!(end.is_open());
    let guess =
        kinlog_feeds::wire::hypercore::Handshake::new(Role::Initiator, &FEED_B, &hash).encode();
    let id = FEED_A.discovery_key();
    raw.connection
        .open("hypercore/alpha", Some(&id.0), &guess)
        .unwrap();
    raw.pump(&mut end);
    assert!(
        matches!(end.error, Some(SessionError::FeedCapability)),
        "{:?}",
        end.error
    );
}

#[test]
fn too_many_wants_end_the_session() {
    let (mut raw, mut end) = raw_against(Label::Feed);
    let hash = raw.handshake_hash();
    let cap = hello::cap(&hash, SessionRole::Initiator, Label::Feed, &[7; 32]);
    let hello = hello::Hello::new(0, Label::Feed, cap).encode();
    let channel = raw.connection.open("kinlog/peer/1", None, &hello).unwrap();
    raw.pump(&mut end);
    for first in 0..=crate::limits::WANTED_TAGS_MAX / crate::limits::TAGS_PER_MESSAGE_MAX {
        let tags = (0..crate::limits::TAGS_PER_MESSAGE_MAX)
            .map(|n| ((first * crate::limits::TAGS_PER_MESSAGE_MAX + n) as u64).to_le_bytes())
            .collect();
        let body = message::ChannelMessage::Want(tags).encode();
        raw.connection.send(channel, 1, &body).unwrap();
    }
    raw.pump(&mut end);
    assert!(
        matches!(end.error, Some(SessionError::TooManyWants { .. })),
        "{:?}",
        end.error
    );
}

#[test]
fn garbage_after_the_handshake_ends_the_session_without_panic() {
    let mut seed = 0x9e37_79b9_u64;
    println!("seed {seed:#x}");
    for _ in 0..200 {
        let (_, mut end) = raw_against(Label::Feed);
        let mut bytes = Vec::new();
        for _ in 0..64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        // A frame whose length fits its content, so that it reaches the cipher.
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        end.take(&length[..3]);
        end.take(&bytes);
        assert!(
            matches!(end.error, Some(SessionError::Wire(_))),
            "{:?}",
            end.error
        );
    }
}

fn many(count: u32) -> Vec<FeedKey> {
    let key = |number: u32| {
        let mut key = [9; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        FeedKey(key)
    };
    (0..count).map(key).collect()
}

#[test]
fn ten_thousand_feeds_are_agreed_upon_without_a_channel_each() {
    let mut pair = Pair::met_by(Label::Feed);
    let feeds = many(10_000);
    let before = pair.initiator.sent + pair.responder.sent;
    pair.responder.session.set_feeds(feeds.clone(), []).unwrap();
    let asked = feeds[..9_000]
        .iter()
        .copied()
        .chain(many(10_100)[10_000..].to_vec());
    pair.initiator.session.set_feeds([], asked).unwrap();
    pair.exchange();
    for end in [&pair.initiator, &pair.responder] {
        let opened = |event: &&SessionEvent| matches!(event, SessionEvent::FeedOpened(_));
        assert_eq!(end.events.iter().filter(opened).count(), 9_000);
        assert!(end.error.is_none());
    }
    let each = (pair.initiator.sent + pair.responder.sent - before) / 9_000;
    assert!(each <= 33, "{each} bytes for each feed");
}

#[test]
fn what_is_said_of_several_feeds_costs_little_more_than_its_digest() {
    let mut pair = Pair::met_by(Label::Feed);
    let mut feeds = many(100);
    feeds.sort();
    pair.responder.session.set_feeds(feeds.clone(), []).unwrap();
    pair.initiator.session.set_feeds([], feeds.clone()).unwrap();
    pair.exchange();
    for end in [&pair.initiator, &pair.responder] {
        let opened = |event: &SessionEvent| matches!(event, SessionEvent::FeedOpened(_));
        let mut feeds_or_groups = end
            .events
            .iter()
            .filter(|event| opened(event) || **event == SessionEvent::TakesGroups);
        assert_eq!(
            feeds_or_groups.next(),
            Some(&SessionEvent::TakesGroups),
            "first of all"
        );
    }
    let heads = GroupMessage::Heads(GroupHeads {
        downloading: false,
        has_manifest: true,
        allows_pushes: false,
        digest: Hash([5; 32]),
    });
    let before = pair.responder.sent;
    let group = feeds[10..74].to_vec();
    pair.responder.session.send_group(&group, heads).unwrap();
    pair.exchange();
    let told = SessionEvent::Group(group, heads);
    assert!(pair.initiator.events.contains(&told));
    let sent = pair.responder.sent - before;
    assert!(sent <= 64, "{sent} bytes for 64 feeds");

    // One of them is given up meanwhile.
    pair.responder
        .session
        .set_feeds(feeds[..12].to_vec(), [])
        .unwrap();
    let answered = &feeds[10..13];
    pair.initiator
        .session
        .send_group(answered, GroupMessage::Differ)
        .unwrap();
    pair.exchange();
    let told = SessionEvent::Group(feeds[10..12].to_vec(), GroupMessage::Differ);
    assert!(pair.responder.events.contains(&told));
}

#[test]
fn what_is_held_travels_as_runs_between_kinlog_peers() {
    let mut pair = Pair::met_by(Label::Feed);
    pair.responder.session.set_feeds([FEED_A], []).unwrap();
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    assert!(
        pair.initiator
            .events
            .contains(&SessionEvent::TakesSets(FEED_A))
    );
    let words = vec![u32::MAX; 1024];
    let before = pair.responder.sent;
    let message = FeedMessage::Hypercore(hypercore::Message::Bitfield { start: 0, words });
    pair.responder
        .session
        .send_feed(&FEED_A, message, true)
        .unwrap();
    pair.exchange();
    let run = 0..32 * 1024;
    let held = Held {
        blocks: run.clone(),
        runs: Vec::from([run]),
    };
    let told = SessionEvent::Kinlog(FEED_A, FeedMessage::Held(held));
    assert!(pair.initiator.events.contains(&told));
    assert!(pair.responder.sent - before < 64);
}

#[test]
fn plain_kinlog_peers_keep_the_channel_and_name_the_feed_too() {
    let mut pair = Pair::new(plain(SessionRole::Initiator), plain(SessionRole::Responder));
    pair.responder.session.set_feeds([FEED_A], []).unwrap();
    pair.initiator.session.set_feeds([], [FEED_A]).unwrap();
    pair.exchange();
    for end in [&pair.initiator, &pair.responder] {
        assert!(end.events.contains(&SessionEvent::FeedOpened(FEED_A)));
        assert!(end.events.contains(&SessionEvent::TakesSets(FEED_A)));
    }
    pair.responder.session.set_feeds([], []).unwrap();
    pair.exchange();
    let closed = SessionEvent::FeedClosed {
        key: FEED_A,
        rejected: false,
    };
    assert!(pair.initiator.events.contains(&closed));
}

#[test]
fn a_plain_peer_without_kinlog_feeds_gets_its_channel() {
    let config = Config::new(Role::Initiator, [1; 32], [2; 32], [3; 24]);
    let mut javascript = Connection::new(Time::ZERO, config);
    let mut end = End::new(plain(SessionRole::Responder));
    end.session.set_feeds([FEED_A], []).unwrap();
    let mut hash = None;
    let mut rejected = false;
    let mut opened = false;
    for _ in 0..20 {
        while let Some(bytes) = javascript.poll_transmit() {
            end.take(&bytes);
        }
        for bytes in end.transmit() {
            javascript.handle_bytes(Time::ZERO, &bytes).unwrap();
        }
        while let Some(event) = javascript.poll_event().unwrap() {
            match event {
                Event::HandshakeComplete { hash: made, .. } => {
                    hash = Some(made);
                    let shown = hypercore::Handshake::new(Role::Initiator, &FEED_A, &made);
                    let id = FEED_A.discovery_key();
                    let protocol = hypercore::PROTOCOL;
                    javascript
                        .open(protocol, Some(&id.0), &shown.encode())
                        .unwrap();
                }
                Event::RemoteOpen { protocol, id, .. } => {
                    assert_eq!(protocol, "kinlog/feed/1");
                    javascript.reject_remote(&protocol, id.as_deref()).unwrap();
                    rejected = true;
                }
                Event::Opened { .. } => opened = true,
                _ => {}
            }
        }
        end.drain();
    }
    assert!(hash.is_some() && rejected && opened);
    assert!(end.error.is_none(), "{:?}", end.error);
    assert!(end.events.contains(&SessionEvent::FeedOpened(FEED_A)));
}
