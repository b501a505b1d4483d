//! Who this agent is, and everything it holds and does, with the reason.

use std::sync::Arc;

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_swarm::link::{CandidateKind, IceCandidate, IcePath};
use kinlog_swarm::{Label, PoolStatus, SessionStatus as NodeSession, TopicStatus};

use crate::api::{
    Error, FeedInfo, FeedStatus, IceInfo, IdInfo, LadderInfo, LanStatus, PoolInfo, Reply,
    RouteStatus, SearchInfo, SearchStep, Selection, SessionStatus, SignalStatus, Status,
    StoreStatus,
};
use crate::block_ranges::minus;
use crate::core::Core;
use crate::links::Link;
use crate::peers::owner;
use crate::pins::{Asked, Plan, blocks};
use crate::requests::feeds::feed_info;
use crate::requests::follow::Look;
use crate::requests::{blocking, rooms};
use crate::tasks::Running;

pub(super) fn id(core: &Core) -> Reply {
    Reply::Id(IdInfo {
        agent: core.agent.into(),
        device: core.keys.device().into(),
        name: core.name.clone(),
        link: Link::Agent {
            agent: core.agent,
            path: None,
            signal_urls: Vec::new(),
        }
        .to_string(),
        home: core.layout.home().to_owned(),
    })
}

pub(super) async fn status(running: &Arc<Running>) -> Result<Reply, Error> {
    let network = running.core.network();
    let look = Look::take(network.as_ref()).await;
    let is_on = network.is_some();
    drop(network);
    blocking(&running.core, move |core| build(core, &look, is_on)).await
}

fn build(core: &Core, look: &Look, is_on: bool) -> Result<Reply, Error> {
    let plan = core.plan();
    let mut feeds = Vec::new();
    for feed in core.store.feeds() {
        feeds.push(feed_status(
            core,
            look,
            &plan,
            is_on,
            feed_info(core, &feed)?,
        ));
    }
    feeds.sort_by(|one, other| {
        (&one.feed.path, &one.feed.key).cmp(&(&other.feed.path, &other.feed.key))
    });
    let stat = core.store.stat()?;
    let joins = core.knowledge(|knowledge| knowledge.joins.clone());
    let sessions = look.node.sessions.iter();
    Ok(Reply::Status(Box::new(Status {
        agent: core.agent.into(),
        device: core.keys.device().into(),
        name: core.name.clone(),
        home: core.layout.home().to_owned(),
        pid: std::process::id(),
        network: is_on,
        signals: signals(look),
        found: look
            .node
            .found
            .iter()
            .map(|(by, count)| (by.name().to_owned(), *count))
            .collect(),
        ladder: look.node.ladder.iter().map(ladder).collect(),
        pool: pool(&look.node.pool),
        searches: look
            .node
            .topics
            .iter()
            .map(|one| search(core, one))
            .collect(),
        lan: look.node.lan.as_ref().map(lan),
        routes: routes(core)?,
        in_sync: feeds.iter().all(|feed| feed.in_sync),
        bytes_received: sessions.clone().map(|one| one.bytes_in).sum(),
        bytes_sent: sessions.clone().map(|one| one.bytes_out).sum(),
        sessions: sessions.map(|one| session(core, one)).collect(),
        feeds,
        rooms: rooms::rooms(core)?,
        store: StoreStatus {
            bytes: stat.log_bytes + stat.index_bytes,
            segments: u64::from(stat.segments),
            feeds: stat.feeds as u64,
            blocks: stat.blocks,
        },
        open_joins: joins
            .iter()
            .map(|join| {
                format!(
                    "asked to join room {}, waiting for a member",
                    join.invite.room.code()
                )
            })
            .collect(),
        must_renew: core.guard.doubt().map(|doubt| doubt.to_string()),
    })))
}

fn feed_status(core: &Core, look: &Look, plan: &Plan, is_on: bool, feed: FeedInfo) -> FeedStatus {
    let key = *feed.key;
    let why = plan.why.get(&key).cloned();
    let why = why.unwrap_or_else(|| {
        vec!["stored from an earlier pin or pull; nothing asks for it now".into()]
    });
    let asked = plan.asked.get(&key).map(Vec::as_slice).unwrap_or_default();
    let (have, want) = asked_counts(core, &key, asked, feed.length);
    let is_own = core.knowledge(|knowledge| knowledge.own.contains_key(&key));
    let (in_sync, sync) = sync(look, &key, &feed, is_own, is_on, asked, have, want);
    FeedStatus {
        feed,
        have,
        want,
        pushed: look.feed(&key).map_or(0, |node| node.blocks_pushed),
        in_sync,
        sync,
        why,
    }
}

/// Counts the blocks that any of several asks names.
fn asked_counts(core: &Core, key: &FeedKey, asked: &[Asked], length: u64) -> (u64, u64) {
    let Some(feed) = core.store.feed(key) else {
        return (0, 0);
    };
    let have = feed.have();
    let mut wanted = kinlog_feeds::bitfield::Bitfield::new();
    let end = length.max(
        asked
            .iter()
            .map(|one| blocks(&one.selection, length).end)
            .max()
            .unwrap_or(0),
    );
    let (mut held, mut count) = (0, 0);
    for one in asked {
        // Ranges beyond what a feed may ever have are cut, so that a pin cannot fill the memory.
        let range = blocks(&one.selection, length);
        let range =
            range.start.min(end)..range.end.min(length.saturating_add(PIN_AHEAD_COUNTED_MAX));
        wanted.set_range(range);
    }
    let plan = core.plan();
    let emptied = plan.emptied.get(key).map_or(&[][..], Vec::as_slice);
    let wanted: Vec<_> = wanted.runs(0..end).collect();
    for run in minus(&wanted, emptied) {
        count += run.end - run.start;
        held += have.count_range(run);
    }
    (held, count)
}

/// Blocks beyond a feed's head that a pin's count looks at.
const PIN_AHEAD_COUNTED_MAX: u64 = 1 << 20;

#[expect(
    clippy::too_many_arguments,
    reason = "each is one thing the answer depends on"
)]
fn sync(
    look: &Look,
    key: &FeedKey,
    feed: &FeedInfo,
    is_own: bool,
    is_on: bool,
    asked: &[Asked],
    have: u64,
    want: u64,
) -> (bool, String) {
    if let Some(conflict) = &feed.conflict {
        return (
            false,
            format!("two histories of this feed exist, it stays as it was: {conflict}"),
        );
    }
    if is_own {
        return (true, "own: this device writes it".into());
    }
    if asked.is_empty() {
        return (true, "nothing of it is asked for".into());
    }
    if have < want {
        let missing = want - have;
        return (
            false,
            match look.feed(key) {
                None if !is_on => format!("{missing} blocks missing; the network is off"),
                Some(node) if node.peers > 0 => {
                    format!(
                        "{missing} blocks missing, {} asked for at {} peers",
                        node.blocks_in_flight, node.peers
                    )
                }
                _ => format!("{missing} blocks missing; no peer with this feed is connected"),
            },
        );
    }
    let only_ranges = asked
        .iter()
        .all(|one| matches!(one.selection, Selection::Range(_)));
    if feed.length > 0 && only_ranges {
        return (true, "all blocks asked for are stored".into());
    }
    match look.feed(key) {
        _ if look.is_confirmed(key, feed.length) => (
            true,
            "all blocks asked for are stored, as of the newest head that peers have".into(),
        ),
        Some(node) if node.remote_length > feed.length => (
            false,
            format!(
                "a peer has {} blocks, {} are known here",
                node.remote_length, feed.length
            ),
        ),
        Some(node) if node.peers > 0 => (
            false,
            "connected peers have not shown their head yet".into(),
        ),
        _ if feed.length == 0 => (
            false,
            "nothing known yet: no peer with this feed is connected".into(),
        ),
        _ => (
            true,
            format!("all {have} blocks known are stored; no peer is connected to ask for more"),
        ),
    }
}

fn signals(look: &Look) -> Vec<SignalStatus> {
    let signals = look.node.signal.iter();
    signals
        .map(|one| SignalStatus {
            url: one.url.clone(),
            found_by: one.found_by.name().to_owned(),
            connected: one.connected,
            problem: one.reason.clone(),
        })
        .collect()
}

fn lan(lan: &kinlog_swarm::LanStatus) -> LanStatus {
    LanStatus {
        port: lan.port,
        urls: lan.urls.clone(),
        neighbours: lan.neighbours,
        trouble: lan.trouble.clone(),
    }
}

fn pool(pool: &PoolStatus) -> PoolInfo {
    PoolInfo {
        active: pool.active,
        standby: pool.standby,
        remembered: pool.remembered,
        closed: pool.closed,
        active_max: pool.active_max,
        standby_max: pool.standby_max,
        remembered_max: pool.remembered_max,
    }
}

fn ladder(one: &kinlog_swarm::LadderStatus) -> LadderInfo {
    LadderInfo {
        step: one.step.name().to_owned(),
        tries: one.tries,
        successes: one.successes,
        mean_ms: one.mean_ms,
        last_ms: one.last_ms,
    }
}

fn search(core: &Core, one: &TopicStatus) -> SearchInfo {
    let steps = one.steps.iter().map(|step| SearchStep {
        step: step.step.name().to_owned(),
        state: step.state.name().to_owned(),
        shown: step.shown,
        asked_ms: step.asked_ms,
        took_ms: step.took_ms,
        connected_ms: step.connected_ms,
        tries: step.tries,
        successes: step.successes,
    });
    SearchInfo {
        met_by: one.label.name().to_owned(),
        topic: topic(core, one.label, &one.key),
        state: one.state.name().to_owned(),
        why: one.why.clone(),
        steps: steps.collect(),
    }
}

fn routes(core: &Core) -> Result<Vec<RouteStatus>, Error> {
    let routes = core.state.routes()?.into_iter();
    Ok(routes
        .map(|route| RouteStatus {
            agent: route.agent.into(),
            device: route.device.into(),
            url: route.url,
            seen_s: route.seen_s,
            success_rate: route.success_rate,
            path: route.path,
        })
        .collect())
}

fn session(core: &Core, one: &NodeSession) -> SessionStatus {
    let device = one
        .device
        .as_ref()
        .and_then(|text| text.parse::<DeviceKey>().ok());
    SessionStatus {
        id: one.id,
        met_by: one.label.name().to_owned(),
        topic: topic(core, one.label, &one.key),
        found_by: one.found_by.map(|by| by.name().to_owned()),
        met_at: one.met_at.clone(),
        transport: format!("{:?}", one.transport).to_lowercase(),
        ice: one.path.as_ref().map(ice),
        device: device.map(Into::into),
        agent: device
            .and_then(|device| owner(core, &device))
            .map(Into::into),
        bytes_received: one.bytes_in,
        bytes_sent: one.bytes_out,
        associations: one.associations,
        round_trip_ms: one.round_trip_ms,
        state: one.state.clone(),
        standing: one.standing.map(|standing| standing.name().to_owned()),
        seconds: one.since_s,
        feeds: one.feeds.clone(),
    }
}

/// Returns what the two met by, in words: no key of a room or invite is shown.
fn topic(core: &Core, label: Label, key: &str) -> String {
    match label {
        Label::Agent => {
            let agent = key.parse::<AgentId>().ok();
            let name = core.knowledge(|knowledge| {
                agent
                    .and_then(|agent| knowledge.agents.get(&agent))
                    .map(|known| known.label())
            });
            name.unwrap_or_else(|| key.to_owned())
        }
        Label::Room => core.knowledge(|knowledge| {
            let key = key.parse::<kinlog_feeds::PublicKey>().ok();
            let meant = knowledge
                .rooms
                .values()
                .find(|room| key.is_some_and(|key| room.meet_keys().contains(&key.0)));
            let is_seeded = || {
                let mut held = knowledge.held_grants.iter();
                held.any(|held| {
                    key.is_some_and(|key| *held.grant.terms().meet_key.expose() == key.0)
                })
            };
            match meant {
                Some(room) => room.label(),
                None if is_seeded() => "a room kept for its members".to_owned(),
                None => "a room left".to_owned(),
            }
        }),
        Label::Invite | Label::Code => "to a room".to_owned(),
        Label::Feed | Label::Net => key.to_owned(),
    }
}

fn ice(path: &IcePath) -> IceInfo {
    let address = |one: &IceCandidate| one.address.map(|at| at.to_string()).unwrap_or_default();
    IceInfo {
        local: address(&path.local),
        remote: address(&path.remote),
        local_kind: kind(path.local.kind).to_owned(),
        remote_kind: kind(path.remote.kind).to_owned(),
    }
}

fn kind(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "host",
        CandidateKind::Srflx => "srflx",
        CandidateKind::Prflx => "prflx",
        CandidateKind::Relay => "relay",
    }
}
