//! What a crash leaves: its log cut behind each step that was written. Every change is there whole, or not
//! at all, and nothing that came before a change is lost.

use std::fs;
use std::path::Path;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Secret};
use testkit::wal::frames;

use crate::links::Invite;
use crate::rooms::{RoomFeed, RoomId};
use crate::state::{KeySort, OpenJoin, State, StoredEpoch, StoredRoom};
use crate::test_folder::TestFolder;

type Change = Box<dyn Fn(&State)>;

/// Everything that the changes below touch.
fn all(state: &State) -> String {
    let room = RoomId([1; 32]);
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        state.value("name").unwrap(),
        state.joins().unwrap(),
        state.rooms().unwrap(),
        state.epochs().unwrap(),
        state.room_feeds(&room).unwrap(),
        state.invites().unwrap(),
        state.has_left(&room).unwrap(),
    )
}

fn changes() -> Vec<Change> {
    let room = RoomId([1; 32]);
    let invite = move |seed: u8| Invite {
        room,
        seed: Secret::new([seed; 32]),
        signal_urls: Vec::new(),
    };
    let key = move |id: u8, sort| StoredEpoch {
        id: [id; 16],
        room,
        sort,
        secret: Secret::new([id; 32]),
    };
    let stored = StoredRoom {
        id: room,
        name: "family".into(),
        entries_id: [3; 16],
        blobs_id: [4; 16],
        direct: None,
    };
    let feed = |number: u8| RoomFeed {
        key: FeedKey([number; 32]),
        agent: AgentId([8; 32]),
        device: DeviceKey([9; 32]),
        is_entries: true,
    };
    vec![
        Box::new(|state| state.set_value("name", b"ada").unwrap()),
        Box::new(move |state| {
            let join = OpenJoin {
                invite: invite(2),
                entries_id: [3; 16],
                blobs_id: [4; 16],
            };
            state.add_join(&join).unwrap();
        }),
        // Ends the join, with epochs and feeds.
        Box::new(move |state| {
            let epochs = [key(5, KeySort::Secret), key(6, KeySort::Secret)];
            let feeds: Vec<RoomFeed> = (10..40).map(feed).collect();
            state.add_room(&stored, &epochs, &feeds).unwrap();
        }),
        Box::new(move |state| {
            let many: Vec<StoredEpoch> = (100..140).map(|id| key(id, KeySort::ActKey)).collect();
            state.add_epochs(&many).unwrap();
        }),
        Box::new(move |state| {
            let act_key = key(7, KeySort::ActKey);
            state.destroy_secret(&[5; 16], &act_key).unwrap();
        }),
        Box::new(move |state| state.add_invite(&room, &invite(20)).unwrap()),
        Box::new(|state| state.set_value("name", b"ada of the hill").unwrap()),
        Box::new(move |state| state.forget_room(&room).unwrap()),
    ]
}

fn put(path: &Path, file: &[u8], log: &[u8]) {
    let _ = fs::remove_file(path.with_extension("db-shm"));
    fs::write(path, file).unwrap();
    fs::write(path.with_extension("db-wal"), log).unwrap();
}

#[test]
fn a_crash_at_each_step_leaves_every_change_whole_or_undone() {
    let folder = TestFolder::new();
    let path = folder.path().join("written.db");
    let state = State::open(&path).unwrap();
    let log = || fs::read(path.with_extension("db-wal")).unwrap();
    // As the log ends after each change, and what stands then.
    let mut stands = vec![(log().len(), all(&state))];
    for change in changes() {
        change(&state);
        let now = all(&state);
        assert_ne!(
            stands[stands.len() - 1].1,
            now,
            "a change changes something"
        );
        stands.push((log().len(), now));
    }
    let (file, log) = (fs::read(&path).unwrap(), log());
    let path = folder.path().join("state.db");
    let steps = frames(&log);
    let uncommitted = steps.iter().filter(|step| !step.commits).count();
    assert!(uncommitted > stands.len(), "changes have several steps");
    for step in steps {
        put(&path, &file, &log[..step.end]);
        let state = State::open(&path).unwrap();
        let expected = stands.iter().rev().find(|(end, _)| *end <= step.end);
        // Before the first: the tables were being made.
        let (_, expected) = expected.unwrap_or(&stands[0]);
        assert_eq!(all(&state), *expected, "at byte {}", step.end);
    }
}
