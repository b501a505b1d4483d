//! Who is in a room and what that means: removal, roles, invites that end, leaving, history, rooms of
//! two. Agents of one process, over links in memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder, meet, soon, until, until_so};
use kinlog_agent::api::{Error, ErrorKind, MemberInfo, Reply, Request, RoomInfo};
use kinlog_agent::home::Phrase;

const ROOM: &str = "kitchen";

async fn create(cast: &Cast, history: Option<&str>) {
    let history = history.map(str::to_owned);
    let name = ROOM.to_owned();
    cast.reply(Request::RoomCreate { name, history })
        .await
        .unwrap();
}

async fn invite(cast: &Cast, role: &str, uses: Option<u32>) -> Result<String, Error> {
    let request = Request::RoomInvite {
        room: ROOM.into(),
        role: Some(role.into()),
        expires_in: None,
        uses,
    };
    cast.reply(request).await.map(|reply| match reply {
        Reply::Invite { link, .. } => link,
        other => panic!("{other:?}"),
    })
}

async fn remove(cast: &Cast, who: &Cast, reason: &str) -> Result<Reply, Error> {
    let request = Request::RoomRemove {
        room: ROOM.into(),
        who: who.id.agent.to_string(),
        reason: reason.into(),
    };
    cast.reply(request).await
}

async fn members(cast: &Cast) -> Vec<MemberInfo> {
    let request = Request::RoomMembers { room: ROOM.into() };
    match cast.reply(request).await.unwrap() {
        Reply::Members { members, .. } => members,
        other => panic!("{other:?}"),
    }
}

async fn room(cast: &Cast) -> RoomInfo {
    match cast.reply(Request::RoomList).await.unwrap() {
        Reply::Rooms { rooms } => rooms.into_iter().find(|one| one.name == ROOM).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn role_of(cast: &Cast, who: &Cast) -> Option<String> {
    let agent = who.id.agent.to_string();
    let found = members(cast).await;
    let member = found.into_iter().find(|member| member.agent == agent);
    member.map(|member| member.role)
}

/// Ben makes an epoch, Ada writes in it and does acts, and Ann removes Ben without knowing of any of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_and_done_in_an_epoch_whose_maker_is_removed_beside_is_read_by_all() {
    let folder = Folder::new();
    let (ann, ada, ben, cem) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "ada").await,
        Cast::new(&folder, "ben").await,
        Cast::new(&folder, "cem").await,
    );
    let met = meet(&[&ann, &ada, &ben, &cem]).await;
    create(&ann, None).await;
    let link = invite(&ann, "admin", None).await.unwrap();
    ada.join(&link).await.unwrap();
    ben.join(&link).await.unwrap();
    cem.join(&invite(&ann, "member", None).await.unwrap())
        .await
        .unwrap();
    for cast in [&ann, &ada, &ben] {
        until(async || role_of(cast, &cem).await).await;
        until(async || role_of(cast, &ada).await).await;
        until(async || role_of(cast, &ben).await).await;
    }
    drop(met);

    let met = meet(&[&ada, &ben]).await;
    remove(&ben, &cem, "gone").await.unwrap();
    ben.send(ROOM, "cem is gone").await;
    ada.wait_for_message(ROOM, "cem is gone").await;
    ada.send(ROOM, "said in it").await;
    let link = invite(&ada, "member", None).await.unwrap();
    drop(met);
    remove(&ann, &ben, "away").await.unwrap();

    let _met = meet(&[&ann, &ada]).await;
    ann.wait_for_message(ROOM, "said in it").await;
    until(async || (role_of(&ada, &ben).await? == "removed").then_some(())).await;
    // Whoever comes later holds the keys of all acts, too.
    let dee = Cast::new(&folder, "dee").await;
    let _more = meet(&[&dee, &ada]).await;
    dee.join(&link).await.unwrap();
    ada.send(ROOM, "welcome").await;
    dee.wait_for_message(ROOM, "welcome").await;
    for cast in [&ann, &ada, &dee] {
        until(async || (role_of(cast, &dee).await? == "member").then_some(())).await;
        until(async || (role_of(cast, &ben).await? == "removed").then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_member_said_by_a_device_that_it_revoked_before_stays() {
    let folder = Folder::new();
    let words = Phrase::generate().unwrap();
    let laptop = Cast::device(&folder, "laptop", &words).await;
    let tablet = Cast::device(&folder, "tablet", &words).await;
    let (ann, cem) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "cem").await,
    );
    let _met = meet(&[&laptop, &tablet, &ann, &cem]).await;
    create(&ann, None).await;
    let link = ann.invite(ROOM).await;
    laptop.join(&link).await.unwrap();
    cem.join(&link).await.unwrap();
    let devices_of_ada = async || {
        let agent = laptop.id.agent.to_string();
        let found = members(&ann).await;
        let ada = found.into_iter().find(|member| member.agent == agent)?;
        Some(ada.devices.len())
    };
    until(async || (devices_of_ada().await? == 2).then_some(())).await;
    // As soon as the room's keys have come to it.
    until(async || {
        let send = Request::Send {
            room: ROOM.to_owned(),
            text: "by the tablet".to_owned(),
            reply_to: None,
        };
        tablet.reply(send).await.ok()
    })
    .await;
    laptop.send(ROOM, "by the laptop").await;
    for cast in [&ann, &cem, &laptop] {
        cast.wait_for_message(ROOM, "by the tablet").await;
        cast.wait_for_message(ROOM, "by the laptop").await;
    }
    let revoke = Request::DeviceRevoke {
        device: tablet.id.device.to_string(),
        undo: Vec::new(),
        preview: false,
    };
    laptop.reply(revoke).await.unwrap();
    until(async || (devices_of_ada().await? == 1).then_some(())).await;
    remove(&ann, &laptop, "away").await.unwrap();
    until(async || (role_of(&cem, &laptop).await? == "removed").then_some(())).await;
    for cast in [&ann, &cem] {
        let said = cast.messages(ROOM).await;
        for text in ["by the tablet", "by the laptop"] {
            assert!(
                said.iter().any(|one| one.ends_with(text)),
                "{text}: {said:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_reads_nothing_that_comes_after_and_is_told_why() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let cem = Cast::new(&folder, "cem").await;
    let _met = meet(&[&ann, &bob, &cem]).await;
    create(&ann, None).await;
    let link = ann.invite(ROOM).await;
    bob.join(&link).await.unwrap();
    cem.join(&link).await.unwrap();
    ann.send(ROOM, "before").await;
    bob.send(ROOM, "said by bob").await;
    for cast in [&bob, &cem] {
        cast.wait_for_message(ROOM, "before").await;
    }
    for cast in [&ann, &cem] {
        cast.wait_for_message(ROOM, "said by bob").await;
    }
    remove(&ann, &bob, "spam").await.unwrap();
    ann.send(ROOM, "after").await;
    cem.wait_for_message(ROOM, "after").await;
    until(async || (role_of(&cem, &bob).await? == "removed").then_some(())).await;
    // Bob hears who and why, whether or not the act came to him before he was served no more.
    let left = until(async || room(&bob).await.left).await;
    assert!(
        left.contains("you were removed") && left.contains("spam"),
        "{left}"
    );
    let heard = bob.messages(ROOM).await;
    assert!(heard.contains(&"ann: before".to_owned()), "{heard:?}");
    assert!(!heard.contains(&"ann: after".to_owned()), "{heard:?}");
    // What bob still writes reaches nobody.
    let said = Request::Send {
        room: ROOM.into(),
        text: "let me in".into(),
        reply_to: None,
    };
    if let Err(error) = bob.reply(said).await {
        assert_eq!(error.kind, ErrorKind::Permission, "{error}");
    }
    ann.send(ROOM, "and later").await;
    cem.wait_for_message(ROOM, "and later").await;
    let heard = cem.messages(ROOM).await;
    assert!(!heard.contains(&"bob: let me in".to_owned()), "{heard:?}");
    // The link that bob knows lets nobody in any more.
    let dee = Cast::new(&folder, "dee").await;
    let _met = meet(&[&ann, &dee]).await;
    let request = Request::RoomJoin {
        link,
        wait_seconds: Some(1),
    };
    let error = dee.reply(request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoPeers, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_say_who_may_what_and_the_last_owner_stays() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let _met = meet(&[&ann, &bob]).await;
    create(&ann, None).await;
    let link = invite(&ann, "guest", None).await.unwrap();
    bob.join(&link).await.unwrap();
    assert_eq!(role_of(&bob, &bob).await.as_deref(), Some("guest"));
    let refused = invite(&bob, "guest", None).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permission, "{refused}");
    let refused = remove(&bob, &ann, "").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permission, "{refused}");
    let leave = Request::RoomLeave {
        room: ROOM.into(),
        purge: false,
    };
    let refused = ann.reply(leave.clone()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permission, "{refused}");
    let role = |who: &Cast, role: &str| Request::RoomRole {
        room: ROOM.into(),
        who: who.id.agent.to_string(),
        role: role.into(),
    };
    ann.reply(role(&bob, "owner")).await.unwrap();
    until(async || (role_of(&bob, &bob).await? == "owner").then_some(())).await;
    ann.reply(leave).await.unwrap();
    until(async || (role_of(&bob, &ann).await? == "left").then_some(())).await;
    bob.send(ROOM, "alone now").await;
    assert_eq!(room(&bob).await.left, None);
    assert!(room(&ann).await.left.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_for_one_lets_one_in_and_a_revoked_one_nobody() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let cem = Cast::new(&folder, "cem").await;
    let _met = meet(&[&ann, &bob, &cem]).await;
    create(&ann, None).await;
    let link = invite(&ann, "member", Some(1)).await.unwrap();
    bob.join(&link).await.unwrap();
    let join = |link: &str| Request::RoomJoin {
        link: link.to_owned(),
        wait_seconds: Some(2),
    };
    let error = cem.reply(join(&link)).await.unwrap_err();
    assert!(error.message.contains("as many have joined"), "{error}");
    // The join that waits is given up.
    let waits = cem.status().await.open_joins;
    assert_eq!(waits.len(), 1);
    let other = invite(&ann, "member", None).await.unwrap();
    let Reply::Invites { invites, .. } = ann
        .reply(Request::RoomInvites { room: ROOM.into() })
        .await
        .unwrap()
    else {
        panic!("no invites");
    };
    let uses: Vec<_> = invites.iter().map(|one| (one.open, one.used)).collect();
    assert!(
        uses.contains(&(false, 1)) && uses.contains(&(true, 0)),
        "{uses:?}"
    );
    ann.reply(Request::RoomInviteRevoke {
        room: ROOM.into(),
        key: other,
    })
    .await
    .unwrap();
    let Reply::Invites { invites, .. } = ann
        .reply(Request::RoomInvites { room: ROOM.into() })
        .await
        .unwrap()
    else {
        panic!("no invites");
    };
    assert!(invites.iter().all(|one| !one.open), "{invites:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_room_without_history_reads_from_then_on_and_sees_the_same_members() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let cem = Cast::new(&folder, "cem").await;
    let _met = meet(&[&ann, &bob, &cem]).await;
    create(&ann, Some("from-join")).await;
    ann.send(ROOM, "for ann alone").await;
    let link = ann.invite(ROOM).await;
    bob.join(&link).await.unwrap();
    ann.send(ROOM, "for bob too").await;
    bob.wait_for_message(ROOM, "for bob too").await;
    cem.join(&link).await.unwrap();
    // What is said before it is heard that somebody came is said to those who were there.
    let is_heard = async || members(&bob).await.len() == 3;
    until_so("bob hears that cem came", is_heard).await;
    bob.send(ROOM, "for all").await;
    cem.wait_for_message(ROOM, "for all").await;
    assert_eq!(cem.messages(ROOM).await, ["bob: for all"]);
    let heard = bob.messages(ROOM).await;
    assert_eq!(heard, ["ann: for bob too", "bob: for all"]);
    for cast in [&ann, &bob, &cem] {
        let roles: Vec<_> = members(cast)
            .await
            .into_iter()
            .map(|one| one.role)
            .collect();
        assert_eq!(roles, ["owner", "member", "member"], "{}", cast.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_with_purge_keeps_nothing_and_says_how_much_that_was() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let _met = meet(&[&ann, &bob]).await;
    create(&ann, None).await;
    bob.join(&ann.invite(ROOM).await).await.unwrap();
    ann.send(ROOM, "hello").await;
    bob.wait_for_message(ROOM, "hello").await;
    let folder_of_export = bob.home.join("export");
    let export = Request::RoomExport {
        room: ROOM.into(),
        folder: folder_of_export.clone(),
    };
    let Reply::RoomExported(exported) = bob.reply(export).await.unwrap() else {
        panic!("not exported");
    };
    assert_eq!((exported.messages, exported.files), (1, 0));
    let text = std::fs::read_to_string(folder_of_export.join("messages.ndjson")).unwrap();
    assert!(
        text.contains("\"hello\"") && text.lines().count() == 1,
        "{text}"
    );
    let leave = Request::RoomLeave {
        room: ROOM.into(),
        purge: true,
    };
    let Reply::RoomLeft(left) = bob.reply(leave).await.unwrap() else {
        panic!("not left");
    };
    assert!(
        left.purged && left.feeds == 4 && left.blocks > 0,
        "{left:?}"
    );
    assert_eq!(bob.status().await.rooms, []);
    let held = bob.status().await.feeds;
    assert!(held.iter().all(|one| one.feed.role != "room"), "{held:?}");
    let found = soon(
        bob.ask(Request::Search {
            query: "hello".into(),
        })
        .all(),
    )
    .await;
    assert_eq!(found.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_of_a_room_talk_in_a_room_of_their_own() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let _met = meet(&[&ann, &bob]).await;
    create(&ann, None).await;
    bob.join(&ann.invite(ROOM).await).await.unwrap();
    let direct = |to: &Cast, text: &str| Request::Direct {
        agent: to.id.agent.to_string(),
        text: text.into(),
    };
    let sent = |reply| match reply {
        Reply::DirectSent { room, .. } => room,
        other => panic!("{other:?}"),
    };
    let id = until(async || {
        let sent = sent(ann.reply(direct(&bob, "just you")).await.unwrap());
        let Reply::Rooms { rooms } = bob.reply(Request::RoomList).await.unwrap() else {
            panic!("no rooms");
        };
        rooms.iter().any(|room| room.id == sent).then_some(sent)
    })
    .await;
    bob.wait_for_message(&id, "just you").await;
    // Found again from either side.
    assert_eq!(sent(bob.reply(direct(&ann, "and you")).await.unwrap()), id);
    ann.wait_for_message(&id, "and you").await;
}

/// Neither follows the other: what they know of each other's devices stands in the acts of the room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_room_compare_one_safety_number_without_following_each_other() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let cem = Cast::new(&folder, "cem").await;
    // Bob and Cem never meet.
    let _met = (meet(&[&ann, &bob]).await, meet(&[&ann, &cem]).await);
    create(&ann, None).await;
    let link = ann.invite(ROOM).await;
    bob.join(&link).await.unwrap();
    cem.join(&link).await.unwrap();
    for (one, other) in [(&bob, &cem), (&cem, &bob)] {
        until(async || (role_of(one, other).await? == "member").then_some(())).await;
    }
    let number = async |who: &Cast, other: String| {
        let asked = Request::Safety { agent: other };
        match who.reply(asked).await.unwrap() {
            Reply::Safety { number, .. } => number,
            other => panic!("{other:?}"),
        }
    };
    let of_bob = number(&cem, bob.id.agent.to_string()).await;
    assert_eq!(of_bob, number(&bob, cem.id.agent.to_string()).await);
    // By the name that it has in the room, too.
    until(async || {
        let called = members(&bob).await;
        called
            .iter()
            .any(|member| member.name == "cem")
            .then_some(())
    })
    .await;
    assert_eq!(of_bob, number(&bob, "cem".into()).await);
    assert_ne!(of_bob, number(&bob, ann.id.agent.to_string()).await);
}

/// R142, R194: who of a room is there is seen as it happens, and no server is asked: there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_list_updates_as_connections_come_and_go_without_any_server() {
    let folder = Folder::new();
    let (ann, ada) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "ada").await,
    );
    let met = meet(&[&ann, &ada]).await;
    create(&ann, None).await;
    ada.join(&invite(&ann, "member", None).await.unwrap())
        .await
        .unwrap();
    until(async || role_of(&ann, &ada).await).await;
    let mut answers = ann.ask(Request::Peers {
        of: Some(ROOM.into()),
        watch: true,
    });
    let mut shows = async |color: &str| loop {
        let answer = soon(answers.next()).await.unwrap().unwrap();
        let peers = match answer.reply {
            Reply::Peers { peers, .. } => peers,
            Reply::PeerChanged { peer, .. } => vec![peer],
            other => panic!("{other:?}"),
        };
        let mut of_ada = peers
            .into_iter()
            .filter(|peer| peer.agent.as_ref() == Some(&ada.id.agent));
        if let Some(peer) = of_ada.find(|peer| peer.color == color) {
            return peer;
        }
    };
    let there = shows("green").await;
    assert!(there.sources.contains(&"session".to_owned()));
    drop(met);
    let gone = shows("gray").await;
    assert!(gone.last_seen_ms.is_some(), "{gone:?}");
    let _met = meet(&[&ann, &ada]).await;
    shows("green").await;
    let status = ann.status().await;
    assert!(status.signals.is_empty(), "{:?}", status.signals);
    assert!(status.ladder.iter().all(|step| step.tries == 0));
}
