//! The steps by which somebody is looked for, and what each found: for whoever is told that nobody
//! is there.

use std::sync::Arc;

use kinlog_swarm::{
    FoundBy, Label, LadderStep, NodeStatus, PeerState as NodePeerState, StepStatus, TopicStatus,
};

use crate::api::StepInfo;
use crate::network::{Network, Troubles};

/// What is looked for: topics in which it would be met, with what each stands for.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    pub(crate) topics: Vec<(Label, [u8; 32])>,
    /// `agent Ada`, `room family`.
    pub(crate) whom: String,
}

/// Returns what every step found so far.
pub(crate) async fn climb(network: Option<&Arc<Network>>, sought: &Sought) -> Vec<StepInfo> {
    match network {
        Some(network) => steps(&network.node.status().await, &network.troubles(), sought),
        None => vec![StepInfo {
            hint: Some("kinlog up starts it".to_owned()),
            ..step("session", false, "the network is off")
        }],
    }
}

/// Returns what every step found by what the node shows.
pub(crate) fn steps(node: &NodeStatus, troubles: &Troubles, sought: &Sought) -> Vec<StepInfo> {
    let whom = &sought.whom;
    let is_sought = |label: Label, key: &str| {
        let mut topics = sought.topics.iter();
        topics.any(|topic| topic.0 == label && kinlog_feeds::text::encode(&topic.1) == key)
    };
    let mut steps = Vec::new();
    let sessions = node.sessions.iter();
    let open = sessions.filter(|session| session.state == "open").count();
    let with_it = node
        .sessions
        .iter()
        .filter(|session| session.state == "open" && is_sought(session.label, &session.key));
    steps.push(match (with_it.count(), open) {
        (0, 0) => step("session", false, "nobody at all is connected"),
        (0, open) => step(
            "session",
            false,
            &format!("{} open, none with {whom}", plural(open, "connection")),
        ),
        (with_it, _) => step(
            "session",
            true,
            &format!("{} with {whom}", plural(with_it, "connection")),
        ),
    });
    let searches: Vec<&TopicStatus> = node
        .topics
        .iter()
        .filter(|topic| is_sought(topic.label, &topic.key))
        .collect();
    steps.extend(by_peers(&searches, whom));
    steps.extend(on_the_network(node));
    steps.extend(remembered(node, FoundBy::Route));
    steps.extend(remembered(node, FoundBy::Coordinator));
    let mut servers = node.signal.iter();
    if !servers.any(|point| point.found_by == FoundBy::Signal) {
        steps.push(StepInfo {
            hint: Some("kinlog up --signal URL, or kinlog pair without any server".to_owned()),
            ..step("signal", false, "no signal server is known")
        });
    }
    let points = node.signal.iter();
    for signal in points.filter(|point| point.found_by == FoundBy::Signal) {
        let url = &signal.url;
        steps.push(match (&signal.reason, signal.connected) {
            (_, true) => step("signal", true, &format!("signal server {url}: reachable")),
            (Some(reason), false) => {
                let reason = reason.trim_start_matches(url.as_str());
                let reason = reason.trim_start_matches([':', ' ']);
                StepInfo {
                    hint: Some(
                        "start that server, or name another: kinlog up --signal URL".to_owned(),
                    ),
                    ..step("signal", false, &format!("signal server {url}: {reason}"))
                }
            }
            (None, false) => step("signal", false, &format!("signal server {url}: connecting")),
        });
    }
    if !node.signal.iter().any(|point| point.connected) {
        steps.extend(waits(&searches));
        return steps;
    }
    let seen: usize = searches.iter().map(|topic| topic.peers_seen).sum();
    let entered = searches.len();
    let topics = match entered {
        1 => "its topic".to_owned(),
        topics => format!("{topics} topics of it"),
    };
    steps.push(match (seen, entered) {
        (_, 0) => step("topic", false, &format!("no topic of {whom} is joined")),
        (0, _) => StepInfo {
            hint: Some("is it running? `kinlog up` there, with the same signal server".to_owned()),
            ..step("topic", false, &format!("0 peers in {topics}"))
        },
        (seen, _) => step(
            "topic",
            true,
            &format!("{} in {topics}", plural(seen, "peer")),
        ),
    });
    let refused = sought
        .topics
        .iter()
        .find_map(|topic| troubles.topics.get(topic));
    if let (Some(reason), true) = (refused, seen > 0) {
        steps.push(StepInfo {
            hint: Some("kinlog doctor looks at this machine's network".to_owned()),
            ..step("connect", false, &format!("none connects: {reason}"))
        });
    }
    steps.extend(waits(&searches));
    steps
}

/// Returns what connected peers of the same topics know, where any were asked.
fn by_peers(searches: &[&TopicStatus], whom: &str) -> Option<StepInfo> {
    let steps = searches.iter().flat_map(|search| &search.steps);
    let asked: Vec<&StepStatus> = steps
        .filter(|step| step.step == LadderStep::Peers && step.asked_ms.is_some())
        .collect();
    let took = asked.iter().filter_map(|step| step.took_ms).max();
    if asked.is_empty() {
        return None;
    }
    let shown: usize = asked.iter().map(|step| step.shown).sum();
    let found = match shown {
        0 => format!("connected peers know nobody else of {whom}"),
        shown => format!("connected peers know {} of {whom}", plural(shown, "other")),
    };
    Some(StepInfo {
        after_ms: took,
        ..step("peers", shown > 0, &found)
    })
}

/// Returns what became of places where somebody was met before, or of those of coordinators.
fn remembered(node: &NodeStatus, by: FoundBy) -> Option<StepInfo> {
    let points = node.signal.iter();
    let routes: Vec<_> = points.filter(|point| point.found_by == by).collect();
    let reached = routes.iter().filter(|point| point.connected).count();
    let places = match by {
        FoundBy::Coordinator => "coordinator",
        _ => "remembered route",
    };
    let found = match routes.len() {
        0 => return None,
        tried => format!("{}: {reached} reachable", plural(tried, places)),
    };
    Some(step(by.step().name(), reached > 0, &found))
}

/// Returns what is left when nobody is reached.
fn waits(searches: &[&TopicStatus]) -> Option<StepInfo> {
    let is_over = |search: &&TopicStatus| search.state == NodePeerState::StoreForward;
    if searches.is_empty() || !searches.iter().all(is_over) {
        return None;
    }
    let found = "what is written waits here, and with whoever keeps the feeds";
    Some(step(LadderStep::StoreForward.name(), false, found))
}

/// Returns what the local network shows, where it is looked at.
fn on_the_network(node: &NodeStatus) -> Option<StepInfo> {
    let lan = node.lan.as_ref()?;
    if let Some(trouble) = &lan.trouble {
        return Some(step("lan", false, &format!("local network: {trouble}")));
    }
    let points = node.signal.iter();
    let joined = points
        .filter(|point| point.found_by == FoundBy::Lan && point.connected)
        .count();
    let found = match lan.neighbours {
        0 => "local network: nobody".to_owned(),
        seen => format!(
            "local network: {}, asked at {joined} of them",
            plural(seen, "other machine")
        ),
    };
    Some(step("lan", joined > 0, &found))
}

fn step(name: &str, ok: bool, found: &str) -> StepInfo {
    StepInfo {
        step: name.to_owned(),
        found: found.to_owned(),
        ok,
        after_ms: None,
        hint: None,
    }
}

fn plural(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use kinlog_swarm::{LanStatus, SignalStatus};

    use super::*;

    fn sought() -> Sought {
        Sought {
            topics: vec![(Label::Agent, [1; 32])],
            whom: "Ada".to_owned(),
        }
    }

    fn signal(reason: Option<&str>) -> SignalStatus {
        SignalStatus {
            url: "ws://meeting".to_owned(),
            found_by: FoundBy::Signal,
            connected: reason.is_none(),
            reason: reason.map(str::to_owned),
            retry_in_ms: None,
        }
    }

    fn topic(peers_seen: usize) -> TopicStatus {
        TopicStatus {
            label: Label::Agent,
            key: kinlog_feeds::text::encode(&[1; 32]),
            peers_seen,
            sessions: 0,
            periods: 1,
            state: NodePeerState::Discovering,
            why: None,
            steps: Vec::new(),
        }
    }

    fn told(node: &NodeStatus, troubles: &Troubles) -> Vec<(String, bool)> {
        let steps = steps(node, troubles, &sought()).into_iter();
        steps.map(|step| (step.found, step.ok)).collect()
    }

    #[test]
    fn each_step_says_what_it_found() {
        let node = NodeStatus {
            signal: vec![signal(None)],
            topics: vec![topic(0)],
            ..NodeStatus::default()
        };
        assert_eq!(
            told(&node, &Troubles::default()),
            [
                ("nobody at all is connected".to_owned(), false),
                ("signal server ws://meeting: reachable".to_owned(), true),
                ("0 peers in its topic".to_owned(), false),
            ]
        );
    }

    #[test]
    fn who_is_seen_and_does_not_connect_is_told_with_the_reason() {
        let node = NodeStatus {
            signal: vec![signal(None)],
            topics: vec![topic(2)],
            ..NodeStatus::default()
        };
        let mut troubles = Troubles::default();
        let why = "no channel within 10 s".to_owned();
        troubles.topics.insert((Label::Agent, [1; 32]), why);
        let told = told(&node, &troubles);
        assert_eq!(told[2], ("2 peers in its topic".to_owned(), true));
        assert_eq!(told[3].0, "none connects: no channel within 10 s");
    }

    #[test]
    fn without_a_server_that_is_reached_topics_say_nothing() {
        let none = told(&NodeStatus::default(), &Troubles::default());
        assert_eq!(none[1].0, "no signal server is known");
        let node = NodeStatus {
            signal: vec![signal(Some("connection refused"))],
            topics: vec![topic(0)],
            ..NodeStatus::default()
        };
        let told = told(&node, &Troubles::default());
        assert_eq!(told[1].0, "signal server ws://meeting: connection refused");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn what_was_tried_without_a_server_is_told_too() {
        let point = |found_by, connected| SignalStatus {
            found_by,
            connected,
            ..signal(None)
        };
        let lan = LanStatus {
            neighbours: 2,
            ..LanStatus::default()
        };
        let node = NodeStatus {
            signal: vec![point(FoundBy::Lan, true), point(FoundBy::Route, false)],
            lan: Some(lan),
            topics: vec![topic(0)],
            ..NodeStatus::default()
        };
        let told = told(&node, &Troubles::default());
        let lan = "local network: 2 other machines, asked at 1 of them";
        assert_eq!(told[1], (lan.to_owned(), true));
        assert_eq!(
            told[2],
            ("1 remembered route: 0 reachable".to_owned(), false)
        );
        assert_eq!(told[3].0, "no signal server is known");
        assert_eq!(told[4].0, "0 peers in its topic");
    }

    /// R153, R191: where everything failed, it is said that what is written waits.
    #[test]
    fn where_nobody_is_reached_it_is_said_that_what_is_written_waits() {
        let mut nobody = topic(0);
        nobody.state = NodePeerState::StoreForward;
        let node = NodeStatus {
            signal: vec![signal(Some("connection refused"))],
            topics: vec![nobody],
            ..NodeStatus::default()
        };
        let told = told(&node, &Troubles::default());
        let last = "what is written waits here, and with whoever keeps the feeds";
        assert_eq!(told.last(), Some(&(last.to_owned(), false)));
    }
}
