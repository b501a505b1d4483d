//! Paths that get another label, another device, an end; and paths that several devices write.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage;
use crate::stage::{Cast, Folder, Signal, soon};
use bytes::Bytes;
use kinlog_agent::api::{Error, ErrorKind, FeedInfo, Reply, Request};
use kinlog_agent::home::Phrase;

async fn feed(cast: &Cast, request: Request) -> Result<FeedInfo, Error> {
    match cast.reply(request).await? {
        Reply::Feed(feed) => Ok(feed),
        other => panic!("{other:?}"),
    }
}

fn rename(path: &str, to: &str) -> Request {
    let (path, to) = (path.to_owned(), to.to_owned());
    Request::FeedRename { path, to }
}

fn take(path: &str) -> Request {
    let path = path.to_owned();
    Request::FeedTake { path }
}

fn retire(path: &str) -> Request {
    let path = path.to_owned();
    Request::FeedRetire { path }
}

async fn try_append(cast: &Cast, path: &str) -> Error {
    let lengths = vec![0];
    let path = path.to_owned();
    cast.reply(Request::FeedAppend { path, lengths })
        .await
        .unwrap_err()
}

async fn texts(cast: &Cast, link: &str, range: Option<&str>) -> Vec<String> {
    let read = cast.read(link, range).await.unwrap().into_iter();
    read.map(|(_, block)| String::from_utf8(block.to_vec()).unwrap())
        .collect()
}

fn lines(texts: &[&str]) -> Vec<Bytes> {
    texts
        .iter()
        .map(|text| Bytes::copy_from_slice(text.as_bytes()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_renamed_path_are_led_on() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    let old = ann.append("/notes", &lines(&["one"])).await;
    ann.append("/other", &lines(&["x"])).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.follow(&old, None).await.unwrap();

    let refused = feed(&ann, rename("/notes", "/other")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Usage, "a label that is in use");
    let before = feed(
        &ann,
        Request::FeedInfo {
            feed: "/notes".to_owned(),
        },
    )
    .await
    .unwrap();
    let renamed = feed(&ann, rename("/notes", "/journal")).await.unwrap();
    assert_eq!(
        (renamed.key, renamed.path.as_deref()),
        (before.key, Some("/journal"))
    );
    let again = feed(&ann, rename("/journal", "/diary")).await.unwrap();
    assert_eq!(again.key, before.key);
    let new = ann.append("/diary", &lines(&["two"])).await;

    // By the link of old, which leads through two labels.
    bob.follow(&old, Some("0..2")).await.unwrap();
    assert_eq!(texts(&bob, &old, None).await, ["one", "two"]);
    assert_eq!(texts(&bob, &new, None).await, ["one", "two"]);
    let ann = ann.reopen().await;
    assert_eq!(texts(&ann, "/diary", None).await, ["one", "two"]);
    assert_eq!(
        texts(&ann, "/notes", None).await,
        ["one", "two"],
        "the author is led on too"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_made_again_is_another_feed() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    ann.append("/notes", &lines(&["first life"])).await;
    let first = feed(
        &ann,
        Request::FeedInfo {
            feed: "/notes".to_owned(),
        },
    )
    .await
    .unwrap();
    feed(&ann, retire("/notes")).await.unwrap();
    assert_eq!(try_append_missing(&ann).await, ErrorKind::NotFound);
    let second = ann.create("/notes").await;
    assert_ne!(
        first.key, second.key,
        "a feed is never written by two lives of a path"
    );
    ann.append("/notes", &lines(&["second life"])).await;
    let ann = ann.reopen().await;
    assert_eq!(texts(&ann, "/notes", None).await, ["second life"]);
    assert_eq!(
        texts(&ann, &first.key.to_string(), None).await,
        ["first life"],
        "it stays here"
    );
    let hash = ann.dump_hash(false).await;
    assert_eq!(ann.dump_hash(true).await, hash);
}

async fn try_append_missing(cast: &Cast) -> ErrorKind {
    cast.read("/notes", None).await.unwrap_err().kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_device_goes_on_with_a_path_and_readers_see_one_row() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let phrase = Phrase::generate().unwrap();
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    laptop.append("/log", &lines(&["a", "b", "c"])).await;
    laptop.go_online(&signal).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    phone.go_online(&signal).await;
    let link = format!("{}/log", phone.id.link);
    phone.follow(&link, Some("last:1")).await.unwrap();
    assert_eq!(try_append(&phone, "/log").await.kind, ErrorKind::Permission);
    let refused = phone.reply(Request::FeedCreate {
        path: "/log".to_owned(),
        plain: false,
        private: false,
        kind: None,
    });
    assert!(
        refused
            .await
            .unwrap_err()
            .hint
            .unwrap()
            .contains("feed take /log")
    );

    feed(&phone, take("/log")).await.unwrap();
    phone.append("/log", &lines(&["d", "e"])).await;
    let reader = Cast::online(&folder, "reader", &signal).await;
    reader.follow(&link, Some("0..5")).await.unwrap();
    assert_eq!(texts(&reader, &link, None).await, ["a", "b", "c", "d", "e"]);

    // The laptop learns that it is not the one who writes, and takes it back.
    laptop.follow(&link, Some("3..5")).await.unwrap();
    let refused = try_append(&laptop, "/log").await;
    assert_eq!(refused.kind, ErrorKind::Permission);
    assert!(refused.message.contains("phone"), "{refused:?}");
    assert_eq!(
        feed(&phone, take("/log")).await.unwrap_err().kind,
        ErrorKind::Usage
    );
    let known = reader.dump_hash(false).await.1;
    feed(&laptop, take("/log")).await.unwrap();
    laptop.append("/log", &lines(&["f"])).await;
    assert_eq!(
        texts(&laptop, "/log", None).await,
        ["a", "b", "c", "d", "e", "f"]
    );
    // The reader reads of the new part while nothing of it is asked for; a range that is asked for
    // later comes all the same.
    soon(async {
        while reader.dump_hash(false).await.1 == known {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    reader.follow(&link, Some("5..6")).await.unwrap();
    assert_eq!(
        texts(&reader, &link, None).await,
        ["a", "b", "c", "d", "e", "f"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_path_is_the_union_of_what_its_devices_write() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let phrase = Phrase::generate().unwrap();
    let shared = || Request::FeedCreate {
        path: "/board".to_owned(),
        plain: false,
        private: false,
        kind: Some("shared".to_owned()),
    };
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    for (cast, text) in [(&laptop, "from the laptop"), (&phone, "from the phone")] {
        feed(cast, shared()).await.unwrap();
        cast.append("/board", &lines(&[text])).await;
        cast.go_online(&signal).await;
    }
    let link = format!("{}/board", laptop.id.link);
    // Each knows of the other before a reader asks one of them.
    for (cast, other) in [(&laptop, "the phone's"), (&phone, "the laptop's")] {
        wait_for_devices(cast, other).await;
    }
    let reader = Cast::online(&folder, "reader", &signal).await;
    reader.follow(&link, None).await.unwrap();
    wait_for_texts(&reader, &link, 2).await;
    let mut read = texts(&reader, &link, None).await;
    read.sort();
    assert_eq!(read, ["from the laptop", "from the phone"]);
    assert_eq!(texts(&reader, &link, Some("last:1")).await.len(), 1);
    assert_eq!(
        reader.read(&link, Some("0..1")).await.unwrap_err().kind,
        ErrorKind::Usage
    );
    let refused = feed(&phone, take("/board")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Usage);
}

/// Waits until both devices are known.
async fn wait_for_devices(cast: &Cast, which: &str) {
    let known = async {
        loop {
            match cast.reply(Request::Devices { of: None }).await.unwrap() {
                Reply::Devices { devices } if devices.len() == 2 => return,
                Reply::Devices { .. } => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(stage::SOON, known).await.is_ok(),
        "{which} statement did not come"
    );
}

async fn wait_for_texts(cast: &Cast, link: &str, count: usize) {
    let held = async {
        while texts(cast, link, None).await.len() < count {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon(held).await;
}
