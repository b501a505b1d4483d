//! Where others are met: configured signal servers, the own meeting point, those of the local network and
//! remembered ones, as they come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kinlog_signal::SignalUrl;
use tokio::sync::mpsc;

use super::{Task, random};
use crate::lan::{Lan, LanNews, MeetingPoint, own_urls};
use crate::limits::{COORDINATORS_JOINED_MAX, ROUTES_JOINED_MAX};
use crate::node::desired::Wishes;
use crate::node::signalling::Signalling;
use crate::node::status::{FoundBy, LanStatus};
use crate::node::{NodeConfig, NodeError};

/// What there is besides signal servers.
#[derive(Debug)]
pub(super) struct Points {
    own: Option<MeetingPoint>,
    lan: Option<Lan>,
    /// Points of the local network that are joined.
    neighbours: BTreeMap<SocketAddr, usize>,
    status: LanStatus,
    public_url: Option<SignalUrl>,
    is_on: bool,
}

impl Points {
    /// Joins the configured servers, starts the own meeting point, and looks at the local network. A
    /// meeting point that cannot be had is a trouble of its own, and keeps nobody from the others.
    pub(super) fn start(
        config: &NodeConfig,
        signalling: &mut Signalling,
    ) -> Result<(Self, mpsc::Receiver<LanNews>), NodeError> {
        for url in &config.signal_urls {
            signalling.add(signal_url(url)?, FoundBy::Signal);
        }
        // Without a look at the network its news never come.
        let mut news = mpsc::channel(1).1;
        let mut points = Points {
            own: None,
            lan: None,
            neighbours: BTreeMap::new(),
            status: LanStatus::default(),
            public_url: config
                .meeting_point
                .as_ref()
                .and_then(|it| it.public_url.clone()),
            is_on: config.meeting_point.is_some() && !config.relay_only,
        };
        // Who is met at a point of its own is met at its address.
        let wanted = config.meeting_point.as_ref();
        let Some(wanted) = wanted.filter(|_| !config.relay_only) else {
            return Ok((points, news));
        };
        match MeetingPoint::start(wanted) {
            Ok(own) => {
                let port = own.port();
                points.status.port = Some(port);
                if let Some(url) = own.own_url() {
                    signalling.add(url, FoundBy::Own);
                }
                points.own = Some(own);
                if let Some(lan) = &config.lan {
                    let (lan, received) = Lan::start(lan.clone(), random()?, port);
                    points.lan = Some(lan);
                    news = received;
                }
            }
            Err(error) => {
                points.status.trouble = Some(format!("no port to be met at: {error}"));
            }
        }
        Ok((points, news))
    }

    /// Leaves the local network, and waits until that is said there.
    pub(super) async fn close(self) {
        if let Some(lan) = self.lan {
            lan.close().await;
        }
    }

    /// Returns the port of the own meeting point.
    pub(super) fn port(&self) -> Option<u16> {
        self.status.port
    }

    pub(super) fn status(&self) -> Option<LanStatus> {
        let urls = self
            .status
            .port
            .map(|port| own_urls(port, self.public_url.as_ref()));
        self.is_on.then(|| LanStatus {
            urls: urls.unwrap_or_default(),
            ..self.status.clone()
        })
    }

    fn address_of(&self, position: usize) -> Option<SocketAddr> {
        let mut neighbours = self.neighbours.iter();
        let found = neighbours.find(|(_, at)| **at == position);
        found.map(|(address, _)| *address)
    }
}

impl Task {
    pub(super) fn handle_lan_news(&mut self, news: LanNews) {
        match news {
            LanNews::Join(address) => {
                let url = format!("ws://{address}").parse();
                let added = url
                    .ok()
                    .and_then(|url| self.signalling.add(url, FoundBy::Lan));
                if let Some(position) = added {
                    self.points.neighbours.insert(address, position);
                }
            }
            LanNews::Leave(address) => {
                if let Some(position) = self.points.neighbours.remove(&address) {
                    self.leave_point(position);
                }
            }
            LanNews::Neighbours { nodes, machines } => {
                self.points.status.neighbours = nodes;
                self.points.status.machines = machines;
            }
            LanNews::Trouble(trouble) => self.points.status.trouble = trouble,
        }
        self.tell_ladder();
    }

    /// Joins the configured servers that are new, and exactly these remembered meeting points and those of
    /// coordinators, the best first.
    pub(super) fn apply_points(&mut self, wishes: &Wishes) {
        for url in &wishes.signals {
            self.signalling.add(url.clone(), FoundBy::Signal);
        }
        let routes = first(&wishes.routes, ROUTES_JOINED_MAX);
        let coordinators = first(&wishes.coordinators, COORDINATORS_JOINED_MAX);
        let remembered = [
            (FoundBy::Route, routes),
            (FoundBy::Coordinator, coordinators),
        ];
        // Left first, all of them: what is wanted of one sort now may have been of the other one.
        for (found_by, urls) in remembered {
            let wanted: Vec<String> = urls.iter().map(SignalUrl::to_string).collect();
            let joined: Vec<_> = self.signalling.points_by(found_by).collect();
            for (position, url) in &joined {
                if !wanted.contains(url) {
                    self.leave_point(*position);
                }
            }
        }
        for (found_by, urls) in remembered {
            for url in urls {
                self.signalling.add(url.clone(), found_by);
            }
        }
    }

    /// A meeting point greeted us.
    pub(super) fn point_reached(&self, position: usize) {
        if let (Some(lan), Some(address)) = (&self.points.lan, self.points.address_of(position)) {
            lan.reached(address);
        }
    }

    /// A meeting point is lost, or was never reached.
    pub(super) fn point_failed(&self, position: usize) {
        if let (Some(lan), Some(address)) = (&self.points.lan, self.points.address_of(position)) {
            lan.failed(address);
        }
    }

    /// Counts that a session opened, by how its peer was found.
    pub(super) fn count_found(&mut self, found_by: FoundBy) {
        *self.found.entry(found_by).or_default() += 1;
    }

    fn leave_point(&mut self, position: usize) {
        self.signalling.remove(position);
        self.ice_servers.forget(position);
        let now = self.parts.clock.now();
        self.introductions.handle_server_lost(now, position);
    }
}

fn first(urls: &[SignalUrl], most: usize) -> &[SignalUrl] {
    &urls[..urls.len().min(most)]
}

/// Reads the URL of a signal server.
pub(in crate::node) fn signal_url(url: &str) -> Result<SignalUrl, NodeError> {
    url.parse()
        .map_err(|error: kinlog_signal::UrlError| NodeError::SignalUrl {
            url: url.to_owned(),
            reason: error.to_string(),
        })
}
