//! Limits as people meet them: what is told names who, where, what may be and what to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::{Cast, Folder};
use kinlog_agent::api::{Error, ErrorKind, Reply, Request};
use kinlog_agent::limits::MESSAGES_AT_ONCE;
use kinlog_indexer::limits::MESSAGE_BYTES_MAX;

const ROOM: &str = "kitchen";

async fn alone_in_a_room(folder: &Folder) -> Cast {
    let ann = Cast::new(folder, "ann").await;
    let room = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.reply(room).await.unwrap();
    ann
}

async fn say(cast: &Cast, text: String) -> Result<Reply, Error> {
    let request = Request::Send {
        room: ROOM.into(),
        text,
        reply_to: None,
    };
    cast.reply(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_bytes_max_are_said_at_once_and_not_one_more() {
    let folder = Folder::new();
    let ann = alone_in_a_room(&folder).await;
    let error = say(&ann, "a".repeat(MESSAGE_BYTES_MAX + 1))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert_eq!(
        error.message,
        "message to room kitchen: text of 65537 bytes is above the limit of 65536"
    );
    assert_eq!(
        error.hint.as_deref(),
        Some("shorten it, or send it in parts")
    );
    say(&ann, "a".repeat(MESSAGE_BYTES_MAX)).await.unwrap();
    assert_eq!(ann.messages(ROOM).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_at_once_are_taken_from_a_device_and_the_next_waits() {
    let folder = Folder::new();
    let ann = alone_in_a_room(&folder).await;
    let mut said = 0;
    let error = loop {
        match say(&ann, format!("message {said}")).await {
            Ok(_) => said += 1,
            Err(error) => break error,
        }
        assert!(said < 100 * MESSAGES_AT_ONCE, "nobody is ever slowed down");
    };
    // As many more as time passed for while they were written.
    assert!(said >= MESSAGES_AT_ONCE, "{said}");
    assert_eq!(error.kind, ErrorKind::Quota);
    assert_eq!(
        error.message,
        format!("more than {MESSAGES_AT_ONCE} messages at once in room {ROOM}")
    );
    let hint = error.hint.unwrap();
    let wait_ms: u64 = hint
        .strip_prefix("the next one in ")
        .and_then(|rest| rest.strip_suffix(" ms")?.parse().ok())
        .unwrap_or_else(|| panic!("{hint}"));
    assert!((1..=1000).contains(&wait_ms), "{hint}");
}
