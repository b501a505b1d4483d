//! What a seeder is given that is to hold somebody's capsule: `kinlog://sign-in/<agent>#<meet key>`.
//!
//! Behind `#` stands the key of the topic, not the code: it fetches the sealed record and opens nothing.

use std::fmt;
use std::str::FromStr;

use kinlog_feeds::crypto::AgentId;
use kinlog_feeds::text::{self, KeyTextError};

use crate::api::Error;
use crate::links::Link;

const SCHEME: &str = "kinlog://sign-in/";

/// Whose capsule, and where it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldLink {
    /// The agent.
    pub agent: AgentId,
    /// Key of the topic of its code.
    pub meet_key: [u8; 32],
}

/// Text that is no such link.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldLinkError {
    /// Another link, or none.
    #[error("no link of a sign-in: expected {SCHEME}<agent>#<key>")]
    Shape,
    /// One of its two keys.
    #[error("{what} of the sign-in link: {source}")]
    Key {
        what: &'static str,
        source: KeyTextError,
    },
}

impl fmt::Display for HoldLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agent = text::encode_link_key(self.agent.as_bytes());
        write!(
            f,
            "{SCHEME}{agent}#{}",
            text::encode_link_key(&self.meet_key)
        )
    }
}

impl FromStr for HoldLink {
    type Err = HoldLinkError;

    fn from_str(link: &str) -> Result<Self, HoldLinkError> {
        let rest = link.trim().strip_prefix(SCHEME);
        let (agent, key) = rest
            .and_then(|rest| rest.split_once('#'))
            .ok_or(HoldLinkError::Shape)?;
        let decode =
            |what, key| text::decode_key(key).map_err(|source| HoldLinkError::Key { what, source });
        Ok(HoldLink {
            agent: AgentId(decode("agent", agent)?),
            meet_key: decode("key", key)?,
        })
    }
}

/// Returns the agent that a link or a key names, and the signal servers in the link.
///
/// # Errors
/// `Usage` for what names none.
pub fn agent_named(text: &str) -> Result<(AgentId, Vec<String>), Error> {
    let link: Link = text.parse()?;
    let urls = link.signal_urls().to_vec();
    match link {
        Link::Agent { agent, .. } => Ok((agent, urls)),
        // A bare key does not say of what.
        Link::Feed { key, .. } => Ok((AgentId(key.0), urls)),
        _ => Err(Error::usage("the link names no agent")
            .hint("`kinlog id` on a device of the agent prints the one that does")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_round_trip_and_lost_characters_are_noticed() {
        let link = HoldLink {
            agent: AgentId([1; 32]),
            meet_key: [2; 32],
        };
        let text = link.to_string();
        assert_eq!(text.parse(), Ok(link));
        for damaged in [
            &text[1..],
            &text[..text.len() - 1],
            &text.replace('#', ""),
            "kinlog://agent/y",
        ] {
            assert!(damaged.parse::<HoldLink>().is_err(), "{damaged}");
        }
    }
}
