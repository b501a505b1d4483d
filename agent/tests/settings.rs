//! What an agent keeps for itself on all its devices: pins that come back on a new one, and nothing else
//! that comes down. Agents of one process, over links in memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::collections::BTreeMap;

use crate::stage::{Cast, Folder, blocks, meet, until};
use kinlog_agent::api::{
    FeedInfo, PinInfo, PinOptions, ProfileInfo, Reply, Request, Selection, Text, ValueConflictInfo,
};
use kinlog_agent::home::Phrase;

async fn pin(cast: &Cast, link: &str, range: &str, here: bool) {
    let request = Request::Pin {
        link: link.to_owned(),
        range: Some(Text(range.parse::<Selection>().unwrap())),
        options: PinOptions {
            here,
            tier: Some("reciprocal".to_owned()),
            reason: Some("family".to_owned()),
            ..PinOptions::default()
        },
    };
    cast.reply(request).await.unwrap();
}

/// What a person asked to keep: paths and ranges.
async fn pins(cast: &Cast) -> Vec<(String, String)> {
    let pins: Vec<PinInfo> = match cast.reply(Request::Pins).await.unwrap() {
        Reply::Pins { pins } => pins,
        other => panic!("{other:?}"),
    };
    let asked = pins.into_iter().filter(|pin| pin.reason == "family");
    let mut asked: Vec<_> = asked
        .map(|pin| (pin.path.unwrap_or_default(), pin.range.to_string()))
        .collect();
    asked.sort();
    asked
}

async fn feeds(cast: &Cast) -> Vec<FeedInfo> {
    match cast.reply(Request::FeedList).await.unwrap() {
        Reply::Feeds { feeds } => feeds,
        other => panic!("{other:?}"),
    }
}

/// Blocks held of each path of another agent, with the role of its feed.
async fn held_of(cast: &Cast, author: &Cast) -> BTreeMap<String, (u64, String)> {
    let feeds = feeds(cast).await.into_iter();
    let of_author = feeds.filter(|feed| feed.agent == Some(author.id.agent));
    of_author
        .filter_map(|feed| Some((feed.path?, (feed.blocks_held, feed.role))))
        .collect()
}

fn expected(pins: &[(&str, &str)]) -> Vec<(String, String)> {
    let pins = pins.iter();
    pins.map(|(path, range)| (path.to_string(), range.to_string()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_keeps_what_is_pinned_and_fetches_nothing_else() {
    let folder = Folder::new();
    let phrase = Phrase::generate().unwrap();
    let bob = Cast::new(&folder, "bob").await;
    let mut links = BTreeMap::new();
    for path in ["/a", "/b", "/c", "/d"] {
        bob.create(path).await;
        bob.append(path, &blocks(10, 1000)).await;
        links.insert(path, format!("{}{path}", bob.id.link));
    }
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    let _met = meet(&[&bob, &laptop, &phone]).await;
    // Before the two know of each other, and after.
    pin(&laptop, &links["/a"], "all", false).await;
    pin(&laptop, &links["/c"], "all", true).await;
    until(async || (pins(&phone).await == expected(&[("/a", "all")])).then_some(())).await;
    pin(&phone, &links["/b"], "last:3", false).await;
    let both = expected(&[("/a", "all"), ("/b", "last:3")]);
    let here = expected(&[("/a", "all"), ("/b", "last:3"), ("/c", "all")]);
    until(async || (pins(&laptop).await == here).then_some(())).await;

    let tablet = Cast::device(&folder, "tablet", &phrase).await;
    let later = meet(&[&tablet, &phone]).await;
    until(async || (pins(&tablet).await == both).then_some(())).await;
    let by_bob = meet(&[&tablet, &bob]).await;
    let whole = BTreeMap::from([
        ("/a".to_owned(), (10, "pinned".to_owned())),
        ("/b".to_owned(), (3, "pinned".to_owned())),
    ]);
    until(async || (held_of(&tablet, &bob).await == whole).then_some(())).await;

    // What is on its disk, by what it is to it: the pins of others, what siblings write of the agent, and
    // its own; no block of /c or /d, and none of /b that is older.
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for feed in feeds(&tablet).await {
        *bytes.entry(feed.role).or_default() += feed.bytes_held;
    }
    assert_eq!(bytes["pinned"], 13 * 1000);
    let roles: Vec<&str> = bytes.keys().map(String::as_str).collect();
    assert_eq!(
        roles,
        ["device", "directory", "pinned", "private directory"]
    );
    let rest: u64 = bytes.values().sum::<u64>() - bytes["pinned"];
    assert!(rest < 16 * 1024, "{bytes:?}");

    // Opened again it is as it was; what one device unpins goes from all, with its space.
    drop((later, by_bob));
    let tablet = tablet.reopen().await;
    assert_eq!(pins(&tablet).await, both);
    let _again = meet(&[&tablet, &laptop]).await;
    let link = links["/a"].clone();
    tablet.reply(Request::Unpin { link }).await.unwrap();
    for cast in [&tablet, &laptop, &phone] {
        until(async || (!held_of(cast, &bob).await.contains_key("/a")).then_some(())).await;
    }
    assert_eq!(
        pins(&laptop).await,
        expected(&[("/b", "last:3"), ("/c", "all")])
    );
    for cast in [laptop, phone, tablet, bob] {
        cast.stop().await;
    }
}

async fn preference(cast: &Cast) -> Option<String> {
    let name = Some("read.last".to_owned());
    match cast.reply(Request::Preferences { name }).await {
        Ok(Reply::Preferences { preferences }) => preferences.first().map(|one| one.value.clone()),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

async fn prefer(cast: &Cast, value: &str) {
    let (name, value) = ("read.last".to_owned(), Some(value.to_owned()));
    cast.reply(Request::PreferenceSet { name, value })
        .await
        .unwrap();
}

async fn conflicts(cast: &Cast) -> Vec<ValueConflictInfo> {
    let request = Request::ValueConflicts { all: false };
    match cast.reply(request).await.unwrap() {
        Reply::ValueConflicts { conflicts, .. } => conflicts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_devices_write_apart_stands_with_both_sides_until_one_is_chosen() {
    const ID: &str = "preference read.last";
    let folder = Folder::new();
    let phrase = Phrase::generate().unwrap();
    let laptop = Cast::device(&folder, "laptop", &phrase).await;
    let phone = Cast::device(&folder, "phone", &phrase).await;
    prefer(&laptop, "50").await;
    prefer(&laptop, "60").await;
    assert!(
        conflicts(&laptop).await.is_empty(),
        "one device knows what it wrote"
    );
    prefer(&phone, "70").await;
    let _met = meet(&[&laptop, &phone]).await;
    for cast in [&laptop, &phone] {
        let found = until(async || {
            let found = conflicts(cast).await;
            found.into_iter().find(|one| one.id == ID)
        })
        .await;
        let sides = found.sides.iter();
        let sides: Vec<_> = sides
            .map(|side| (side.value.as_deref(), side.device_name.as_str(), side.shown))
            .collect();
        let expected = [(Some("60"), "laptop", false), (Some("70"), "phone", true)];
        assert_eq!(sides, expected);
        assert_eq!(preference(cast).await.as_deref(), Some("70"));
    }
    let resolve = |side| Request::ConflictResolve {
        id: ID.to_owned(),
        side: Some(side),
    };
    assert!(laptop.reply(resolve(3)).await.is_err());
    laptop.reply(resolve(1)).await.unwrap();
    for cast in [&phone, &laptop] {
        until(async || {
            let is_settled = conflicts(cast).await.iter().all(|one| one.id != ID);
            (is_settled && preference(cast).await.as_deref() == Some("60")).then_some(())
        })
        .await;
        cast.rebuilds_to_the_same().await;
    }
}

async fn profile_of(cast: &Cast, of: &Cast) -> Option<ProfileInfo> {
    let of = Some(of.id.agent.to_string());
    match cast.reply(Request::Profile { of }).await {
        Ok(Reply::Profile(profile)) => Some(profile),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_petname_is_shown_instead_of_what_somebody_calls_itself() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let _met = meet(&[&ann, &bob]).await;
    let name = "kitchen".to_owned();
    let create = Request::RoomCreate {
        name,
        history: None,
    };
    ann.reply(create).await.unwrap();
    let link = ann.invite("kitchen").await;
    bob.join(&link).await.unwrap();
    bob.send("kitchen", "soup").await;
    ann.wait_for_message("kitchen", "soup").await;
    let add = |who: &str, petname: &str| Request::ContactSet {
        who: who.to_owned(),
        petname: petname.to_owned(),
        note: None,
    };
    // The message may be read a moment before its author's name is known.
    until(async || ann.reply(add("bob", "Bo")).await.ok()).await;
    assert_eq!(ann.messages("kitchen").await, ["Bo: soup"]);
    let room = "kitchen".to_owned();
    let members = ann.reply(Request::RoomMembers { room }).await.unwrap();
    let Reply::Members { members, .. } = members else {
        panic!("{members:?}");
    };
    assert!(members.iter().any(|member| member.name == "Bo"));
    // By the petname the contact is found, and nobody else gets it.
    ann.reply(add("Bo", "Bobby")).await.unwrap();
    assert!(
        ann.reply(add(&ann.id.agent.to_string(), "me"))
            .await
            .is_err()
    );
    let profile = profile_of(&ann, &bob).await.unwrap();
    assert_eq!(profile.petname.as_deref(), Some("Bobby"));

    // Who calls itself as a contact is called is not taken for it.
    let set = Request::ProfileSet {
        name: Some("Ann, really".to_owned()),
        about: Some("beans".to_owned()),
        signal_urls: None,
    };
    bob.reply(set).await.unwrap();
    let who = "Bobby".to_owned();
    ann.reply(Request::ContactRemove { who }).await.unwrap();
    until(async || (ann.messages("kitchen").await == ["Ann, really: soup"]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_says_of_itself_and_of_others_is_read_by_those_who_follow_it() {
    let folder = Folder::new();
    let (ann, bob) = (
        Cast::new(&folder, "ann").await,
        Cast::new(&folder, "bob").await,
    );
    let cem = Cast::new(&folder, "cem").await;
    ann.create("/notes").await;
    ann.append("/notes", &blocks(1, 100)).await;
    let set = Request::ProfileSet {
        name: Some("Ann".to_owned()),
        about: Some("grows beans".to_owned()),
        signal_urls: None,
    };
    ann.reply(set).await.unwrap();
    let who = cem.id.agent.to_string();
    let vouch = |trusted| Request::Vouch {
        who: who.clone(),
        trusted,
        reason: "neighbour".to_owned(),
    };
    ann.reply(vouch(true)).await.unwrap();
    let attest = Request::Attest {
        who: who.clone(),
        text: "brought the chairs back".to_owned(),
    };
    ann.reply(attest).await.unwrap();

    let _met = meet(&[&ann, &bob]).await;
    pin(&bob, &format!("{}/notes", ann.id.link), "all", false).await;
    let seen = until(async || {
        let seen = profile_of(&bob, &ann).await?;
        (seen.about == "grows beans").then_some(seen)
    })
    .await;
    assert_eq!(seen.name, "Ann");
    let claims = Request::Claims {
        by: None,
        about: Some(who.clone()),
    };
    let unasked = bob.reply(claims.clone()).await.unwrap();
    assert_eq!(
        unasked,
        Reply::Claims { claims: vec![] },
        "nobody asked for that"
    );
    pin(&bob, &format!("{}/trust", ann.id.link), "all", false).await;
    until(async || match bob.reply(claims.clone()).await.unwrap() {
        Reply::Claims { claims } => (claims.len() == 1).then_some(()),
        other => panic!("{other:?}"),
    })
    .await;
    ann.reply(vouch(false)).await.unwrap();
    until(async || {
        let (by, about) = (Some(ann.id.agent.to_string()), None);
        match bob.reply(Request::Vouches { by, about }).await.unwrap() {
            Reply::Vouches { vouches } => (!vouches.first()?.trusted).then_some(()),
            other => panic!("{other:?}"),
        }
    })
    .await;
}
