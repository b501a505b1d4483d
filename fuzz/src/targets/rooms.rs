//! What people say to each other about rooms and devices, beside the feeds.

use kinlog_agent::linking::{LinkAnswer, LinkCode, LinkRequest};
use kinlog_agent::links::Invite;
use kinlog_agent::rooms::{
    JoinAnswer, JoinRequest, Refusal, RemovedNotice, RoomFeed, RoomKeys, RoomMessage,
};
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, KeyPair, Secret};
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::Membership;
use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};
use kinlog_indexer::seal::{EpochSecret, device_dh_public};

const ROOM: RoomId = RoomId([5; 32]);

fn pair(number: u8) -> KeyPair {
    KeyPair::from_seed(&[number; 32])
}

fn agent() -> AgentId {
    AgentId(pair(1).public_key().0)
}

fn card() -> DeviceCard {
    DeviceCard::sign(&agent(), &pair(2), [6; 32], &pair(3), &pair(4))
}

fn membership() -> Membership {
    let name = "phone".try_into().unwrap();
    let set = IdentitySet::begin(&pair(1), card(), Powers::ALL, name).encode();
    Membership::sign(&ROOM, agent(), set, &pair(2), &pair(7), &pair(8))
}

/// What verifies is what was signed: nobody but the seeds' makers has the keys.
pub(super) fn join_request(bytes: &[u8]) -> bool {
    let invite = pair(9).public_key();
    let asked = [None, Some(&invite)].map(|invite| JoinRequest::verify(bytes, &ROOM, invite));
    let mut understood = asked.into_iter().flatten();
    let Some(request) = understood.next() else {
        return false;
    };
    assert_eq!(request.encode(), bytes, "a request has one form");
    assert_eq!(request.membership.device, membership().device);
    true
}

pub(super) fn join_request_seeds() -> Vec<Vec<u8>> {
    let by_invite = JoinRequest::by_invite(ROOM, membership(), &pair(9));
    let as_sibling = JoinRequest::as_sibling(ROOM, membership());
    [by_invite, as_sibling]
        .map(|request| request.encode().to_vec())
        .into()
}

pub(super) fn join_answer(bytes: &[u8]) -> bool {
    let Ok(answer) = JoinAnswer::decode(bytes) else {
        return false;
    };
    assert_eq!(answer.encode(), bytes, "an answer has one form");
    if let JoinAnswer::Welcome { wrap, keys, .. } = &answer {
        let (dh, entries) = (Secret::new([6; 32]), FeedKey([7; 32]));
        if let Ok(opened) = JoinAnswer::open_keys(&ROOM, wrap, keys, (&dh, &entries)) {
            assert_eq!(opened, room_keys(), "only what was sealed opens");
        }
    }
    true
}

fn room_keys() -> RoomKeys {
    let secrets = vec![EpochSecret::new([11; 32]), EpochSecret::new([12; 32])];
    let act_keys = vec![EpochSecret::new([13; 32]).act_key()];
    RoomKeys { secrets, act_keys }
}

pub(super) fn join_answer_seeds() -> Vec<Vec<u8>> {
    let (dh, entries) = (Secret::new([6; 32]), FeedKey([7; 32]));
    let feed = |number: u8| RoomFeed {
        key: FeedKey([number; 32]),
        agent: agent(),
        device: DeviceKey([number; 32]),
        is_entries: number.is_multiple_of(2),
    };
    let asks = (&device_dh_public(&dh), &entries);
    let made = ([14; 32], [15; 32], &[16; 24]);
    let feeds = (0..3).map(feed).collect();
    let welcome = JoinAnswer::welcome(ROOM, asks, made, &room_keys(), feeds).unwrap();
    let why = Refusal::UsedUp;
    let refused = JoinAnswer::Refused { room: ROOM, why };
    [welcome, refused]
        .map(|answer| answer.encode().to_vec())
        .into()
}

pub(super) fn room_message(bytes: &[u8]) -> bool {
    let Ok(message) = RoomMessage::decode(bytes) else {
        return false;
    };
    assert_eq!(RoomMessage::decode(&message.encode()), Ok(message.clone()));
    let removed = DeviceKey([20; 32]);
    if let RoomMessage::Removed(notice) = &message
        && notice
            .verify(&removed, &DeviceKey(pair(2).public_key().0))
            .is_ok()
    {
        assert_eq!(notice, &notice_seed(), "only what was signed verifies");
    }
    true
}

fn notice_seed() -> RemovedNotice {
    let removed = DeviceKey([20; 32]);
    RemovedNotice::sign(ROOM, agent(), "enough", &removed, &pair(2))
}

pub(super) fn room_message_seeds() -> Vec<Vec<u8>> {
    let direct = RoomMessage::Direct(Invite {
        room: ROOM,
        seed: Secret::new([6; 32]),
        signal_urls: vec!["ws://meeting.example:4848".to_owned()],
    });
    let removed = RoomMessage::Removed(notice_seed());
    [removed, direct]
        .map(|message| message.encode().to_vec())
        .into()
}

fn code() -> LinkCode {
    LinkCode {
        agent: agent(),
        device: DeviceKey(pair(2).public_key().0),
        secret: Secret::new([6; 32]),
        signal_urls: vec!["ws://meeting.example:4848".to_owned()],
    }
}

pub(super) fn link_code(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(code) = text.parse::<LinkCode>() else {
        return false;
    };
    assert_eq!(code.to_string().parse(), Ok(code));
    true
}

pub(super) fn link_code_seeds() -> Vec<Vec<u8>> {
    let alone = LinkCode {
        signal_urls: Vec::new(),
        ..code()
    };
    [code(), alone]
        .map(|code| code.to_string().into_bytes())
        .into()
}

pub(super) fn link_request(bytes: &[u8]) -> bool {
    let Ok(request) = LinkRequest::verify(bytes, &code()) else {
        return false;
    };
    assert_eq!(request.encode(&code()), bytes, "a request has one form");
    true
}

pub(super) fn link_request_seeds() -> Vec<Vec<u8>> {
    let request = |name: &str| LinkRequest {
        card: card(),
        name: name.to_owned(),
    };
    ["phone", ""]
        .map(|name| request(name).encode(&code()).to_vec())
        .into()
}

pub(super) fn link_answer(bytes: &[u8]) -> bool {
    let Ok(answer) = LinkAnswer::verify(bytes, &code()) else {
        return false;
    };
    assert_eq!(answer.encode(&pair(2)), bytes, "an answer has one form");
    true
}

pub(super) fn link_answer_seeds() -> Vec<Vec<u8>> {
    let answer = LinkAnswer {
        name: "Ada".to_owned(),
        set: membership().identity_set,
    };
    Vec::from([answer.encode(&pair(2)).to_vec()])
}
