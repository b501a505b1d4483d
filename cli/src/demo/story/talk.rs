//! The act in a room, and the search for what was said and published.

use std::collections::BTreeSet;

use kinlog_agent::api::Reply;

use crate::demo::cast::Player;
use crate::demo::claims::Claim;
use crate::demo::limits::MEETING_WAIT_MAX;
use crate::demo::report::Played;
use crate::demo::stage::Stage;
use crate::demo::story::{AUTHOR, LATECOMER, READER, SEEDER};
use crate::error::Failure;
use crate::output::count;

/// The room they talk in, and what they say.
const ROOM: &str = "kitchen";
const QUESTION: &str = "Chapter two is marked. Who brings the walnut cake?";
const ANSWER: &str = "I do, and I read the lesson on the train without a net";
const LATE_WORD: &str = "Hello from the latecomer, I read all of the above";

/// A word of one lesson, and one of one message.
const WORD_OF_A_LESSON: &str = "logarithm";
const WORD_OF_A_MESSAGE: &str = "walnut";

/// Author back, they talk in a room; the latecomer reads what was said before.
pub(super) async fn talk(stage: &mut Stage<'_>, played: &mut Played) -> Result<(), Failure> {
    stage.act("The author is back, and they talk in a room");
    let url = stage.signal_url()?;
    stage.player_mut(AUTHOR)?.up(&url).await?;
    let author = stage.player(AUTHOR)?;
    let reader = stage.player(READER)?;
    let latecomer = stage.player(LATECOMER)?;

    author.ask(&["room", "create", ROOM]).await?;
    stage.tell(AUTHOR, &format!("makes the room {ROOM:?} and invites"));
    join_room(author, reader).await?;
    stage.tell(READER, "joins");
    say(stage, AUTHOR, QUESTION).await?;
    hear(reader, &[QUESTION]).await?;
    say(stage, READER, ANSWER).await?;
    hear(author, &[QUESTION, ANSWER]).await?;

    join_room(author, latecomer).await?;
    stage.tell(LATECOMER, "joins");
    let history = hear(latecomer, &[QUESTION, ANSWER]).await?;
    stage.tell(
        LATECOMER,
        &format!(
            "reads the {} said before",
            count(history.len() as u64, "message")
        ),
    );
    say(stage, LATECOMER, LATE_WORD).await?;
    let all = [QUESTION, ANSWER, LATE_WORD];
    let mut orders = Vec::new();
    for player in [author, reader, latecomer] {
        orders.push(hear(player, &all).await?);
    }
    played.claims.push(Claim::new(
        "the latecomer reads what was said before it joined",
        history == [QUESTION, ANSWER],
        format!("{} of 2 messages", history.len()),
    ));
    played.claims.push(Claim::new(
        "all three see the same three messages in the same order",
        orders.iter().all(|order| *order == all),
        orders
            .iter()
            .map(|order| order.len().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    ));
    let seeder = stage.player(SEEDER)?.status().await?;
    let room_feeds = seeder
        .feeds
        .iter()
        .filter(|feed| feed.feed.role == "room")
        .count();
    played.claims.push(Claim::new(
        "the seeder, who is no member, stores nothing of the room",
        room_feeds == 0 && seeder.rooms.is_empty(),
        count(room_feeds as u64, "room feed"),
    ));
    Ok(())
}

async fn join_room(host: &Player, guest: &Player) -> Result<(), Failure> {
    let invite = host
        .ask(&["room", "invite", ROOM])
        .await?
        .into_iter()
        .find_map(|reply| match reply {
            Reply::Invite { link, .. } => Some(link),
            _ => None,
        })
        .ok_or_else(|| {
            Failure::general(format!("{}: kinlog room invite gave no link", host.name))
        })?;
    guest.ask_others(&["room", "join", &invite]).await?;
    Ok(())
}

async fn say(stage: &Stage<'_>, who: &'static str, text: &str) -> Result<(), Failure> {
    stage.player(who)?.ask(&["send", ROOM, text]).await?;
    stage.tell(who, &format!("\u{201c}{text}\u{201d}"));
    Ok(())
}

/// Waits until an agent sees all of `texts`, and returns what it sees, in its order.
async fn hear(player: &Player, texts: &[&str]) -> Result<Vec<String>, Failure> {
    let mut heard = BTreeSet::new();
    player
        .watch(
            &["read", ROOM, "--watch"],
            "message of the others",
            MEETING_WAIT_MAX,
            |reply| {
                if let Reply::Message(message) = reply {
                    heard.insert(message.text.clone());
                }
                texts.iter().all(|text| heard.contains(*text)).then_some(())
            },
        )
        .await?;
    let messages = player.ask(&["read", ROOM]).await?;
    Ok(messages
        .into_iter()
        .filter_map(|reply| match reply {
            Reply::Message(message) => Some(message.text),
            _ => None,
        })
        .collect())
}

pub(super) async fn search(stage: &mut Stage<'_>, played: &mut Played) -> Result<(), Failure> {
    stage.act("The reader searches what it holds");
    for (word, kind) in [
        (WORD_OF_A_LESSON, "document"),
        (WORD_OF_A_MESSAGE, "message"),
    ] {
        let found = stage.player(READER)?.ask(&["search", word]).await?;
        let hits = found
            .iter()
            .filter_map(|reply| match reply {
                Reply::Found(found) if found.kind == kind => Some(found),
                _ => None,
            })
            .collect::<Vec<_>>();
        let place = hits.first().map(|hit| {
            let place = hit
                .path
                .as_deref()
                .or(hit.room.as_deref())
                .unwrap_or_default();
            format!(
                "{} in {place}",
                if hit.title.is_empty() {
                    &hit.snippet
                } else {
                    &hit.title
                }
            )
        });
        let place = place.unwrap_or_else(|| "nothing".to_owned());
        stage.tell(
            READER,
            &format!("{word:?} finds a {kind}: {}", crate::output::clean(&place)),
        );
        played.claims.push(Claim::new(
            format!("search for {word:?} finds a {kind}"),
            !hits.is_empty(),
            place,
        ));
    }
    Ok(())
}
