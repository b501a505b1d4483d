//! Rooms of several agents in one process, over real WebRTC, with a real signal server on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage;
use crate::stage::{Cast, Folder, Signal, soon};
use kinlog_agent::api::{ErrorKind, Reply, Request};

async fn room_of(cast: &Cast, name: &str) {
    cast.reply(Request::RoomCreate {
        name: name.into(),
        history: None,
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_agents_talk_and_the_last_reads_the_history() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    room_of(&ann, "family").await;
    ann.send("family", "first").await;
    let link = ann.invite("family").await;
    assert_eq!(
        ann.invite("family").await,
        link,
        "one invite until it is revoked"
    );

    let bob = Cast::new(&folder, "bob").await;
    let joined = bob.join(&link).await.unwrap();
    assert!(
        matches!(&joined, Reply::Room(room) if room.name == "family"),
        "{joined:?}"
    );
    bob.send("family", "second").await;
    ann.wait_for_message("family", "second").await;

    let cem = Cast::new(&folder, "cem").await;
    cem.join(&link).await.unwrap();
    cem.wait_for_message("family", "second").await;
    assert_eq!(cem.messages("family").await, ["ann: first", "bob: second"]);
    cem.send("family", "third").await;
    bob.wait_for_message("family", "third").await;
    assert_eq!(
        bob.messages("family").await,
        ["ann: first", "bob: second", "cem: third"]
    );

    let request = Request::RoomMembers {
        room: "family".into(),
    };
    let Reply::Members { members, .. } = bob.reply(request).await.unwrap() else {
        panic!("none")
    };
    let shown: Vec<_> = members
        .iter()
        .map(|one| (one.name.as_str(), one.role.as_str()))
        .collect();
    assert_eq!(
        shown,
        [("ann", "owner"), ("bob", "member"), ("cem", "member")]
    );

    // The same entries and keys give the same rooms, messages and members everywhere.
    let (bob, cem) = (bob.reopen().await, cem.reopen().await);
    assert_eq!(bob.messages("family").await, cem.messages("family").await);
    cem.rebuilds_to_the_same().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_talk_without_the_one_who_invited_them() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    room_of(&ann, "family").await;
    ann.send("family", "first").await;
    let link = ann.invite("family").await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    let cem = Cast::online(&folder, "cem", &signal).await;
    bob.join(&link).await.unwrap();
    cem.join(&link).await.unwrap();
    cem.send("family", "hello bob").await;
    bob.wait_for_message("family", "hello bob").await;
    ann.stop().await;
    bob.send("family", "ann is gone").await;
    cem.wait_for_message("family", "ann is gone").await;

    // Any member who is online admits.
    let dee = Cast::online(&folder, "dee", &signal).await;
    dee.join(&link).await.unwrap();
    dee.wait_for_message("family", "ann is gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_found_nobody_is_asked_again_after_a_restart() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    room_of(&ann, "family").await;
    let link = ann.invite("family").await;
    let ann = ann.reopen().await;

    let bob = Cast::new(&folder, "bob").await;
    let request = Request::RoomJoin {
        link: link.clone(),
        wait_seconds: Some(0),
    };
    let error = bob.reply(request).await.unwrap_err();
    assert_eq!(
        (error.kind, error.exit_code()),
        (ErrorKind::NoPeers, 4),
        "{error}"
    );
    assert_eq!(error.message, "asked to join, no member answered yet");
    assert_eq!(bob.status().await.open_joins.len(), 1);

    let bob = bob.reopen().await;
    bob.go_online(&signal).await;
    ann.go_online(&signal).await;
    // Asking again waits for the join that is open.
    bob.join(&link).await.unwrap();
    assert_eq!(bob.status().await.open_joins.len(), 0);
    ann.send("family", "welcome").await;
    bob.wait_for_message("family", "welcome").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_a_path_learns_nothing_of_a_room() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    room_of(&ann, "family").await;
    ann.send("family", "for us alone").await;
    ann.create("/a").await;
    let link = ann.append("/a", &stage::blocks(3, 100)).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.follow(&link, None).await.unwrap();
    let private: Vec<_> = ann.status().await.feeds;
    let private = private.into_iter().filter(|one| one.feed.role == "room");
    let held: Vec<_> = bob
        .status()
        .await
        .feeds
        .iter()
        .map(|one| one.feed.key)
        .collect();
    let mut count = 0;
    for feed in private {
        count += 1;
        assert!(!held.contains(&feed.feed.key));
    }
    assert_eq!(count, 2, "the room has an entries and a blobs feed");
    assert_eq!(bob.status().await.rooms, []);
    let found = soon(
        bob.ask(Request::Search {
            query: "alone".into(),
        })
        .all(),
    )
    .await
    .unwrap();
    assert_eq!(found, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_of_one_process_join_and_talk_over_memory_alone() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let introduction = kinlog_agent::introduce(&ann.agent, &bob.agent)
        .await
        .unwrap();
    let room = "kitchen";
    room_of(&ann, room).await;
    let link = ann.invite(room).await;
    bob.join(&link).await.unwrap();
    ann.send(room, "in memory").await;
    bob.wait_for_message(room, "in memory").await;
    assert!(
        bob.status()
            .await
            .sessions
            .iter()
            .all(|one| one.transport == "memory")
    );
    drop(introduction);
    ann.send(room, "nobody hears").await;
    let again = kinlog_agent::introduce(&bob.agent, &ann.agent)
        .await
        .unwrap();
    bob.wait_for_message(room, "nobody hears").await;
    drop(again);
}
