//! What people say about messages and each other: golden bytes, which decode back, and damage.
//!
//! `tests/vectors/said-1.json` was written once by this build; what changes there is another format
//! format.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::text::encode_hex;
use kinlog_indexer::entry::{
    Act, ActHash, Attest, Body, BodyError, Deed, Deleted, Edit, Envelope, Links, Mentions, Message,
    Parents, Profile, Reaction, Ref, Tombstone, Vouch, Witness, tag,
};
use kinlog_indexer::{BODY_FORMAT, Clock, Text};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const VECTORS: &str = include_str!("vectors/said-1.json");

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

fn at(feed: u8, index: u64) -> Ref {
    let feed = FeedKey([feed; 32]);
    Ref { feed, index }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let mentions = || Mentions::new([AgentId([2; 32]), AgentId([1; 32])]).unwrap();
    let message = Message {
        reply: Some(at(3, 300)),
        mentions: mentions(),
        ..Message::new(text("*yes*, @ada"))
    };
    let edit = Edit {
        target: at(3, 4),
        text: text("no"),
        mentions: mentions(),
    };
    let head = Envelope {
        flags: 1,
        links: Links::default(),
        depth: 300,
        clock: Clock {
            ms: 1_700_000_000_000,
            counter: 2,
        },
        tag: tag::MESSAGE,
        format: u64::from(BODY_FORMAT),
        body: Bytes::new(),
    };
    let deleted = [at(3, 4), at(2, 9)];
    let deleted = deleted.map(|at| Deleted::new(at, head.encode().unwrap()).unwrap());
    let tombstone = Tombstone::new(deleted.to_vec(), text("spam")).unwrap();
    let delete = Act {
        parents: Parents::new([ActHash([7; 32])], None),
        seq: 4,
        deed: Deed::Delete(tombstone.clone()),
    };
    let attest = Attest {
        about: AgentId([5; 32]),
        text: text("brought the chairs back"),
    };
    let witness = Witness {
        about: at(6, 7),
        text: text("I was there"),
    };
    let vouch = Vouch::new(AgentId([5; 32]), true, text("neighbour"), vec![at(8, 9)]);
    let profile = Profile::new(text("Ada"), text("grows beans"), vec![at(8, 9)]);
    let react = Reaction::new(at(3, 4), text("\u{1f331}"), Vec::new());
    let take_back = Reaction::new(at(3, 4), text(""), vec![at(1, 2), at(9, 9)]);
    vec![
        ("message", Body::Message(message)),
        ("profile", Body::Profile(profile.unwrap())),
        ("reaction", Body::Reaction(react.unwrap())),
        ("reaction_taken_back", Body::Reaction(take_back.unwrap())),
        ("edit", Body::Edit(edit)),
        ("tombstone", Body::Tombstone(tombstone)),
        ("delete", Body::Act(Box::new(delete))),
        ("attest", Body::Attest(attest)),
        ("witness", Body::Witness(witness)),
        ("vouch", Body::Vouch(vouch.unwrap())),
    ]
}

fn decode(tag: u64, bytes: &Bytes) -> Result<Body, BodyError> {
    Body::decode(tag, u64::from(BODY_FORMAT), bytes)
}

#[test]
fn what_is_said_gives_its_golden_bytes() {
    let golden: Value = serde_json::from_str(VECTORS).unwrap();
    let actual: Map<String, Value> = bodies()
        .into_iter()
        .map(|(name, body)| (name.to_owned(), json!(encode_hex(&body.encode()))))
        .collect();
    let actual = Value::Object(actual);
    assert_eq!(actual, golden, "actual: {actual:#}");
    for (name, body) in bodies() {
        let bytes = kinlog_feeds::text::decode_hex(golden[name].as_str().unwrap()).unwrap();
        assert_eq!(decode(body.tag(), &bytes.into()), Ok(body), "{name}");
    }
}

#[test]
fn names_out_of_order_and_too_many_of_them_are_refused() {
    let agent = |number: u8| [&[0x1a, 32][..], &[number; 32]].concat();
    let message = |agents: &[u8]| {
        let bytes: Vec<u8> = agents.iter().flat_map(|number| agent(*number)).collect();
        decode(tag::MESSAGE, &bytes.into())
    };
    assert!(message(&[1, 2]).is_ok());
    let field = "mentions";
    assert_eq!(message(&[2, 1]), Err(BodyError::Order { field }));
    assert_eq!(message(&[1, 1]), Err(BodyError::Order { field }));
    let many: Vec<u8> = (0..65).collect();
    assert_eq!(message(&many), Err(BodyError::Value { field, actual: 65 }));
    assert!(Mentions::new((0..65).map(|number| AgentId([number; 32]))).is_none());
    assert!(Reaction::new(at(1, 1), text(""), vec![at(1, 1); 17]).is_err());
    assert!(Vouch::new(AgentId([1; 32]), true, text(""), vec![at(1, 1); 17]).is_err());
    let (field, nothing) = ("deleted", decode(tag::TOMBSTONE, &Bytes::new()));
    assert_eq!(nothing, Err(BodyError::Value { field, actual: 0 }));
    // An act is deleted by nobody, nor is what is longer than any head.
    let mut head = Envelope {
        flags: 0,
        links: Links::default(),
        depth: 1,
        clock: Clock { ms: 1, counter: 0 },
        tag: tag::ADMIT,
        format: u64::from(BODY_FORMAT),
        body: Bytes::new(),
    };
    assert!(Deleted::new(at(1, 1), head.encode().unwrap()).is_err());
    head.tag = tag::EDIT;
    let one = Deleted::new(at(1, 1), head.encode().unwrap()).unwrap();
    head.body = Bytes::from_static(&[0; 600]);
    assert!(Deleted::new(at(1, 1), head.encode().unwrap()).is_err());
    let many = (0..33).map(|index| Deleted::new(at(1, index), one.head().clone()).unwrap());
    assert!(Tombstone::new(many.collect(), text("")).is_err());
}

proptest! {
    #[test]
    fn arbitrary_and_damaged_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        which in 0usize..10,
        at: usize,
        value: u8,
    ) {
        for tag in 31..=36 {
            let _ = decode(tag, &bytes.clone().into());
        }
        let body = bodies().swap_remove(which).1;
        let mut damaged = body.encode().to_vec();
        let at = at % damaged.len();
        damaged[at] = value;
        if let Ok(read) = decode(body.tag(), &damaged.into()) {
            prop_assert_eq!(decode(read.tag(), &read.encode()), Ok(read));
        }
    }
}
