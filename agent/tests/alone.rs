//! One agent without network: its home, its feeds, its rooms, its index.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::os::unix::fs::PermissionsExt;

use crate::stage::{Cast, Folder, blocks, soon};
use kinlog_agent::api::{ErrorKind, Reply, Request, Text};
use kinlog_agent::home::{Phrase, init};
use kinlog_agent::{Agent, OpenOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_home_says_what_to_do() {
    let folder = Folder::new();
    let error = Agent::open(folder.path(), OpenOptions::new(folder.state()))
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.exit_code()), (ErrorKind::NotFound, 3));
    assert!(error.hint.unwrap().contains("kinlog init"));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was written"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_is_made_once_and_for_its_owner_alone() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let mode = |name: &str| {
        std::fs::metadata(ann.home.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode(""), mode("store"), mode("device.secret")),
        (0o700, 0o700, 0o600)
    );
    let again = init(&ann.home, &ann.state, "bob", &Phrase::generate().unwrap()).unwrap_err();
    assert_eq!(again.kind, ErrorKind::Usage);
    let second = Agent::open(&ann.home, OpenOptions::new(folder.state()))
        .await
        .unwrap_err();
    assert_eq!(
        (second.kind, second.exit_code()),
        (ErrorKind::Permission, 6)
    );
    assert!(
        second.message.contains(&std::process::id().to_string()),
        "{second}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_others_may_read_are_refused() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let (home, secret) = (ann.home.clone(), ann.home.join("device.secret"));
    ann.stop().await;
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Agent::open(&home, OpenOptions::new(folder.state()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    assert!(error.message.contains("device.secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_of_another_revision_is_left_alone() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let home = ann.home.clone();
    ann.stop().await;
    std::fs::write(home.join("format"), "7 0.0.1\n").unwrap();
    let before = std::fs::metadata(home.join("lock"))
        .unwrap()
        .modified()
        .unwrap();
    let error = Agent::open(&home, OpenOptions::new(folder.state()))
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.message.contains("format 7"), "{error}");
    assert!(error.message.contains("build 0.0.1"), "{error}");
    assert_eq!(
        std::fs::metadata(home.join("lock"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_is_read_after_a_restart() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let feed = ann.create("/notes").await;
    assert_eq!(
        (feed.content.as_str(), feed.role.as_str()),
        ("bytes", "own")
    );
    let all = blocks(5, 100);
    let link = ann.append("/notes", &all).await;
    assert!(
        link.starts_with("kinlog://agent/") && link.ends_with("/notes"),
        "{link}"
    );
    let ann = ann.reopen().await;
    let read = ann.read("/notes", None).await.unwrap();
    assert_eq!(
        read.iter()
            .map(|(_, block)| block.clone())
            .collect::<Vec<_>>(),
        all
    );
    let part = ann.read(&feed.key.to_string(), Some("1..3")).await.unwrap();
    assert_eq!(part, vec![(1, all[1].clone()), (2, all[2].clone())]);
    let error = ann.read("/notes", Some("3..9")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = ann.read("/other", None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let verified = ann
        .reply(Request::FeedVerify {
            feed: "/notes".into(),
        })
        .await
        .unwrap();
    assert!(
        matches!(
            verified,
            Reply::Verified {
                blocks_checked: 5,
                ..
            }
        ),
        "{verified:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_commits_the_heads_of_feeds_that_moved() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    ann.create("/notes").await;
    let directory = |status: &kinlog_agent::api::Status| {
        let feed = status
            .feeds
            .iter()
            .find(|feed| feed.feed.role == "directory");
        feed.unwrap().feed.length
    };
    let before = directory(&ann.status().await);
    ann.append("/notes", &blocks(3, 10)).await;
    let ann = ann.reopen().await;
    assert_eq!(directory(&ann.status().await), before + 1);
    let ann = ann.reopen().await;
    assert_eq!(
        directory(&ann.status().await),
        before + 1,
        "nothing moved since"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_in_and_comes_out_the_same() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let file = folder.path().join("in.bin");
    let content: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let request = Request::FeedImport {
        path: "/film".into(),
        file,
        block_size: 65536,
    };
    let reply = ann.reply(request).await.unwrap();
    assert!(
        matches!(
            reply,
            Reply::Appended {
                start: 0,
                length: 5,
                ..
            }
        ),
        "{reply:?}"
    );
    let out = folder.path().join("out.bin");
    let export = |range: Option<&str>| Request::FeedExport {
        feed: "/film".into(),
        file: out.clone(),
        range: range.map(|range| Text(range.parse().unwrap())),
    };
    ann.reply(export(None)).await.unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), content);
    ann.reply(export(Some("1..2"))).await.unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), content[65536..131072]);
    let error = ann.reply(export(Some("1..9"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        std::fs::read(&out).unwrap(),
        content[65536..131072],
        "the old file stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_and_messages_are_found_and_the_index_is_rebuilt_the_same() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let file = folder.path().join("tree.md");
    std::fs::write(&file, "# Trees\nA Merkle proof is a path.\n").unwrap();
    let request = Request::Publish {
        path: "/paths/trees".into(),
        files: vec![file],
        private: false,
    };
    ann.reply(request).await.unwrap();
    ann.reply(Request::RoomCreate {
        name: "family".into(),
        history: None,
    })
    .await
    .unwrap();
    ann.send("family", "the proof is in the pudding").await;
    ann.send("family", "second").await;
    assert_eq!(
        ann.messages("family").await,
        ["ann: the proof is in the pudding", "ann: second"]
    );
    let found = soon(
        ann.ask(Request::Search {
            query: "proof".into(),
        })
        .all(),
    )
    .await
    .unwrap();
    let mut kinds: Vec<String> = found
        .into_iter()
        .map(|answer| match answer.reply {
            Reply::Found(found) => found.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["document", "message"]);

    let (_, entries) = ann.dump_hash(false).await;
    let ann = ann.reopen().await;
    let (hash, after) = ann.dump_hash(false).await;
    assert_eq!(after, entries + 1, "one commitment of heads");
    assert_eq!(ann.dump_hash(true).await, (hash, after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_damaged_index_is_rebuilt_the_same() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    ann.reply(Request::RoomCreate {
        name: "family".into(),
        history: None,
    })
    .await
    .unwrap();
    for number in 0..20 {
        ann.send("family", &format!("message {number}")).await;
    }
    let before = ann.dump_hash(false).await;
    assert_eq!(ann.dump_hash(true).await, before);
    let home = ann.home.clone();
    let messages = ann.messages("family").await;
    ann.stop().await;
    let whole = std::fs::read(home.join("index.db")).unwrap();
    let mut scribbled = whole.clone();
    // Every page but the first, in its middle: the file opens, what it says does not hold.
    for page in scribbled.chunks_mut(4096).skip(1) {
        page[1000..1400].fill(0xa5);
    }
    let mut headless = whole.clone();
    headless[..100].fill(0);
    let truncated = whole[..whole.len() / 2].to_vec();
    for damage in [
        None,
        Some(b"this is no database".to_vec()),
        Some(scribbled),
        Some(headless),
        Some(truncated),
    ] {
        for name in ["index.db", "index.db-wal", "index.db-shm"] {
            let _ = std::fs::remove_file(home.join(name));
        }
        if let Some(bytes) = damage {
            std::fs::write(home.join("index.db"), bytes).unwrap();
        }
        let agent = Agent::open(&home, OpenOptions::new(folder.state()))
            .await
            .unwrap();
        let id = stage_id(&agent).await;
        let again = Cast {
            name: "ann",
            state: folder.state(),
            home: home.clone(),
            id,
            agent,
        };
        assert_eq!(again.dump_hash(false).await, before);
        assert_eq!(again.messages("family").await, messages);
        again.stop().await;
    }
}

async fn stage_id(agent: &Agent) -> kinlog_agent::home::Initialised {
    let answer = agent
        .request(Request::Id, bytes::Bytes::new())
        .last()
        .await
        .unwrap();
    match answer.reply {
        Reply::Id(id) => kinlog_agent::home::Initialised {
            agent: id.agent,
            device: id.device,
            name: id.name,
            link: id.link,
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_changes_nothing() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    ann.create("/notes").await;
    let length = ann.status().await.feeds.len();
    let text = folder.path().join("latin1.txt");
    std::fs::write(&text, b"gr\xfc\xdfe").unwrap();
    let cases = [
        (
            Request::FeedCreate {
                path: "notes".into(),
                plain: false,
                private: false,
                kind: None,
            },
            ErrorKind::Usage,
        ),
        (
            Request::FeedCreate {
                path: "/notes".into(),
                plain: false,
                private: false,
                kind: None,
            },
            ErrorKind::Usage,
        ),
        (
            Request::FeedInfo {
                feed: "/nothing".into(),
            },
            ErrorKind::NotFound,
        ),
        (
            Request::FeedInfo {
                feed: "kinlog://feed/yyyy".into(),
            },
            ErrorKind::Usage,
        ),
        (
            Request::FeedVerify {
                feed: "y".repeat(52),
            },
            ErrorKind::NotFound,
        ),
        (
            Request::Publish {
                path: "/p".into(),
                files: vec![text],
                private: false,
            },
            ErrorKind::Usage,
        ),
        (
            Request::Publish {
                path: "/p".into(),
                files: vec!["/none".into()],
                private: false,
            },
            ErrorKind::NotFound,
        ),
        (
            Request::FeedAppend {
                path: "/notes".into(),
                lengths: vec![5],
            },
            ErrorKind::Usage,
        ),
        (
            Request::Send {
                room: "none".into(),
                text: "x".into(),
                reply_to: None,
            },
            ErrorKind::NotFound,
        ),
        (
            Request::Unfollow {
                link: format!("kinlog://feed/{}", "y".repeat(52)),
            },
            ErrorKind::NotFound,
        ),
        (
            Request::RoomJoin {
                link: "kinlog://join/#AAAA".into(),
                wait_seconds: None,
            },
            ErrorKind::Usage,
        ),
        (
            Request::FeedImport {
                path: "/f".into(),
                file: "/none".into(),
                block_size: 65536,
            },
            ErrorKind::NotFound,
        ),
    ];
    for (request, kind) in cases {
        let shown = format!("{request:?}");
        let error = ann.reply(request).await.unwrap_err();
        assert_eq!(error.kind, kind, "{shown}: {error}");
    }
    assert_eq!(
        ann.status().await.feeds.len(),
        length,
        "no feed was made on the way"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_gives_the_same_answers_and_ends_with_the_agent() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    ann.create("/notes").await;
    let all = blocks(3, 1000);
    ann.append("/notes", &all).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let agent = ann.agent.clone();
        async move {
            agent
                .serve_socket(async move {
                    let _ = stopped.await;
                })
                .await
        }
    });
    let connection = soon(async {
        loop {
            match kinlog_agent::api::Connection::find(&ann.home)
                .await
                .unwrap()
            {
                Some(connection) => return connection,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let mode = std::fs::metadata(ann.home.join("api.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let request = Request::FeedRead {
        feed: "/notes".into(),
        range: None,
        bytes: None,
        wait_ms: None,
    };
    let read = soon(connection.request(request, bytes::Bytes::new()).all())
        .await
        .unwrap();
    assert_eq!(
        read.into_iter()
            .map(|answer| answer.payload)
            .collect::<Vec<_>>(),
        all
    );
    let request = Request::FeedInfo {
        feed: "/nothing".into(),
    };
    let error = soon(connection.request(request, bytes::Bytes::new()).last())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    stop.send(()).unwrap();
    soon(server).await.unwrap().unwrap();
    let found = soon(kinlog_agent::api::Connection::find(&ann.home)).await;
    assert!(found.unwrap().is_none());
}
