//! Entries of rooms and paths.

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_indexer::Clock;
use kinlog_indexer::entry::{
    Act, Body, Cleared, Deed, Deleted, Entry, Envelope, Links, Message, Parents, Ref, Tombstone,
};

pub(super) fn entry(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(envelope) = Envelope::decode(&bytes) else {
        return false;
    };
    let again = envelope.encode().unwrap();
    assert_eq!(Envelope::decode(&again), Ok(envelope));
    if let Ok(entry) = Entry::decode(&bytes) {
        let again = entry.encode().unwrap();
        assert_eq!(Entry::decode(&again), Ok(entry));
    }
    true
}

pub(super) fn entry_seeds() -> Vec<Vec<u8>> {
    let entry = |body, counter| Entry {
        links: Links::new(Vec::new(), false).unwrap(),
        depth: 3,
        clock: Clock {
            ms: 1_700_000_000_000,
            counter,
        },
        body,
    };
    let said = |text: &str| Body::Message(Message::new(text.try_into().unwrap()));
    let first = entry(said("dinner at seven?"), 0);
    let deleted = |index| {
        let feed = FeedKey([7; 32]);
        let mut head = Envelope::decode(&first.encode().unwrap()).unwrap();
        head.body = Bytes::new();
        Deleted::new(Ref { feed, index }, head.encode().unwrap()).unwrap()
    };
    let reason = || "a slip".try_into().unwrap();
    let one = Tombstone::new(vec![deleted(4)], reason()).unwrap();
    let several = Tombstone::new(vec![deleted(4), deleted(900)], reason()).unwrap();
    let by_admin = Act {
        parents: Parents::default(),
        seq: 2,
        deed: Deed::Delete(several),
    };
    let cleared = Cleared::new(FeedKey([7; 32]), vec![0..5, 300..70_000]);
    let bodies = [
        said(""),
        Body::Tombstone(one),
        Body::Act(Box::new(by_admin)),
        Body::Cleared(cleared.unwrap()),
    ];
    let others = bodies.into_iter().map(|body| entry(body, 65_535));
    let all: Vec<Entry> = std::iter::once(first.clone()).chain(others).collect();
    all.iter()
        .map(|entry| entry.encode().unwrap().to_vec())
        .collect()
}
