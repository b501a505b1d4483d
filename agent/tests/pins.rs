//! Pins: by prefix, time, size and links; and what goes when they go.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::stage::{Cast, Folder, Signal, blocks, soon};
use kinlog_agent::api::{ErrorKind, FeedInfo, PinInfo, PinOptions, Reply, Request, Text};

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

async fn pin(cast: &Cast, link: &str, range: &str, options: PinOptions) -> PinInfo {
    let request = Request::Pin {
        link: link.to_owned(),
        range: Some(Text(range.parse().unwrap())),
        options,
    };
    match cast.reply(request).await.unwrap() {
        Reply::Pins { mut pins } => pins.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn feed_of(cast: &Cast, path: &str) -> Option<FeedInfo> {
    match cast.reply(Request::FeedList).await.unwrap() {
        Reply::Feeds { feeds } => feeds
            .into_iter()
            .find(|feed| feed.path.as_deref() == Some(path)),
        other => panic!("{other:?}"),
    }
}

/// Waits until the feed at a path holds so many blocks.
async fn wait_for(cast: &Cast, path: &str, count: u64) {
    let held = async {
        loop {
            if feed_of(cast, path)
                .await
                .is_some_and(|feed| feed.blocks_held >= count)
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon(held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_says_whose_path_how_much_and_why_and_unpinning_gives_its_space_back() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    for path in ["/trips/alps", "/trips/sea", "/trip"] {
        ann.append(path, &blocks(10, 2000)).await;
    }
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.append("/own", &blocks(3, 500)).await;
    let link = format!("{}/trips", ann.id.link);
    let options = PinOptions {
        tier: Some("reciprocal".to_owned()),
        reason: Some("the family's photos".to_owned()),
        ..PinOptions::default()
    };
    let pinned = pin(&bob, &link, "last:4", options).await;
    assert_eq!(
        (pinned.tier.as_str(), pinned.role.as_str()),
        ("reciprocal", "pinned")
    );
    wait_for(&bob, "/trips/alps", 4).await;
    wait_for(&bob, "/trips/sea", 4).await;
    assert!(
        feed_of(&bob, "/trip").await.is_none(),
        "no pin authorises it"
    );
    assert_eq!(feed_of(&bob, "/trips/sea").await.unwrap().role, "pinned");
    assert_eq!(feed_of(&bob, "/own").await.unwrap().role, "own");
    let status = bob.status().await;
    let alps = status
        .feeds
        .iter()
        .find(|one| one.feed.path.as_deref() == Some("/trips/alps"));
    assert!(
        alps.unwrap().why[0].contains("the family's photos"),
        "{alps:?}"
    );

    // A second pin keeps its blocks when the first goes.
    let alps = format!("{link}/alps");
    pin(&bob, &alps, "8..10", PinOptions::default()).await;
    let unpin = |link: &str| Request::Unpin {
        link: link.to_owned(),
    };
    match bob.reply(unpin(&link)).await.unwrap() {
        Reply::Unpinned {
            blocks,
            bytes,
            pins,
        } => {
            assert_eq!((blocks, bytes), (2 + 4, 6 * 2000));
            assert_eq!(pins.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    assert!(feed_of(&bob, "/trips/sea").await.is_none());
    assert_eq!(feed_of(&bob, "/trips/alps").await.unwrap().blocks_held, 2);
    bob.reply(unpin(&alps)).await.unwrap();
    let status = bob.status().await;
    let held: u64 = status.feeds.iter().map(|one| one.feed.blocks_held).sum();
    let own: u64 = [feed_of(&bob, "/own").await.unwrap().blocks_held]
        .iter()
        .sum();
    let directories = status
        .feeds
        .iter()
        .filter(|one| one.feed.role.ends_with("directory"));
    let directories: u64 = directories.map(|one| one.feed.blocks_held).sum();
    assert_eq!(
        (own, held),
        (3, 3 + directories),
        "own feeds stay, nothing else"
    );
    assert_eq!(
        bob.reply(unpin(&alps)).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    let odd = PinOptions {
        tier: Some("royal".to_owned()),
        ..PinOptions::default()
    };
    let request = Request::Pin {
        link,
        range: None,
        options: odd,
    };
    assert_eq!(bob.reply(request).await.unwrap_err().kind, ErrorKind::Usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_of_so_many_bytes_holds_the_newest_that_fit_and_no_more() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    let link = ann.append("/film", &blocks(60, 1000)).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.follow(&link, Some("bytes:7500")).await.unwrap();
    let feed = feed_of(&bob, "/film").await.unwrap();
    assert_eq!((feed.blocks_held, feed.bytes_held), (7, 7000));
    assert_eq!(bob.read(&link, Some("53..60")).await.unwrap().len(), 7);

    // What comes later takes the place of what is older.
    pin(&bob, &link, "bytes:7500", PinOptions::default()).await;
    ann.append("/film", &blocks(3, 1000)).await;
    let moved = async {
        loop {
            let feed = feed_of(&bob, "/film").await.unwrap();
            if feed.length == 63
                && feed.blocks_held == 7
                && bob.read(&link, Some("56..63")).await.is_ok()
            {
                return;
            }
            assert!(feed.bytes_held <= 7500 + 1000, "{feed:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon(moved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_since_a_time_holds_what_was_written_after_it() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::new(&folder, "ann").await;
    ann.append("/log", &blocks(5, 100)).await;
    // A clean stop commits to the heads of now.
    let ann = ann.reopen().await;
    let then = now_ms() + 1;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    ann.append("/log", &blocks(3, 100)).await;
    let ann = ann.reopen().await;
    ann.go_online(&signal).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    let link = format!("{}/log", ann.id.link);
    pin(&bob, &link, &format!("since:{then}"), PinOptions::default()).await;
    wait_for(&bob, "/log", 3).await;
    let feed = feed_of(&bob, "/log").await.unwrap();
    assert_eq!((feed.length, feed.blocks_held), (8, 3));
    ann.append("/log", &blocks(2, 100)).await;
    wait_for(&bob, "/log", 5).await;
    assert_eq!(bob.read(&link, Some("5..10")).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_in_documents_are_followed_as_deep_as_was_asked() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let (ann, ben) = (
        Cast::online(&folder, "ann", &signal).await,
        Cast::online(&folder, "ben", &signal).await,
    );
    let cleo = Cast::online(&folder, "cleo", &signal).await;
    let publish = async |cast: &Cast, path: &str, text: String| {
        let file = folder.path().join(format!("{}.md", cast.name));
        std::fs::write(&file, text).unwrap();
        let (path, files) = (path.to_owned(), vec![file]);
        let private = false;
        cast.reply(Request::Publish {
            path,
            files,
            private,
        })
        .await
        .unwrap();
    };
    publish(&cleo, "/essays", "the end of the way".to_owned()).await;
    publish(&ben, "/recipes", format!("see {}/essays.", cleo.id.link)).await;
    publish(
        &ann,
        "/notes",
        format!("ben writes [here]({}/recipes)", ben.id.link),
    )
    .await;

    let reader = Cast::online(&folder, "reader", &signal).await;
    let link = format!("{}/notes", ann.id.link);
    pin(&reader, &link, "all", PinOptions::default()).await;
    wait_for(&reader, "/notes", 1).await;
    assert!(
        feed_of(&reader, "/recipes").await.is_none(),
        "nobody asked for links"
    );
    let deep = PinOptions {
        depth: 1,
        ..PinOptions::default()
    };
    pin(&reader, &link, "all", deep).await;
    wait_for(&reader, "/recipes", 1).await;
    let status = reader.status().await;
    let recipes = status
        .feeds
        .iter()
        .find(|one| one.feed.path.as_deref() == Some("/recipes"));
    assert!(
        recipes.unwrap().why[0].contains("linked from /notes"),
        "{recipes:?}"
    );
    assert!(
        feed_of(&reader, "/essays").await.is_none(),
        "two links away"
    );
}
