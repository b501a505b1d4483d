//! What people ask of a long talk.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use kinlog_indexer::index::Reader;
use kinlog_indexer::{Index, RoomId};

use crate::index::chat::{Chat, word};
use crate::row::{Effort, Measured, Row};
use crate::scratch::Scratch;

/// Questions of one repeat.
const QUESTIONS: u64 = 500;

pub(crate) const LAST_50: Row = Row {
    name: "index_last50_ms",
    unit: "ms",
    definition: "the last 50 messages, with names and what became of them, of a room of 1 M \
        (250,000 with --quick): the slowest of a hundred of 500 questions over a connection that \
        only reads, less is better. Alone: the middle of them.",
    measure: |effort| {
        ask(effort, |talk, _| {
            Ok(talk.reader.messages(&talk.room, 50)?.len())
        })
    },
    once: None,
};

pub(crate) const SEARCH: Row = Row {
    name: "index_search_ms",
    unit: "ms",
    definition: "the 20 best messages among the newest 256 with all words of a question, ranked, \
        with their text, in a room of 1 M (250,000 with --quick): the slowest of a hundred of 500 \
        questions of one, two and three words, every fourth of the commonest words alone (the \
        first stands in four of ten messages), over a connection that only reads, less is better. \
        Alone: the middle of them.",
    measure: |effort| {
        ask(effort, |talk, number| {
            Ok(talk.reader.search(&question(number), 20)?.len())
        })
    },
    once: None,
};

/// A reader beside the index that took a talk in.
struct Talk {
    reader: Reader,
    room: RoomId,
    _index: Index,
    _scratch: Scratch,
}

impl Talk {
    fn make(count: u64) -> Result<Talk> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("index.db");
        let mut index = Index::open(&path)?;
        let chat = Chat::make(count)?;
        chat.world.tell(&mut index);
        chat.take_in(&mut index)?;
        Ok(Talk {
            reader: Reader::open(&path)?,
            room: chat.world.room,
            _index: index,
            _scratch: scratch,
        })
    }
}

fn ask(effort: &Effort, question: impl Fn(&Talk, u64) -> Result<usize>) -> Result<Measured> {
    let talk = Talk::make(effort.scaled(1_000_000))?;
    let mut middles = Vec::new();
    let times = || {
        let mut times = Vec::new();
        for number in 0..QUESTIONS {
            let start = Instant::now();
            let found = black_box(question(&talk, number)?);
            times.push(1_000.0 * start.elapsed().as_secs_f64());
            ensure!(found > 0 || number % 4 > 1, "question {number}: nothing");
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    };
    times()?;
    let mut measured = Measured::alternate(
        effort,
        || {
            let times = times()?;
            middles.push(times[times.len() / 2]);
            let slow = times.get(times.len() * 99 / 100);
            slow.copied().context("there are questions")
        },
        Vec::new(),
        None,
    )?;
    measured.parts.push(("the middle", middles));
    Ok(measured)
}

/// Words of the talk: common alone; rare alone; a common and a rare one; three fairly common ones.
fn question(number: u64) -> String {
    let rare = 0.3 + 0.7 * (number % 97) as f64 / 97.0;
    match number % 4 {
        0 => word(0.02 * (number % 5) as f64),
        1 => word(rare),
        2 => format!("{} {}", word(0.0), word(rare)),
        _ => format!("{} {} {}", word(0.0), word(0.08), word(0.1)),
    }
}
