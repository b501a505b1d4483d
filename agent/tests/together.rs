//! Several agents in one process, over real WebRTC, with a real signal server on loopback: paths.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder, Signal, blocks, soon, until_so};
use bytes::Bytes;
use kinlog_agent::OpenOptions;
use kinlog_agent::api::{ErrorKind, FollowStep, PinOptions, Reply, Request, Text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_followed_by_its_link() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    let feed = ann.create("/notes").await;
    let all = blocks(20, 3000);
    let link = ann.append("/notes", &all).await;
    assert!(link.contains("#s=ws://"), "{link}");

    // The link alone brings the signal server.
    let bob = Cast::new(&folder, "bob").await;
    bob.follow(&link, None).await.unwrap();
    let read = bob.read(&link, None).await.unwrap();
    assert_eq!(
        read.into_iter().map(|(_, block)| block).collect::<Vec<_>>(),
        all
    );
    let verified = bob
        .reply(Request::FeedVerify {
            feed: feed.key.to_string(),
        })
        .await
        .unwrap();
    assert!(
        matches!(
            verified,
            Reply::Verified {
                blocks_checked: 20,
                ..
            }
        ),
        "{verified:?}"
    );

    let status = bob.status().await;
    let session = status.sessions.first().unwrap();
    assert_eq!(
        (session.met_by.as_str(), session.transport.as_str()),
        ("agent", "webrtc")
    );
    assert!(session.ice.is_some(), "{session:?}");
    assert_eq!(
        session.device, None,
        "a follower of public paths stays anonymous"
    );
    let followed = status
        .feeds
        .iter()
        .find(|one| one.feed.key == feed.key)
        .unwrap();
    assert!(followed.in_sync, "{}", followed.sync);
    assert!(
        followed.why[0].contains("/notes of ann"),
        "{:?}",
        followed.why
    );
    assert!(
        status
            .feeds
            .iter()
            .any(|one| one.why[0].contains("public directory of ann"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_once_is_the_newest_also_where_an_older_head_came_while_nobody_waited() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    let feed = ann.create("/notes").await;
    let link = ann.append("/notes", &blocks(2, 300)).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    let mut asked = bob.ask(Request::Follow {
        link: link.clone(),
        range: None,
        once: true,
        options: PinOptions::default(),
    });
    soon(asked.next()).await.expect("progress").unwrap();
    drop(asked);
    let held = async || {
        let feeds = bob.status().await.feeds.into_iter();
        let mut found = feeds.filter(|one| one.feed.key == feed.key);
        found.next().map_or(0, |one| one.have)
    };
    until_so("the first two have come", async || held().await == 2).await;
    ann.append("/notes", &blocks(1, 300)).await;
    bob.follow(&link, None).await.unwrap();
    assert_eq!(held().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_comes_to_who_follows_it_all_before_it_is_asked_for() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    let feed = ann.create("/notes").await;
    let link = ann.append("/notes", &blocks(3, 300)).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    let eve = Cast::online(&folder, "eve", &signal).await;
    let pin = |range: Option<&str>| Request::Pin {
        link: link.clone(),
        range: range.map(|range| Text(range.parse().unwrap())),
        options: PinOptions::default(),
    };
    bob.reply(pin(None)).await.unwrap();
    eve.reply(pin(Some("0..40"))).await.unwrap();
    let of = async |cast: &Cast| {
        let status = cast.status().await;
        let found = status
            .feeds
            .into_iter()
            .find(|one| one.feed.key == feed.key);
        found.map_or((0, 0), |one| (one.have, one.pushed))
    };
    for cast in [&bob, &eve] {
        until_so("what there is has come", async || of(cast).await.0 == 3).await;
    }
    for count in 4..=20 {
        ann.append("/notes", &blocks(1, 300)).await;
        for cast in [&bob, &eve] {
            until_so("the next has come", async || of(cast).await.0 == count).await;
        }
    }
    let (_, pushed) = of(&bob).await;
    assert!(pushed > 0, "bob follows all that is new");
    let (_, pushed) = of(&eve).await;
    assert_eq!(pushed, 0, "eve asked for a range, block by block");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_what_is_not_held_may_ask_for_it_and_hears_that_nobody_has_it() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    let all = blocks(400, 500);
    let link = ann.append("/a", &all).await;
    let bob = Cast::new(&folder, "bob").await;
    let error = bob.read_within(&link, Some("0..5"), Some(60_000)).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::NotFound, "not followed");
    bob.go_online(&signal).await;
    bob.follow(&link, Some("last:10")).await.unwrap();
    assert!(bob.read(&link, Some("0..300")).await.is_err());
    let read = bob.read_within(&link, Some("0..300"), Some(60_000)).await;
    let read: Vec<Bytes> = read.unwrap().into_iter().map(|(_, block)| block).collect();
    assert_eq!(read, all[..300]);
    // They stay; nothing else came.
    let read = bob.read(&link, None).await.unwrap();
    let indexes: Vec<u64> = read.into_iter().map(|(index, _)| index).collect();
    assert_eq!(indexes, (0..300).chain(390..400).collect::<Vec<u64>>());

    let clear = Request::FeedClear {
        feed: "/a".to_owned(),
        range: Text("310..320".parse().unwrap()),
        own: true,
        everywhere: false,
    };
    ann.reply(clear).await.unwrap();
    let error = bob.read_within(&link, Some("305..315"), Some(60_000)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(
        error.message.starts_with("no connected peer has block 31"),
        "{error}"
    );
    let error = bob.read_within(&link, None, Some(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    ann.stop().await;
    let bob = bob.reopen().await;
    let error = bob.read_within(&link, Some("320..321"), Some(60_000)).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::NeedsAgent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_store_their_blocks_and_no_others() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    for path in ["/a", "/b", "/c"] {
        ann.create(path).await;
    }
    let all = blocks(50, 2000);
    let a = ann.append("/a", &all).await;
    let b = ann.append("/b", &all).await;
    ann.append("/c", &all).await;

    let bob = Cast::new(&folder, "bob").await;
    bob.follow(&a, Some("10..15")).await.unwrap();
    bob.follow(&b, Some("last:7")).await.unwrap();
    let indexes = |read: Vec<(u64, bytes::Bytes)>| {
        for (index, block) in &read {
            assert_eq!(*block, all[*index as usize]);
        }
        read.into_iter().map(|(index, _)| index).collect::<Vec<_>>()
    };
    assert_eq!(
        indexes(bob.read(&a, None).await.unwrap()),
        (10..15).collect::<Vec<_>>()
    );
    assert_eq!(
        indexes(bob.read(&b, None).await.unwrap()),
        (43..50).collect::<Vec<_>>()
    );
    let error = bob.read(&a, Some("9..15")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let status = bob.status().await;
    let of_ann: Vec<_> = status
        .feeds
        .iter()
        .filter(|one| one.feed.role == "followed")
        .collect();
    assert_eq!(of_ann.len(), 2, "nothing of the path that is not pinned");
    assert_eq!(status.store.blocks, 5 + 7 + directories(&status));
}

/// Blocks held of directories: the own ones, and the public ones of pinned agents.
fn directories(status: &kinlog_agent::api::Status) -> u64 {
    let directories = status
        .feeds
        .iter()
        .filter(|one| one.feed.role.ends_with("directory"));
    directories.map(|one| one.feed.blocks_held).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_pin_filter_more_than_the_pinned_path_comes() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    ann.create("/b").await;
    let a = ann.append("/a", &blocks(3, 100)).await;
    ann.append("/b", &blocks(4, 100)).await;
    let options = OpenOptions::new(folder.state()).without_pin_filter();
    let bob = Cast::with_options(&folder, "bob", options).await;
    bob.follow(&a, None).await.unwrap();
    soon(async {
        loop {
            let status = bob.status().await;
            if status
                .feeds
                .iter()
                .any(|one| one.feed.path.as_deref() == Some("/b"))
            {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latecomer_gets_from_the_seeder_what_the_author_left() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    let all = blocks(30, 5000);
    let link = ann.append("/a", &all).await;
    let agent_link = ann.id.link.clone();

    let seeder = Cast::online(&folder, "seeder", &signal).await;
    let mut seeding = seeder.ask(Request::Seed {
        links: vec![agent_link],
    });
    soon(async {
        loop {
            match seeding.next().await.unwrap().unwrap().reply {
                Reply::Follow(progress) if progress.complete => return,
                Reply::Follow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    ann.stop().await;

    let late = Cast::new(&folder, "late").await;
    late.follow(&link, None).await.unwrap();
    let read = late.read(&link, None).await.unwrap();
    assert_eq!(
        read.into_iter().map(|(_, block)| block).collect::<Vec<_>>(),
        all
    );
}

/// R197: what was written while somebody was away comes when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_follow_gets_what_is_appended_later_and_after_both_restarted() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    let all = blocks(9, 100);
    let link = ann.append("/a", &all[..3]).await;
    let bob = Cast::new(&folder, "bob").await;
    let request = Request::Follow {
        link: link.clone(),
        range: None,
        once: false,
        options: Default::default(),
    };
    let mut following = bob.ask(request);
    let mut wait_for = async |count: u64| {
        soon(async {
            loop {
                match following.next().await.unwrap().unwrap().reply {
                    Reply::Follow(progress) if progress.complete && progress.have == count => {
                        return;
                    }
                    Reply::Follow(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
    };
    wait_for(3).await;
    ann.append("/a", &all[3..6]).await;
    wait_for(6).await;
    drop(following);

    let (ann, bob) = (ann.reopen().await, bob.reopen().await);
    ann.append("/a", &all[6..]).await;
    ann.go_online(&signal).await;
    // The pin and the signal server are remembered.
    bob.agent
        .start_network(kinlog_agent::NetworkConfig::default())
        .await
        .unwrap();
    soon(async {
        while bob.read(&link, None).await.unwrap().len() < 9 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_for_once_fetches_nothing_later() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    let link = ann.append("/a", &blocks(3, 100)).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.follow(&link, None).await.unwrap();
    ann.append("/a", &blocks(2, 100)).await;
    let bob = bob.reopen().await;
    let Reply::Pins { pins } = bob.reply(Request::Pins).await.unwrap() else {
        panic!("no pins")
    };
    assert_eq!(
        (pins[0].range.to_string(), pins[0].live),
        ("0..3".to_owned(), false)
    );
    // Asked again, it comes up to date.
    bob.follow(&link, None).await.unwrap();
    assert_eq!(bob.read(&link, None).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_feed_is_followed_by_its_key() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    let request = Request::FeedCreate {
        path: String::new(),
        plain: true,
        private: false,
        kind: None,
    };
    let Reply::Feed(feed) = ann.reply(request).await.unwrap() else {
        panic!("no feed")
    };
    let all = blocks(5, 100);
    ann.append(&feed.key.to_string(), &all).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.follow(&feed.link.unwrap(), None).await.unwrap();
    let read = bob.read(&feed.key.to_string(), None).await.unwrap();
    assert_eq!(
        read.into_iter().map(|(_, block)| block).collect::<Vec<_>>(),
        all
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_listed_is_not_found() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    let link = format!("{}/b", ann.id.link);
    let error = bob.follow(&link, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert!(
        error.message.contains("ann") && error.message.contains("/b"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_without_peers_says_which_step_found_nobody() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let bob = Cast::online(&folder, "bob", &signal).await;
    let stranger = Cast::new(&folder, "stranger").await;
    let request = Request::Follow {
        link: stranger.id.link.clone(),
        range: None,
        once: false,
        options: Default::default(),
    };
    let mut answers = bob.ask(request);
    let nobody = soon(async {
        loop {
            match answers.next().await.unwrap().unwrap().reply {
                Reply::Follow(progress) if progress.nobody => return progress,
                Reply::Follow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(nobody.step, FollowStep::Peers);
    assert!(nobody.message.contains("nobody"), "{}", nobody.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_signal_server_a_follow_says_so() {
    let folder = Folder::new();
    let bob = Cast::new(&folder, "bob").await;
    let stranger = Cast::new(&folder, "stranger").await;
    let error = bob.follow(&stranger.id.link, None).await.unwrap_err();
    assert_eq!(
        (error.kind, error.exit_code()),
        (ErrorKind::NoPeers, 4),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pins_explain_themselves_and_go_away() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Cast::online(&folder, "ann", &signal).await;
    ann.create("/a").await;
    let link = ann.append("/a", &blocks(3, 100)).await;
    let bob = Cast::online(&folder, "bob", &signal).await;
    bob.follow(&link, Some("0..2")).await.unwrap();
    let Reply::Pins { pins } = bob.reply(Request::Pins).await.unwrap() else {
        panic!("no pins")
    };
    let shown: Vec<_> = pins
        .iter()
        .map(|pin| {
            (
                pin.path.as_deref(),
                pin.range.to_string(),
                pin.have,
                pin.want,
            )
        })
        .collect();
    assert_eq!(shown[0], (Some("/a"), "0..2".to_owned(), 2, 2));
    assert_eq!(shown.len(), 2);
    assert!(
        pins[1].reason.contains("public directory of ann"),
        "{}",
        pins[1].reason
    );

    bob.reply(Request::Unfollow { link: link.clone() })
        .await
        .unwrap();
    let Reply::Pins { pins } = bob.reply(Request::Pins).await.unwrap() else {
        panic!("no pins")
    };
    assert_eq!(pins, []);
    let error = bob.reply(Request::Unfollow { link }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_tcp_serves_and_pulls_a_feed_but_never_a_room() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let feed = ann.create("/a").await;
    let all = blocks(40, 700);
    ann.append("/a", &all).await;
    let request = Request::FeedServe {
        feeds: vec!["/a".into()],
        tcp: "127.0.0.1:0".into(),
    };
    let mut serving = ann.ask(request);
    let Reply::Serving { address, .. } = soon(serving.next()).await.unwrap().unwrap().reply else {
        panic!("not serving")
    };
    let bob = Cast::new(&folder, "bob").await;
    let pull = |key: String| Request::FeedPull {
        keys: vec![key],
        tcp: vec![address.clone()],
        range: None,
        bytes: None,
        live: false,
    };
    bob.reply(pull(feed.key.to_string())).await.unwrap();
    let read = bob.read(&feed.key.to_string(), None).await.unwrap();
    assert_eq!(
        read.into_iter().map(|(_, block)| block).collect::<Vec<_>>(),
        all
    );
    let error = bob.reply(pull("y".repeat(52))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoPeers, "{error}");

    drop(serving);
    soon(async {
        while tokio::net::TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    ann.reply(Request::RoomCreate {
        name: "family".into(),
        history: None,
    })
    .await
    .unwrap();
    let status = ann.status().await;
    let private = status
        .feeds
        .iter()
        .find(|one| one.feed.role == "room")
        .unwrap();
    let feed = private.feed.key.to_string();
    let error = ann
        .reply(Request::FeedServe {
            feeds: vec![feed],
            tcp: "127.0.0.1:0".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_pull_that_nobody_watches_any_more_fetches_nothing() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let all = blocks(4, 700);
    let mut served = Vec::new();
    for path in ["/a", "/b"] {
        let feed = ann.create(path).await;
        ann.append(path, &all[..2]).await;
        let mut serving = ann.ask(Request::FeedServe {
            feeds: vec![path.into()],
            tcp: "127.0.0.1:0".into(),
        });
        let Reply::Serving { address, .. } = soon(serving.next()).await.unwrap().unwrap().reply
        else {
            panic!("not serving")
        };
        served.push((feed.key.to_string(), address, serving));
    }
    let bob = Cast::new(&folder, "bob").await;
    let pull = |number: usize, live: bool| Request::FeedPull {
        keys: vec![served[number].0.clone()],
        tcp: vec![served[number].1.clone()],
        range: None,
        bytes: None,
        live,
    };
    let mut watched = bob.ask(pull(0, true));
    soon(async {
        loop {
            match watched.next().await.unwrap().unwrap().reply {
                Reply::Progress(now) if now.blocks == 2 => return,
                _ => {}
            }
        }
    })
    .await;
    drop(watched);
    // Once the agent has noticed, a block that comes later stays away while another feed comes whole.
    soon(async {
        loop {
            let before = bob.read(&served[0].0, None).await.unwrap().len();
            ann.append("/a", &all[2..3]).await;
            bob.reply(pull(1, false)).await.unwrap();
            if bob.read(&served[0].0, None).await.unwrap().len() == before {
                return;
            }
        }
    })
    .await;
}
