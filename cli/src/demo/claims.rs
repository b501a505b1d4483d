//! What the demo claims, each checked against what the agents report about themselves.

use std::collections::BTreeSet;

use kinlog_agent::api::{FeedStatus, SessionStatus, Status};
use serde::Serialize;

/// A sentence and whether it holds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Claim {
    pub(crate) claim: String,
    pub(crate) holds: bool,
    /// What was seen.
    pub(crate) evidence: String,
}

impl Claim {
    pub(crate) fn new(claim: impl Into<String>, holds: bool, evidence: impl Into<String>) -> Self {
        Claim {
            claim: claim.into(),
            holds,
            evidence: evidence.into(),
        }
    }
}

/// A status and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
}

/// Two agents that are connected.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Met {
    pub(crate) one: &'static str,
    /// `None` when nobody of the cast reports the other end.
    pub(crate) other: Option<&'static str>,
    pub(crate) met_by: String,
    pub(crate) transport: String,
    pub(crate) path: Option<String>,
    /// How long the connection stands.
    pub(crate) seconds: u64,
    /// As `one` counts them.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

/// Finds out who is connected to whom.
///
/// A follower of a public path shows no name, so the two ends are found by what both report: the
/// candidate pair of one end is the other's in reverse. Each connection is listed once.
pub(crate) fn meetings(seen: &[Seen]) -> Vec<Met> {
    let mut met = Vec::new();
    let mut listed = BTreeSet::new();
    for one in seen {
        for session in &one.status.sessions {
            let far = far_end(session, one.name, seen);
            if let Some((other, number)) = far {
                if listed.contains(&(other, number)) {
                    continue;
                }
                listed.insert((one.name, session.id));
            }
            met.push(Met {
                one: one.name,
                other: far.map(|(name, _)| name),
                met_by: session.met_by.clone(),
                transport: session.transport.clone(),
                path: path(session),
                seconds: session.seconds,
                bytes_received: session.bytes_received,
                bytes_sent: session.bytes_sent,
            });
        }
    }
    met
}

fn far_end(session: &SessionStatus, near: &str, seen: &[Seen]) -> Option<(&'static str, u64)> {
    let ice = session.ice.as_ref()?;
    seen.iter()
        .filter(|other| other.name != near)
        .find_map(|other| {
            let mirrored = other.status.sessions.iter().find(|theirs| {
                theirs
                    .ice
                    .as_ref()
                    .is_some_and(|far| far.local == ice.remote && far.remote == ice.local)
            })?;
            Some((other.name, mirrored.id))
        })
}

/// Returns the candidate pair that ICE chose, in words.
fn path(session: &SessionStatus) -> Option<String> {
    let ice = session.ice.as_ref()?;
    Some(format!(
        "{} {} <-> {} {}",
        ice.local_kind, ice.local, ice.remote_kind, ice.remote
    ))
}

/// Returns the paths under `prefix` of which an agent holds at least one block.
pub(crate) fn paths_held(status: &Status, prefix: &str) -> BTreeSet<String> {
    status
        .feeds
        .iter()
        .filter(|feed| feed.feed.blocks_held > 0)
        .filter_map(|feed| feed.feed.path.clone())
        .filter(|path| path.starts_with(prefix))
        .collect()
}

/// Returns the feed at `path`.
pub(crate) fn feed_at<'a>(status: &'a Status, path: &str) -> Option<&'a FeedStatus> {
    status
        .feeds
        .iter()
        .find(|feed| feed.feed.path.as_deref() == Some(path))
}

/// Every link is WebRTC, over a pair of candidates that ICE reports.
pub(crate) fn all_over_webrtc(met: &[Met]) -> Claim {
    let other = met
        .iter()
        .filter(|met| met.transport != "webrtc" || met.path.is_none())
        .count();
    Claim::new(
        "every connection is WebRTC over a pair of ICE candidates",
        !met.is_empty() && other == 0,
        format!("{} connections, {other} of another kind", met.len()),
    )
}

#[cfg(test)]
mod tests {
    use kinlog_agent::api::Reply;
    use serde_json::json;

    use super::*;

    fn seen(name: &'static str, sessions: serde_json::Value) -> Seen {
        let key = kinlog_feeds::text::encode(&[0; 32]);
        let status = json!({
            "reply": "status", "agent": key, "device": key, "name": name, "home": "/", "pid": 1,
            "network": true, "signals": [], "sessions": sessions, "feeds": [], "rooms": [],
            "store": {"bytes": 0, "segments": 1, "feeds": 0, "blocks": 0},
            "in_sync": true, "bytes_received": 0, "bytes_sent": 0, "open_joins": [],
        });
        let Ok(Reply::Status(status)) = serde_json::from_value(status) else {
            panic!("a status");
        };
        Seen {
            name,
            status: *status,
        }
    }

    fn session(id: u64, local: &str, remote: &str) -> serde_json::Value {
        json!({
            "id": id, "met_by": "agent", "topic": "x", "transport": "webrtc",
            "ice": {"local": local, "remote": remote, "local_kind": "host", "remote_kind": "host"},
            "bytes_received": 1, "bytes_sent": 2, "state": "open", "seconds": 3, "feeds": [],
        })
    }

    #[test]
    fn a_connection_is_listed_once_with_both_its_ends() {
        let author = seen("author", json!([session(1, "a:1", "b:2")]));
        let reader = seen(
            "reader",
            json!([session(7, "b:2", "a:1"), session(8, "b:3", "c:9")]),
        );
        let met = meetings(&[author, reader]);
        let ends = met
            .iter()
            .map(|met| (met.one, met.other))
            .collect::<Vec<_>>();
        assert_eq!(ends, [("author", Some("reader")), ("reader", None)]);
    }

    #[test]
    fn another_transport_breaks_the_claim() {
        let mut other = session(1, "a:1", "b:2");
        other["transport"] = "tcp".into();
        let met = meetings(&[seen("author", json!([other]))]);
        assert!(!all_over_webrtc(&met).holds);
        assert!(!all_over_webrtc(&[]).holds);
    }
}
