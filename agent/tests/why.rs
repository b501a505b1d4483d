//! `why` names who ended what, what became of an act, and that a feed has two histories.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder, meet};
use kinlog_agent::api::{Reply, Request, WhyReason};
use rusqlite::Connection;

const ROOM: &str = "kitchen";

async fn why(cast: &Cast, thing: &str, room: Option<&str>) -> Vec<WhyReason> {
    let request = Request::Why {
        thing: thing.to_owned(),
        room: room.map(str::to_owned),
    };
    match cast.reply(request).await.unwrap() {
        Reply::Why { reasons, .. } => reasons,
        other => panic!("{other:?}"),
    }
}

/// Returns the texts that come from one source.
fn from(reasons: &[WhyReason], source: &str) -> Vec<String> {
    let found = reasons.iter().filter(|one| one.from == source);
    found.map(|one| one.text.clone()).collect()
}

/// Returns the feed that an agent writes in the room.
async fn feed_of(cast: &Cast, who: &Cast) -> String {
    one_of(cast, who, "feed").await
}

async fn one_of(cast: &Cast, who: &Cast, feed: &str) -> String {
    let agent = who.id.agent;
    let sql = format!("select {feed} from member_feeds where user_id = '{agent}'");
    match cast.reply(Request::Query { sql }).await.unwrap() {
        Reply::Rows { rows, .. } => rows[0][0].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_ask_why_a_room_hides_refuses_or_disputes_something() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let cem = Cast::new(&folder, "cem").await;
    let met = meet(&[&ann, &bob, &cem]).await;
    let room = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.reply(room).await.unwrap();
    let link = ann.invite(ROOM).await;
    bob.join(&link).await.unwrap();
    cem.join(&link).await.unwrap();
    bob.send(ROOM, "said by bob").await;
    for cast in [&ann, &cem] {
        cast.wait_for_message(ROOM, "said by bob").await;
    }
    let of_bob = feed_of(&cem, &bob).await;
    assert_eq!(from(&why(&cem, &of_bob, None).await, "authority"), [""; 0]);
    let remove = Request::RoomRemove {
        room: ROOM.into(),
        who: bob.id.agent.to_string(),
        reason: "spam".into(),
    };
    ann.reply(remove).await.unwrap();
    ann.send(ROOM, "after").await;
    cem.wait_for_message(ROOM, "after").await;

    // Whose feed was cut, by whom, and how much of it counts; nothing of the sort of the others.
    let reasons = why(&cem, &of_bob, None).await;
    let told = from(&reasons, "authority");
    assert!(
        told.len() == 1
            && told[0].starts_with("its end is hidden: its author was removed by ann (")
            && told[0].ends_with(" blocks of the feed are accepted"),
        "{reasons:?}"
    );
    let by = reasons.iter().find_map(|one| one.by.clone());
    assert_eq!(by, Some(ann.id.agent.to_string()));
    let files = why(&cem, &one_of(&cem, &bob, "blobs_feed").await, None).await;
    let told = from(&files, "authority");
    assert!(
        told.len() == 1
            && told[0].starts_with("its end is hidden: its author was removed by ann (")
            && told[0].ends_with("the first 0 blocks of the feed are accepted"),
        "{files:?}"
    );
    for who in [&ann, &cem] {
        for feed in ["feed", "blobs_feed"] {
            let reasons = why(&cem, &one_of(&cem, who, feed).await, None).await;
            assert_eq!(from(&reasons, "authority"), [""; 0], "{reasons:?}");
        }
    }
    let behind = why(&cem, &format!("{of_bob}/999"), Some(ROOM)).await;
    let told = from(&behind, "authority");
    assert!(
        told[0].starts_with("hidden: its author was removed by ann"),
        "{behind:?}"
    );

    // What an act comes to, as the index has it.
    let of_ann = feed_of(&cem, &ann).await;
    let index = cem.home.join("index.db");
    let acts = |index: &Connection| -> Vec<u64> {
        let mut rows = index
            .prepare("SELECT a.idx FROM acts a JOIN member_feeds m ON m.feed = a.feed WHERE m.user_id = ? ORDER BY a.idx")
            .unwrap();
        let rows = rows.query_map([ann.id.agent.to_string()], |row| row.get(0));
        rows.unwrap().map(Result::unwrap).collect()
    };
    let removal = acts(&Connection::open(&index).unwrap()).pop().unwrap();
    let removal = format!("{of_ann}/{removal}");
    let told = from(&why(&cem, &removal, Some(ROOM)).await, "authority");
    assert_eq!(told, ["an act of the room, and it counts"]);
    let told = from(&why(&cem, &removal, Some(ROOM)).await, "index");
    assert_eq!(
        told,
        ["not shown: it is an entry of another kind than a message"]
    );

    // A refused act and a disputed feed stand in the index of somebody who met them.
    drop(met);
    let rows = Connection::open(&index).unwrap();
    let refused = rows.execute(
        "UPDATE acts SET verdict = 'refused', why = 'not authorised: a guest may not do it'
         WHERE feed || '/' || idx = (SELECT feed || '/' || max(idx) FROM acts
             WHERE feed = (SELECT feed FROM member_feeds WHERE user_id = ?))",
        [ann.id.agent.to_string()],
    );
    assert_eq!(refused.unwrap(), 1);
    let disputed = rows.execute(
        "INSERT INTO disputes SELECT room_id, feed, 3, zeroblob(32), zeroblob(32), zeroblob(32)
         FROM member_feeds WHERE user_id = ?",
        [ann.id.agent.to_string()],
    );
    assert_eq!(disputed.unwrap(), 1);
    let reasons = why(&cem, &removal, Some(ROOM)).await;
    assert_eq!(
        from(&reasons, "authority"),
        [
            "an act of the room, not authorised: a guest may not do it; what its author had seen decides, \
             for ever: done again by somebody who may, it counts"
        ],
        "{reasons:?}"
    );
    for (thing, room) in [(&removal, Some(ROOM)), (&of_ann, None)] {
        let told = from(&why(&cem, thing, room).await, "dispute");
        assert_eq!(
            told,
            [
                "two histories: from block 3 on, what is held here is not what the room accepted of this \
                 feed; what it accepted is the feed"
            ]
        );
    }
    for cast in [ann, bob, cem] {
        cast.stop().await;
    }
}
