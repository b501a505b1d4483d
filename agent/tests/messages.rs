//! Messages as people write and read them: answers, reactions, edits, deletions, by short names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::stage;
use crate::stage::{Cast, Folder};
use kinlog_agent::api::{ErrorKind, MessageInfo, Reply, Request};

const ROOM: &str = "kitchen";

async fn say(ann: &Cast, request: Request) -> String {
    match ann.reply(request).await.unwrap() {
        Reply::Sent { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

fn send(text: &str, reply_to: Option<&str>) -> Request {
    Request::Send {
        room: ROOM.into(),
        text: text.into(),
        reply_to: reply_to.map(Into::into),
    }
}

fn react(message: &str, emoji: &str, remove: bool) -> Request {
    Request::React {
        room: ROOM.into(),
        message: message.into(),
        emoji: emoji.into(),
        remove,
    }
}

fn edit(message: &str, text: &str) -> Request {
    Request::Edit {
        room: ROOM.into(),
        message: message.into(),
        text: text.into(),
    }
}

fn delete(message: &str) -> Request {
    Request::Delete {
        room: ROOM.into(),
        message: message.into(),
        reason: String::new(),
    }
}

async fn read(ann: &Cast, mentions: bool) -> Vec<MessageInfo> {
    let request = Request::Read {
        room: ROOM.into(),
        last: None,
        watch: false,
        mentions,
        presence: false,
    };
    let answers = stage::soon(ann.ask(request).all()).await.unwrap();
    let messages = answers.into_iter().map(|answer| match answer.reply {
        Reply::Message(message) => message,
        other => panic!("{other:?}"),
    });
    messages.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_answered_marked_changed_and_deleted_by_their_short_names() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let name = ROOM.into();
    ann.reply(Request::RoomCreate {
        name,
        history: None,
    })
    .await
    .unwrap();
    let question = say(&ann, send("*soup* at eight, @ann?", None)).await;
    let answer = say(&ann, send("at nine", Some(&question))).await;
    assert!(question.len() <= 8 && question.contains('/'), "{question}");
    say(&ann, react(&question, "\u{1f331}", false)).await;
    say(&ann, edit(&answer, "at ten")).await;
    let messages = read(&ann, false).await;
    let texts: Vec<&str> = messages.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(texts, ["*soup* at eight, @ann?", "at ten"]);
    assert_eq!(messages[0].id, question);
    assert_eq!(messages[0].reactions[0].emoji, "\u{1f331}");
    assert_eq!(messages[0].reactions[0].names, ["ann"]);
    let answered = messages[1].reply_to.as_ref().unwrap();
    assert_eq!(
        (&answered.id, answered.text.as_str()),
        (&question, texts[0])
    );
    assert!(messages[1].edited_at_ms.is_some());
    assert_eq!(
        read(&ann, true).await,
        messages[..1],
        "one of them names ann"
    );

    say(&ann, react(&question, "\u{1f331}", true)).await;
    say(&ann, delete(&answer)).await;
    let messages = read(&ann, false).await;
    assert_eq!(messages[0].reactions, []);
    assert_eq!(messages[1].text, "");
    assert_eq!(messages[1].deleted.as_ref().unwrap().by, messages[1].author);
    let refused = [
        (edit(&answer, "x"), ErrorKind::Usage),
        (edit(&question, ""), ErrorKind::Usage),
        (edit("zzzz/1", "x"), ErrorKind::NotFound),
        (delete("nothing"), ErrorKind::Usage),
        (react(&question, "+1", true), ErrorKind::NotFound),
        (react(&question, "", false), ErrorKind::Usage),
        (send("x", Some("y/999")), ErrorKind::NotFound),
    ];
    for (request, kind) in refused {
        let shown = format!("{request:?}");
        let error = ann.reply(request).await.unwrap_err();
        assert_eq!(error.kind, kind, "{shown}: {error}");
    }
    // What the index says follows from the entries, also when it is made anew.
    ann.rebuilds_to_the_same().await;
    assert_eq!(read(&ann, false).await, messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_ask_the_index_in_sql_and_why() {
    let folder = Folder::new();
    let ann = Cast::new(&folder, "ann").await;
    let name = ROOM.into();
    ann.reply(Request::RoomCreate {
        name,
        history: None,
    })
    .await
    .unwrap();
    let said = say(&ann, send("soup at eight?", None)).await;
    let query = |sql: &str| Request::Query { sql: sql.into() };
    let answer = ann.reply(query("select text from messages")).await.unwrap();
    let Reply::Rows {
        columns,
        rows,
        more,
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!((columns, more), (vec!["text".to_owned()], false));
    assert_eq!(rows, [["soup at eight?"]]);
    for (sql, kind) in [
        ("delete from messages", ErrorKind::Permission),
        ("select body from facts", ErrorKind::Permission),
        ("selec", ErrorKind::Usage),
    ] {
        let error = ann.reply(query(sql)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{sql}: {error}");
    }
    let why = async |thing: &str, room: Option<&str>| {
        let request = Request::Why {
            thing: thing.into(),
            room: room.map(Into::into),
        };
        match ann.reply(request).await.unwrap() {
            Reply::Why { reasons, .. } => reasons,
            other => panic!("{other:?}"),
        }
    };
    let reasons = why(&said, Some(ROOM)).await;
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].text.starts_with("shown"), "{reasons:?}");
    say(&ann, delete(&said)).await;
    let reasons = why(&said, Some(ROOM)).await;
    assert_eq!(
        (reasons[1].from.as_str(), reasons[1].text.as_str()),
        ("tombstone", "deleted")
    );
    assert!(reasons[1].by.is_some() && reasons[1].at_ms.is_some());
    let nowhere = format!("{}/999", said.split_once('/').unwrap().0);
    let reasons = why(&nowhere, Some(ROOM)).await;
    assert!(reasons[0].text.starts_with("not shown"), "{reasons:?}");
    ann.create("/notes").await;
    let reasons = why("/notes", None).await;
    assert_eq!(reasons[0].from, "own");
    let checked = ann.reply(Request::IndexCheck).await.unwrap();
    let expected = Reply::IndexChecked {
        problems: Vec::new(),
        rebuilt: false,
    };
    assert_eq!(checked, expected);
}
