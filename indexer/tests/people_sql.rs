//! SQL of people reads what may be read, and nothing else, for a bounded time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::world::{World, file, message, room_feed};
use kinlog_indexer::Index;
use kinlog_indexer::entry::{Body, EpochKeys, Links};
use kinlog_indexer::index::{SqlError, SqlValue, answer_sql};
use testkit::process::Folder;

#[test]
fn people_read_what_they_like_but_no_secrets_and_change_nothing() {
    let folder = Folder::new("people-sql");
    let path = folder.join("index.db");
    let mut world = World::new(1, 1);
    world.write(room_feed(0), 1, 2_000, Links::default(), message("soup"));
    world.write(room_feed(0), 2, 2_001, Links::default(), file("cat.png"));
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    index.ingest(&world.blocks()).unwrap();
    let before = index.dump_hash().unwrap();
    // While the index is open for writing, and of a transaction that is long done.
    let found = answer_sql(&path, "select text, ms from messages").unwrap();
    assert_eq!(found.columns, ["text", "ms"]);
    let row = vec![SqlValue::Text("soup".into()), SqlValue::Integer(2_000)];
    assert_eq!(found.rows, [row]);
    let words = "select count(*) from messages_search where messages_search match 'soup'";
    assert_eq!(
        answer_sql(&path, words).unwrap().rows,
        [[SqlValue::Integer(1)]]
    );
    for secret in [
        "select body from facts",
        "select * from facts",
        "select idx from facts where hex(body) like '08%'",
        "with k as (select body as a from facts) select a from k",
        "select BODY from Facts",
        "select block from pending",
    ] {
        let refused = answer_sql(&path, secret);
        assert!(
            matches!(refused, Err(SqlError::Secret { .. })),
            "{secret}: {refused:?}"
        );
    }
    for forbidden in [
        "delete from messages",
        "insert into rooms select * from rooms",
        "attach 'other.db' as other",
        "pragma journal_mode = delete",
        "pragma query_only = off",
        "create temp table t (a)",
        "vacuum into 'copy.db'",
        "begin",
        "select 1; select 2",
        "select load_extension('x')",
        "",
        "nonsense",
        "select no_such_column from messages",
    ] {
        answer_sql(&path, forbidden).expect_err(forbidden);
    }
    assert_eq!(index.dump_hash().unwrap(), before);
    assert!(!folder.join("other.db").exists() && !folder.join("copy.db").exists());
}

#[test]
fn questions_without_end_are_cut() {
    let folder = Folder::new("people-sql-limits");
    let path = folder.join("index.db");
    drop(Index::open(&path).unwrap());
    let count = "with recursive n (i) as (select 1 union all select i + 1 from n)";
    let rows = answer_sql(&path, &format!("{count} select i from n")).unwrap();
    assert_eq!((rows.rows.len(), rows.more), (10_000, true));
    let bytes = answer_sql(&path, &format!("{count} select zeroblob(1000000) from n")).unwrap();
    assert!(bytes.more && bytes.rows.len() == 8, "{}", bytes.rows.len());
    let large = answer_sql(&path, "select length(zeroblob(100000000))");
    assert!(matches!(large, Err(SqlError::Refused { .. })), "{large:?}");
    let endless = answer_sql(&path, &format!("{count} select sum(i) from n"));
    assert!(
        matches!(endless, Err(SqlError::TooLong { .. })),
        "{endless:?}"
    );
}

/// Keys that entries carry stay sealed in the file, and are read with those that are handed in.
#[test]
fn no_key_stands_in_the_file() {
    let folder = Folder::new("no-keys");
    let path = folder.join("index.db");
    let mut world = World::new(1, 1);
    world.write(room_feed(0), 1, 2_000, Links::default(), file("cat.png"));
    let keys = EpochKeys::new(vec![[0xaa; 32]], vec![[0xbb; 32]]).unwrap();
    world.write(
        room_feed(0),
        2,
        3_000,
        Links::default(),
        Body::EpochKeys(keys.clone()),
    );
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    index.ingest(&world.blocks()).unwrap();
    let key_of_file = index.files(&world.room, 9).unwrap()[0].key.clone();
    assert_eq!(index.epoch_keys(&world.room).unwrap()[0], keys);
    drop(index);
    let bytes = std::fs::read(&path).unwrap();
    for key in [key_of_file.expose(), &[0xaa; 32], &[0xbb; 32]] {
        assert!(!bytes.windows(32).any(|window| window == key));
    }
    assert!(
        bytes.windows(7).any(|window| window == b"cat.png"),
        "nothing is read"
    );

    // Until a key is handed in again nothing of it is known.
    let mut index = Index::open(&path).unwrap();
    assert_eq!(index.epoch_keys(&world.room).unwrap(), []);
    world.tell(&mut index);
    assert_eq!(index.epoch_keys(&world.room).unwrap(), [keys]);
    assert_eq!(index.files(&world.room, 9).unwrap()[0].key, key_of_file);
}
