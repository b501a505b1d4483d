//! The bytes that outlive code: each equals its golden value, decodes back, and damage is told.
//!
//! `tests/vectors/entries-1.json` was written once by this build and checked with another
//! implementation (see its `checked` field). What changes there is another format.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::world;
use crate::world::{Agent, document, file, message, profile};
use bytes::Bytes;
use kinlog_feeds::crypto::{FeedKey, Hash, Secret};
use kinlog_feeds::text::encode_hex;
use kinlog_indexer::entry::{
    Body, Deed, DirectoryHeads, DirectoryLine, DirectoryRedirect, DirectoryRename, Entry,
    EntryError, Envelope, Genesis, Head, History, Link, LinkScope, LinkTag, Links, Membership,
};
use kinlog_indexer::identity::{IdentitySet, Statement};
use kinlog_indexer::seal::{
    EpochSecret, device_dh_public, open_chunk, open_entry, open_sealed_secret, seal_chunk,
    seal_entry, seal_to_device,
};
use kinlog_indexer::{Clock, FORMAT, RoomId, Text};
use proptest::prelude::*;
use serde_json::{Value, json};

const VECTORS: &str = include_str!("vectors/entries-1.json");

/// One body of every kind.
fn bodies() -> Vec<(&'static str, Body)> {
    let agent = Agent::new(1);
    let (genesis, room) = genesis(&agent);
    let member = agent.membership(&room, 1);
    let label = |label: &str| Text::new(label).unwrap();
    let line = DirectoryLine {
        content: kinlog_indexer::entry::Content::Bytes,
        ..world::line("/notes", 1, &agent)
    };
    let rename = DirectoryRename {
        feed: FeedKey([1; 32]),
        label: label("/new"),
    };
    let redirect = DirectoryRedirect {
        from: label("/notes"),
        to: label("/new"),
    };
    let head = Head {
        feed: FeedKey([1; 32]),
        length: 300,
        tree_hash: Hash([4; 32]),
    };
    vec![
        ("profile", profile("Ada")),
        ("directory_line", Body::DirectoryLine(line)),
        ("directory_rename", Body::DirectoryRename(rename)),
        ("directory_redirect", Body::DirectoryRedirect(redirect)),
        (
            "directory_heads",
            Body::DirectoryHeads(DirectoryHeads::new(vec![head]).unwrap()),
        ),
        ("document", document("Proofs", "What a Merkle proof is")),
        ("genesis", world::act(Deed::Genesis(genesis))),
        ("admit", world::admit(member)),
        ("message", message("héllo")),
        ("file", file("cat.png")),
    ]
}

fn genesis(agent: &Agent) -> (Genesis, RoomId) {
    Genesis::sign(
        Text::new("kitchen").unwrap(),
        History::Days(30),
        [9; 32],
        &EpochSecret::new([1; 32]),
        agent.id,
        agent.set.clone(),
        &agent.device,
        &world::room_pair(0),
        &world::blobs_pair(0),
    )
}

fn entry(body: Body) -> Entry {
    let scope = LinkScope::Room(RoomId([7; 32]));
    let links = vec![
        Link::new(&scope, &FeedKey([1; 32]), 5, &Hash([2; 32])),
        Link::new(&scope, &FeedKey([3; 32]), 70_000, &Hash([4; 32])),
    ];
    let links = Links::new(links, true).unwrap();
    Entry {
        links,
        depth: 300,
        clock: Clock {
            ms: 1_700_000_000_123,
            counter: 2,
        },
        body,
    }
}

fn actual() -> Value {
    let agent = Agent::new(1);
    let (_, room) = genesis(&agent);
    let secret = EpochSecret::new([1; 32]);
    let key = secret.content_key();
    let plain = entry(message("héllo")).encode().unwrap();
    let sealed = seal_entry(&key, &FeedKey([2; 32]), 77, &[3; 24], &plain).unwrap();
    let file_key = Secret::new([4; 32]);
    let recipient = device_dh_public(&Secret::new([6; 32]));
    let boxed = seal_to_device([5; 32], &recipient, &RoomId([7; 32]), &secret).unwrap();
    let set = IdentitySet::decode(&agent.set).unwrap();
    let statement: &Statement = set.statements().next().unwrap();
    let entries: serde_json::Map<String, Value> = bodies()
        .into_iter()
        .map(|(name, body)| {
            (
                name.to_owned(),
                json!(encode_hex(&entry(body).encode_open().unwrap())),
            )
        })
        .collect();
    json!({
        "format": FORMAT,
        "link_tag_room": encode_hex(&LinkScope::Room(RoomId([7; 32])).tag(&FeedKey([1; 32])).0),
        "link_tag_author": encode_hex(&LinkScope::Author(agent.id).tag(&FeedKey([1; 32])).0),
        "epoch_id": encode_hex(&secret.epoch_id().0),
        "meet_key": encode_hex(secret.meet_key().expose()),
        "open_entries": entries,
        "sealed_message": encode_hex(&sealed),
        "chunk_1_of_3": encode_hex(&seal_chunk(&file_key, 1, 3, b"chunk").unwrap()),
        "secret_to_device": encode_hex(&boxed),
        "statement": encode_hex(&statement.encode()),
        "identity_set_hash": encode_hex(&set.hash().0),
        "room_id": encode_hex(room.as_bytes()),
    })
}

#[test]
fn every_format_gives_its_golden_bytes() {
    let mut golden: Value = serde_json::from_str(VECTORS).unwrap();
    golden.as_object_mut().unwrap().remove("checked");
    let actual = actual();
    assert_eq!(actual, golden, "actual: {actual:#}");
}

#[test]
fn golden_bytes_read_back_as_what_was_written() {
    let golden: Value = serde_json::from_str(VECTORS).unwrap();
    let bytes = |value: &Value| {
        Bytes::from(kinlog_feeds::text::decode_hex(value.as_str().unwrap()).unwrap())
    };
    for (name, body) in bodies() {
        let block = bytes(&golden["open_entries"][name]);
        assert_eq!(
            Entry::decode(&block.slice(1..)).unwrap(),
            entry(body),
            "{name}"
        );
    }
    let secret = EpochSecret::new([1; 32]);
    let sealed = bytes(&golden["sealed_message"]);
    let opened = open_entry(&secret.content_key(), &FeedKey([2; 32]), 77, &sealed).unwrap();
    assert_eq!(Entry::decode(&opened).unwrap(), entry(message("héllo")));
    let chunk = open_chunk(&Secret::new([4; 32]), 1, 3, &bytes(&golden["chunk_1_of_3"])).unwrap();
    assert_eq!(chunk, "chunk");
    let boxed = bytes(&golden["secret_to_device"]);
    let opened = open_sealed_secret(&Secret::new([6; 32]), &RoomId([7; 32]), &boxed);
    assert_eq!(opened, Ok(secret));
    let statement = Statement::decode(&bytes(&golden["statement"])).unwrap();
    assert_eq!(statement.verify(), Ok(()));
}

#[test]
fn limits_hold_at_their_edge() {
    let link = Link {
        tag: LinkTag([0; 8]),
        index: 0,
        hash: [0; 12],
    };
    assert!(Links::new(vec![link; 16], false).is_ok());
    assert!(Links::new(vec![link; 17], false).is_err());
    assert!(Text::<256>::new("x".repeat(256)).is_ok());
    assert!(Text::<256>::new("x".repeat(257)).is_err());
    let encoded = entry(message("x")).encode().unwrap();
    let mut envelope = Envelope::decode(&encoded).unwrap();
    let rest = 256 * 1024 - (encoded.len() - envelope.body.len());
    envelope.body = vec![0; rest].into();
    let full = envelope.encode().unwrap();
    assert_eq!(Envelope::decode(&full).unwrap(), envelope);
    envelope.body = vec![0; rest + 1].into();
    assert!(matches!(
        envelope.encode(),
        Err(EntryError::TooLarge { .. })
    ));
    let above = Bytes::from([&full[..], &[0]].concat());
    assert!(matches!(
        Envelope::decode(&above),
        Err(EntryError::TooLarge { .. })
    ));
    // Seventeen links and a counter of 65,536 on the wire.
    assert!(Envelope::decode(&Bytes::from_static(&[1, 0, 17])).is_err());
    let mut counter = vec![1, 0, 0, 0];
    counter.extend([0; 8]);
    counter.extend([0xfe, 0, 0, 1, 0, 18, 0]);
    assert!(Envelope::decode(&counter.into()).is_err());
    assert!(matches!(
        Envelope::decode(&Bytes::from_static(&[2])),
        Err(EntryError::Newer { version: 2 })
    ));
}

#[test]
fn text_that_is_not_utf8_and_keys_of_the_wrong_length_are_refused() {
    use kinlog_indexer::entry::{BodyError, tag};
    let format = u64::from(kinlog_indexer::BODY_FORMAT);
    let not_utf8 = Bytes::from_static(&[0x0a, 2, 0xff, 0xfe]);
    let refused = Body::decode(tag::MESSAGE, format, &not_utf8);
    assert!(matches!(
        refused,
        Err(BodyError::Protobuf {
            tag: tag::MESSAGE,
            ..
        })
    ));
    let short_key = Bytes::from_static(&[0x0a, 1, 7, 0x12, 1, b'x']);
    assert_eq!(
        Body::decode(tag::DIRECTORY_RENAME, format, &short_key),
        Err(BodyError::Length {
            field: "feed_key",
            expected: 32,
            actual: 1
        })
    );
    let mut long = vec![0x0a, 0x81, 0x02];
    long.extend([b'x'; 257]);
    assert!(matches!(
        Body::decode(tag::PROFILE, format, &long.into()),
        Err(BodyError::Text { field: "name", .. })
    ));
    assert!(matches!(
        Body::decode(tag::MESSAGE, format + 1, &Bytes::new()),
        Err(BodyError::Newer { .. })
    ));
}

prop_compose! {
    fn any_link()(tag: [u8; 8], index in 0u64..1 << 53, hash: [u8; 12]) -> Link {
        Link { tag: LinkTag(tag), index, hash }
    }
}

prop_compose! {
    fn any_entry()(
        links in proptest::collection::vec(any_link(), 0..=16),
        more: bool,
        depth in 0u64..1 << 53,
        ms in 0u64..1 << 53,
        counter: u16,
        which in 0usize..10,
        text in ".{0,300}",
    ) -> Entry {
        let body = match which {
            0..=8 => bodies().swap_remove(which).1,
            _ => message(&text),
        };
        let links = Links::new(links, more).unwrap();
        Entry { links, depth, clock: Clock { ms, counter }, body }
    }
}

proptest! {
    #[test]
    fn entries_round_trip(entry in any_entry()) {
        let encoded = entry.encode().unwrap();
        prop_assert_eq!(Entry::decode(&encoded).unwrap(), entry);
        prop_assert_eq!(Envelope::decode(&encoded).unwrap().encode().unwrap(), encoded);
    }

    #[test]
    fn arbitrary_and_damaged_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        which in 0usize..10,
        at: usize,
        value: u8,
    ) {
        let bytes = Bytes::from(bytes);
        let _ = Entry::decode(&bytes);
        let _ = Membership::decode(&bytes);
        for tag in 0..24 {
            let _ = Body::decode(tag, u64::from(kinlog_indexer::BODY_FORMAT), &bytes);
        }
        let mut damaged = entry(bodies().swap_remove(which).1).encode().unwrap().to_vec();
        let at = at % damaged.len();
        damaged[at] = value;
        let _ = Entry::decode(&damaged.clone().into());
        damaged.truncate(at);
        let _ = Entry::decode(&damaged.into());
    }
}
