//! What is deleted is hidden at once, goes from every file a day later, and never comes to who joins
//! then.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::stage::timed::{Timed, lacking, shows};
use crate::stage::{Cast, Folder, Signal, meet, soon, until_so};
use kinlog_agent::api::{MessageInfo, Reply, Request};

const ROOM: &str = "family";
const SECRET: &str = "the key is under the third flowerpot";
const EDITED: &str = "the key is behind the rainbarrel";

async fn read(cast: &Cast) -> Vec<MessageInfo> {
    let request = Request::Read {
        room: ROOM.into(),
        last: None,
        watch: false,
        mentions: false,
        presence: false,
    };
    let answers = soon(cast.ask(request).all()).await.unwrap();
    let messages = answers.into_iter().map(|answer| match answer.reply {
        Reply::Message(message) => message,
        other => panic!("{other:?}"),
    });
    messages.collect()
}

/// Waits until as many messages are shown as deleted.
async fn wait_for_deletions(cast: &Cast, count: usize) {
    let shown = async {
        while read(cast)
            .await
            .iter()
            .filter(|one| one.deleted.is_some())
            .count()
            < count
        {
            tokio::task::yield_now().await;
        }
    };
    soon(shown).await;
}

/// What `why` says became of the block of a message.
async fn fate(one: &Timed, message: &str) -> String {
    one.why(message, Some(ROOM), "store").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_message_is_hidden_at_once_and_a_day_later_in_no_file() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let ann = Timed::online(&folder, "ann", &signal).await;
    let room = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.cast.reply(room).await.unwrap();
    let link = ann.cast.invite(ROOM).await;
    let bob = Timed::online(&folder, "bob", &signal).await;
    bob.cast.join(&link).await.unwrap();
    bob.cast.send(ROOM, SECRET).await;
    bob.cast.send(ROOM, "unwelcome").await;
    ann.cast.wait_for_message(ROOM, "unwelcome").await;
    let names: Vec<String> = read(&bob.cast)
        .await
        .into_iter()
        .map(|one| one.id)
        .collect();
    let edit = Request::Edit {
        room: ROOM.into(),
        message: names[0].clone(),
        text: EDITED.into(),
    };
    bob.cast.reply(edit).await.unwrap();
    ann.cast.wait_for_message(ROOM, EDITED).await;
    assert!(shows(&ann.cast.home, "flowerpot"), "the search is blind");

    // Bob takes back his own, with its edit; Ann, who owns the room, what Bob said.
    let delete = |message: &str| Request::Delete {
        room: ROOM.into(),
        message: message.to_owned(),
        reason: String::new(),
    };
    bob.cast.reply(delete(&names[0])).await.unwrap();
    ann.cast.reply(delete(&names[1])).await.unwrap();
    wait_for_deletions(&ann.cast, 2).await;
    wait_for_deletions(&bob.cast, 2).await;
    bob.cast.reply(delete(&names[0])).await.unwrap_err();

    // Who comes within the day still gets the blocks, and sees nothing of what they say.
    let cem = Timed::online(&folder, "cem", &signal).await;
    cem.cast.join(&link).await.unwrap();
    bob.cast.send(ROOM, "afterwards").await;
    cem.cast.wait_for_message(ROOM, "afterwards").await;
    wait_for_deletions(&cem.cast, 2).await;
    // The day begins when it is noted, a moment after it is hidden.
    for one in [&ann, &bob, &cem] {
        for name in &names {
            let is_noted = async || fate(one, name).await.contains("a day after");
            until_so("the deleted block is here, was read and noted", is_noted).await;
        }
    }

    // A minute before the day is over nothing is gone; a restart begins no new day.
    for one in [&ann, &bob, &cem] {
        one.wait(24 * 60 - 1);
    }
    let ann = ann.reopen().await;
    assert!(fate(&ann, &names[0]).await.contains("a day after"));
    ann.cast.go_online(&signal).await;
    for one in [&ann, &bob, &cem] {
        one.wait(2);
    }
    bob.cast.send(ROOM, "a day later").await;
    for one in [&ann, &bob, &cem] {
        one.cast.wait_for_message(ROOM, "a day later").await;
        let is_gone = async || fate(one, &names[0]).await.contains("not fetched again");
        until_so("the deleted block is gone", is_gone).await;
    }

    // Who comes then gets no block, and the same rows.
    let dee = Timed::online(&folder, "dee", &signal).await;
    dee.cast.join(&link).await.unwrap();
    bob.cast.send(ROOM, "welcome").await;
    let all = [ann, bob, cem, dee];
    let expected = ["", "", "afterwards", "a day later", "welcome"];
    for one in &all {
        one.cast.wait_for_message(ROOM, "welcome").await;
        wait_for_deletions(&one.cast, 2).await;
        let texts = read(&one.cast).await.into_iter().map(|one| one.text);
        assert_eq!(texts.collect::<Vec<_>>(), expected);
        // From the feeds alone, without the blocks, it is the same once more.
        one.cast.rebuilds_to_the_same().await;
    }

    let homes = all.each_ref().map(|one| one.cast.home.clone());
    for one in all {
        one.cast.stop().await;
    }
    let gone = lacking(&homes[1]);
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(gone[0].1.len(), 3, "two messages and an edit");
    for home in &homes {
        assert_eq!(lacking(home), gone, "{}", home.display());
        for text in [SECRET, EDITED, "flowerpot", "rainbarrel", "unwelcome"] {
            assert!(!shows(home, text), "{text} in {}", home.display());
        }
    }
    assert!(shows(&homes[0], "afterwards"), "the search is blind");
}

/// An admin deletes while the owner, who does not know of it, removes the admin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_emptied_before_its_deletion_was_undone_is_fetched_again() {
    let folder = Folder::new();
    let ann = Timed::new(&folder, "ann").await;
    let bob = Timed::new(&folder, "bob").await;
    let cem = Timed::new(&folder, "cem").await;
    let met = meet(&[&ann.cast, &bob.cast, &cem.cast]).await;
    let room = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.cast.reply(room).await.unwrap();
    let link = ann.cast.invite(ROOM).await;
    for one in [&bob, &cem] {
        one.cast.join(&link).await.unwrap();
    }
    let promote = Request::RoomRole {
        room: ROOM.into(),
        who: bob.cast.id.agent.to_string(),
        role: "admin".into(),
    };
    ann.cast.reply(promote).await.unwrap();
    cem.cast.send(ROOM, SECRET).await;
    for one in [&ann, &bob] {
        one.cast.wait_for_message(ROOM, SECRET).await;
    }
    ann.cast.send(ROOM, "go on").await;
    bob.cast.wait_for_message(ROOM, "go on").await;

    // Ann is away. Bob deletes what Cem said, and a day goes by.
    drop(met);
    let met = meet(&[&bob.cast, &cem.cast]).await;
    let row = read(&bob.cast).await.swap_remove(0);
    let delete = Request::Delete {
        room: ROOM.into(),
        message: row.id,
        reason: String::new(),
    };
    bob.cast.reply(delete).await.unwrap();
    wait_for_deletions(&cem.cast, 1).await;
    let block = format!("{}/{}", row.key, row.index);
    let is_noted = async || fate(&cem, &block).await.contains("a day after");
    until_so("the deletion is noted", is_noted).await;
    cem.wait(24 * 60 + 1);
    cem.cast.send(ROOM, "a day later").await;
    let is_gone = async || fate(&cem, &block).await.contains("not fetched again");
    until_so("the deleted block is gone", is_gone).await;
    drop(met);

    // Ann, who heard of nothing, removes Bob: he never deleted anything.
    let remove = Request::RoomRemove {
        room: ROOM.into(),
        who: bob.cast.id.agent.to_string(),
        reason: String::new(),
    };
    ann.cast.reply(remove).await.unwrap();
    let _met = meet(&[&ann.cast, &cem.cast]).await;
    cem.cast.wait_for_message(ROOM, SECRET).await;
    let is_whole = async || fate(&cem, &block).await.is_empty();
    until_so("nothing is told of a deletion any more", is_whole).await;
    ann.cast.wait_for_message(ROOM, "a day later").await;
    let texts = [SECRET, "go on", "a day later"];
    for one in [&ann, &cem] {
        let shown = read(&one.cast).await.into_iter().map(|one| one.text);
        assert_eq!(shown.collect::<Vec<_>>(), texts);
        one.cast.rebuilds_to_the_same().await;
    }
}

/// A seeder keeps the room meanwhile, and reads nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_in_no_file_of_a_seeder_when_the_day_is_over() {
    let folder = Folder::new();
    let ann = Timed::new(&folder, "ann").await;
    let bob = Timed::new(&folder, "bob").await;
    let sue = Timed::new(&folder, "sue").await;
    let met = meet(&[&ann.cast, &bob.cast, &sue.cast]).await;
    let room = Request::RoomCreate {
        name: ROOM.into(),
        history: None,
    };
    ann.cast.reply(room).await.unwrap();
    let link = ann.cast.invite(ROOM).await;
    bob.cast.join(&link).await.unwrap();
    bob.cast.send(ROOM, SECRET).await;
    ann.cast.wait_for_message(ROOM, SECRET).await;
    let grant = Request::RoomGrant {
        room: ROOM.into(),
        to: sue.cast.id.agent.to_string(),
        expires_in: None,
        quota_class: 0,
    };
    let Reply::Granted { link, .. } = ann.cast.reply(grant).await.unwrap() else {
        panic!("no grant");
    };
    sue.cast.reply(Request::SeedAccept { link }).await.unwrap();
    let row = read(&bob.cast).await.swap_remove(0);
    let (key, index) = (row.key.to_string(), row.index);
    let range = format!("{index}..{}", index + 1);
    let sealed = bob
        .cast
        .read(&key, Some(&range))
        .await
        .unwrap()
        .swap_remove(0)
        .1;
    assert!(
        !shows(&folder.path().join("sue"), SECRET),
        "it reads nothing"
    );
    let has_it = async || shows(&sue.cast.home, &sealed);
    until_so("the seeder keeps the sealed block", has_it).await;

    let delete = Request::Delete {
        room: ROOM.into(),
        message: row.id.clone(),
        reason: String::new(),
    };
    bob.cast.reply(delete).await.unwrap();
    let is_noted = async || fate(&ann, &row.id).await.contains("a day after");
    until_so("the giver of the grant noted it", is_noted).await;
    for one in [&ann, &bob] {
        one.wait(24 * 60 - 1);
    }
    bob.cast.send(ROOM, "a minute is left").await;
    ann.cast.wait_for_message(ROOM, "a minute is left").await;
    assert!(has_it().await, "the day is not over");
    for one in [&ann, &bob] {
        one.wait(2);
    }
    bob.cast.send(ROOM, "a day later").await;
    let is_gone = async || !has_it().await;
    until_so("the sealed block is in no file", is_gone).await;
    let why = sue.why(&key, None, "cleared").await;
    assert!(
        why.contains(&format!("blocks {range}: cleared by the member")),
        "{why}"
    );

    // It stays away, though the seeder goes on with the feed.
    drop(met);
    let sue = sue.reopen().await;
    let _met = meet(&[&ann.cast, &bob.cast, &sue.cast]).await;
    bob.cast.send(ROOM, "afterwards").await;
    let status = async |one: &Timed| {
        let feeds = one.cast.status().await.feeds;
        let feed = feeds
            .into_iter()
            .find(|one| one.feed.key.to_string() == key);
        feed.map_or((0, 0), |feed| (feed.feed.length, feed.feed.blocks_held))
    };
    let length = status(&bob).await.0;
    let is_level = async || status(&sue).await == (length, length - 1);
    until_so("the seeder has all but one", is_level).await;
    let homes = [ann, bob, sue].map(|one| (one.cast.home.clone(), one));
    let mut gone = Vec::new();
    for (home, one) in homes {
        one.cast.stop().await;
        assert!(!shows(&home, &sealed), "{}", home.display());
        gone.push(lacking(&home));
    }
    assert_eq!(gone, vec![vec![(key, vec![index])]; 3]);
}
