//! Several agents in one process, over real WebRTC, with a real signal server on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod stage;

use std::time::Duration;

use kinlog_agent::api::{ErrorKind, FollowStep, Reply, Request};
use stage::{Cast, Folder, Signal, blocks, soon};

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
