//! Whom this home knows and may meet, and what is said of them right now.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_swarm::{Label, NodeStatus, SessionStatus};

use crate::api::{Error, WayInfo};
use crate::core::Core;
use crate::knowledge::Knowledge;
use crate::peers::{Report, way};
use crate::rooms::has_expired;
use crate::state::PinTarget;

/// Who somebody is, as far as one can tell.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Who {
    /// Another device of this agent.
    Device(DeviceKey),
    /// Another agent, whichever of its devices.
    Agent(AgentId),
    /// The other side of this session: it has not said who it is.
    Stranger(u64),
}

/// Somebody this home may meet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// `member`, `contact`, `followed`, `device`, `seeder`.
    pub(crate) is: BTreeSet<&'static str>,
    /// Rooms that both are in.
    pub(crate) rooms: BTreeSet<String>,
}

/// Returns the agent that a device belongs to, as far as that is known.
pub(crate) fn owner(core: &Core, device: &DeviceKey) -> Option<AgentId> {
    core.knowledge(|knowledge| {
        let known = knowledge
            .agents
            .values()
            .find(|known| known.identity.device(device).is_some());
        known.map(|known| known.identity.agent).or_else(|| {
            let feeds = knowledge
                .rooms
                .values()
                .flat_map(|room| room.feeds.values());
            feeds
                .into_iter()
                .find(|feed| feed.device == *device)
                .map(|feed| feed.agent)
                .or_else(|| knowledge.pairs.owner(device))
        })
    })
}

/// Returns everybody who may be met: fellow members, contacts, agents that are followed, own devices,
/// seeders.
pub(crate) fn known(core: &Core) -> BTreeMap<Who, Known> {
    let mut known = core.knowledge(|knowledge| listed(knowledge, core.keys.device()));
    for (who, one) in &mut known {
        if let (Who::Agent(agent), true) = (who, one.name.is_empty()) {
            one.name = core.agent_label(agent);
        }
    }
    known
}

fn listed(knowledge: &Knowledge, this: DeviceKey) -> BTreeMap<Who, Known> {
    let mut all: BTreeMap<Who, Known> = BTreeMap::new();
    let mut add = |who: Who, is: &'static str, room: Option<String>| {
        let one = all.entry(who).or_default();
        one.is.insert(is);
        one.rooms.extend(room);
    };
    let agents = |agent: &AgentId| (*agent != knowledge.agent).then_some(Who::Agent(*agent));
    for room in knowledge.rooms.values() {
        for agent in room.standing.members.keys().filter_map(agents) {
            add(agent, "member", Some(room.label()));
        }
        for granted in room.standing.grants.values() {
            if let Some(agent) = agents(&granted.grant.seeder)
                && !has_expired(Some(granted.grant.expires_at_ms))
            {
                add(agent, "seeder", Some(room.label()));
            }
        }
    }
    for agent in knowledge.petnames.keys().filter_map(agents) {
        add(agent, "contact", None);
    }
    for pin in &knowledge.pins {
        if let PinTarget::Path(agent, _) = &pin.target
            && let Some(agent) = agents(agent)
        {
            add(agent, "followed", None);
        }
    }
    for device in knowledge.own_devices().into_keys() {
        if device != this {
            add(Who::Device(device), "device", None);
        }
    }
    for (who, one) in &mut all {
        if let Who::Device(device) = who {
            one.name = knowledge.device_name(device);
        }
    }
    all
}

/// Returns what open sessions, topics and the index say of everybody, and of those nobody knows.
pub(crate) fn reports(core: &Core, node: &NodeStatus) -> Result<Vec<(Who, Report)>, Error> {
    let mut reports = Vec::new();
    for session in &node.sessions {
        if session.state != "open" {
            continue;
        }
        let device = session.device.as_ref();
        let device = device.and_then(|device| device.parse::<DeviceKey>().ok());
        let about = (session.label == Label::Agent)
            .then(|| session.key.parse::<AgentId>().ok())
            .flatten();
        let (who, certain) = match (device, device.and_then(|device| owner(core, &device))) {
            (Some(device), Some(agent)) if agent == core.agent => (Who::Device(device), true),
            (_, Some(agent)) => (Who::Agent(agent), true),
            // Whoever is in the topic of an agent holds its feeds, or wants them.
            (None, None) if about.is_some_and(|about| about != core.agent) => {
                let about = about.unwrap_or(core.agent);
                (Who::Agent(about), false)
            }
            _ => (Who::Stranger(session.id), true),
        };
        let report = Report::Session {
            certain,
            way: way_named(core, node, session),
            met_by: session.label.name(),
            device,
            follows_us: about == Some(core.agent),
            round_trip_ms: session.round_trip_ms,
            seconds: session.since_s,
            rate_in: session.rate_in,
            rate_out: session.rate_out,
            standing: session.standing,
        };
        reports.push((who, report));
    }
    for topic in &node.topics {
        if topic.label == Label::Agent
            && topic.peers_seen > 0
            && let Ok(agent) = topic.key.parse::<AgentId>()
            && agent != core.agent
        {
            let peers = topic.peers_seen;
            reports.push((Who::Agent(agent), Report::InTopic { peers }));
        }
    }
    for peer in node.peers.iter().filter(|peer| peer.session.is_none()) {
        let device = peer.device.as_ref().and_then(|key| key.parse().ok());
        let Some(who) = device.and_then(|device| of_device(core, &device)) else {
            continue;
        };
        // `peer N`: the other side of session N shows it.
        let shown = peer.introduced_by.iter();
        let sessions = shown.filter_map(|by| by.strip_prefix("peer ")?.parse::<u64>().ok());
        let names = sessions.filter_map(|id| name_of(core, node, id));
        reports.extend(names.map(|name| (who, Report::Via { name })));
    }
    for route in core.state.routes()? {
        if let Some(who) = of_device(core, &route.device) {
            let (at_ms, source) = (route.seen_s.saturating_mul(1000), "route");
            reports.push((who, Report::LastSeen { at_ms, source }));
        }
    }
    let rooms = core.knowledge(|knowledge| knowledge.rooms.keys().copied().collect::<Vec<_>>());
    for room in rooms {
        for member in core.look(|index| index.room_members(&room))? {
            if let Some(at_ms) = member.last_seen_at
                && member.agent != core.agent
            {
                let source = "index";
                reports.push((Who::Agent(member.agent), Report::LastSeen { at_ms, source }));
            }
        }
    }
    if let Some(network) = core.network() {
        let met = network.last_met().into_iter();
        reports.extend(met.filter_map(|(device, at_ms)| {
            let source = "session";
            Some((
                of_device(core, &device)?,
                Report::LastSeen { at_ms, source },
            ))
        }));
    }
    Ok(reports)
}

/// Returns who a device belongs to.
fn of_device(core: &Core, device: &DeviceKey) -> Option<Who> {
    Some(match owner(core, device)? {
        agent if agent == core.agent => Who::Device(*device),
        agent => Who::Agent(agent),
    })
}

/// Returns the way of a session, with the name of who relays it.
pub(crate) fn way_named(core: &Core, node: &NodeStatus, session: &SessionStatus) -> WayInfo {
    let via = session.via.as_ref();
    WayInfo {
        via: via.and_then(|via| name_of(core, node, via.session)),
        ..way(session)
    }
}

/// Returns what the other side of a session is called.
fn name_of(core: &Core, node: &NodeStatus, session: u64) -> Option<String> {
    let mut sessions = node.sessions.iter();
    let session = sessions.find(|one| one.id == session)?;
    let device = session.device.as_ref().and_then(|key| key.parse().ok());
    Some(match device.and_then(|device| of_device(core, &device)) {
        Some(Who::Agent(agent)) => core.agent_label(&agent),
        Some(Who::Device(device)) => core.knowledge(|knowledge| knowledge.device_name(&device)),
        _ => "an unnamed peer".to_owned(),
    })
}
