//! Private paths: for the devices of one agent, and for nobody else to know of.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder, Signal, soon};
use bytes::Bytes;
use kinlog_agent::api::{ErrorKind, FeedInfo, Reply, Request};
use kinlog_agent::home::Phrase;

const SECRET: &str = "nobody reads this line but my own devices";

async fn create_private(cast: &Cast, path: &str) -> FeedInfo {
    let request = Request::FeedCreate {
        path: path.to_owned(),
        plain: false,
        private: true,
        kind: None,
    };
    match cast.reply(request).await.unwrap() {
        Reply::Feed(feed) => feed,
        other => panic!("{other:?}"),
    }
}

async fn feeds(cast: &Cast) -> Vec<FeedInfo> {
    match cast.reply(Request::FeedList).await.unwrap() {
        Reply::Feeds { feeds } => feeds,
        other => panic!("{other:?}"),
    }
}

async fn length_of(cast: &Cast, role: &str) -> u64 {
    let feeds = feeds(cast).await;
    feeds.iter().find(|feed| feed.role == role).unwrap().length
}

fn lines(texts: &[&'static str]) -> Vec<Bytes> {
    texts
        .iter()
        .map(|text| Bytes::from_static(text.as_bytes()))
        .collect()
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_path_stands_sealed_and_the_public_directory_does_not_tell_of_it() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let public = length_of(&ann, "directory").await;
    let feed = create_private(&ann, "/diary").await;
    assert!(feed.private && feed.link.is_none(), "{feed:?}");
    let link = ann
        .append("/diary", &lines(&[SECRET, "two", "three"]))
        .await;
    assert_eq!(link, "", "nobody else could follow it");
    assert_eq!(length_of(&ann, "directory").await, public);

    let ann = ann.reopen().await;
    assert_eq!(
        length_of(&ann, "directory").await,
        public,
        "nor do its heads"
    );
    let read = ann.read("/diary", Some("0..2")).await.unwrap();
    let texts: Vec<&[u8]> = read.iter().map(|(_, block)| &block[..]).collect();
    assert_eq!(texts, [SECRET.as_bytes(), b"two"]);
    ann.append("/diary", &lines(&["four"])).await;
    assert_eq!(ann.read("/diary", None).await.unwrap().len(), 4);

    let served = Request::FeedServe {
        feeds: vec!["/diary".to_owned()],
        tcp: "127.0.0.1:0".to_owned(),
    };
    assert_eq!(
        ann.reply(served).await.unwrap_err().kind,
        ErrorKind::Permission
    );
    let home = ann.home.clone();
    ann.stop().await;
    for file in files_below(&home.join("store")) {
        let bytes = std::fs::read(&file).unwrap();
        for needle in [SECRET.as_bytes(), b"/diary"] {
            let found = bytes.windows(needle.len()).any(|part| part == needle);
            assert!(
                !found,
                "{} stands open in {}",
                String::from_utf8_lossy(needle),
                file.display()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_document_is_found_here_and_its_path_stays_private() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let file = folder.path().join("dream.md");
    std::fs::write(&file, "# A dream\nof turbines in the rain").unwrap();
    let publish = |path: &str, private| Request::Publish {
        path: path.to_owned(),
        files: vec![file.clone()],
        private,
    };
    let published = ann.reply(publish("/dreams", true)).await.unwrap();
    assert!(
        matches!(
            &published,
            Reply::Published {
                link: None,
                length: 1,
                ..
            }
        ),
        "{published:?}"
    );
    // What it is does not change: published again without the word it is sealed all the same.
    let again = ann.reply(publish("/dreams", false)).await.unwrap();
    assert!(
        matches!(
            &again,
            Reply::Published {
                link: None,
                length: 2,
                ..
            }
        ),
        "{again:?}"
    );
    ann.create("/open").await;
    let refused = ann.reply(publish("/open", true)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Usage);

    let before = ann.dump_hash(false).await;
    assert_eq!(ann.dump_hash(true).await, before);
    let query = "turbines".to_owned();
    let found = soon(ann.ask(Request::Search { query }).all())
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sibling_device_reads_private_paths_and_a_stranger_sees_none() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let phrase = Phrase::generate().unwrap();
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    create_private(&laptop, "/diary").await;
    laptop.append("/diary", &lines(&[SECRET, "two"])).await;
    laptop.go_online(&signal).await;

    let phone = Cast::device(&folder, "phone", &phrase).await;
    phone.go_online(&signal).await;
    let agent = laptop.id.agent;
    assert_eq!(agent, phone.id.agent);
    let link = format!("{}/diary", phone.id.link);
    phone.follow(&link, None).await.unwrap();
    let read = phone.read("/diary", None).await.unwrap();
    assert_eq!(read[0].1, SECRET.as_bytes());

    // What the phone writes the laptop reads, in whichever epoch it was sealed.
    create_private(&phone, "/from-the-phone").await;
    phone.append("/from-the-phone", &lines(&["three"])).await;
    let link = format!("{}/from-the-phone", phone.id.link);
    laptop.follow(&link, None).await.unwrap();
    assert_eq!(laptop.read(&link, None).await.unwrap()[0].1, b"three"[..]);
    let refused = phone.ask(Request::FeedAppend {
        path: "/diary".to_owned(),
        lengths: vec![0],
    });
    let refused = soon(refused.last()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permission);
    assert!(refused.hint.unwrap().contains("feed take /diary"));

    let stranger = Cast::online(&folder, "stranger", &signal).await;
    let missing = stranger
        .follow(&format!("{}/diary", phone.id.link), None)
        .await
        .unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
    assert!(
        missing.message.contains("lists no path /diary"),
        "{missing:?}"
    );
    let held = feeds(&stranger).await;
    let of_agent = held
        .iter()
        .filter(|feed| feed.agent.as_ref() == Some(&agent));
    assert!(
        of_agent
            .clone()
            .all(|feed| !feed.private && feed.role == "directory")
    );
    assert_eq!(
        of_agent.count(),
        2,
        "the public directories of both devices"
    );
}
