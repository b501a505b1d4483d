//! Whether somebody is reached, how, and how far away it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_swarm::{Label, NodeStatus, SessionId, SessionStatus};
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent::NetworkConfig;
use crate::api::{AnswerSender, Error, PongInfo, Reply, StepInfo, WayInfo};
use crate::core::Core;
use crate::limits::{PING_CONNECT_WAIT, PING_EVERY, PROGRESS_EVERY};
use crate::links::Link;
use crate::network::Network;
use crate::peers::{Sought, Who, climb, owner, way_named};
use crate::requests::rooms::agent_called;
use crate::requests::{Ended, blocking};
use crate::tasks::Running;

/// Who is pinged.
#[derive(Clone, Debug)]
struct Pinged {
    who: Who,
    name: String,
    sought: Sought,
}

/// A session with it.
#[derive(Clone, Debug)]
struct Reached {
    session: SessionId,
    way: WayInfo,
    /// The other side has shown that it is the one.
    certain: bool,
}

/// Pings somebody, after connecting if need be.
pub(super) async fn ping(
    running: &Arc<Running>,
    peer: &str,
    count: u32,
    wait_ms: Option<u64>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    if let Ok(Link::Agent { signal_urls, .. }) = peer.parse() {
        let network = NetworkConfig {
            signal_urls,
            ..NetworkConfig::default()
        };
        running.start_network(network).await?;
    }
    let core = &running.core;
    let name = peer.to_owned();
    let pinged = blocking(core, move |core| meant(core, &name)).await?;
    let network = running.ensure_network().await?;
    let _met = Meeting::begin(core, &network, &pinged.sought);
    let wait = wait_ms.map_or(PING_CONNECT_WAIT, Duration::from_millis);
    let mut trail = Trail::begin();
    for number in 1..=count {
        if number > 1 {
            sleep(PING_EVERY).await;
        }
        let (reached, taken) = loop {
            let Some(reached) = connect(core, &network, &pinged, wait, &mut trail).await else {
                let steps = trail.end(climb(Some(&network), &pinged.sought).await);
                return not_reached(&pinged.name, wait, steps, to).await;
            };
            match network.node.ping(reached.session).await {
                Ok(taken) => break (reached, taken),
                // It ended just now: another one is looked for, for as long as that may take.
                Err(_) if !is_open(&network.node.status().await, reached.session) => {}
                Err(error) => {
                    let name = &pinged.name;
                    return Err(Error::no_peers(format!(
                        "{name} is connected, {}, and says nothing back: {error}",
                        reached.way.sentence()
                    ))
                    .hint("it may run a build that does not answer pings")
                    .into());
                }
            }
        };
        to.reply(Reply::Pong(PongInfo {
            name: pinged.name.clone(),
            number,
            round_trip_us: u64::try_from(taken.as_micros()).unwrap_or(u64::MAX),
            sentence: reached.way.sentence(),
            way: reached.way,
            certain: reached.certain,
        }))
        .await?;
    }
    Ok(())
}

/// Returns whom a name means: a device of this agent, or another agent.
fn meant(core: &Core, name: &str) -> Result<Pinged, Error> {
    let own = core.knowledge(|knowledge| {
        let devices = knowledge.own_devices().into_keys();
        let mut named = devices
            .filter(|device| device.to_string() == name || knowledge.device_name(device) == name);
        let device = named.next()?;
        Some((
            device,
            knowledge.device_name(&device),
            knowledge.pair_keys.get(&device).copied(),
        ))
    });
    let agent = match (agent_called(core, name), own) {
        (_, Some((device, _, _))) if device == core.keys.device() => return Err(itself()),
        (_, Some((device, called, pair_key))) => {
            let agent = (Label::Agent, core.agent.0);
            let pair = pair_key.map(|key| (Label::Room, key));
            return Ok(Pinged {
                who: Who::Device(device),
                sought: Sought {
                    topics: pair.into_iter().chain([agent]).collect(),
                    whom: called.clone(),
                },
                name: called,
            });
        }
        (Ok(agent), None) if agent == core.agent => return Err(itself()),
        (agent, None) => agent?,
    };
    let name = core.agent_label(&agent);
    let mut topics = vec![(Label::Agent, agent.0)];
    core.knowledge(|knowledge| {
        let rooms = knowledge.rooms.values();
        for room in rooms.filter(|room| room.standing.members.contains_key(&agent)) {
            topics.extend(room.meet_keys().into_iter().map(|key| (Label::Room, key)));
        }
    });
    Ok(Pinged {
        who: Who::Agent(agent),
        sought: Sought {
            topics,
            whom: name.clone(),
        },
        name,
    })
}

fn itself() -> Error {
    Error::usage("that is this device itself").hint("`kinlog peers` lists whom it may meet")
}

/// Returns a session with whom is meant, once there is one; `None` when the time is over.
async fn connect(
    core: &Arc<Core>,
    network: &Arc<Network>,
    pinged: &Pinged,
    wait: Duration,
    trail: &mut Trail,
) -> Option<Reached> {
    let until = Instant::now() + wait;
    let mut changes = core.changes();
    loop {
        changes.borrow_and_update();
        let node = network.node.status().await;
        if let Some(reached) = reached(core, &node, &pinged.who) {
            return Some(reached);
        }
        trail.note(&climb(Some(network), &pinged.sought).await);
        if Instant::now() >= until {
            return None;
        }
        let again = (Instant::now() + 2 * PROGRESS_EVERY).min(until);
        tokio::select! {
            // The agent is closed.
            changed = changes.changed() => if changed.is_err() { return None },
            () = sleep_until(again) => {}
        }
    }
}

/// Returns the best of the open sessions with somebody: who has shown that it is the one goes first.
fn reached(core: &Core, node: &NodeStatus, who: &Who) -> Option<Reached> {
    let sessions = node.sessions.iter();
    let open = sessions.filter(|session| session.state == "open");
    let of = open.filter_map(|session| {
        let certain = is_with(core, session, who)?;
        Some(Reached {
            session: SessionId(session.id),
            way: way_named(core, node, session),
            certain,
        })
    });
    of.min_by_key(|one| (!one.certain, one.way.kind))
}

/// Returns whether a session is with somebody, certainly or perhaps; `None` if it is not.
fn is_with(core: &Core, session: &SessionStatus, who: &Who) -> Option<bool> {
    let device: Option<DeviceKey> = session.device.as_ref().and_then(|key| key.parse().ok());
    match (device, who) {
        (Some(device), Who::Device(meant)) => (device == *meant).then_some(true),
        (Some(device), Who::Agent(agent)) => (owner(core, &device) == Some(*agent)).then_some(true),
        (None, Who::Agent(agent)) => {
            let about = (session.label == Label::Agent).then(|| session.key.parse::<AgentId>());
            (about == Some(Ok(*agent))).then_some(false)
        }
        _ => None,
    }
}

fn is_open(node: &NodeStatus, session: SessionId) -> bool {
    let mut sessions = node.sessions.iter();
    sessions.any(|one| one.id == session.0 && one.state == "open")
}

async fn not_reached(
    name: &str,
    wait: Duration,
    steps: Vec<StepInfo>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let hint = steps.iter().find_map(|step| step.hint.clone());
    let peer = name.to_owned();
    to.reply(Reply::NotReached { peer, steps }).await?;
    let error = Error::no_peers(format!(
        "{name} is not reached within {} s",
        wait.as_secs_f64()
    ));
    let hint = hint.unwrap_or_else(|| "kinlog doctor looks at this machine's network".to_owned());
    Err(error.hint(hint).into())
}

/// When each thing was found out first.
#[derive(Debug)]
struct Trail {
    since: Instant,
    found: BTreeMap<String, Duration>,
}

impl Trail {
    fn begin() -> Self {
        Trail {
            since: Instant::now(),
            found: BTreeMap::new(),
        }
    }

    fn note(&mut self, steps: &[StepInfo]) {
        for step in steps {
            let after = self.since.elapsed();
            self.found.entry(step.found.clone()).or_insert(after);
        }
    }

    fn end(mut self, steps: Vec<StepInfo>) -> Vec<StepInfo> {
        self.note(&steps);
        let steps = steps.into_iter().map(|step| {
            let after = self.found.get(&step.found);
            let after_ms = after.and_then(|after| u64::try_from(after.as_millis()).ok());
            StepInfo { after_ms, ..step }
        });
        steps.collect()
    }
}

/// Topics that are entered to meet somebody and that nothing else asks for; left at the end.
struct Meeting<'a> {
    core: &'a Core,
    network: &'a Network,
    entered: Vec<(Label, [u8; 32])>,
}

impl<'a> Meeting<'a> {
    fn begin(core: &'a Core, network: &'a Network, sought: &Sought) -> Self {
        let plan = core.plan();
        let topics = sought.topics.iter().copied();
        let entered: Vec<_> = topics
            .filter(|topic| !plan.topics.contains(topic))
            .collect();
        for (label, key) in &entered {
            network.node.join(*label, *key);
        }
        Meeting {
            core,
            network,
            entered,
        }
    }
}

impl Drop for Meeting<'_> {
    fn drop(&mut self) {
        let plan = self.core.plan();
        for topic in self.entered.drain(..) {
            if !plan.topics.contains(&topic) {
                self.network.node.leave(topic.0, topic.1);
            }
        }
    }
}
