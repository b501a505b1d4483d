//! A device that was renewed goes on in the rooms of the one before: its siblings let it in.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder, Signal, soon};
use bytes::Bytes;
use kinlog_agent::api::{Reply, Request};
use kinlog_agent::home::{Phrase, renew};
use kinlog_agent::{Agent, OpenOptions};

const ROOM: &str = "garden";

/// Waits until a device is in the room, as `cast` sees it.
async fn until_in_room(cast: &Cast, agent: &str, device: &str) {
    let is_in = async || {
        let request = Request::RoomMembers { room: ROOM.into() };
        let Ok(Reply::Members { members, .. }) = cast.reply(request).await else {
            return false;
        };
        let of_agent = members.iter().filter(|member| member.agent == agent);
        let mut devices = of_agent.flat_map(|member| &member.devices);
        devices.any(|one| one.key.to_string() == device)
    };
    soon(async {
        while !is_in().await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_device_is_let_into_its_rooms_by_a_sibling() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let phrase = Phrase::generate().unwrap();
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    let create = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    laptop.reply(create).await.unwrap();
    laptop.send(ROOM, "before").await;
    let agent = laptop.id.agent.to_string();
    laptop.go_online(&signal).await;
    phone.go_online(&signal).await;
    until_in_room(&phone, &agent, &phone.id.device.to_string()).await;
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.join(&laptop.invite(ROOM).await).await.unwrap();

    // The laptop's home turns up on another disk: it may not sign, and is renewed.
    let (home, state, before) = (laptop.home.clone(), laptop.state.clone(), laptop.id.device);
    laptop.stop().await;
    std::fs::remove_dir_all(&state).unwrap();
    let renewed = renew(&home, &state, &phrase).unwrap();
    assert_ne!(renewed.device, before);
    let open = OpenOptions::new(&state);
    let laptop = Cast {
        name: "laptop",
        agent: Agent::open(&home, open).await.unwrap(),
        id: phone.id.clone(),
        home,
        state,
    };
    laptop.go_online(&signal).await;
    until_in_room(&laptop, &agent, &renewed.device.to_string()).await;
    laptop.send(ROOM, "after").await;
    for cast in [&ann, &phone] {
        soon(cast.wait_for_message(ROOM, "after")).await;
    }
    let heard = laptop.messages(ROOM).await;
    assert!(
        heard.iter().any(|text| text.ends_with("before")),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_revoked_is_renewed_with_the_phrase() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let phrase = Phrase::generate().unwrap();
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    laptop.append("/notes", &[Bytes::from_static(b"one")]).await;
    laptop.go_online(&signal).await;
    phone.go_online(&signal).await;
    let revoke = Request::DeviceRevoke {
        device: laptop.id.device.to_string(),
        undo: Vec::new(),
        preview: false,
    };
    soon(async {
        while phone.reply(revoke.clone()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        while laptop.status().await.must_renew.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let (home, state, id) = (laptop.home.clone(), laptop.state.clone(), laptop.id.clone());
    laptop.stop().await;
    let renewed = renew(&home, &state, &phrase).unwrap();
    assert_eq!((renewed.agent, renewed.former), (id.agent, id.device));
    let agent = Agent::open(&home, OpenOptions::new(&state)).await.unwrap();
    let name = "laptop";
    let laptop = Cast {
        name,
        agent,
        id,
        home,
        state,
    };
    assert_eq!(laptop.status().await.must_renew, None);
    laptop.append("/notes", &[Bytes::from_static(b"two")]).await;
    let read = laptop.read("/notes", None).await.unwrap().into_iter();
    let read: Vec<Bytes> = read.map(|(_, block)| block).collect();
    assert_eq!(read.last().unwrap().as_ref(), b"two");
}
