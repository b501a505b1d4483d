//! What a revoked device writes later is nobody's; what it wrote before stays.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::time::Duration;

use crate::stage::{Cast, Folder, SOON, blocks};
use kinlog_agent::api::{FeedInfo, PinOptions, Reply, Request, Text};
use kinlog_agent::home::Phrase;
use kinlog_agent::{Introduction, introduce};

async fn meet(one: &Cast, other: &Cast) -> Introduction {
    introduce(&one.agent, &other.agent).await.unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let so = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, so).await.is_ok(), "{what}");
}

async fn feeds(cast: &Cast) -> Vec<FeedInfo> {
    match cast.reply(Request::FeedList).await.unwrap() {
        Reply::Feeds { feeds } => feeds,
        other => panic!("{other:?}"),
    }
}

/// Blocks held of the feed at a path.
async fn held(cast: &Cast, path: &str) -> Option<u64> {
    let feeds = feeds(cast).await;
    let feed = feeds.iter().find(|feed| feed.path.as_deref() == Some(path));
    feed.map(|feed| feed.blocks_held)
}

/// Length and blocks held of a feed, by its key.
async fn size(cast: &Cast, key: &str) -> (u64, u64) {
    let feeds = cast.status().await.feeds;
    let feed = feeds.iter().find(|one| one.feed.key.to_string() == key);
    feed.map_or((0, 0), |one| (one.feed.length, one.feed.blocks_held))
}

async fn publish(folder: &Folder, cast: &Cast, path: &str, text: &str) {
    let file = folder.path().join(format!("{text}.md"));
    std::fs::write(&file, format!("# {text}\n")).unwrap();
    let request = Request::Publish {
        path: path.to_owned(),
        files: vec![file],
        private: false,
    };
    cast.reply(request).await.unwrap();
}

async fn finds(cast: &Cast, query: &str) -> bool {
    let query = query.to_owned();
    let found = cast.ask(Request::Search { query }).all().await.unwrap();
    found.iter().any(|one| matches!(one.reply, Reply::Found(_)))
}

async fn pin(cast: &Cast, link: &str) {
    let request = Request::Pin {
        link: link.to_owned(),
        range: Some(Text("all".parse().unwrap())),
        options: PinOptions::default(),
    };
    cast.reply(request).await.unwrap();
}

/// A plain feed with one block: whoever pinned it and has it went through a session to the end.
async fn mark(cast: &Cast, number: usize) -> String {
    let path = format!("marker {number}");
    let plain = Request::FeedCreate {
        path,
        plain: true,
        private: false,
        kind: None,
    };
    match cast.reply(plain).await.unwrap() {
        Reply::Feed(feed) => {
            let key = feed.key.to_string();
            cast.append(&key, &blocks(1, 10)).await;
            key
        }
        other => panic!("{other:?}"),
    }
}

async fn why(cast: &Cast, thing: &str) -> Vec<String> {
    let (thing, room) = (thing.to_owned(), None);
    match cast.reply(Request::Why { thing, room }).await.unwrap() {
        Reply::Why { reasons, .. } => reasons.into_iter().map(|one| one.text).collect(),
        other => panic!("{other:?}"),
    }
}

async fn device_state(cast: &Cast, of: &Cast) -> String {
    let agent = of.id.agent.to_string();
    let devices = match cast
        .reply(Request::Devices { of: Some(agent) })
        .await
        .unwrap()
    {
        Reply::Devices { devices } => devices,
        other => panic!("{other:?}"),
    };
    let key = of.id.device.to_string();
    let device = devices.into_iter().find(|one| one.key.to_string() == key);
    device.map_or(String::new(), |one| one.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_thief_writes_after_the_revocation_is_nobodys_and_what_came_before_stays() {
    let folder = Folder::new();
    let words = Phrase::generate().unwrap();
    let phone = Cast::device(&folder, "phone", &words).await;
    let laptop = Cast::device(&folder, "laptop", &words).await;
    let (bob, cleo) = (
        Cast::new(&folder, "bob").await,
        Cast::new(&folder, "cleo").await,
    );
    laptop.append("/log", &blocks(5, 100)).await;
    publish(&folder, &laptop, "/notes", "harvest").await;
    // A clean stop commits to what was written.
    let laptop = laptop.reopen().await;
    let directory = feeds(&laptop).await;
    let directory = directory
        .iter()
        .find(|one| one.role == "directory" && !one.private);
    let directory = directory.unwrap().key.to_string();
    let at_the_theft = size(&laptop, &directory).await.0;

    let link = laptop.id.link.clone();
    for cast in [&bob, &cleo] {
        pin(cast, &link).await;
    }
    let met = [
        meet(&phone, &laptop).await,
        meet(&bob, &laptop).await,
        meet(&cleo, &laptop).await,
        meet(&bob, &phone).await,
    ];
    for cast in [&bob, &cleo] {
        until("both read what the laptop wrote", async || {
            held(cast, "/log").await == Some(5) && finds(cast, "harvest").await
        })
        .await;
    }
    until("the phone has the laptop's directory", async || {
        size(&phone, &directory).await == (at_the_theft, at_the_theft)
    })
    .await;
    drop(met);

    let revoke = Request::DeviceRevoke {
        device: laptop.id.device.to_string(),
        undo: Vec::new(),
        preview: false,
    };
    phone.reply(revoke).await.unwrap();
    let with_bob = meet(&bob, &phone).await;
    until("bob knows", async || {
        device_state(&bob, &laptop).await == "revoked"
    })
    .await;
    drop(with_bob);

    // Whoever has the laptop now does not know, and writes on.
    laptop.append("/log", &blocks(3, 100)).await;
    laptop.append("/stolen", &blocks(2, 100)).await;
    publish(&folder, &laptop, "/notes", "ransom").await;
    // And asks everybody to drop what the owner wrote.
    let clear = Request::FeedClear {
        feed: "/notes".to_owned(),
        range: Text("0..1".parse().unwrap()),
        own: false,
        everywhere: true,
    };
    laptop.reply(clear).await.unwrap();
    let marker = mark(&laptop, 1).await;
    let laptop = laptop.reopen().await;
    assert!(size(&laptop, &directory).await.0 > at_the_theft);

    // Cleo hears of it from the thief, bob knows better.
    for cast in [&bob, &cleo] {
        pin(cast, &format!("kinlog://feed/{marker}")).await;
    }
    let with_cleo = meet(&cleo, &laptop).await;
    until("cleo was told by the thief", async || {
        held(&cleo, "/stolen").await == Some(2)
            && held(&cleo, "/log").await == Some(8)
            && finds(&cleo, "ransom").await
            && !finds(&cleo, "harvest").await
    })
    .await;
    drop(with_cleo);
    let with_bob = meet(&bob, &laptop).await;
    until("bob went through a session with the thief", async || {
        size(&bob, &marker).await == (1, 1)
    })
    .await;
    drop(with_bob);

    // Cleo meets somebody who knows, and gives up what nobody vouches for.
    let with_cleo = meet(&cleo, &phone).await;
    until("cleo knows", async || {
        device_state(&cleo, &laptop).await == "revoked"
    })
    .await;
    until("cleo gives it up", async || {
        held(&cleo, "/log").await == Some(5)
            && !finds(&cleo, "ransom").await
            && finds(&cleo, "harvest").await
    })
    .await;
    drop(with_cleo);

    for cast in [&bob, &cleo] {
        let name = cast.name;
        assert_eq!(held(cast, "/stolen").await, None, "{name}");
        assert_eq!(held(cast, "/log").await, Some(5), "{name}");
        let read = cast.read(&format!("{link}/log"), None).await.unwrap();
        assert_eq!(read.len(), 5, "{name}");
        assert!(finds(cast, "harvest").await, "{name}");
        assert!(!finds(cast, "ransom").await, "{name}");
        assert!(size(cast, &directory).await.1 <= at_the_theft, "{name}");
        let reasons = why(cast, &format!("{link}/log")).await;
        assert!(
            reasons
                .iter()
                .any(|one| one.contains("5 of ") && one.contains("unvouched")),
            "{reasons:?}"
        );
        let reasons = why(cast, &directory).await;
        let accepted = format!("the first {at_the_theft} of ");
        assert!(
            reasons.iter().any(|one| one.contains(&accepted)),
            "{reasons:?}"
        );
    }

    // Another device goes on, and vouches for where.
    let take = Request::FeedTake {
        path: "/log".to_owned(),
    };
    phone.reply(take).await.unwrap();
    phone.append("/log", &blocks(1, 100)).await;
    let with_bob = meet(&bob, &phone).await;
    until("bob reads on", async || {
        bob.read(&format!("{link}/log"), None)
            .await
            .is_ok_and(|read| read.len() == 6)
    })
    .await;
    drop(with_bob);
    for cast in [phone, laptop, bob, cleo] {
        cast.stop().await;
    }
}
