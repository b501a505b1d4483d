//! What people paste: links, invites, grants, ranges, codes; and records of sign-in.

use kinlog_agent::api::Selection;
use kinlog_agent::links::{FeedPath, GrantLink, Invite, Link};
use kinlog_agent::pairing::{PairKind, PairText};
use kinlog_agent::sign_in::{Capsule, SignInCode, SignInRecord};
use kinlog_feeds::KeyPair;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Secret};
use kinlog_indexer::RoomId;
use kinlog_indexer::grant::{GrantTerms, GrantedRange, RoomTag, SeedGrant};
use kinlog_swarm::link::webrtc::ShortDescription;

use crate::targets::golden::golden;

pub(super) fn link(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    if let Ok(path) = text.parse::<FeedPath>() {
        assert_eq!(path.to_string().parse::<FeedPath>(), Ok(path));
    }
    let Ok(link) = text.parse::<Link>() else {
        return false;
    };
    assert_eq!(link.to_string().parse::<Link>(), Ok(link));
    true
}

pub(super) fn link_seeds() -> Vec<Vec<u8>> {
    let key = kinlog_feeds::text::encode_link_key(&golden().feed.key().0);
    [
        format!("kinlog://agent/{key}/notes/today#s=ws://meeting.example:4848"),
        format!("kinlog://agent/{key}"),
        format!("kinlog://feed/{key}#s=wss://one.example&s=ws://two.example:99/x"),
    ]
    .map(String::into_bytes)
    .into_iter()
    .filter(|seed| link(seed))
    .collect()
}

pub(super) fn invite(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(invite) = Invite::decode(text) else {
        return false;
    };
    assert_eq!(Invite::decode(&invite.encode()), Ok(invite));
    true
}

pub(super) fn invite_seeds() -> Vec<Vec<u8>> {
    let invite = Invite {
        room: kinlog_indexer::RoomId([5; 32]),
        seed: kinlog_feeds::crypto::Secret::new([6; 32]),
        signal_urls: vec!["ws://meeting.example:4848".to_owned()],
    };
    Vec::from([invite.encode().into_bytes()])
}

pub(super) fn pair_text(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(pairing) = text.parse::<PairText>() else {
        return false;
    };
    assert_eq!(pairing.to_string().parse(), Ok(pairing));
    true
}

pub(super) fn pair_text_seeds() -> Vec<Vec<u8>> {
    let description = short_description_seeds().remove(0);
    let description = ShortDescription::decode(&description).expect("a seed is understood");
    let text = |kind| {
        let key = Secret::new([3; 32]);
        PairText::new(kind, key, 1_800_000_000, description.clone()).to_string()
    };
    [PairKind::Offer, PairKind::Answer]
        .map(|kind| text(kind).into_bytes())
        .into()
}

pub(super) fn short_description(bytes: &[u8]) -> bool {
    let Ok(short) = ShortDescription::decode(bytes) else {
        return false;
    };
    assert_eq!(short.encode(), bytes);
    // What the stack is given has the same fields, however they were made up.
    let again = ShortDescription::of(&short.body(7), &[]).expect("all fields are there");
    assert!(again.encode().len() <= bytes.len());
    true
}

pub(super) fn short_description_seeds() -> Vec<Vec<u8>> {
    // actpass, two credentials, a fingerprint; a host and a server reflexive candidate, and a relayed one by IPv6.
    let mut bytes = vec![0, 16];
    bytes.extend_from_slice(b"abcdefghijklmnop");
    bytes.push(32);
    bytes.extend_from_slice(b"abcdefghijklmnopqrstuvwxyzABCDEF");
    bytes.extend_from_slice(&[9; 32]);
    bytes.extend_from_slice(&[
        3, 0, 192, 168, 1, 5, 0x40, 0x9c, 1, 203, 0, 113, 9, 0x40, 0x9c, 7,
    ]);
    bytes.extend_from_slice(&[
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x40, 0x9c,
    ]);
    vec![bytes]
}

pub(super) fn seed_grant(bytes: &[u8]) -> bool {
    let Ok(grant) = SeedGrant::decode(bytes) else {
        return false;
    };
    assert_eq!(grant.encode(), bytes);
    true
}

pub(super) fn seed_grant_seeds() -> Vec<Vec<u8>> {
    let grants = [0, 1, 40].map(|count| grant(count).encode().to_vec());
    grants.into()
}

pub(super) fn grant_link(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(link) = GrantLink::decode(text) else {
        return false;
    };
    assert_eq!(GrantLink::decode(&link.encode()), Ok(link));
    true
}

pub(super) fn grant_link_seeds() -> Vec<Vec<u8>> {
    let link = |signal_urls| GrantLink {
        grant: grant(2),
        signal_urls,
    };
    let urls = vec!["ws://meeting.example:4848".to_owned()];
    [vec![], urls]
        .map(|urls| link(urls).encode().into_bytes())
        .into()
}

fn grant(count: u8) -> SeedGrant {
    let range = |number: u8| GrantedRange {
        feed: FeedKey([number; 32]),
        start: u64::from(number),
        end: (!number.is_multiple_of(3)).then_some(1 << 40),
    };
    let terms = GrantTerms {
        room_tag: RoomTag::of(&RoomId([5; 32])),
        meet_key: Secret::new([6; 32]),
        grantee: AgentId([7; 32]),
        expires_at_ms: 1_800_000_000_000,
        quota_class: 1,
        ranges: (0..count).map(range).collect(),
    };
    SeedGrant::sign(terms, &KeyPair::from_seed(&[8; 32])).unwrap()
}

pub(super) fn selection(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(selection) = text.parse::<Selection>() else {
        return false;
    };
    assert_eq!(selection.to_string().parse::<Selection>(), Ok(selection));
    true
}

pub(super) fn selection_seeds() -> Vec<Vec<u8>> {
    [
        "all",
        "0..17",
        "last:20",
        "18446744073709551614..18446744073709551615",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(super) fn sign_in_code(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(code) = SignInCode::parse(text) else {
        return false;
    };
    let again = SignInCode::parse(&code.text()).expect("a code's own text is one");
    assert_eq!(again.expose(), code.expose());
    true
}

pub(super) fn sign_in_code_seeds() -> Vec<Vec<u8>> {
    let text = SignInCode::new([5; 16]).text();
    let spaced = text.to_uppercase().replace('-', " ");
    vec![text.as_bytes().to_vec(), spaced.into_bytes()]
}

pub(super) fn sign_in_record(bytes: &[u8]) -> bool {
    let Ok(record) = SignInRecord::decode(bytes) else {
        return false;
    };
    assert_eq!(record.encode(), bytes);
    true
}

pub(super) fn sign_in_record_seeds() -> Vec<Vec<u8>> {
    let sealed = [6; Capsule::SEALED_BYTES];
    let (agent, key) = (AgentId([1; 32]), DeviceKey([2; 32]));
    let device = crate::targets::golden::writer();
    Vec::from([SignInRecord::sign(agent, 7, [3; 32], key, sealed, &device).encode()])
}
