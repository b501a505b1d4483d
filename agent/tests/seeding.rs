//! A seeder keeps a room for its members, over links in memory: everything goes through it, and it reads
//! nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::stage::{Cast, Folder, soon, until};
use kinlog_agent::api::{ErrorKind, Reply, Request, SeedingInfo};
use kinlog_agent::introduce;
use testkit::needles::Needles;

const ROOM: &str = "behind the green door";

async fn grant(member: &Cast, seeder: &Cast, expires_in: Option<u64>) -> String {
    let request = Request::RoomGrant {
        room: ROOM.into(),
        to: seeder.id.agent.to_string(),
        expires_in,
        quota_class: 3,
    };
    match member.reply(request).await.unwrap() {
        Reply::Granted { link, .. } => link,
        other => panic!("{other:?}"),
    }
}

async fn accept(seeder: &Cast, link: &str) -> Result<Reply, kinlog_agent::api::Error> {
    let link = link.to_owned();
    seeder.reply(Request::SeedAccept { link }).await
}

async fn held(seeder: &Cast) -> Vec<SeedingInfo> {
    match seeder.reply(Request::SeedList).await.unwrap() {
        Reply::Seeding { grants } => grants,
        other => panic!("{other:?}"),
    }
}

/// Waits until what a seeder holds is as wanted.
async fn until_held(seeder: &Cast, is_so: impl Fn(&[SeedingInfo]) -> bool) -> Vec<SeedingInfo> {
    until(async || Some(held(seeder).await).filter(|grants| is_so(grants))).await
}

/// Blocks of all feeds of rooms that a member holds.
async fn blocks_of_rooms(member: &Cast) -> u64 {
    let feeds = member.status().await.feeds;
    let of_rooms = feeds
        .iter()
        .filter(|one| one.why.iter().any(|why| why.contains(ROOM)));
    of_rooms.map(|one| one.have.max(one.feed.blocks_held)).sum()
}

/// Waits until a seeder holds as many blocks as a member.
async fn until_level(seeder: &Cast, member: &Cast) {
    until(async || {
        let here = blocks_of_rooms(member).await;
        let there = held(seeder).await.iter().map(|one| one.blocks).max();
        (there == Some(here)).then_some(())
    })
    .await;
}

/// Returns every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Waits until no feed goes over any session of a room.
async fn until_it_serves_nothing(seeder: &Cast) {
    until(async || {
        let sessions = seeder.status().await.sessions;
        let mut of_rooms = sessions.iter().filter(|one| one.met_by == "room");
        of_rooms.all(|one| one.feeds.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_who_was_away_gets_everything_from_the_seeder() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let (cem, sue) = (
        Cast::new(&folder, "cem").await,
        Cast::new(&folder, "sue").await,
    );
    let ann_bob = introduce(&ann.agent, &bob.agent).await.unwrap();
    let ann_cem = introduce(&ann.agent, &cem.agent).await.unwrap();
    let create = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.reply(create).await.unwrap();
    let link = ann.invite(ROOM).await;
    bob.join(&link).await.unwrap();
    cem.join(&link).await.unwrap();
    ann.send(ROOM, "before the seeder").await;
    cem.wait_for_message(ROOM, "before the seeder").await;
    bob.wait_for_message(ROOM, "before the seeder").await;
    drop(ann_cem);

    // Cem is away when the seeder is found, and does not know its grant.
    let given = grant(&ann, &sue, None).await;
    let ann_sue = introduce(&ann.agent, &sue.agent).await.unwrap();
    let accepted = accept(&sue, &given).await.unwrap();
    assert!(matches!(&accepted, Reply::Seeding { grants } if grants[0].quota_class == 3));
    ann.send(ROOM, "the key is under the flowerpot").await;
    bob.wait_for_message(ROOM, "the key is under the flowerpot")
        .await;
    bob.send(ROOM, "not any more").await;
    ann.wait_for_message(ROOM, "not any more").await;
    until_level(&sue, &ann).await;
    drop((ann_bob, ann_sue));
    ann.stop().await;
    bob.stop().await;

    let cem_sue = introduce(&cem.agent, &sue.agent).await.unwrap();
    cem.wait_for_message(ROOM, "the key is under the flowerpot")
        .await;
    cem.wait_for_message(ROOM, "not any more").await;
    // It knows the grant now, and the seeder takes what it writes.
    cem.send(ROOM, "thank you, sue").await;
    until_level(&sue, &cem).await;
    drop(cem_sue);

    let mut needles = Needles::new();
    for (name, text) in [
        ("room name", ROOM),
        ("first message", "before the seeder"),
        ("message", "the key is under the flowerpot"),
        ("answer", "not any more"),
        ("thanks", "thank you, sue"),
    ] {
        needles.add(name, text.as_bytes());
    }
    let mut searched = 0;
    for file in files(&sue.home) {
        let bytes = std::fs::read(&file).unwrap();
        searched += bytes.len();
        assert_eq!(
            needles.found_in(&bytes),
            BTreeSet::new(),
            "{}",
            file.display()
        );
    }
    assert!(searched > 100_000, "only {searched} bytes were searched");
    let read = files(&cem.home)
        .iter()
        .any(|file| !needles.found_in(&std::fs::read(file).unwrap()).is_empty());
    assert!(read, "the search is blind: a member's index has the texts");

    let status = sue.status().await;
    assert_eq!(status.rooms, []);
    let kept: Vec<_> = status
        .feeds
        .iter()
        .filter(|one| one.feed.role == "seeded")
        .collect();
    assert_eq!(kept.len(), 6, "entries and files of three devices");
    assert!(kept.iter().all(|one| one.why[0].contains("seed grant")));
    let query = "flowerpot".to_owned();
    let found = soon(sue.ask(Request::Search { query }).all())
        .await
        .unwrap();
    assert_eq!(found, []);

    let name = held(&sue).await[0].grant.to_string()[..10].to_owned();
    match sue.reply(Request::SeedDrop { grant: name }).await.unwrap() {
        Reply::SeedingDropped { blocks, .. } => assert!(blocks > 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(held(&sue).await, []);
    let feeds = sue.status().await.feeds;
    assert!(feeds.iter().all(|one| one.feed.role != "seeded"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grant_follows_the_room_until_it_is_revoked() {
    let folder = Folder::new();
    let (ann, bob, sue) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
        Cast::new(&folder, "sue").await,
    );
    let _ann_bob = introduce(&ann.agent, &bob.agent).await.unwrap();
    let _ann_sue = introduce(&ann.agent, &sue.agent).await.unwrap();
    let create = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.reply(create).await.unwrap();
    let given = grant(&ann, &sue, None).await;
    let error = accept(&bob, &given).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission, "{error}");
    accept(&sue, &given).await.unwrap();
    until_held(&sue, |held| held[0].feeds == 2 && held[0].blocks > 0).await;

    // Who joins brings two feeds; the seeder hears of them from the giver.
    let link = ann.invite(ROOM).await;
    bob.join(&link).await.unwrap();
    let live = |held: &[SeedingInfo]| held.iter().filter(|one| one.state == "live").count();
    until_held(&sue, |held| {
        held.iter().any(|one| one.state == "live" && one.feeds == 4)
    })
    .await;
    bob.send(ROOM, "hello").await;
    ann.wait_for_message(ROOM, "hello").await;
    until_level(&sue, &ann).await;

    let request = Request::RoomGrantRevoke {
        room: ROOM.into(),
        grant: sue.id.agent.to_string(),
    };
    ann.reply(request).await.unwrap();
    let ended = until_held(&sue, |held| live(held) == 0).await;
    let kept = ended.iter().map(|one| one.blocks).max();
    ann.send(ROOM, "for members alone").await;
    bob.wait_for_message(ROOM, "for members alone").await;
    assert_eq!(held(&sue).await.iter().map(|one| one.blocks).max(), kept);
    until_it_serves_nothing(&sue).await;
    match ann.reply(Request::RoomGrants { room: ROOM.into() }).await {
        Ok(Reply::Grants { grants, .. }) => assert_eq!(grants, []),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_grant_ends_by_itself() {
    let folder = Folder::new();
    let (ann, sue) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "sue").await,
    );
    let _ann_sue = introduce(&ann.agent, &sue.agent).await.unwrap();
    let create = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.reply(create).await.unwrap();
    let given = grant(&ann, &sue, Some(3)).await;
    accept(&sue, &given).await.unwrap();
    until_held(&sue, |held| held[0].blocks > 0).await;
    until_held(&sue, |held| held[0].state == "expired").await;
    until_it_serves_nothing(&sue).await;
    let kept = held(&sue).await[0].blocks;
    ann.send(ROOM, "too late").await;
    assert_eq!(held(&sue).await[0].blocks, kept);
    let error = accept(&sue, &given).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission, "{error}");
}
