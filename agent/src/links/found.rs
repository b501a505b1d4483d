//! Links that stand in a text.

use kinlog_feeds::AgentId;

use crate::links::{FeedPath, Link};

const SCHEME: &str = "kinlog://agent/";

/// Returns the agents and paths that a text links to, each time they occur; what looks like a link and
/// is none is left out.
pub(crate) fn links_in(text: &str) -> impl Iterator<Item = (AgentId, Option<FeedPath>)> + '_ {
    text.match_indices(SCHEME).filter_map(|(at, _)| {
        let rest = &text[at..];
        let ends = |letter: char| letter.is_whitespace() || "<>()[]\"'`".contains(letter);
        let link = &rest[..rest.find(ends).unwrap_or(rest.len())];
        let link = link.trim_end_matches(['.', ',', ';', ':', '!', '?']);
        match link.parse() {
            Ok(Link::Agent { agent, path, .. }) => Some((agent, path)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_between_words_and_signs() {
        let agent = AgentId([7; 32]);
        let link = |path: Option<&str>| {
            Link::Agent {
                agent,
                path: path.map(|path| path.parse().expect("valid")),
                signal_urls: Vec::new(),
            }
            .to_string()
        };
        let (one, two, all) = (link(Some("/a")), link(Some("/b/c")), link(None));
        let text = format!(
            "See {one}, then (<{two}>) and [all]({all}).\nNot kinlog://agent/x, nor kinlog://feed/{one}"
        );
        let found: Vec<_> = links_in(&text).collect();
        let path = |text: &str| Some((agent, Some(text.parse::<FeedPath>().expect("valid"))));
        let expected = [path("/a"), path("/b/c"), Some((agent, None)), path("/a")];
        assert_eq!(found, expected.map(|one| one.expect("made above")));
    }
}
