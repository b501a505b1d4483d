//! What an agent clears of its paths goes with everybody who follows them, a day after they heard of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::timed::{Timed, lacking, shows};
use crate::stage::{Cast, Folder, Signal, soon, until_so};
use bytes::Bytes;
use kinlog_agent::api::{Error, ErrorKind, FeedStatus, Reply, Request};

const DRAFT: &str = "the draft says that the flowerpot is cracked";
const PHOTO: &str = "pixels of the raincoat";

async fn publish(folder: &Folder, cast: &Cast, text: &str) {
    let file = folder.path().join("words.md");
    std::fs::write(&file, text).unwrap();
    let request = Request::Publish {
        path: "/notes".into(),
        files: vec![file],
        private: false,
    };
    cast.reply(request).await.unwrap();
}

async fn clear(cast: &Cast, feed: &str, range: &str) -> Result<Reply, Error> {
    let (range, own) = (range.parse().unwrap(), false);
    let request = Request::FeedClear {
        feed: feed.to_owned(),
        range: kinlog_agent::api::Text(range),
        own,
        everywhere: true,
    };
    cast.reply(request).await
}

/// Follows all that an agent lists, and what comes.
async fn follow(cast: &Cast, link: &str) {
    let request = Request::Pin {
        link: link.to_owned(),
        range: None,
        options: Default::default(),
    };
    cast.reply(request).await.unwrap();
}

async fn status_of(cast: &Cast, path: &str) -> Option<FeedStatus> {
    let feeds = cast.status().await.feeds.into_iter();
    let mut of = feeds.filter(|one| one.feed.path.as_deref() == Some(path));
    of.next()
}

/// How many blocks of a path are held and wanted.
async fn counts(cast: &Cast, path: &str) -> (u64, u64) {
    let status = status_of(cast, path).await;
    status.map_or((0, 0), |status| (status.have, status.want))
}

async fn key_of(cast: &Cast, path: &str) -> String {
    status_of(cast, path).await.unwrap().feed.key.to_string()
}

async fn found(cast: &Cast, words: &str) -> usize {
    let query = words.to_owned();
    let answers = soon(cast.ask(Request::Search { query }).all()).await;
    answers.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cleared_everywhere_is_in_no_file_of_a_follower_a_day_later() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Timed::online(&folder, "ann", &signal).await;
    for text in ["first words", DRAFT, "last words"] {
        publish(&folder, &ann.cast, text).await;
    }
    std::fs::remove_file(folder.path().join("words.md")).unwrap();
    let photos = [b"one", PHOTO.as_bytes(), b"two"].map(Bytes::copy_from_slice);
    ann.cast.append("/photos", &photos).await;
    let bob = Timed::online(&folder, "bob", &signal).await;
    let link = ann.cast.id.link.clone();
    follow(&bob.cast, &link).await;
    for path in ["/notes", "/photos"] {
        let is_whole = async || counts(&bob.cast, path).await == (3, 3);
        until_so("everything is here", is_whole).await;
    }
    assert_eq!(found(&bob.cast, "flowerpot").await, 1);
    for text in [DRAFT, PHOTO] {
        assert!(shows(&bob.cast.home, text), "the search is blind");
    }

    // Nobody clears what is another's, or what is in no directory.
    let key = key_of(&bob.cast, "/notes").await;
    let refused = clear(&bob.cast, &key, "0..1").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permission);

    for path in ["/notes", "/photos"] {
        clear(&ann.cast, path, "1..2").await.unwrap();
        let told = async || {
            let key = key_of(&bob.cast, path).await;
            bob.why(&key, None, "cleared").await.contains("blocks 1..2")
        };
        until_so("the follower heard of it", told).await;
    }
    // At once it is found no more and asked for no more; the block is still there.
    assert_eq!(found(&bob.cast, "flowerpot").await, 0);
    assert_eq!(found(&bob.cast, "words").await, 2);
    for path in ["/notes", "/photos"] {
        assert_eq!(counts(&bob.cast, path).await, (2, 2), "{path}");
    }
    assert!(shows(&bob.cast.home, PHOTO), "the day is not over");
    bob.cast.rebuilds_to_the_same().await;

    // A restart begins no new day.
    bob.wait(24 * 60 - 1);
    let bob = bob.reopen().await;
    assert!(shows(&bob.cast.home, PHOTO), "a minute is left");
    bob.cast.go_online(&signal).await;
    bob.wait(2);
    ann.cast.append("/photos", &photos[2..]).await;
    let is_gone = async || {
        let key = key_of(&bob.cast, "/photos").await;
        let why = bob.why(&key, None, "cleared").await;
        why.contains("emptied here, not served, and not fetched again")
    };
    until_so("the cleared blocks are gone", is_gone).await;
    let refused = bob.cast.read(&format!("{link}/photos"), Some("1..2")).await;
    let refused = refused.unwrap_err().message;
    assert!(refused.contains("its agent cleared it"), "{refused}");

    // Who comes then has all that there is, and the same rows.
    let cem = Timed::online(&folder, "cem", &signal).await;
    follow(&cem.cast, &link).await;
    for one in [&bob, &cem] {
        let is_whole = async || counts(&one.cast, "/photos").await == (3, 3);
        until_so("all but the cleared block is here", is_whole).await;
        let is_whole = async || counts(&one.cast, "/notes").await == (2, 2);
        until_so("all but the cleared entry is here", is_whole).await;
        let photos = status_of(&one.cast, "/photos").await.unwrap();
        assert!(photos.in_sync, "{}", photos.sync);
        let are_read = async || found(&one.cast, "words").await == 2;
        until_so("both documents are read", are_read).await;
        assert_eq!(found(&one.cast, "flowerpot").await, 0);
    }
    for one in [&ann, &bob, &cem] {
        one.cast.rebuilds_to_the_same().await;
    }

    let all = [ann, bob, cem];
    let homes = all.each_ref().map(|one| one.cast.home.clone());
    for one in all {
        one.cast.stop().await;
    }
    for home in &homes {
        let gone: Vec<_> = lacking(home).into_iter().map(|(_, gone)| gone).collect();
        assert_eq!(gone, [[1], [1]], "{}", home.display());
        for text in [DRAFT, "flowerpot", PHOTO, "raincoat"] {
            assert!(!shows(home, text), "{text} in {}", home.display());
        }
        assert!(shows(home, "first words"), "the search is blind");
    }
}
