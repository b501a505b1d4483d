//! Links: `kinlog://agent/<key>[/path]`, `kinlog://feed/<key>`, `kinlog://join/#<invite>`,
//! `kinlog://grant/#<grant>`.

use std::fmt;
use std::str::FromStr;

use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::text::{self, KeyTextError};

use crate::limits::{SIGNAL_URL_BYTES_MAX, SIGNAL_URLS_MAX};
use crate::links::{FeedPath, GrantLink, GrantLinkError, Invite, InviteError, PathError};

const SCHEME: &str = "kinlog://";

/// A parsed link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Link {
    /// An agent, or one of its public paths.
    Agent {
        agent: AgentId,
        path: Option<FeedPath>,
        signal_urls: Vec<String>,
    },
    /// One feed and nothing else.
    Feed {
        key: FeedKey,
        signal_urls: Vec<String>,
    },
    /// An invitation to a room.
    Join(Invite),
    /// A seed grant.
    Grant(Box<GrantLink>),
}

/// How a command names a feed: a path of ours, or a link or key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FeedName {
    /// A path of this agent.
    Own(FeedPath),
    /// A path of another agent.
    Of(AgentId, FeedPath),
    /// A key.
    Key(FeedKey),
}

/// A link with a damaged part.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Neither a link nor a key.
    #[error("{text:?} is no kinlog:// link and no key: {source}")]
    Unknown { text: String, source: KeyTextError },
    /// A kind of link that this build does not know.
    #[error("link names {actual:?}, this build knows agent, feed, join and grant")]
    Kind { actual: String },
    /// The key.
    #[error("key {text:?} of the link: {source}")]
    Key { text: String, source: KeyTextError },
    /// The path.
    #[error("path of the link: {0}")]
    Path(#[from] PathError),
    /// A percent sign without two hex digits, or bytes that are not UTF-8.
    #[error("{part} of the link has a damaged percent escape in {text:?}")]
    Escape { part: &'static str, text: String },
    /// Something behind `#` that is no signal URL.
    #[error("fragment {text:?} of the link: expected s=<signal URL>")]
    Fragment { text: String },
    /// A signal URL that is none, is too long, or one too many.
    #[error(
        "signal URL {text:?} of the link: expected ws:// or wss://, at most {SIGNAL_URL_BYTES_MAX} bytes and {SIGNAL_URLS_MAX} of them"
    )]
    SignalUrl { text: String },
    /// The invite.
    #[error("join link: {0}")]
    Invite(#[from] InviteError),
    /// The grant.
    #[error("grant link: {0}")]
    Grant(#[from] GrantLinkError),
    /// A path where none belongs.
    #[error("a link to a feed has no path, got {text:?}")]
    NoPathHere { text: String },
    /// A join link, or an agent without a path, where a feed is to be named.
    #[error("{text:?} names no feed")]
    NoFeed { text: String },
}

impl Link {
    /// Returns the signal servers the link carries.
    pub fn signal_urls(&self) -> &[String] {
        match self {
            Link::Agent { signal_urls, .. } | Link::Feed { signal_urls, .. } => signal_urls,
            Link::Join(invite) => &invite.signal_urls,
            Link::Grant(grant) => &grant.signal_urls,
        }
    }

    /// Returns the same link without signal servers: the name under which a pin is kept.
    pub fn bare(&self) -> Link {
        match self.clone() {
            Link::Agent { agent, path, .. } => Link::Agent {
                agent,
                path,
                signal_urls: Vec::new(),
            },
            Link::Feed { key, .. } => Link::Feed {
                key,
                signal_urls: Vec::new(),
            },
            Link::Join(invite) => Link::Join(Invite {
                signal_urls: Vec::new(),
                ..invite
            }),
            Link::Grant(grant) => Link::Grant(Box::new(GrantLink {
                signal_urls: Vec::new(),
                ..*grant
            })),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Agent { agent, path, .. } => {
                write!(
                    f,
                    "{SCHEME}agent/{}",
                    text::encode_link_key(agent.as_bytes())
                )?;
                if let Some(path) = path {
                    f.write_str(&escape(path.as_str()))?;
                }
            }
            Link::Feed { key, .. } => {
                write!(f, "{SCHEME}feed/{}", text::encode_link_key(key.as_bytes()))?;
            }
            Link::Join(invite) => return write!(f, "{SCHEME}join/#{}", invite.encode()),
            Link::Grant(grant) => return write!(f, "{SCHEME}grant/#{}", grant.encode()),
        }
        for (number, url) in self.signal_urls().iter().enumerate() {
            let sign = if number == 0 { '#' } else { '&' };
            write!(f, "{sign}s={}", escape(url))?;
        }
        Ok(())
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(link: &str) -> Result<Self, LinkError> {
        let link = link.trim();
        let Some(rest) = link.strip_prefix(SCHEME) else {
            let key = text::decode_key(link).map_err(|source| LinkError::Unknown {
                text: shorten(link),
                source,
            })?;
            return Ok(Link::Feed {
                key: FeedKey(key),
                signal_urls: Vec::new(),
            });
        };
        let (place, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (kind, name) = place.split_once('/').unwrap_or((place, ""));
        match kind {
            "agent" => {
                let (key, path) = match name.find('/') {
                    Some(at) => (&name[..at], Some(unescape("path", &name[at..])?.parse()?)),
                    None => (name, None),
                };
                let agent = AgentId(decode_key(key)?);
                Ok(Link::Agent {
                    agent,
                    path,
                    signal_urls: signal_urls(fragment)?,
                })
            }
            "feed" => match name.find('/') {
                Some(at) => Err(LinkError::NoPathHere {
                    text: name[at..].to_owned(),
                }),
                None => {
                    let key = FeedKey(decode_key(name)?);
                    Ok(Link::Feed {
                        key,
                        signal_urls: signal_urls(fragment)?,
                    })
                }
            },
            "join" => Ok(Link::Join(Invite::decode(fragment)?)),
            "grant" => Ok(Link::Grant(Box::new(GrantLink::decode(fragment)?))),
            other => Err(LinkError::Kind {
                actual: other.to_owned(),
            }),
        }
    }
}

impl FromStr for FeedName {
    type Err = LinkError;

    fn from_str(name: &str) -> Result<Self, LinkError> {
        if name.starts_with('/') {
            return Ok(FeedName::Own(name.parse()?));
        }
        match name.parse()? {
            Link::Feed { key, .. } => Ok(FeedName::Key(key)),
            Link::Agent {
                agent,
                path: Some(path),
                ..
            } => Ok(FeedName::Of(agent, path)),
            _ => Err(LinkError::NoFeed {
                text: shorten(name),
            }),
        }
    }
}

/// Checks that `url` is one a signal client can dial.
pub(crate) fn is_signal_url(url: &str) -> bool {
    let host = url
        .strip_prefix("ws://")
        .or_else(|| url.strip_prefix("wss://"));
    url.len() <= SIGNAL_URL_BYTES_MAX
        && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && !url
            .chars()
            .any(|character| character.is_control() || character.is_whitespace())
}

fn decode_key(key: &str) -> Result<[u8; 32], LinkError> {
    text::decode_key(key).map_err(|source| LinkError::Key {
        text: shorten(key),
        source,
    })
}

fn signal_urls(fragment: &str) -> Result<Vec<String>, LinkError> {
    let mut urls = Vec::new();
    for part in fragment.split('&').filter(|part| !part.is_empty()) {
        let Some(url) = part.strip_prefix("s=") else {
            return Err(LinkError::Fragment {
                text: shorten(part),
            });
        };
        let url = unescape("signal URL", url)?;
        if !is_signal_url(&url) || urls.len() == SIGNAL_URLS_MAX {
            return Err(LinkError::SignalUrl {
                text: shorten(&url),
            });
        }
        urls.push(url);
    }
    Ok(urls)
}

/// Writes what would end a part of the link, or not survive a chat window, as `%XX`.
fn escape(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'/' | b'-' | b'_' | b'.' | b'~' | b':' | b'@' | b'=' | b'+' | b',' | b'[' | b']' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push_str(&text::encode_hex(&[byte]));
            }
        }
    }
    out
}

fn unescape(part: &'static str, escaped: &str) -> Result<String, LinkError> {
    let damaged = || LinkError::Escape {
        part,
        text: shorten(escaped),
    };
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = rest
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let value = digits
            .and_then(|pair| text::decode_hex(pair).ok())
            .ok_or_else(damaged)?;
        bytes.extend_from_slice(&value);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| damaged())
}

/// Keeps an error readable, and a secret out of it, when somebody pastes a page.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::Secret;

    use super::*;
    use crate::rooms::RoomId;

    fn round_trip(link: &Link) {
        let text = link.to_string();
        assert_eq!(text.parse::<Link>().as_ref(), Ok(link), "{text}");
    }

    #[test]
    fn links_round_trip() {
        let agent = AgentId([5; 32]);
        let urls = vec![
            "ws://127.0.0.1:1/".to_owned(),
            "wss://a.example/?x=1&y=#".to_owned(),
        ];
        round_trip(&Link::Agent {
            agent,
            path: None,
            signal_urls: vec![],
        });
        let path = Some("/paths/a b & ü%".parse().expect("valid"));
        round_trip(&Link::Agent {
            agent,
            path,
            signal_urls: urls.clone(),
        });
        round_trip(&Link::Feed {
            key: FeedKey([6; 32]),
            signal_urls: urls.clone(),
        });
        let invite = Invite {
            room: RoomId([1; 32]),
            seed: Secret::new([2; 32]),
            signal_urls: urls,
        };
        round_trip(&Link::Join(invite));
    }

    #[test]
    fn bare_keys_name_a_feed() {
        let key = FeedKey([9; 32]);
        let link = Link::Feed {
            key,
            signal_urls: vec![],
        };
        assert_eq!(key.to_string().parse(), Ok(link.clone()));
        assert_eq!(text::encode_hex(key.as_bytes()).parse(), Ok(link));
    }

    #[test]
    fn each_damaged_part_is_named() {
        let good = Link::Agent {
            agent: AgentId([5; 32]),
            path: Some("/notes".parse().expect("valid")),
            signal_urls: vec!["ws://h/".into()],
        }
        .to_string();
        let damaged = good.replacen("wn", "nn", 1);
        assert!(
            matches!(damaged.parse::<Link>(), Err(LinkError::Key { .. })),
            "{damaged}"
        );
        let parse = |text: String| text.parse::<Link>().expect_err("damaged");
        assert!(matches!(
            parse(good.replace("agent", "agnet")),
            LinkError::Kind { .. }
        ));
        assert!(matches!(
            parse(good.replace("/notes", "//notes")),
            LinkError::Path(_)
        ));
        assert!(matches!(
            parse(good.replace("/notes", "/no%zz")),
            LinkError::Escape { .. }
        ));
        assert!(matches!(
            parse(good.replace("#s=", "#t=")),
            LinkError::Fragment { .. }
        ));
        assert!(matches!(
            parse(good.replace("ws://", "http://")),
            LinkError::SignalUrl { .. }
        ));
        assert!(matches!(
            parse("kinlog://join/#AAAA".into()),
            LinkError::Invite(_)
        ));
        assert!(matches!(
            parse("kinlog://grant/#AAAA".into()),
            LinkError::Grant(_)
        ));
        assert!(matches!(parse("what".into()), LinkError::Unknown { .. }));
    }
}
