//! Full-text search: documents and messages, best first, in bounded time.
//!
//! Ranking every message with a common word would read them all. So the newest candidates are
//! ranked, by BM25 with what they say about how common each word is.

use rusqlite::params;

use crate::index::query::{DOCUMENT, document_row};
use crate::index::query_messages::{MESSAGE, message_row};
use crate::index::words;
use crate::index::{IndexError, MessageRow, Reader, SearchHit};
use crate::limits::{QUERY_ROWS_MAX, SEARCH_CANDIDATES_MAX};

/// How soon more of one word stops to count, and how much longer texts lose (the usual values).
const SATURATION: f64 = 1.2;
const LENGTH_WEIGHT: f64 = 0.75;

/// Bytes of a message of ordinary length.
const ORDINARY_BYTES: f64 = 80.0;

impl Reader {
    /// Returns up to `limit` documents and messages that contain every word of `query`: documents
    /// by how well they fit, then messages, the best of the [`SEARCH_CANDIDATES_MAX`] newest.
    /// Any text is a legal query; text without a word finds nothing.
    pub fn search(&self, query: &str, limit: usize) -> Result<Vec<SearchHit>, IndexError> {
        let Some(expression) = words::query(query) else {
            return Ok(Vec::new());
        };
        let limit = limit.min(QUERY_ROWS_MAX);
        let sql = format!(
            "{DOCUMENT} JOIN documents_search s ON s.rowid = d.rowid
             WHERE documents_search MATCH ?1 ORDER BY s.rank, d.feed, d.idx LIMIT ?2"
        );
        let mut documents = self.all(&sql, params![expression, limit as i64], document_row)?;
        let messages = self.ranked_messages(query, &expression, limit)?;
        documents.truncate(limit.saturating_sub(messages.len()).max(limit.div_ceil(2)));
        let mut hits: Vec<SearchHit> = documents.into_iter().map(SearchHit::Document).collect();
        hits.extend(messages.into_iter().map(SearchHit::Message));
        hits.truncate(limit);
        Ok(hits)
    }

    fn ranked_messages(
        &self,
        query: &str,
        expression: &str,
        limit: usize,
    ) -> Result<Vec<MessageRow>, IndexError> {
        // The inner query stops at its limit: rowids follow dates, and a full-text table yields
        // the newest for nothing.
        let sql = format!(
            "{MESSAGE} JOIN (SELECT rowid AS hit FROM messages_search WHERE messages_search MATCH ?1
                 ORDER BY rowid DESC LIMIT ?2) ON hit = m.rowid ORDER BY hit DESC"
        );
        let candidates = SEARCH_CANDIDATES_MAX.max(limit) as i64;
        let found = self.all(&sql, params![expression, candidates], message_row)?;
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let texts: Vec<String> = found.iter().map(|row| row.text.to_lowercase()).collect();
        let weights = self.weights(&words)?;
        let mut ranked: Vec<(f64, MessageRow)> = texts
            .iter()
            .zip(found)
            .map(|(text, row)| (score(text, &words, &weights), row))
            .collect();
        // Of equals the newest stays first.
        ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        ranked.truncate(limit);
        Ok(ranked.into_iter().map(|(_, row)| row).collect())
    }

    /// Returns how much each of several words tells: the rarer, the more.
    fn weights(&self, query: &[String]) -> Result<Vec<f64>, IndexError> {
        if query.len() < 2 {
            return Ok(vec![1.0; query.len()]);
        }
        let span: (i64, i64) = self
            .connection
            .prepare_cached(
                // Two questions: only one end at a time is found without reading all.
                "SELECT coalesce((SELECT min(rowid) FROM messages), 0),
                 coalesce((SELECT max(rowid) FROM messages), 0)",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let all = (span.1 - span.0).max(1) as f64;
        query
            .iter()
            .map(|word| {
                let Some(expression) = words::query(word) else {
                    return Ok(0.0);
                };
                let (count, oldest): (i64, i64) = self
                    .connection
                    .prepare_cached(
                        "SELECT count(*), coalesce(min(hit), 0) FROM (SELECT rowid AS hit
                         FROM messages_search WHERE messages_search MATCH ?1
                         ORDER BY rowid DESC LIMIT ?2)",
                    )?
                    .query_row(params![expression, SEARCH_CANDIDATES_MAX as i64], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?;
                // As many in the rest as in the time looked at.
                let seen = ((span.1 - oldest).max(1) as f64 / all).min(1.0);
                let estimate = count as f64 / seen;
                Ok((1.0 + 1e6 / (estimate + 1.0)).ln())
            })
            .collect()
    }
}

/// BM25 of one lower-cased text. A word that differs in an accent counts once.
fn score(text: &str, words: &[String], weights: &[f64]) -> f64 {
    let length = 1.0 - LENGTH_WEIGHT + LENGTH_WEIGHT * text.len() as f64 / ORDINARY_BYTES;
    words
        .iter()
        .zip(weights)
        .map(|(word, weight)| {
            let count = text.matches(word.as_str()).count().max(1) as f64;
            weight * count * (SATURATION + 1.0) / (count + SATURATION * length)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_a_rare_word_in_a_short_text_is_better() {
        let words = ["soup".to_owned(), "the".to_owned()];
        let score = |text: &str| score(text, &words, &[5.0, 0.1]);
        assert!(score("soup, the soup") > score("the soup"));
        assert!(score("the soup") > score(&format!("the soup {}", "and more ".repeat(50))));
        assert!(score("the soup soup") > score("the the soup"));
    }
}
