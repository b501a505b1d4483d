//! The way to other instances: two channels of a Redis, which keeps nothing.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::bus::{BusEvent, Destination, InstanceId, Outgoing};
use crate::server::hub::{Hub, State, unix_ms};
use crate::server::settings::Cluster;

/// Time to connect, and for Redis to take what is published.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Wait before connecting again: doubled up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Frames that go to Redis in one round trip.
const PUBLISHED_AT_ONCE_MAX: usize = 64;

/// Time for the goodbye.
const BYE_WITHIN: Duration = Duration::from_secs(2);

/// The running task.
pub(super) struct Link {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Link {
    pub(super) fn start(hub: Arc<Hub>, cluster: Cluster) -> Link {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(hub, cluster, stopped));
        Link { stop, task }
    }

    /// Says goodbye, and waits for that a moment.
    pub(super) async fn stop(self) {
        // A task that ended already has nothing to say.
        let _ = self.stop.send(());
        let _ = timeout(BYE_WITHIN, self.task).await;
    }
}

/// Why a connection to Redis ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    #[error("the subscription ended")]
    Ended,
    /// Each instance hears what it says itself: when it does not, nobody does.
    #[error("nothing was heard, not even ourselves")]
    Deaf,
}

async fn run(hub: Arc<Hub>, cluster: Cluster, mut stop: oneshot::Receiver<()>) {
    let mut retry = RETRY_FIRST;
    loop {
        let connected_at = Instant::now();
        match exchange(&hub, &cluster, &mut stop).await {
            Ok(()) => return,
            Err(lost) => warn!(%lost, "other instances are not reached"),
        }
        hub.bus_disconnected();
        if connected_at.elapsed() > RETRY_MAX {
            retry = RETRY_FIRST;
        }
        tokio::select! {
            () = sleep(retry) => {}
            _ = &mut stop => return,
        }
        retry = (retry * 2).min(RETRY_MAX);
        // Who is silent too long is gone also while nobody is reached.
        hub.bus_sweep();
    }
}

/// Publishes and hears until the connection is lost, or until the end after the goodbye.
async fn exchange(
    hub: &Hub,
    cluster: &Cluster,
    stop: &mut oneshot::Receiver<()>,
) -> Result<(), Lost> {
    let all = cluster.secret.channel();
    let own = channel_of(&all, hub.instance());
    let client = redis::Client::open(cluster.redis.as_str())?;
    let connect = async {
        let mut hearing = client.get_async_pubsub().await?;
        hearing.subscribe(&all).await?;
        hearing.subscribe(&own).await?;
        let saying = client.get_multiplexed_async_connection().await?;
        Ok::<_, RedisError>((hearing, saying))
    };
    let connected = timeout(ANSWER_WITHIN, connect).await;
    let (hearing, mut saying) = connected.map_err(|_| Lost::Silent)??;
    let mut heard = hearing.into_on_message();
    hub.bus_connected();
    info!("other instances are reached");
    let deaf_after = 3 * cluster.bus.alive_interval;
    let mut heard_at = Instant::now();
    let mut sweep_at = Instant::now();
    loop {
        publish(hub, &all, &mut saying).await?;
        tokio::select! {
            () = hub.bus_changed.notified() => {}
            () = sleep_until(sweep_at) => {
                if heard_at.elapsed() > deaf_after {
                    return Err(Lost::Deaf);
                }
                sweep_at = Instant::now() + hub.bus_sweep();
            }
            message = heard.next() => {
                let message = message.ok_or(Lost::Ended)?;
                heard_at = Instant::now();
                hub.bus_frame(message.get_payload_bytes());
            }
            _ = &mut *stop => {
                hub.bus_bye();
                return publish(hub, &all, &mut saying).await;
            }
        }
    }
}

/// Publishes all that waits.
async fn publish(hub: &Hub, all: &str, saying: &mut MultiplexedConnection) -> Result<(), Lost> {
    loop {
        let frames = hub.bus_take(PUBLISHED_AT_ONCE_MAX);
        if frames.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for Outgoing { to, frame } in frames {
            let channel = match to {
                Destination::Everybody => all.to_owned(),
                Destination::One(instance) => channel_of(all, instance),
            };
            pipeline
                .cmd("PUBLISH")
                .arg(channel)
                .arg(&frame[..])
                .ignore();
        }
        let published = timeout(ANSWER_WITHIN, pipeline.query_async::<()>(saying)).await;
        published.map_err(|_| Lost::Silent)??;
    }
}

fn channel_of(all: &str, instance: InstanceId) -> String {
    format!("{all}:{instance}")
}

impl Hub {
    fn instance(&self) -> InstanceId {
        let state = self.lock();
        state
            .bus
            .as_ref()
            .map_or(InstanceId([0; 16]), |bus| bus.own())
    }

    fn bus_connected(&self) {
        let (now, mut state) = (self.now(), self.lock());
        state.rules.handle_bus(true);
        if let Some(bus) = &mut state.bus {
            bus.handle_connected(now);
        }
        self.settle_bus(state);
    }

    fn bus_disconnected(&self) {
        let mut state = self.lock();
        state.rules.handle_bus(false);
        if let Some(bus) = &mut state.bus {
            bus.handle_disconnected();
        }
    }

    fn bus_frame(&self, bytes: &[u8]) {
        let (now, mut state) = (self.now(), self.lock());
        if let Some(bus) = &mut state.bus {
            bus.handle_frame(now, unix_ms(), bytes);
        }
        self.settle_bus(state);
    }

    /// Does what is due; returns how long until the next time.
    fn bus_sweep(&self) -> Duration {
        let (now, mut state) = (self.now(), self.lock());
        let mut due = RETRY_MAX;
        if let Some(bus) = &mut state.bus {
            bus.handle_timeout(now);
            due = bus.poll_timeout(now).since(now);
        }
        self.settle_bus(state);
        due
    }

    fn bus_bye(&self) {
        let (now, mut state) = (self.now(), self.lock());
        if let Some(bus) = &mut state.bus {
            bus.say_bye(now, unix_ms());
        }
    }

    fn bus_take(&self, count: usize) -> Vec<Outgoing> {
        let mut state = self.lock();
        let bus = state.bus.as_mut();
        bus.map_or_else(Vec::new, |bus| {
            std::iter::from_fn(|| bus.poll_outgoing())
                .take(count)
                .collect()
        })
    }

    /// Hands what was heard to the rules, and what is due to the bus.
    fn settle_bus(&self, mut state: MutexGuard<'_, State>) {
        let (now, unix_ms) = (self.now(), unix_ms());
        let State { bus, rules, .. } = &mut *state;
        let Some(bus) = bus else {
            return;
        };
        while let Some(event) = bus.poll_event() {
            match event {
                BusEvent::AllWanted => {
                    let all = rules.all_memberships();
                    bus.say_all(now, unix_ms, &all);
                }
                event => rules.handle_bus_event(now, event),
            }
        }
        bus.say_due(now, unix_ms);
        let told = self.drain(&mut state);
        drop(state);
        told.write();
    }
}
