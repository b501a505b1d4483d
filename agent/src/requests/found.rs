//! Search, and the state of the index.

use kinlog_feeds::text;
use kinlog_indexer::index::SearchHit;

use crate::api::{AnswerSender, Error, FoundEntry, Reply};
use crate::core::Core;
use crate::limits::SEARCH_HITS_MAX;
use crate::requests::Ended;

pub(super) fn search(core: &Core, query: &str, to: &AnswerSender) -> Result<(), Ended> {
    let hits = core.look(|index| index.search(query, SEARCH_HITS_MAX))?;
    for hit in hits {
        let found = match hit {
            SearchHit::Message(message) => {
                let room = core.knowledge(|knowledge| {
                    knowledge.rooms.get(&message.room).map(|room| room.label())
                });
                FoundEntry {
                    kind: "message".into(),
                    title: String::new(),
                    snippet: snippet(&message.text, query),
                    room,
                    path: None,
                    author: core
                        .called(&message.agent, message.display_name.as_deref())
                        .unwrap_or_else(|| message.agent.to_string()),
                    key: message.feed.into(),
                    index: message.index,
                }
            }
            SearchHit::Document(document) => {
                let name = core.knowledge(|knowledge| {
                    let author = document.author?;
                    let known = knowledge.agents.get(&author);
                    knowledge.called(&author, known.and_then(|known| known.name.as_deref()))
                });
                let id = document.author.map(|author| author.to_string());
                FoundEntry {
                    kind: "document".into(),
                    title: document.title,
                    snippet: snippet(&document.text, query),
                    room: None,
                    path: document.label,
                    author: name.or(id).unwrap_or_else(|| "author unknown".into()),
                    key: document.feed.into(),
                    index: document.index,
                }
            }
        };
        to.blocking_answer(Reply::Found(found).into())?;
    }
    Ok(())
}

pub(super) fn index(core: &Core, rebuild: bool) -> Result<Reply, Error> {
    if rebuild {
        core.rebuild_index()?;
    }
    let (hash, counts) = core.look(|index| Ok((index.dump_hash()?, index.counts()?)))?;
    Ok(Reply::Index {
        dump_hash: text::encode_hex(hash.as_bytes()),
        entries: counts.entries,
        pending: counts.pending,
        behind: core.behind()?,
    })
}

pub(super) fn check(core: &Core) -> Result<Reply, Error> {
    let problems = core.index(|index| index.check())?;
    if !problems.is_empty() {
        core.rebuild_index_file()?;
    }
    Ok(Reply::IndexChecked {
        rebuilt: !problems.is_empty(),
        problems,
    })
}

/// Returns the words round the first word of the query that the text has.
fn snippet(text: &str, query: &str) -> String {
    const BEFORE: usize = 40;
    const SHOWN: usize = 160;
    let lower = text.to_lowercase();
    let words = query.split_whitespace().map(str::to_lowercase);
    // Lower-casing may move bytes in rare scripts: the place is then only near, never out of bounds.
    let hit = words
        .filter_map(|word| lower.find(&word))
        .min()
        .unwrap_or(0);
    let characters_before = lower[..hit].chars().count().saturating_sub(BEFORE);
    let part: String = text.chars().skip(characters_before).take(SHOWN).collect();
    part.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_shows_the_words_round_the_hit() {
        let text = format!(
            "{} the Merkle proof {}",
            "word ".repeat(100),
            "tail ".repeat(100)
        );
        let snippet = snippet(&text, "merkle");
        assert!(snippet.contains("the Merkle proof tail"), "{snippet}");
        assert!(snippet.chars().count() <= 160);
    }

    #[test]
    fn a_snippet_never_cuts_a_character() {
        let text = "İİİİ grüße 🌲🌲🌲 find";
        assert!(snippet(text, "find").contains("find"));
        assert_eq!(snippet("", "find"), "");
    }
}
