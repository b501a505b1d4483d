//! What an agent keeps for itself on all its devices: pins that come back on a new one, and nothing else
//! that comes down. Agents of one process, over links in memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod stage;

use std::collections::BTreeMap;

use kinlog_agent::api::{FeedInfo, PinInfo, PinOptions, Reply, Request, Selection, Text};
use kinlog_agent::home::Phrase;
use stage::{Cast, Folder, blocks, meet, until};

async fn pin(cast: &Cast, link: &str, range: &str, here: bool) {
    let request = Request::Pin {
        link: link.to_owned(),
        range: Some(Text(range.parse::<Selection>().unwrap())),
        options: PinOptions {
            here,
            tier: Some("reciprocal".to_owned()),
            reason: Some("family".to_owned()),
            ..PinOptions::default()
        },
    };
    cast.reply(request).await.unwrap();
}

/// What a person asked to keep: paths and ranges.
async fn pins(cast: &Cast) -> Vec<(String, String)> {
    let pins: Vec<PinInfo> = match cast.reply(Request::Pins).await.unwrap() {
        Reply::Pins { pins } => pins,
        other => panic!("{other:?}"),
    };
    let asked = pins.into_iter().filter(|pin| pin.reason == "family");
    let mut asked: Vec<_> = asked
        .map(|pin| (pin.path.unwrap_or_default(), pin.range.to_string()))
        .collect();
    asked.sort();
    asked
}

async fn feeds(cast: &Cast) -> Vec<FeedInfo> {
    match cast.reply(Request::FeedList).await.unwrap() {
        Reply::Feeds { feeds } => feeds,
        other => panic!("{other:?}"),
    }
}

/// Blocks held of each path of another agent, with the role of its feed.
async fn held_of(cast: &Cast, author: &Cast) -> BTreeMap<String, (u64, String)> {
    let feeds = feeds(cast).await.into_iter();
    let of_author = feeds.filter(|feed| feed.agent == Some(author.id.agent.clone()));
    of_author
        .filter_map(|feed| Some((feed.path?, (feed.blocks_held, feed.role))))
        .collect()
}

fn expected(pins: &[(&str, &str)]) -> Vec<(String, String)> {
    let pins = pins.iter();
    pins.map(|(path, range)| (path.to_string(), range.to_string()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_keeps_what_is_pinned_and_fetches_nothing_else() {
    let folder = Folder::new();
    let phrase = Phrase::generate().unwrap();
    let bob = Cast::new(&folder, "bob").await;
    let mut links = BTreeMap::new();
    for path in ["/a", "/b", "/c", "/d"] {
        bob.create(path).await;
        bob.append(path, &blocks(10, 1000)).await;
        links.insert(path, format!("{}{path}", bob.id.link));
    }
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    let _met = meet(&[&bob, &laptop, &phone]).await;
    // Before the two know of each other, and after.
    pin(&laptop, &links["/a"], "all", false).await;
    pin(&laptop, &links["/c"], "all", true).await;
    until(async || (pins(&phone).await == expected(&[("/a", "all")])).then_some(())).await;
    pin(&phone, &links["/b"], "last:3", false).await;
    let both = expected(&[("/a", "all"), ("/b", "last:3")]);
    let here = expected(&[("/a", "all"), ("/b", "last:3"), ("/c", "all")]);
    until(async || (pins(&laptop).await == here).then_some(())).await;

    let tablet = Cast::device(&folder, "tablet", &phrase).await;
    let later = meet(&[&tablet, &phone]).await;
    until(async || (pins(&tablet).await == both).then_some(())).await;
    let by_bob = meet(&[&tablet, &bob]).await;
    let whole = BTreeMap::from([
        ("/a".to_owned(), (10, "pinned".to_owned())),
        ("/b".to_owned(), (3, "pinned".to_owned())),
    ]);
    until(async || (held_of(&tablet, &bob).await == whole).then_some(())).await;

    // What is on its disk, by what it is to it: the pins of others, what siblings write of the agent, and
    // its own; no block of /c or /d, and none of /b that is older.
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for feed in feeds(&tablet).await {
        *bytes.entry(feed.role).or_default() += feed.bytes_held;
    }
    assert_eq!(bytes["pinned"], 13 * 1000);
    let roles: Vec<&str> = bytes.keys().map(String::as_str).collect();
    assert_eq!(
        roles,
        ["device", "directory", "pinned", "private directory"]
    );
    let rest: u64 = bytes.values().sum::<u64>() - bytes["pinned"];
    assert!(rest < 16 * 1024, "{bytes:?}");

    // Opened again it is as it was; what one device unpins goes from all, with its space.
    drop((later, by_bob));
    let tablet = tablet.reopen().await;
    assert_eq!(pins(&tablet).await, both);
    let _again = meet(&[&tablet, &laptop]).await;
    let link = links["/a"].clone();
    tablet.reply(Request::Unpin { link }).await.unwrap();
    for cast in [&tablet, &laptop, &phone] {
        until(async || (!held_of(cast, &bob).await.contains_key("/a")).then_some(())).await;
    }
    assert_eq!(
        pins(&laptop).await,
        expected(&[("/b", "last:3"), ("/c", "all")])
    );
    for cast in [laptop, phone, tablet, bob] {
        cast.stop().await;
    }
}
