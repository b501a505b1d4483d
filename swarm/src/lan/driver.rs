//! The task between mDNS, the [`Neighbourhood`] and the node.

use std::net::SocketAddr;
use std::time::Duration;

use kinlog_feeds::Time;
use mdns_sd::{DaemonEvent, ServiceEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use super::addresses::own_addresses;
use super::announcement::{Announcement, dialable, instance_of, is_flooded, is_loopback};
use super::neighbourhood::{Action, Instance, Neighbourhood};
use super::{LanConfig, LanInterfaces};
use crate::limits::{ANNOUNCED_WITHIN, LAN_NEWS_MAX, MDNS_COUNT_INTERVAL};

/// What the local network has for the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LanNews {
    /// Join the meeting point there.
    Join(SocketAddr),
    /// Leave it.
    Leave(SocketAddr),
    /// So many other nodes are seen now, on so many other machines.
    Neighbours { nodes: usize, machines: usize },
    /// Why nobody can be seen, or that it is possible again.
    Trouble(Option<String>),
}

/// What the node has found out of a meeting point that it joined.
#[derive(Clone, Copy, Debug)]
enum Finding {
    Reached(SocketAddr),
    Failed(SocketAddr),
}

/// The node's side of the task; dropping it ends the task, which says goodbye to the network.
#[derive(Debug)]
pub(crate) struct Lan {
    findings: mpsc::Sender<Finding>,
    task: JoinHandle<()>,
}

impl Lan {
    /// Starts announcing `port` and looking for others, under a random name.
    pub(crate) fn start(
        config: LanConfig,
        name: [u8; 8],
        port: u16,
    ) -> (Lan, mpsc::Receiver<LanNews>) {
        let (findings, found) = mpsc::channel(LAN_NEWS_MAX);
        let (news, received) = mpsc::channel(LAN_NEWS_MAX);
        let own = Instance(name);
        let driver = Driver {
            config,
            own,
            port,
            neighbourhood: Neighbourhood::new(own),
            start: Instant::now(),
            news,
            trouble: None,
            neighbours: (0, 0),
            has_moved: false,
            is_announced: false,
        };
        let task = tokio::spawn(driver.run(found));
        (Lan { findings, task }, received)
    }

    /// Ends the task, and waits until the goodbye has left: a process that ended before would say none, and be
    /// looked for until its records expire.
    pub(crate) async fn close(self) {
        drop(self.findings);
        // A task that panicked says nothing more.
        let _ = self.task.await;
    }

    /// Tells that the meeting point at an address greeted us.
    pub(crate) fn reached(&self, address: SocketAddr) {
        // Lost when much else waits: it only makes the next wait longer than need be.
        let _ = self.findings.try_send(Finding::Reached(address));
    }

    /// Tells that the meeting point at an address is not reached, or was lost.
    pub(crate) fn failed(&self, address: SocketAddr) {
        // Lost when much else waits: the point is dialled again by its client, and fails again.
        let _ = self.findings.try_send(Finding::Failed(address));
    }
}

struct Driver {
    config: LanConfig,
    own: Instance,
    port: u16,
    neighbourhood: Neighbourhood,
    start: Instant,
    news: mpsc::Sender<LanNews>,
    trouble: Option<String>,
    /// Other nodes, and machines, as they were told last.
    neighbours: (usize, usize),
    /// Somebody was seen or went since.
    has_moved: bool,
    is_announced: bool,
}

/// Why the task goes on with another daemon, or not at all.
enum End {
    /// The node is gone.
    Node,
    /// mDNS is to start anew after a while.
    Daemon(String),
}

impl Driver {
    async fn run(mut self, mut found: mpsc::Receiver<Finding>) {
        loop {
            let reason = match Announcement::start(&self.config, self.own, self.port) {
                Ok(announcement) => match self.look(&announcement, &mut found).await {
                    End::Node => return announcement.say_goodbye().await,
                    End::Daemon(reason) => reason,
                },
                Err(error) => error.to_string(),
            };
            if self.tell(Some(reason)).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(MDNS_COUNT_INTERVAL) => {}
                () = self.news.closed() => return,
            }
        }
    }

    async fn look(&mut self, mdns: &Announcement, found: &mut mpsc::Receiver<Finding>) -> End {
        let mut count = interval(MDNS_COUNT_INTERVAL);
        self.is_announced = false;
        let silent = tokio::time::sleep(ANNOUNCED_WITHIN);
        tokio::pin!(silent);
        loop {
            if self.drain().await.is_err() {
                return End::Node;
            }
            let due = self.neighbourhood.poll_timeout(self.now());
            let due = due.map(|at| self.start + at.since(Time::ZERO));
            let told = tokio::select! {
                seen = mdns.seen.recv_async() => match seen {
                    Ok(event) => { self.handle_seen(event); Ok(()) }
                    Err(_) => return End::Daemon("mDNS has ended".to_owned()),
                },
                event = mdns.told.recv_async() => match event {
                    Ok(event) => self.handle_told(event).await,
                    Err(_) => return End::Daemon("mDNS has ended".to_owned()),
                },
                finding = found.recv() => match finding {
                    Some(Finding::Reached(address)) => { self.neighbourhood.handle_reached(address); Ok(()) }
                    Some(Finding::Failed(address)) => {
                        let now = self.now();
                        self.neighbourhood.handle_failed(now, address);
                        Ok(())
                    }
                    None => return End::Node,
                },
                () = sleep_until(due) => {
                    let now = self.now();
                    self.neighbourhood.handle_timeout(now);
                    Ok(())
                }
                () = &mut silent, if !self.is_announced => {
                    self.is_announced = true;
                    self.tell(Some(NOT_POSSIBLE.to_owned())).await
                }
                _ = count.tick() => {
                    if is_too_much(mdns).await {
                        return End::Daemon(FLOODED.to_owned());
                    }
                    Ok(())
                }
            };
            if told.is_err() {
                return End::Node;
            }
        }
    }

    fn handle_seen(&mut self, event: ServiceEvent) {
        let now = self.now();
        self.has_moved = true;
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let Some((instance, mut addresses)) = dialable(&service) else {
                    return;
                };
                let own = own_addresses();
                // A name that an earlier process of this home left on the network.
                addresses.retain(|at| at.port() != self.port || !own.contains(&at.ip()));
                self.neighbourhood.handle_seen(now, instance, &addresses);
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                if let Some(instance) = instance_of(&name) {
                    self.neighbourhood.handle_gone(now, instance);
                }
            }
            _ => {}
        }
    }

    async fn handle_told(&mut self, event: DaemonEvent) -> Result<(), NodeIsGone> {
        match event {
            DaemonEvent::Announce(_, by) if self.counts(&by) => {
                self.is_announced = true;
                self.tell(None).await
            }
            DaemonEvent::Error(error) => {
                tracing::debug!(%error, "mDNS");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns whether an announcement, by `host:interface`, reaches anybody who is looked for: loopback alone
    /// is no network.
    fn counts(&self, by: &str) -> bool {
        let interface = by.rsplit(':').next().unwrap_or_default();
        self.config.interfaces == LanInterfaces::Loopback || !is_loopback(interface)
    }

    /// Tells the node what to join and leave, and how many are seen.
    async fn drain(&mut self) -> Result<(), NodeIsGone> {
        while let Some(action) = self.neighbourhood.poll_action() {
            let news = match action {
                Action::Join(address) => LanNews::Join(address),
                Action::Leave(address) => LanNews::Leave(address),
            };
            self.news.send(news).await.map_err(|_| NodeIsGone)?;
        }
        if !std::mem::take(&mut self.has_moved) {
            return Ok(());
        }
        let nodes = self.neighbourhood.len();
        let machines = self.neighbourhood.machines(&own_addresses());
        if (nodes, machines) != self.neighbours {
            self.neighbours = (nodes, machines);
            let news = LanNews::Neighbours { nodes, machines };
            self.news.send(news).await.map_err(|_| NodeIsGone)?;
        }
        Ok(())
    }

    async fn tell(&mut self, trouble: Option<String>) -> Result<(), NodeIsGone> {
        if trouble == self.trouble {
            return Ok(());
        }
        if let Some(reason) = &trouble {
            tracing::info!(reason, "the local network is not looked at");
        }
        self.trouble.clone_from(&trouble);
        let sent = self.news.send(LanNews::Trouble(trouble)).await;
        sent.map_err(|_| NodeIsGone)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }
}

/// Nobody is left to be told.
struct NodeIsGone;

const NOT_POSSIBLE: &str =
    "nothing could be announced: no network interface is up, or it takes no multicast";

const FLOODED: &str = "somebody floods the network with names; it is looked at again in a moment";

/// Returns whether mDNS remembers too much; a daemon that does not answer in time is asked again later.
async fn is_too_much(mdns: &Announcement) -> bool {
    let Some(metrics) = mdns.metrics() else {
        return false;
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), metrics.recv_async()).await;
    matches!(answer, Ok(Ok(metrics)) if is_flooded(&metrics))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
