//! What several sources say of somebody, put together. Pure: reports in, one line each out.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::DeviceKey;
use kinlog_swarm::Standing;

use crate::api::{PeerInfo, PeerState, WayInfo};
use crate::peers::{Known, Who};

/// What one source says of somebody.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// A session is open.
    Session {
        /// It has shown that it is the one; otherwise it is somebody who holds its feeds, or wants them.
        certain: bool,
        way: WayInfo,
        met_by: &'static str,
        device: Option<DeviceKey>,
        /// It came for feeds of this agent.
        follows_us: bool,
        round_trip_ms: Option<u64>,
        seconds: u64,
        rate_in: u64,
        rate_out: u64,
        standing: Option<Standing>,
    },
    /// A connected peer says that it is connected with it.
    Via { name: String },
    /// So many peers are seen in its topic at signal servers.
    InTopic { peers: usize },
    /// It was heard of then.
    LastSeen { at_ms: u64, source: &'static str },
}

/// Puts everything together: everybody known, and strangers who are connected; who is connected first,
/// then by name.
pub(crate) fn merge(known: BTreeMap<Who, Known>, reports: Vec<(Who, Report)>) -> Vec<PeerInfo> {
    let mut lines: BTreeMap<Who, Line> = known
        .into_iter()
        .map(|(who, known)| (who, Line::new(known)))
        .collect();
    for (who, report) in reports {
        match (lines.get_mut(&who), &report) {
            (Some(line), _) => line.take(report),
            // Somebody who is connected is shown whoever it is; of others nobody asked.
            (None, Report::Session { certain: true, .. }) => {
                let mut line = Line::new(Known::default());
                line.take(report);
                lines.insert(who, line);
            }
            (None, _) => {}
        }
    }
    let lines = lines.into_iter();
    let mut peers: Vec<PeerInfo> = lines.map(|(who, line)| line.finish(who)).collect();
    peers.sort_by(|one, other| {
        let key = |peer: &PeerInfo| (peer.state, peer.agent.is_none() && peer.is == ["unnamed"]);
        (key(one), &one.name).cmp(&(key(other), &other.name))
    });
    peers
}

/// What is known of one of them so far.
#[derive(Debug, Default)]
struct Line {
    known: Known,
    /// The best way of its sessions.
    way: Option<WayInfo>,
    via: BTreeSet<String>,
    /// Sessions with somebody who may be another one, and their best way.
    others: usize,
    other_way: Option<WayInfo>,
    in_topic: usize,
    device: Option<DeviceKey>,
    follows_us: bool,
    round_trip_ms: Option<u64>,
    seconds: Option<u64>,
    rate_in: u64,
    rate_out: u64,
    standing: Option<Standing>,
    last_seen: Option<(u64, &'static str)>,
    met_by: BTreeSet<&'static str>,
    sources: BTreeSet<&'static str>,
}

impl Line {
    fn new(known: Known) -> Self {
        Line {
            known,
            ..Line::default()
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Session {
                certain,
                way,
                met_by,
                device,
                follows_us,
                round_trip_ms,
                seconds,
                rate_in,
                rate_out,
                standing,
            } => {
                // Active, if any of its connections is.
                self.standing = match (self.standing, standing) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                let best = match certain {
                    true => &mut self.way,
                    false => &mut self.other_way,
                };
                self.others += usize::from(!certain);
                if best.as_ref().is_none_or(|best| way.kind < best.kind) {
                    *best = Some(way);
                }
                self.device = self.device.or(device);
                self.follows_us |= follows_us;
                self.round_trip_ms = match (self.round_trip_ms, round_trip_ms) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                self.seconds = self.seconds.max(Some(seconds));
                self.rate_in += rate_in;
                self.rate_out += rate_out;
                self.met_by.insert(met_by);
                self.sources.insert("session");
            }
            Report::Via { name } => {
                self.via.insert(name);
                self.sources.insert("peer");
            }
            Report::InTopic { peers } => {
                self.in_topic = self.in_topic.max(peers);
                self.sources.insert("signal");
            }
            Report::LastSeen { at_ms, source } => {
                self.sources.insert(source);
                if self.last_seen.is_none_or(|(before, _)| before < at_ms) {
                    self.last_seen = Some((at_ms, source));
                }
            }
        }
    }

    fn finish(self, who: Who) -> PeerInfo {
        let state = match &self.way {
            Some(way) if way.is_direct() => PeerState::Direct,
            Some(_) => PeerState::Relayed,
            None if !self.via.is_empty() || self.others > 0 => PeerState::Near,
            None if self.in_topic > 0 => PeerState::Seen,
            None => PeerState::Offline,
        };
        let note = match (state, &self.other_way) {
            (PeerState::Near, Some(way)) if self.via.is_empty() => match self.others {
                1 => format!("somebody with its feeds, {}", way.short()),
                others => format!("{others} peers with its feeds, {}", way.short()),
            },
            (PeerState::Near, _) => {
                let via: Vec<String> = self.via.into_iter().collect();
                format!("online via {}", via.join(", "))
            }
            (PeerState::Seen, _) => match self.in_topic {
                1 => "1 peer in its topic, not connected".to_owned(),
                peers => format!("{peers} peers in its topic, none connected"),
            },
            _ => String::new(),
        };
        let is_unnamed = self.known.is.is_empty();
        let name = match who {
            _ if !self.known.name.is_empty() => self.known.name,
            Who::Agent(agent) => agent.to_string()[..8].to_owned(),
            _ if self.follows_us => "a reader of yours".to_owned(),
            _ => "unnamed peer".to_owned(),
        };
        let agent = match who {
            Who::Agent(agent) => Some(agent.into()),
            _ => None,
        };
        let device = match who {
            Who::Device(device) => Some(device.into()),
            Who::Agent(_) => None,
            Who::Stranger(_) => self.device.map(Into::into),
        };
        let words = |set: BTreeSet<&'static str>| set.into_iter().map(str::to_owned).collect();
        PeerInfo {
            name,
            agent,
            device,
            is: match is_unnamed {
                true => vec!["unnamed".to_owned()],
                false => words(self.known.is),
            },
            state,
            color: state.color().to_owned(),
            way: self.way.or(self.other_way),
            note,
            round_trip_ms: self.round_trip_ms,
            seconds: self.seconds,
            rate_in: self.rate_in,
            rate_out: self.rate_out,
            standing: self.standing.map(|standing| standing.name().to_owned()),
            last_seen_ms: match state {
                PeerState::Direct | PeerState::Relayed => None,
                _ => self.last_seen.map(|(at, _)| at),
            },
            rooms: self.known.rooms.into_iter().collect(),
            met_by: words(self.met_by),
            sources: words(self.sources),
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::AgentId;

    use super::*;
    use crate::api::WayKind;

    const ADA: Who = Who::Agent(AgentId([1; 32]));
    const BOB: Who = Who::Agent(AgentId([2; 32]));

    fn known(name: &str) -> Known {
        Known {
            name: name.to_owned(),
            is: ["member"].into(),
            rooms: ["family".to_owned()].into(),
        }
    }

    fn session(kind: WayKind, certain: bool) -> Report {
        Report::Session {
            certain,
            way: WayInfo {
                kind,
                server: None,
                via: None,
            },
            met_by: "room",
            device: None,
            follows_us: false,
            round_trip_ms: Some(7),
            seconds: 3,
            rate_in: 10,
            rate_out: 1,
            standing: None,
        }
    }

    /// Returns what becomes of one agent of which these reports come.
    fn one(reports: &[Report]) -> PeerInfo {
        let reports = reports.iter().map(|report| (ADA, report.clone()));
        let mut peers = merge([(ADA, known("Ada"))].into(), reports.collect());
        assert_eq!(peers.len(), 1);
        peers.remove(0)
    }

    fn last_seen(at_ms: u64, source: &'static str) -> Report {
        Report::LastSeen { at_ms, source }
    }

    #[test]
    fn a_direct_session_is_green_and_one_through_somebody_yellow() {
        for (kind, state, color) in [
            (WayKind::Machine, PeerState::Direct, "green"),
            (WayKind::Network, PeerState::Direct, "green"),
            (WayKind::Nat, PeerState::Direct, "green"),
            (WayKind::Turn, PeerState::Relayed, "yellow"),
            (WayKind::Peer, PeerState::Relayed, "yellow"),
        ] {
            let peer = one(&[session(kind, true)]);
            assert_eq!((peer.state, peer.color.as_str()), (state, color));
        }
    }

    #[test]
    fn of_several_sessions_the_best_way_counts_and_the_rates_add_up() {
        let peer = one(&[session(WayKind::Turn, true), session(WayKind::Nat, true)]);
        assert_eq!(peer.state, PeerState::Direct);
        assert_eq!(peer.way.map(|way| way.kind), Some(WayKind::Nat));
        assert_eq!((peer.rate_in, peer.rate_out), (20, 2));
    }

    #[test]
    fn who_has_not_shown_that_it_is_the_one_makes_nobody_green() {
        let peer = one(&[session(WayKind::Network, false)]);
        assert_eq!(
            (peer.state, peer.color.as_str()),
            (PeerState::Near, "yellow")
        );
        assert_eq!(peer.note, "somebody with its feeds, this network");
    }

    #[test]
    fn what_a_connected_peer_says_is_shown_with_its_name() {
        let via = |name: &str| Report::Via {
            name: name.to_owned(),
        };
        let peer = one(&[via("Bob"), via("Eve"), last_seen(5, "index")]);
        assert_eq!(peer.state, PeerState::Near);
        assert_eq!(peer.note, "online via Bob, Eve");
        assert_eq!(peer.sources, ["index", "peer"]);
        // What is seen with one's own eyes goes first.
        let peer = one(&[via("Bob"), session(WayKind::Network, true)]);
        assert_eq!((peer.state, peer.note.as_str()), (PeerState::Direct, ""));
    }

    #[test]
    fn offline_is_who_nothing_says_to_be_online_with_the_newest_time_of_all_sources() {
        let peer = one(&[]);
        assert_eq!((peer.state, peer.last_seen_ms), (PeerState::Offline, None));
        let peer = one(&[last_seen(9, "route"), last_seen(5, "index")]);
        assert_eq!(
            (peer.state, peer.last_seen_ms),
            (PeerState::Offline, Some(9))
        );
        assert_eq!(peer.color, "gray");
        let peer = one(&[Report::InTopic { peers: 2 }, last_seen(5, "index")]);
        assert_eq!(
            (peer.state, peer.color.as_str()),
            (PeerState::Seen, "yellow")
        );
        assert_eq!(peer.sources, ["index", "signal"]);
    }

    #[test]
    fn strangers_are_shown_while_connected_and_others_only_when_known() {
        let stranger = Who::Stranger(4);
        let reports = vec![
            (stranger, session(WayKind::Nat, true)),
            (BOB, last_seen(5, "index")),
            (BOB, Report::InTopic { peers: 1 }),
            (ADA, session(WayKind::Nat, true)),
        ];
        let peers = merge([(ADA, known("Ada"))].into(), reports);
        let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["Ada", "unnamed peer"]);
        assert_eq!(peers[1].is, ["unnamed"]);
    }

    #[test]
    fn who_is_connected_stands_first_then_it_goes_by_name() {
        let known = [(ADA, known("Ada")), (BOB, known("Bob"))].into();
        let peers = merge(known, vec![(BOB, session(WayKind::Turn, true))]);
        let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["Bob", "Ada"]);
    }
}
