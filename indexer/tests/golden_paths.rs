//! The bytes of what directories say, public and private: each equals its golden value and decodes
//! back, and whatever is written is read as it was.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::world;
use crate::world::Agent;
use bytes::Bytes;
use kinlog_feeds::crypto::{DeviceKey, FeedKey, Hash};
use kinlog_feeds::text::encode_hex;
use kinlog_indexer::entry::{
    Body, BodyError, Cleared, Cut, DirectoryLine, DirectoryRedirect, DirectoryRetire, EpochCopy,
    Head, OwnEpoch, PageRef, Ref, RoomKeys, Setting, Snapshot, SnapshotPage, SnapshotRow, Stands,
    tag,
};
use kinlog_indexer::seal::EpochId;
use kinlog_indexer::{BODY_FORMAT, Clock, RoomId, Text};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const VECTORS: &str = include_str!("vectors/paths-1.json");

fn line() -> DirectoryLine {
    DirectoryLine {
        continues: Some(Cut {
            feed: FeedKey([1; 32]),
            length: 300,
            tree_hash: Hash([4; 32]),
        }),
        ..world::line("/notes", 1, &Agent::new(1))
    }
}

fn stands(index: u64) -> Stands {
    let clock = Clock {
        ms: 1_700_000_000_000,
        counter: 3,
    };
    Stands {
        depth: 300,
        clock,
        index,
    }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let row = SnapshotRow::Line {
        line: Box::new(line()),
        first_label: Some(Text::new("/log").unwrap()),
        is_retired: true,
        head: Some(Head {
            feed: line().feed,
            length: 7,
            tree_hash: Hash([5; 32]),
        }),
        at: stands(70_000),
    };
    let redirect = DirectoryRedirect {
        from: Text::new("/old").unwrap(),
        to: Text::new("/notes").unwrap(),
    };
    let at = stands(0);
    let redirect = SnapshotRow::Redirect { redirect, at };
    let page = |first: &str, index| PageRef {
        first_label: Text::new(first).unwrap(),
        index,
    };
    let copy = EpochCopy {
        device: DeviceKey([6; 32]),
        sealed: [7; 81],
    };
    let name = |name: &str| Text::new(name).unwrap();
    let at = Ref {
        feed: FeedKey([1; 32]),
        index: 70_000,
    };
    let epoch = OwnEpoch::new(EpochId([8; 16]), vec![EpochId([9; 16])], vec![copy]);
    let setting = Setting::new(name("pin"), Some(b"all".to_vec()), vec![at]);
    let keys = RoomKeys::new(
        RoomId([3; 32]),
        Text::new("kitchen").unwrap(),
        [[1; 16], [2; 16]],
        vec![[4; 32]],
        vec![[5; 32]],
    );
    vec![
        ("line", Body::DirectoryLine(line())),
        (
            "snapshot_page",
            Body::SnapshotPage(SnapshotPage::new(vec![row, redirect]).unwrap()),
        ),
        (
            "snapshot",
            Body::Snapshot(
                Snapshot::new(vec![page("/a", 3), page("/b", 900)], vec![0, 300]).unwrap(),
            ),
        ),
        (
            "retire",
            Body::DirectoryRetire(DirectoryRetire {
                feed: FeedKey([1; 32]),
            }),
        ),
        ("own_epoch", Body::OwnEpoch(epoch.unwrap())),
        ("setting", Body::Setting(setting.unwrap())),
        (
            "setting_without_value",
            Body::Setting(Setting::new(name("pin"), None, vec![]).unwrap()),
        ),
        ("room_keys", Body::RoomKeys(keys.unwrap())),
        (
            "cleared",
            Body::Cleared(Cleared::new(FeedKey([1; 32]), vec![0..5, 300..70_000]).unwrap()),
        ),
    ]
}

fn decode(body: &Body) -> Result<Body, BodyError> {
    Body::decode(body.tag(), u64::from(BODY_FORMAT), &body.encode())
}

#[test]
fn bodies_of_paths_equal_their_golden_bytes_and_decode_back() {
    let golden: Value = serde_json::from_str(VECTORS).unwrap();
    let actual: Map<String, Value> = bodies()
        .iter()
        .map(|(name, body)| ((*name).to_owned(), json!(encode_hex(&body.encode()))))
        .collect();
    assert_eq!(golden, Value::Object(actual));
    for (name, body) in bodies() {
        assert_eq!(decode(&body).unwrap(), body, "{name}");
    }
}

#[test]
fn fields_of_the_wrong_size_and_beyond_their_limits_are_refused() {
    let decode = |tag, bytes: &'static [u8]| {
        Body::decode(tag, u64::from(BODY_FORMAT), &Bytes::from_static(bytes))
    };
    // A line without a claim; a row that is neither a line nor a redirect; a range that ends where it
    // begins; an epoch id of one byte.
    let key = [0x0a, 32];
    assert!(decode(tag::DIRECTORY_LINE, &[]).is_err());
    assert!(decode(tag::SNAPSHOT_PAGE, &[0x0a, 0]).is_err());
    assert!(decode(tag::OWN_EPOCH, &[0x0a, 1, 1]).is_err());
    let mut cleared = key.to_vec();
    cleared.extend([1; 32]);
    cleared.extend([0x12, 4, 0x08, 5, 0x10, 5]);
    let cleared = Body::decode(tag::CLEARED, u64::from(BODY_FORMAT), &cleared.into());
    assert!(cleared.is_err(), "{cleared:?}");
    let many = (0..1025).map(|number| 2 * number..2 * number + 1);
    assert!(Cleared::new(FeedKey([1; 32]), many.collect()).is_err());
    for ranges in [vec![4..5, 0..1], vec![0..3, 2..5], vec![0..3, 3..5]] {
        let refused = Cleared::new(FeedKey([1; 32]), ranges);
        assert_eq!(refused, Err(BodyError::Order { field: "ranges" }));
    }
    assert!(Setting::new(Text::new("x").unwrap(), Some(vec![0; 16_385]), vec![]).is_err());
}

proptest! {
    #[test]
    fn settings_and_cleared_ranges_are_read_as_they_were_written(
        name in "[a-z:/]{0,80}",
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        replaces in proptest::collection::vec((any::<[u8; 32]>(), 0u64..1 << 53), 0..16),
        ranges in proptest::collection::vec((1u64..1 << 40, 1u64..1 << 40), 0..20),
    ) {
        let refs = replaces.into_iter().map(|(feed, index)| Ref { feed: FeedKey(feed), index });
        let setting = Setting::new(Text::new(name).unwrap(), value, refs.collect()).unwrap();
        let setting = Body::Setting(setting);
        prop_assert_eq!(decode(&setting).unwrap(), setting);
        let mut end = 0;
        let ranges = ranges.into_iter().map(|(gap, count)| {
            let start = end + gap;
            end = start + count;
            start..end
        });
        let cleared = Cleared::new(FeedKey([2; 32]), ranges.collect()).unwrap();
        let cleared = Body::Cleared(cleared);
        prop_assert_eq!(decode(&cleared).unwrap(), cleared);
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(tag in 0u64..40, bytes: Vec<u8>) {
        if let Ok(body) = Body::decode(tag, u64::from(BODY_FORMAT), &bytes.into()) {
            prop_assert_eq!(decode(&body).unwrap(), body);
        }
    }
}
