//! The client's core as facts, driven without sockets.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::{KeyPair, PublicKey, Time};
use proptest::prelude::*;

use super::*;
use crate::ice::{IceServers, IceUrl};
use crate::join::verify_join;
use crate::limits::{
    BACKOFF_FIRST, BODY_BYTES_MAX, CLIENT_OUTBOX_MESSAGES_MAX, PING_INTERVAL, PROTOCOL_VERSION,
    STALE_AFTER,
};
use crate::{
    AnnouncedLimits, ClientMessage, Refusal, RefusalCode, ServerMessage, ServerName, SignalKind,
    Topic,
};

const TOPIC: Topic = Topic([1; 32]);
const PEER: PublicKey = PublicKey([9; 32]);

fn key() -> KeyPair {
    KeyPair::from_seed(&[5; 32])
}

fn core() -> Core {
    Core::new(ServerName::new("signal.example", 443), 1)
}

fn drain(core: &mut Core) -> Vec<Output> {
    std::iter::from_fn(|| core.poll_output()).collect()
}

fn sent(outputs: &[Output]) -> Vec<ClientMessage> {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send(frame) => Some(frame.clone()),
        _ => None,
    });
    frames
        .map(|frame| ClientMessage::decode(frame).unwrap())
        .collect()
}

fn hello(nonce: u8) -> Bytes {
    let (version, limits) = (PROTOCOL_VERSION, AnnouncedLimits::default());
    ServerMessage::Hello {
        nonce: [nonce; 32],
        version,
        limits,
    }
    .encode()
}

fn joined() -> Bytes {
    ServerMessage::Joined {
        topic: TOPIC,
        peers: vec![PEER, key().public_key()],
    }
    .encode()
}

/// Returns a core that is greeted and in `TOPIC`, drained.
fn connected(now: Time) -> Core {
    let mut core = core();
    core.join(now, TOPIC, key());
    core.handle_opened(now);
    core.handle_frame(now, hello(1));
    core.handle_frame(now, joined());
    drain(&mut core);
    core
}

#[test]
fn nothing_is_dialled_before_the_first_topic() {
    let mut core = core();
    assert_eq!(drain(&mut core), []);
    assert_eq!(
        (core.poll_timeout(), core.status(Time::ZERO).state),
        (None, ClientState::Idle)
    );
    core.join(Time::ZERO, TOPIC, key());
    assert_eq!(drain(&mut core), [Output::Dial]);
    core.join(Time::ZERO, Topic([2; 32]), key());
    assert_eq!(drain(&mut core), [], "one connection for all topics");
}

#[test]
fn every_reconnect_joins_again_with_a_fresh_signature() {
    let mut core = core();
    let server = ServerName::new("signal.example", 443);
    core.join(Time::ZERO, TOPIC, key());
    for nonce in 1..=3 {
        assert!(drain(&mut core).contains(&Output::Dial));
        core.handle_opened(Time::ZERO);
        core.handle_frame(Time::ZERO, hello(nonce));
        let messages = sent(&drain(&mut core));
        let [
            ClientMessage::Join {
                topic: TOPIC,
                client_key,
                signature,
                ice_servers: true,
            },
        ] = &messages[..]
        else {
            panic!("one join, got {messages:?}")
        };
        let checked = verify_join(client_key, &[nonce; 32], &server, &TOPIC, signature);
        assert_eq!(checked, Ok(()));
        core.handle_closed(Time::ZERO, "gone".to_owned());
        let at = core.poll_timeout().unwrap();
        core.handle_timeout(at);
    }
}

#[test]
fn joined_lists_peers_without_ourselves() {
    let mut core = core();
    core.join(Time::ZERO, TOPIC, key());
    core.handle_opened(Time::ZERO);
    core.handle_frame(Time::ZERO, hello(1));
    drain(&mut core);
    core.handle_frame(Time::ZERO, joined());
    let event = ClientEvent::Joined {
        topic: TOPIC,
        peers: vec![PEER],
    };
    assert_eq!(drain(&mut core), [Output::Event(event)]);
}

#[test]
fn what_concerns_topics_we_are_not_in_is_dropped() {
    let mut core = connected(Time::ZERO);
    let topic = Topic([2; 32]);
    for message in [
        ServerMessage::Joined {
            topic,
            peers: vec![PEER],
        },
        ServerMessage::PeerJoined { topic, peer: PEER },
        ServerMessage::PeerLeft { topic, peer: PEER },
        ServerMessage::Signal {
            topic,
            from: PEER,
            kind: SignalKind::Offer,
            body: Bytes::new(),
        },
    ] {
        core.handle_frame(Time::ZERO, message.encode());
        assert_eq!(drain(&mut core), []);
    }
    core.leave(Time::ZERO, &TOPIC);
    assert_eq!(
        sent(&drain(&mut core)),
        [ClientMessage::Leave { topic: TOPIC }]
    );
    core.handle_frame(
        Time::ZERO,
        ServerMessage::PeerJoined {
            topic: TOPIC,
            peer: PEER,
        }
        .encode(),
    );
    assert_eq!(drain(&mut core), []);
}

#[test]
fn a_lost_connection_says_why_and_when_it_is_tried_again() {
    let mut core = connected(Time::ZERO);
    core.handle_closed(Time(1), "connection lost: reset".to_owned());
    let outputs = drain(&mut core);
    let [Output::Event(ClientEvent::Disconnected { reason, retry_in })] = &outputs[..] else {
        panic!("one event, got {outputs:?}")
    };
    assert_eq!(reason, "connection lost: reset");
    assert!(*retry_in <= BACKOFF_FIRST);
    let status = core.status(Time(1));
    assert_eq!(status.state, ClientState::Waiting);
    assert_eq!(
        (status.retry_in, status.last_error),
        (Some(*retry_in), Some(reason.clone()))
    );
    assert_eq!((status.topics, status.topics_joined), (1, 0));
}

#[test]
fn a_silent_server_is_pinged_then_given_up() {
    let mut core = connected(Time::ZERO);
    let at = core.poll_timeout().unwrap();
    assert_eq!(at, Time::ZERO + PING_INTERVAL);
    core.handle_timeout(at);
    assert_eq!(sent(&drain(&mut core)), [ClientMessage::Ping]);
    core.handle_frame(at, ServerMessage::Pong.encode());
    for second in 0..60 {
        core.handle_timeout(at + Duration::from_secs(second));
    }
    assert!(
        !drain(&mut core).contains(&Output::Close),
        "heard {STALE_AFTER:?} ago is not stale"
    );
    core.handle_timeout(at + STALE_AFTER);
    assert!(drain(&mut core).contains(&Output::Close));
}

#[test]
fn a_server_that_does_not_greet_or_speaks_another_version_is_given_up() {
    let mut core = core();
    core.join(Time::ZERO, TOPIC, key());
    core.handle_opened(Time::ZERO);
    core.handle_timeout(core.poll_timeout().unwrap());
    assert!(drain(&mut core).contains(&Output::Close));
    core.handle_timeout(core.poll_timeout().unwrap());
    core.handle_opened(Time::ZERO);
    let (version, limits) = (PROTOCOL_VERSION + 1, AnnouncedLimits::default());
    core.handle_frame(
        Time::ZERO,
        ServerMessage::Hello {
            nonce: [0; 32],
            version,
            limits,
        }
        .encode(),
    );
    assert!(drain(&mut core).contains(&Output::Close));
    assert!(
        core.status(Time::ZERO)
            .last_error
            .unwrap()
            .contains("version")
    );
}

#[test]
fn a_crowded_topic_is_joined_again_after_the_named_time() {
    let mut core = connected(Time::ZERO);
    let refusal = Refusal {
        code: RefusalCode::RateLimited,
        topic: Some(TOPIC),
        peer: None,
        message: "slow\u{1b}[2J".to_owned(),
        retry_after_ms: 1_000,
    };
    core.handle_frame(Time::ZERO, ServerMessage::Error(refusal).encode());
    let outputs = drain(&mut core);
    let [Output::Event(ClientEvent::Refused(shown))] = &outputs[..] else {
        panic!("one event, got {outputs:?}")
    };
    assert_eq!(
        shown.message, "slow[2J",
        "a server does not steer our terminal"
    );
    let at = core.poll_timeout().unwrap();
    assert!(at >= Time(1_000_000) && at <= Time(2_000_000), "{at:?}");
    core.handle_timeout(at);
    assert!(matches!(
        sent(&drain(&mut core))[..],
        [ClientMessage::Join { .. }]
    ));
}

#[test]
fn signals_need_a_joined_topic_and_have_limits() {
    let mut core = connected(Time::ZERO);
    let mut send = |topic, bytes: usize| {
        core.send(
            Time::ZERO,
            topic,
            PEER,
            SignalKind::Offer,
            Bytes::from(vec![0; bytes]),
        )
    };
    let elsewhere = Topic([2; 32]);
    assert_eq!(
        send(elsewhere, 1),
        Err(SendError::NotJoined { topic: elsewhere })
    );
    let (limit, actual) = (BODY_BYTES_MAX, BODY_BYTES_MAX + 1);
    assert_eq!(
        send(TOPIC, actual),
        Err(SendError::TooLong { limit, actual })
    );
    for _ in 0..CLIENT_OUTBOX_MESSAGES_MAX {
        assert_eq!(send(TOPIC, 1), Ok(()));
    }
    assert!(matches!(send(TOPIC, 1), Err(SendError::QueueFull { .. })));
    core.handle_closed(Time::ZERO, "gone".to_owned());
    let left = core.send(Time::ZERO, TOPIC, PEER, SignalKind::Offer, Bytes::new());
    assert_eq!(left, Err(SendError::NotJoined { topic: TOPIC }));
}

#[test]
fn a_stopped_client_closes_and_dials_no_more() {
    let mut core = connected(Time::ZERO);
    core.stop();
    assert_eq!(drain(&mut core), [Output::Close]);
    core.join(Time::ZERO, Topic([2; 32]), key());
    core.handle_closed(Time::ZERO, "gone".to_owned());
    assert_eq!((drain(&mut core), core.poll_timeout()), (vec![], None));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_server_never_panics_a_client(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..20),
        greeted in any::<bool>(),
    ) {
        let mut core = if greeted { connected(Time::ZERO) } else { core() };
        for (at, frame) in frames.into_iter().enumerate() {
            core.handle_frame(Time(at as u64), Bytes::from(frame));
            drain(&mut core);
        }
    }
}

fn ice_servers(lifetime_s: u32) -> IceServers {
    IceServers {
        stun: vec![IceUrl::stun("signal.example", 443)],
        lifetime_s,
        ..IceServers::default()
    }
}

fn told(lifetime_s: u32) -> Bytes {
    let (topic, servers) = (TOPIC, ice_servers(lifetime_s));
    ServerMessage::IceServers { topic, servers }.encode()
}

/// Returns whether the only message is a join that asks for ICE servers.
fn asks(messages: &[ClientMessage]) -> bool {
    match messages {
        [ClientMessage::Join { ice_servers, .. }] => *ice_servers,
        other => panic!("one join, got {other:?}"),
    }
}

#[test]
fn one_join_of_a_connection_asks_for_ice_servers() {
    let mut core = core();
    let other = Topic([2; 32]);
    core.join(Time::ZERO, TOPIC, key());
    core.handle_opened(Time::ZERO);
    core.handle_frame(Time::ZERO, hello(1));
    assert!(asks(&sent(&drain(&mut core))));
    core.join(Time::ZERO, other, key());
    assert!(!asks(&sent(&drain(&mut core))), "the first join asked");
    core.handle_frame(Time::ZERO, told(0));
    let event = ClientEvent::IceServers(ice_servers(0));
    assert_eq!(drain(&mut core), [Output::Event(event)]);
    core.handle_closed(Time::ZERO, "gone".to_owned());
    core.leave(Time::ZERO, &other);
    let at = core.poll_timeout().unwrap();
    core.handle_timeout(at);
    core.handle_opened(at);
    core.handle_frame(at, hello(2));
    assert!(asks(&sent(&drain(&mut core))), "a new connection asks anew");
}

#[test]
fn a_topic_that_is_left_or_refused_leaves_the_question_to_the_next_join() {
    let mut core = core();
    core.join(Time::ZERO, TOPIC, key());
    core.handle_opened(Time::ZERO);
    core.handle_frame(Time::ZERO, hello(1));
    core.leave(Time::ZERO, &TOPIC);
    drain(&mut core);
    core.join(Time::ZERO, TOPIC, key());
    assert!(asks(&sent(&drain(&mut core))));
    let refusal = Refusal {
        code: RefusalCode::TopicFull,
        topic: Some(TOPIC),
        peer: None,
        message: String::new(),
        retry_after_ms: 0,
    };
    core.handle_frame(Time::ZERO, ServerMessage::Error(refusal).encode());
    drain(&mut core);
    core.join(Time::ZERO, Topic([2; 32]), key());
    assert!(asks(&sent(&drain(&mut core))));
}

#[test]
fn credentials_are_renewed_when_half_their_lifetime_is_left() {
    let mut core = connected(Time::ZERO);
    core.handle_frame(Time::ZERO, told(20));
    drain(&mut core);
    let at = core.poll_timeout().unwrap();
    assert_eq!(at, Time::ZERO + Duration::from_secs(10));
    core.handle_timeout(at);
    let get = ClientMessage::GetIceServers { topic: TOPIC };
    assert_eq!(sent(&drain(&mut core)), std::slice::from_ref(&get));
    core.handle_frame(at, told(20));
    let again = core.poll_timeout().unwrap();
    assert_eq!(again, at + Duration::from_secs(10));
}

#[test]
fn servers_without_credentials_are_not_asked_for_again() {
    let mut core = connected(Time::ZERO);
    let before = core.poll_timeout();
    core.handle_frame(Time::ZERO, told(0));
    assert_eq!(core.poll_timeout(), before);
}

#[test]
fn what_a_newer_server_says_is_ignored() {
    let mut core = connected(Time::ZERO);
    // Field 99 of the oneof, an empty message.
    core.handle_frame(Time::ZERO, Bytes::from_static(&[0x9a, 0x06, 0x00]));
    assert_eq!(drain(&mut core), []);
    assert_eq!(core.status(Time::ZERO).state, ClientState::Connected);
}

#[test]
fn a_changed_network_is_dialled_over_at_once() {
    let mut core = connected(Time::ZERO);
    core.redial(Time::ZERO);
    let outputs = drain(&mut core);
    assert!(outputs.contains(&Output::Close), "{outputs:?}");
    assert_eq!(core.poll_timeout(), Some(Time::ZERO));
    core.handle_timeout(Time::ZERO);
    assert_eq!(drain(&mut core), [Output::Dial]);
    core.handle_closed(Time::ZERO, "no route".to_owned());
    drain(&mut core);
    core.redial(Time::ZERO);
    core.handle_timeout(Time::ZERO);
    assert_eq!(drain(&mut core), [Output::Dial], "also while it waits");
}

#[test]
fn a_changed_network_starts_nothing_that_was_not_wanted() {
    let mut core = core();
    core.redial(Time::ZERO);
    assert_eq!((drain(&mut core), core.poll_timeout()), (vec![], None));
}
