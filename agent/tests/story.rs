//! The whole of it once: two people with two devices each, a seeder, and a thief. Over links in memory,
//! and over WebRTC with a signal server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder, Signal, soon, until_so};
use kinlog_agent::api::{ErrorKind, Reply, Request};
use kinlog_agent::home::Phrase;
use kinlog_agent::{Introduction, introduce};

const ROOM: &str = "family";

/// How agents meet.
enum Meeting {
    Memory,
    WebRtc(Signal),
}

impl Meeting {
    /// Brings everybody together who is not yet.
    async fn gather(&self, all: &[&Cast]) -> Vec<Introduction> {
        let mut met = Vec::new();
        for (number, one) in all.iter().enumerate() {
            match self {
                Meeting::WebRtc(signal) => one.go_online(signal).await,
                Meeting::Memory => {
                    for other in &all[number + 1..] {
                        met.push(introduce(&one.agent, &other.agent).await.unwrap());
                    }
                }
            }
        }
        met
    }
}

/// Whether a device is in the room, as it knows itself.
async fn is_in_the_room(cast: &Cast) -> bool {
    let request = Request::RoomMembers { room: ROOM.into() };
    match cast.reply(request).await {
        Ok(Reply::Members { members, .. }) => {
            let mut devices = members.iter().flat_map(|member| &member.devices);
            devices.any(|device| device.key.0.to_string() == cast.id.device.to_string())
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) if error.kind == ErrorKind::NotFound => false,
        Err(error) => panic!("{error}"),
    }
}

async fn role_of(cast: &Cast, who: &Cast) -> Option<String> {
    let request = Request::RoomMembers { room: ROOM.into() };
    let Reply::Members { members, .. } = cast.reply(request).await.unwrap() else {
        panic!("no members");
    };
    let agent = who.id.agent.to_string();
    let member = members.into_iter().find(|member| member.agent == agent);
    member.map(|member| member.role)
}

async fn everybody_reads(all: &[&Cast], text: &str) {
    for cast in all {
        cast.wait_for_message(ROOM, text).await;
    }
}

async fn blocks_kept(seeder: &Cast) -> u64 {
    match seeder.reply(Request::SeedList).await.unwrap() {
        Reply::Seeding { grants } => grants.iter().map(|grant| grant.blocks).sum(),
        other => panic!("{other:?}"),
    }
}

async fn story(meeting: Meeting) {
    let folder = Folder::new();
    let (anns, bobs) = (Phrase::generate().unwrap(), Phrase::generate().unwrap());
    let desk = Cast::device(&folder, "desk", &anns).await;
    let phone = Cast::device(&folder, "phone", &anns).await;
    let laptop = Cast::device(&folder, "laptop", &bobs).await;
    let tablet = Cast::device(&folder, "tablet", &bobs).await;
    let rack = Cast::new(&folder, "rack").await;
    let met = meeting
        .gather(&[&desk, &phone, &laptop, &tablet, &rack])
        .await;

    // Invite; the other devices of both come by their siblings.
    let create = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    desk.reply(create).await.unwrap();
    let link = desk.invite(ROOM).await;
    laptop.join(&link).await.unwrap();
    for second in [&phone, &tablet] {
        until_so("a second device is in the room", async || {
            is_in_the_room(second).await
        })
        .await;
    }
    let all = [&desk, &phone, &laptop, &tablet];
    for (cast, text) in all.iter().zip(["one", "two", "three", "four"]) {
        cast.send(ROOM, text).await;
    }
    for text in ["one", "two", "three", "four"] {
        everybody_reads(&all, text).await;
    }

    // A seeder keeps it; who was away gets what was said meanwhile, and what was written offline arrives.
    let grant = Request::RoomGrant {
        room: ROOM.into(),
        to: rack.id.agent.to_string(),
        expires_in: None,
        quota_class: 0,
    };
    let Reply::Granted { link, .. } = desk.reply(grant).await.unwrap() else {
        panic!("no grant");
    };
    rack.reply(Request::SeedAccept { link }).await.unwrap();
    until_so("the seeder keeps something", async || {
        blocks_kept(&rack).await > 0
    })
    .await;
    drop(met);
    let tablet = tablet.reopen().await;
    tablet.send(ROOM, "from the train").await;
    let met = meeting.gather(&[&desk, &phone, &laptop, &rack]).await;
    desk.send(ROOM, "while you were away").await;
    everybody_reads(&[&phone, &laptop], "while you were away").await;
    let back = meeting.gather(&[&tablet, &rack, &desk]).await;
    everybody_reads(&[&tablet], "while you were away").await;
    everybody_reads(&[&desk], "from the train").await;
    drop((met, back));

    // A thief takes the laptop, as it stands, and lets an agent of their own in.
    let mal = Cast::new(&folder, "mal").await;
    let met = meeting
        .gather(&[&desk, &phone, &laptop, &tablet, &mal])
        .await;
    let stolen = laptop.invite(ROOM).await;
    mal.join(&stolen).await.unwrap();
    everybody_reads(&[&mal], "one").await;

    // The phrase makes a new device, which reads everything, revokes the laptop, and the thief's agent goes.
    let spare = Cast::device(&folder, "spare", &bobs).await;
    let with_spare = [
        meeting.gather(&[&spare, &desk]).await,
        meeting.gather(&[&spare, &tablet]).await,
    ];
    until_so("the new device is in the room", async || {
        is_in_the_room(&spare).await
    })
    .await;
    let before = ["one", "two", "three", "four", "from the train"];
    for text in before {
        everybody_reads(&[&spare], text).await;
    }
    let revoke = Request::DeviceRevoke {
        device: laptop.id.device.to_string(),
        undo: Vec::new(),
        preview: false,
    };
    spare.reply(revoke).await.unwrap();
    let remove = Request::RoomRemove {
        room: ROOM.into(),
        who: mal.id.agent.to_string(),
        reason: "came with a stolen laptop".into(),
    };
    desk.reply(remove).await.unwrap();
    for cast in [&phone, &tablet] {
        until_so("the thief's agent is removed", async || {
            role_of(cast, &mal).await.as_deref() == Some("removed")
        })
        .await;
    }
    until_so("the laptop is out of the room", async || {
        let request = Request::RoomMembers { room: ROOM.into() };
        let Reply::Members { members, .. } = desk.reply(request).await.unwrap() else {
            panic!("no members");
        };
        let bob = laptop.id.agent.to_string();
        let devices = members.iter().filter(|member| member.agent == bob);
        devices.map(|member| member.devices.len()).sum::<usize>() == 2
    })
    .await;

    // Entry n + 1: for those who are in, and nobody else.
    desk.send(ROOM, "new locks").await;
    everybody_reads(&[&phone, &tablet, &spare], "new locks").await;
    // Neither has to succeed; what it says is in nobody's room.
    for gone in [&laptop, &mal] {
        let send = Request::Send {
            room: ROOM.into(),
            text: "open up".into(),
            reply_to: None,
        };
        let _ = gone.reply(send).await;
    }
    spare.send(ROOM, "good night").await;
    everybody_reads(&[&desk, &phone, &tablet], "good night").await;
    for gone in [&laptop, &mal] {
        let heard = gone.messages(ROOM).await;
        assert!(
            !heard.iter().any(|one| one.contains("new locks")),
            "{heard:?}"
        );
    }
    let told = desk.messages(ROOM).await;
    assert!(!told.iter().any(|one| one.contains("open up")), "{told:?}");
    for cast in [&phone, &tablet, &spare] {
        assert_eq!(cast.messages(ROOM).await, told, "{}", cast.name);
    }
    drop((met, with_spare));
    for cast in [desk, phone, laptop, tablet, rack, mal, spare] {
        soon(cast.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_a_seeder_and_a_thief_over_memory() {
    story(Meeting::Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_a_seeder_and_a_thief_over_webrtc() {
    story(Meeting::WebRtc(Signal::start().await)).await;
}
