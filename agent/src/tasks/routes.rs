//! Where peers were met is remembered, and who is missing is looked for there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_signal::SignalUrl;
use kinlog_swarm::{FoundBy, Label, NodeStatus, PeerMessage, PoolConfig, SessionId};
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Error;
use crate::core::Core;
use crate::limits::{ROUTE_EXPIRES_AFTER, ROUTE_NOTED_EVERY, ROUTES_EVERY};
use crate::listed;
use crate::network::Network;
use crate::peers::owner;
use crate::requests::blocking;
use crate::rooms::has_expired;
use crate::routes::{Looked, Routes, TOLD, route_url};
use crate::wall_ms;

/// What is joined beside signal servers of the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    /// Nothing outside of the local network.
    pub(super) local_only: bool,
    /// Signal servers too that people who are followed list.
    pub(super) listed: bool,
}

/// Notes where peers are met and joins the meeting points of those who are missing, until the network is
/// gone.
pub(super) async fn keep(core: Arc<Core>, network: Weak<Network>, keeping: Keeping) {
    let told: BTreeSet<SessionId> = BTreeSet::new();
    let kept = Arc::new(Mutex::new((Routes::new(keeping.local_only), told)));
    let mut is_seeder = false;
    let mut ticks = interval(ROUTES_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(network) = network.upgrade() else {
            return;
        };
        let status = network.node.status().await;
        let (kept, there) = (Arc::clone(&kept), Arc::clone(&network));
        let looked = blocking(&core, move |core| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let (routes, told) = &mut *kept;
            core.tell_and_hear(&there, told)?;
            let mut join = if keeping.listed {
                core.listed_servers(&there)?
            } else {
                Vec::new()
            };
            let looked = core.look_at_routes(routes, &there.node.meeting_urls(), &status)?;
            let routes = looked.join.into_iter();
            join.extend(routes.filter(|url| !join.contains(url)).collect::<Vec<_>>());
            Ok((join, looked.coordinators))
        });
        match looked.await {
            Ok((join, coordinators)) => {
                network.node.set_routes(join);
                network.node.set_coordinators(coordinators);
                let seeds = core.knowledge(|knowledge| !knowledge.held_grants.is_empty());
                if std::mem::replace(&mut is_seeder, seeds) != seeds {
                    network.node.set_pool(match seeds {
                        true => PoolConfig::seeder(),
                        false => PoolConfig::default(),
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "remembered meeting points are not looked at"),
        }
    }
}

impl Core {
    /// Returns the signal servers to join because people who are followed list them, and notes who does.
    fn listed_servers(&self, network: &Network) -> Result<Vec<SignalUrl>, Error> {
        let own = self.state.signals()?;
        let plan = self.plan();
        let listed: Vec<(AgentId, Vec<String>)> = self.knowledge(|knowledge| {
            let agents = knowledge.agents.iter();
            let follows = |agent: &AgentId| {
                let known = plan.view.agents.get(&agent.0);
                *agent != self.agent && known.is_some_and(|known| known.is_followed)
            };
            let listing =
                agents.filter(|(agent, known)| !known.signal_urls.is_empty() && follows(agent));
            let listing = listing.map(|(agent, known)| (*agent, known.signal_urls.clone()));
            listing.collect()
        });
        let named = listed
            .into_iter()
            .map(|(agent, urls)| (self.agent_label(&agent), urls));
        let servers = listed::to_join(&own, named);
        network.note_listed(&servers);
        Ok(servers.into_iter().map(|(url, _)| url).collect())
    }

    fn look_at_routes(
        &self,
        routes: &mut Routes,
        own: &[String],
        status: &NodeStatus,
    ) -> Result<Looked, Error> {
        let now_s = wall_ms() / 1000;
        let expired = now_s.saturating_sub(ROUTE_EXPIRES_AFTER.as_secs());
        let mut known = self.state.routes()?;
        if known.iter().any(|route| route.seen_s < expired) {
            self.state.expire_routes(expired)?;
            known.retain(|route| route.seen_s >= expired);
        }
        let mut connected: BTreeMap<DeviceKey, BTreeSet<String>> = BTreeMap::new();
        for session in status.sessions.iter().filter(|one| one.state == "open") {
            let device = session.device.as_deref().and_then(|text| text.parse().ok());
            let Some(device) = device else { continue };
            let met_at = connected.entry(device).or_default();
            let Some(url) = &session.met_at else { continue };
            met_at.insert(url.clone());
            // Those of the local network are found again by mDNS, and are others' on another day.
            let places = [FoundBy::Signal, FoundBy::Route, FoundBy::Coordinator];
            if session.found_by.is_some_and(|by| places.contains(&by))
                && let Some(agent) = owner(self, &device)
            {
                let noted = known
                    .iter()
                    .find(|one| one.device == device && one.url == *url);
                let noted_s = noted.map_or(0, |one| one.seen_s);
                if now_s.saturating_sub(noted_s) >= ROUTE_NOTED_EVERY.as_secs() {
                    let how = session.found_by.map_or("", FoundBy::name);
                    self.state.put_route(&agent, &device, url, how, now_s)?;
                }
            }
        }
        let coordinators = self.note_coordinators(now_s, status)?;
        let looked = routes.look(now_s, own, &known, &connected, &coordinators);
        for (device, url, met) in &looked.rated {
            self.state.rate_route(device, url, *met)?;
        }
        Ok(looked)
    }

    /// Remembers devices that introduce or relay now, or belong to seeders of rooms of ours; returns those that are
    /// remembered, the last one first.
    fn note_coordinators(&self, now_s: u64, status: &NodeStatus) -> Result<Vec<DeviceKey>, Error> {
        let of = |session: u64| {
            let mut sessions = status.sessions.iter();
            let found = sessions.find(|one| one.id == session)?;
            found.device.as_deref()?.parse::<DeviceKey>().ok()
        };
        let seeders: BTreeSet<AgentId> = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values();
            let grants = rooms.flat_map(|room| room.standing.grants.values());
            let live = grants.filter(|it| !has_expired(Some(it.grant.expires_at_ms)));
            live.map(|granted| granted.grant.seeder).collect()
        });
        let mut now: BTreeSet<DeviceKey> = BTreeSet::new();
        for session in status.sessions.iter().filter(|one| one.state == "open") {
            now.extend(session.via.as_ref().and_then(|via| of(via.session)));
            // `peer N`: the other side of session N introduced it.
            let met_at = session.met_at.as_deref();
            let by = met_at.and_then(|at| at.strip_prefix("peer ")?.parse().ok());
            now.extend(by.and_then(of));
            let device = of(session.id);
            let is_seeder = |device: &DeviceKey| {
                owner(self, device).is_some_and(|agent| seeders.contains(&agent))
            };
            now.extend(device.filter(is_seeder));
        }
        let since_s = now_s.saturating_sub(ROUTE_EXPIRES_AFTER.as_secs());
        let known = self.state.coordinators(since_s)?;
        let noted: BTreeMap<DeviceKey, u64> = known.iter().copied().collect();
        let mut changed = false;
        for device in now {
            let noted_s = noted.get(&device).copied().unwrap_or(0);
            if now_s.saturating_sub(noted_s) >= ROUTE_NOTED_EVERY.as_secs() {
                self.state.put_coordinator(&device, now_s)?;
                changed = true;
            }
        }
        let known = match changed {
            true => self.state.coordinators(since_s)?,
            false => known,
        };
        Ok(known.into_iter().map(|(device, _)| device).collect())
    }

    /// Tells devices that have shown who they are, and belong to somebody known, where this node is met
    /// without a server, each session once; and remembers what such devices said of themselves. Whose a
    /// device is may show only after its session opened.
    fn tell_and_hear(
        &self,
        network: &Network,
        told: &mut BTreeSet<SessionId>,
    ) -> Result<(), Error> {
        let certified = network.sessions_where(|one| one.label == Label::Room);
        let known: BTreeMap<SessionId, (AgentId, DeviceKey)> = certified
            .iter()
            .filter_map(|session| {
                let device = session.remote_certificate?.device;
                Some((session.id, (owner(self, &device)?, device)))
            })
            .collect();
        told.retain(|session| known.contains_key(session));
        let urls = network.node.meeting_urls();
        for session in known.keys().filter(|_| !urls.is_empty()) {
            if told.insert(*session) {
                let urls = urls.clone();
                network.send(*session, PeerMessage::MeetingPoints { urls });
            }
        }
        let heard = network.take_meeting_points(|session| known.contains_key(&session));
        for (session, urls) in heard {
            if let Some((agent, device)) = known.get(&session) {
                self.remember_meeting_points(agent, device, &urls)?;
            }
        }
        Ok(())
    }

    /// Remembers where a device says that it is met, in the place of what it said before.
    fn remember_meeting_points(
        &self,
        agent: &AgentId,
        device: &DeviceKey,
        urls: &[String],
    ) -> Result<(), Error> {
        let now_s = wall_ms() / 1000;
        let urls = urls.iter().filter_map(|url| route_url(url, false));
        let urls: BTreeSet<String> = urls.map(|url| url.to_string()).collect();
        let known = self.state.routes()?;
        let of_it = known.iter().filter(|one| one.device == *device);
        let of_it: BTreeMap<&String, _> = of_it.map(|one| (&one.url, one)).collect();
        for (url, route) in &of_it {
            if route.path == TOLD && !urls.contains(*url) {
                self.state.forget_route(device, url)?;
            }
        }
        for url in urls {
            let noted_s = of_it.get(&url).map_or(0, |route| route.seen_s);
            if now_s.saturating_sub(noted_s) >= ROUTE_NOTED_EVERY.as_secs() {
                self.state.put_route(agent, device, &url, TOLD, now_s)?;
            }
        }
        Ok(())
    }
}
