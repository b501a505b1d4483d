//! Entries of rooms and paths.

use bytes::Bytes;
use kinlog_indexer::Clock;
use kinlog_indexer::entry::{Body, Entry, Envelope, Links, Message};

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
    let said = |text: &str, counter| Entry {
        links: Links::new(Vec::new(), false).unwrap(),
        depth: 3,
        clock: Clock {
            ms: 1_700_000_000_000,
            counter,
        },
        body: Body::Message(Message::new(text.try_into().unwrap())),
    };
    let entries = [said("dinner at seven?", 0), said("", 65_535)];
    entries
        .iter()
        .filter_map(|entry| entry.encode().ok())
        .map(|entry| entry.to_vec())
        .collect()
}
