//! A `state.db` of every version there was opens, keeps what stood in it, and shows no private path.

use kinlog_feeds::crypto::{AgentId, FeedKey, Secret};
use rusqlite::Connection;

use crate::rooms::RoomId;
use crate::state::State;
use crate::test_folder::TestFolder;

/// What each version added, and rows of its time.
const VERSIONS: &str = include_str!("fixtures/state.sql");

fn parts() -> Vec<&'static str> {
    let parts = VERSIONS.split("\n-- version ").skip(1);
    let parts = parts.enumerate().map(|(at, part)| {
        let (number, sql) = part.split_once('\n').unwrap();
        assert_eq!(number, (at + 1).to_string());
        sql
    });
    parts.collect()
}

#[test]
fn every_version_there_was_opens_with_all_that_stood_in_it() {
    let parts = parts();
    for version in 1..=parts.len() {
        let folder = TestFolder::new();
        let path = folder.path().join("state.db");
        {
            let before = Connection::open(&path).unwrap();
            before.pragma_update(None, "journal_mode", "WAL").unwrap();
            // As the build that wrote version 10 went forward: what it dropped was overwritten.
            before.pragma_update(None, "secure_delete", true).unwrap();
            for part in &parts[..version] {
                before.execute_batch(part).unwrap();
            }
            before
                .pragma_update(None, "user_version", version as u32)
                .unwrap();
        }
        let state = State::open(&path).unwrap();
        let own = state.own_feeds().unwrap();
        let paths: Vec<_> = own
            .iter()
            .map(|feed| feed.path.as_ref().map(|path| path.as_str().to_owned()))
            .collect();
        let text = |path: &str| Some(path.to_owned());
        let hidden = text("/diary/hidden");
        assert_eq!(paths[..2], [text("/notes"), None], "version {version}");
        assert_eq!(
            paths.get(2).cloned().flatten(),
            hidden.filter(|_| version >= 3)
        );
        let pins = state.pins().unwrap();
        let pins: Vec<_> = pins
            .iter()
            .map(|pin| (pin.reason.as_str(), pin.depth))
            .collect();
        assert_eq!(
            pins,
            [("follow", 0), ("seed", if version >= 4 { 2 } else { 0 })]
        );
        let rooms = state.rooms().unwrap();
        assert_eq!((rooms.len(), rooms[0].name.as_str()), (1, "garden"));
        let direct = (version >= 7).then_some(AgentId([0xa2; 32]));
        assert_eq!(rooms[0].direct, direct);
        let epochs = state.epochs().unwrap();
        assert_eq!(epochs[0].room, RoomId([0xb1; 32]));
        assert_eq!(epochs[0].secret, Secret::new([0x51; 32]));
        let published = state.published().unwrap();
        assert_eq!(published[0].1, if version >= 2 { 3 } else { 0 });
        let former = state.former_feeds().unwrap();
        let older = former.iter().find(|feed| feed.key == FeedKey([9; 32]));
        let older = older.map(|feed| (feed.path.as_ref().unwrap().as_str(), feed.is_restored));
        let expected = ("/diary/older", version >= 5);
        assert_eq!(
            older,
            (version >= 3).then_some(expected),
            "version {version}"
        );
        let deletions = state.deletions().unwrap();
        assert_eq!(deletions.len(), usize::from(version >= 12));
        let cleared = state.cleared().unwrap();
        assert_eq!(cleared.len(), usize::from(version >= 13));
        assert!(state.given_clearings().unwrap().is_empty());
        let coordinators = state.coordinators(0).unwrap();
        assert_eq!(coordinators.len(), usize::from(version >= 15));
        // Once more: nothing is to be done.
        drop(state);
        let state = State::open(&path).unwrap();
        assert_eq!(state.own_feeds().unwrap(), own);
        state.check_whole().unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            for path in ["/diary/hidden", "/diary/older", "/of/others"] {
                let found = bytes.windows(path.len()).any(|at| at == path.as_bytes());
                assert!(!found, "version {version}: {path} is in the file");
            }
        }
    }
}

/// Fails when a version is added without its part of the fixture.
#[test]
fn the_newest_version_but_one_at_least_has_its_part() {
    let folder = TestFolder::new();
    let path = folder.path().join("state.db");
    drop(State::open(&path).unwrap());
    let now: usize = Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert!(
        parts().len() + 1 >= now,
        "fixtures/state.sql ends before version {}",
        now - 1
    );
}
