//! Connections talking to each other, and to strangers who send anything at all.
#![allow(clippy::panic, clippy::unwrap_used)] // tests

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::Time;
use kinlog_feeds::limits::{
    HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL, PENDING_BYTES_MAX,
    UNAUTHENTICATED_BYTES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX,
};
use kinlog_feeds::wire::{ChannelId, Config, Connection, Event, Role, SendError, WireError};
use proptest::prelude::*;

const NOW: Time = Time(1_000_000);

fn connection(role: Role) -> Connection {
    let number = role as u8;
    let config = Config::new(role, [number; 32], [number + 10; 32], [number + 20; 24]);
    Connection::new(NOW, config)
}

/// Two connections; bytes go over in chunks of `chunk`.
struct Pair {
    sides: [Connection; 2],
    chunk: usize,
    now: Time,
}

impl Pair {
    fn new(chunk: usize) -> Self {
        let sides = [connection(Role::Initiator), connection(Role::Responder)];
        Pair {
            sides,
            chunk,
            now: NOW,
        }
    }

    /// A pair past its handshake.
    fn open(chunk: usize) -> Self {
        let mut pair = Pair::new(chunk);
        let [one, other] = pair.exchange();
        let hash = |events: &[Event]| match events {
            [Event::HandshakeComplete { hash, .. }] => *hash,
            other => panic!("{other:?}"),
        };
        assert_eq!(hash(&one), hash(&other));
        pair
    }

    /// Carries bytes until both sides are silent; returns each side's events.
    fn exchange(&mut self) -> [Vec<Event>; 2] {
        let mut events = [Vec::new(), Vec::new()];
        loop {
            let mut moved = false;
            for from in 0..2 {
                while let Some(bytes) = self.sides[from].poll_transmit() {
                    moved = true;
                    let to = &mut self.sides[1 - from];
                    for chunk in bytes.chunks(self.chunk) {
                        to.handle_bytes(self.now, chunk).unwrap();
                        while let Some(event) = to.poll_event().unwrap() {
                            events[1 - from].push(event);
                        }
                    }
                }
            }
            if !moved {
                return events;
            }
        }
    }

    /// Opens a channel on both sides.
    fn channel(&mut self, id: &[u8]) -> [ChannelId; 2] {
        let one = self.sides[0].open("test", Some(id), b"hello").unwrap();
        self.exchange();
        let other = self.sides[1].open("test", Some(id), b"hi").unwrap();
        let events = self.exchange();
        let handshake = Bytes::from_static(b"hi");
        assert_eq!(
            events[0],
            [Event::Opened {
                channel: one,
                handshake
            }]
        );
        let handshake = Bytes::from_static(b"hello");
        assert_eq!(
            self.poll(1),
            [Event::Opened {
                channel: other,
                handshake
            }]
        );
        [one, other]
    }

    fn poll(&mut self, side: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.sides[side].poll_event().unwrap()).collect()
    }
}

fn message(channel: ChannelId, message_type: u64, body: &[u8]) -> Event {
    Event::Message {
        channel,
        message_type,
        body: Bytes::copy_from_slice(body),
    }
}

#[test]
fn messages_arrive_whatever_the_chunks() {
    for chunk in [1, 2, 7, 100, 65_536] {
        let mut pair = Pair::open(chunk);
        let [one, other] = pair.channel(b"id");
        pair.sides[0].send(one, 3, b"a").unwrap();
        pair.sides[0].send(one, 300, &[9; 5000]).unwrap();
        pair.sides[1].send(other, 0, b"").unwrap();
        let events = pair.exchange();
        assert_eq!(
            events[1],
            [message(other, 3, b"a"), message(other, 300, &[9; 5000])]
        );
        assert_eq!(events[0], [message(one, 0, b"")]);
    }
}

#[test]
fn what_one_drain_sent_leaves_as_one_frame() {
    let mut pair = Pair::open(65_536);
    let [one, _] = pair.channel(b"id");
    for number in 0..100u8 {
        pair.sides[0].send(one, 1, &[number; 50]).unwrap();
    }
    let frames: Vec<Bytes> = std::iter::from_fn(|| pair.sides[0].poll_transmit()).collect();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].len(), 100 * 52 + 20 + 3);
}

#[test]
fn messages_sent_before_the_remote_opened_wait_for_it() {
    let mut pair = Pair::open(65_536);
    let one = pair.sides[0].open("test", None, b"x").unwrap();
    pair.sides[0].send(one, 1, b"early").unwrap();
    let events = pair.exchange();
    let (protocol, handshake) = ("test".to_owned(), Bytes::from_static(b"x"));
    let announced = Event::RemoteOpen {
        protocol: protocol.clone(),
        id: None,
        handshake: handshake.clone(),
    };
    assert_eq!(events[1], [announced]);
    let other = pair.sides[1].open("test", None, b"").unwrap();
    let opened = Event::Opened {
        channel: other,
        handshake,
    };
    assert_eq!(pair.poll(1), [opened, message(other, 1, b"early")]);
}

#[test]
fn a_remote_that_fills_the_waiting_room_is_paused_not_dropped() {
    let mut pair = Pair::open(65_536);
    let one = pair.sides[0].open("test", None, b"").unwrap();
    let bodies: Vec<Vec<u8>> = (0..100u8).map(|number| vec![number; 1000]).collect();
    for body in &bodies {
        pair.sides[0].send(one, 1, body).unwrap();
    }
    pair.exchange();
    assert!(
        !pair.sides[1].wants_input(),
        "{PENDING_BYTES_MAX} bytes wait"
    );
    let other = pair.sides[1].open("test", None, b"").unwrap();
    let mut events = pair.poll(1).into_iter();
    assert!(matches!(events.next(), Some(Event::Opened { .. })));
    let expected: Vec<Event> = bodies.iter().map(|body| message(other, 1, body)).collect();
    assert_eq!(events.collect::<Vec<_>>(), expected);
    assert!(pair.sides[1].wants_input());
}

#[test]
fn both_may_open_at_once() {
    let mut pair = Pair::open(65_536);
    let one = pair.sides[0].open("test", Some(b"id"), b"1").unwrap();
    let other = pair.sides[1].open("test", Some(b"id"), b"2").unwrap();
    let events = pair.exchange();
    assert_eq!(
        events[0],
        [Event::Opened {
            channel: one,
            handshake: Bytes::from_static(b"2")
        }]
    );
    assert_eq!(
        events[1],
        [Event::Opened {
            channel: other,
            handshake: Bytes::from_static(b"1")
        }]
    );
}

#[test]
fn rejected_and_closed_channels_leave_their_numbers() {
    let mut pair = Pair::open(65_536);
    for round in 0..50 {
        let one = pair.sides[0].open("test", Some(b"id"), b"").unwrap();
        pair.exchange();
        pair.sides[1].reject_remote("test", Some(b"id")).unwrap();
        assert_eq!(
            pair.exchange()[0],
            [Event::Rejected { channel: one }],
            "round {round}"
        );

        let [one, other] = pair.channel(b"id");
        pair.sides[round % 2]
            .close([one, other][round % 2])
            .unwrap();
        let events = pair.exchange();
        let closed = Event::Closed {
            channel: [one, other][1 - round % 2],
        };
        assert_eq!(events[1 - round % 2], [closed]);
        let refused = SendError::NotOpen { channel: one };
        assert_eq!(pair.sides[0].send(one, 0, b""), Err(refused));
    }
}

#[test]
fn a_channel_closed_before_the_answer_can_be_opened_again() {
    let mut pair = Pair::open(65_536);
    for _ in 0..20 {
        let one = pair.sides[0].open("test", None, b"").unwrap();
        pair.sides[0].close(one).unwrap();
        // The other side sees an open and a close, and opens late.
        let _ = pair.exchange();
        let late = pair.sides[1].open("test", None, b"").unwrap();
        let events = pair.exchange();
        assert!(
            matches!(events[0][..], [Event::RemoteOpen { .. }]),
            "{events:?}"
        );
        pair.sides[0].reject_remote("test", None).unwrap();
        assert_eq!(pair.exchange()[1], [Event::Rejected { channel: late }]);
    }
    // Closes that cross.
    for _ in 0..20 {
        let [one, other] = pair.channel(b"id");
        pair.sides[0].send(one, 1, b"on its way").unwrap();
        pair.sides[0].close(one).unwrap();
        pair.sides[1].close(other).unwrap();
        assert_eq!(pair.exchange(), [Vec::new(), Vec::new()]);
    }
}

#[test]
fn one_name_is_one_channel() {
    let mut pair = Pair::open(65_536);
    let [one, _] = pair.channel(b"id");
    let refused = pair.sides[0].open("test", Some(b"id"), b"");
    assert_eq!(refused, Err(SendError::AlreadyOpen { channel: one }));
    // The older name of the Hypercore protocol is the same protocol.
    let old = pair.sides[0].open("hypercore", None, b"").unwrap();
    pair.exchange();
    pair.sides[1].open("hypercore/alpha", None, b"").unwrap();
    let events = pair.exchange();
    assert_eq!(
        events[0],
        [Event::Opened {
            channel: old,
            handshake: Bytes::new()
        }]
    );
}

#[test]
fn silence_is_filled_and_too_much_of_it_ends_the_connection() {
    let mut pair = Pair::open(65_536);
    let due = pair.sides[0].poll_timeout().unwrap();
    assert_eq!(due, NOW + KEEP_ALIVE_INTERVAL);
    pair.now = due;
    pair.sides[0].handle_timeout(due).unwrap();
    let frame = pair.sides[0].poll_transmit().unwrap();
    assert_eq!(frame.len(), 20, "an empty frame");
    pair.sides[1].handle_bytes(due, &frame).unwrap();
    assert_eq!(pair.sides[1].poll_event(), Ok(None));
    assert!(
        pair.sides[1].handle_timeout(NOW + IDLE_TIMEOUT).is_ok(),
        "heard at {due:?}"
    );
    let seconds = IDLE_TIMEOUT.as_secs();
    assert_eq!(
        pair.sides[0].handle_timeout(NOW + IDLE_TIMEOUT),
        Err(WireError::IdleTimeout { seconds })
    );
    assert_eq!(
        pair.sides[0].poll_event(),
        Err(WireError::IdleTimeout { seconds })
    );
}

#[test]
fn a_handshake_that_drags_on_ends() {
    for role in [Role::Initiator, Role::Responder] {
        let mut stalled = connection(role);
        assert_eq!(stalled.poll_timeout(), Some(NOW + HANDSHAKE_TIMEOUT));
        let just_before = NOW + (HANDSHAKE_TIMEOUT - Duration::from_micros(1));
        assert_eq!(stalled.handle_timeout(just_before), Ok(()));
        let seconds = HANDSHAKE_TIMEOUT.as_secs();
        let ended = stalled.handle_timeout(NOW + HANDSHAKE_TIMEOUT);
        assert_eq!(ended, Err(WireError::HandshakeTimeout { seconds }));
    }
}

#[test]
fn strangers_get_no_more_room_than_their_budget() {
    let mut stranger = connection(Role::Responder);
    let (limit, actual) = (UNAUTHENTICATED_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX + 1);
    let refused = stranger.handle_bytes(NOW, &vec![0; actual]);
    assert_eq!(refused, Err(WireError::InputOverflow { limit, actual }));
    let mut stranger = connection(Role::Responder);
    stranger.handle_bytes(NOW, &[0xff, 0xff, 0xff]).unwrap();
    let (limit, actual) = (UNAUTHENTICATED_FRAME_BYTES_MAX, 0xff_ffff);
    assert_eq!(
        stranger.poll_event(),
        Err(WireError::FrameTooLarge { limit, actual })
    );
}

#[test]
fn frames_above_what_the_remote_takes_are_not_sent() {
    let mut pair = Pair::open(65_536);
    let [one, other] = pair.channel(b"id");
    let large = vec![5; 300_000];
    let refused = pair.sides[0].send(one, 0, &large);
    assert!(matches!(refused, Err(SendError::TooLarge { .. })));
    pair.sides[0].set_send_frame_max(1 << 20);
    pair.sides[1].set_receive_frame_max(1 << 20);
    pair.sides[0].send(one, 0, &large).unwrap();
    assert_eq!(pair.exchange()[1], [message(other, 0, &large)]);
}

#[test]
fn replayed_reordered_and_changed_frames_end_the_connection() {
    for attack in 0..3 {
        let mut pair = Pair::open(65_536);
        let [one, other] = pair.channel(b"id");
        pair.sides[0].send(one, 0, b"first").unwrap();
        let first = pair.sides[0].poll_transmit().unwrap();
        pair.sides[0].send(one, 0, b"second").unwrap();
        let second = pair.sides[0].poll_transmit().unwrap();
        let bytes = match attack {
            0 => [first.clone(), first].concat(),
            1 => [second, first].concat(),
            _ => {
                let mut changed = first.to_vec();
                changed[5] ^= 1;
                changed
            }
        };
        pair.sides[1].handle_bytes(NOW, &bytes).unwrap();
        if attack == 0 {
            assert_eq!(
                pair.sides[1].poll_event(),
                Ok(Some(message(other, 0, b"first")))
            );
        }
        let ended = pair.sides[1].poll_event();
        assert!(
            matches!(ended, Err(WireError::FrameAuthentication { .. })),
            "{ended:?}"
        );
        assert_eq!(pair.sides[1].handle_bytes(NOW, b"x"), ended.map(|_| ()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), responder: bool) {
        let role = if responder { Role::Responder } else { Role::Initiator };
        let mut stranger = connection(role);
        for chunk in bytes.chunks(97) {
            if stranger.handle_bytes(NOW, chunk).is_err() {
                break;
            }
            while let Ok(Some(event)) = stranger.poll_event() {
                prop_assert!(false, "random bytes made {event:?}");
            }
        }
    }
}

proptest! {
    // Each case pays for a handshake.
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Plain frames of a peer that knows the encryption and nothing of protomux.
    #[test]
    fn random_frames_never_panic(frames in proptest::collection::vec(proptest::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..60), 0..40)) {
        let mut pair = Pair::open(65_536);
        let [one, _] = pair.channel(b"id");
        // What stands in a batch entry is read as the receiver would read any frame.
        for frame in &frames {
            let (message_type, body) = frame.split_first().map_or((0, &[][..]), |(first, rest)| (u64::from(*first), rest));
            pair.sides[0].send(one, message_type, body).unwrap();
        }
        while let Some(bytes) = pair.sides[0].poll_transmit() {
            if pair.sides[1].handle_bytes(NOW, &bytes).is_err() {
                break;
            }
            while let Ok(Some(_)) = pair.sides[1].poll_event() {}
        }
    }
}
