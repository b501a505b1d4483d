//! The meeting points of a node and the topics joined at each.

use std::collections::BTreeMap;

use kinlog_feeds::crypto::Secret;
use kinlog_feeds::{KeyPair, Time};
use kinlog_signal::client::ClientState;
use kinlog_signal::topic::{client_key, topics, topics_with_neighbours};
use kinlog_signal::{Client, ClientConfig, ClientEvent, SignalUrl, Topic};
use tokio::sync::mpsc;

use super::introductions::MeetingKey;
use super::ladder::LadderStep;
use super::status::{FoundBy, SignalStatus};
use super::{NodeEvent, Step};
use crate::clock::unix_seconds;
use crate::limits::NOBODY_IN_TOPIC_AFTER;

/// One meeting point.
#[derive(Debug)]
struct Point {
    client: Client,
    url: SignalUrl,
    found_by: FoundBy,
}

/// One meeting that is wanted, with the topics it has on all points now.
#[derive(Debug)]
struct Meeting {
    topics: Vec<Topic>,
    entered: Option<Time>,
    said_nobody: bool,
}

/// All meeting points and meetings.
///
/// Points come and go; every meeting that is wanted is held at each of them. A position is never
/// used again, so that what is still on its way of a point that is gone is nobody else's.
#[derive(Debug)]
pub(super) struct Signalling {
    device_secret: Secret,
    points: BTreeMap<usize, Point>,
    next_position: usize,
    events: mpsc::Sender<(usize, ClientEvent)>,
    meetings: BTreeMap<MeetingKey, Meeting>,
    by_topic: BTreeMap<Topic, MeetingKey>,
}

/// A topic that is wanted no more.
pub(super) type Left = (usize, Topic);

impl Signalling {
    /// Returns a state without meeting points; what their clients tell arrives in `events` with the
    /// point's position.
    pub(super) fn new(device_secret: Secret, events: mpsc::Sender<(usize, ClientEvent)>) -> Self {
        Signalling {
            device_secret,
            points: BTreeMap::new(),
            next_position: 0,
            events,
            meetings: BTreeMap::new(),
            by_topic: BTreeMap::new(),
        }
    }

    /// Starts a client of the point at `url` that joins every meeting; returns its position. A URL that
    /// is a point already, whatever it was found by, gets no second client.
    pub(super) fn add(&mut self, url: SignalUrl, found_by: FoundBy) -> Option<usize> {
        let name = url.server_name();
        let mut there = self.points.values();
        if there.any(|point| point.url.server_name() == name) {
            return None;
        }
        let (client, mut received) = Client::start(ClientConfig::new(url.clone()));
        let position = self.next_position;
        self.next_position += 1;
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(event) = received.recv().await {
                if events.send((position, event)).await.is_err() {
                    return;
                }
            }
        });
        for topic in self.by_topic.keys() {
            client.join(*topic, client_key(&self.device_secret, &name, topic));
        }
        let point = Point {
            client,
            url,
            found_by,
        };
        self.points.insert(position, point);
        Some(position)
    }

    /// Leaves a point; attempts to connect that go through it keep its client until they end.
    pub(super) fn remove(&mut self, position: usize) {
        self.points.remove(&position);
    }

    /// Returns the positions and URLs of the points that were found by `found_by`.
    pub(super) fn points_by(&self, found_by: FoundBy) -> impl Iterator<Item = (usize, String)> {
        let points = self.points.iter();
        points
            .filter(move |(_, point)| point.found_by == found_by)
            .map(|(position, point)| (*position, point.url.to_string()))
    }

    /// Returns the positions of all points but the own one, each with the step of the ladder that it
    /// belongs to.
    pub(super) fn steps(&self) -> BTreeMap<usize, LadderStep> {
        let points = self.points.iter();
        points
            .filter(|(_, point)| point.found_by != FoundBy::Own)
            .map(|(position, point)| (*position, point.found_by.step()))
            .collect()
    }

    /// Returns how a point was found.
    pub(super) fn found_by(&self, position: usize) -> Option<FoundBy> {
        self.points.get(&position).map(|point| point.found_by)
    }

    pub(super) fn client(&self, server: usize) -> Option<&Client> {
        self.points.get(&server).map(|it| &it.client)
    }

    /// Dials every point anew.
    pub(super) fn redial(&self) {
        for point in self.points.values() {
            point.client.redial();
        }
    }

    pub(super) fn url(&self, server: usize) -> String {
        self.points
            .get(&server)
            .map(|it| it.url.to_string())
            .unwrap_or_default()
    }

    pub(super) fn meeting(&self, topic: &Topic) -> Option<MeetingKey> {
        self.by_topic.get(topic).copied()
    }

    /// Returns the key by which this device is known in a topic of a server.
    pub(super) fn own_key(&self, server: usize, topic: &Topic) -> Option<KeyPair> {
        let server = self.points.get(&server)?;
        Some(client_key(
            &self.device_secret,
            &server.url.server_name(),
            topic,
        ))
    }

    pub(super) fn has_entered(&mut self, now: Time, topic: &Topic) {
        if let Some(key) = self.by_topic.get(topic)
            && let Some(meeting) = self.meetings.get_mut(key)
        {
            meeting.entered.get_or_insert(now);
        }
    }

    /// Joins and leaves so that exactly `wanted` is joined, in the periods of now. `seen` tells
    /// how many peers topics show; where those of now show nobody, the neighbour periods are looked
    /// into too. Returns what was left.
    pub(super) fn apply(
        &mut self,
        now: Time,
        wanted: impl Iterator<Item = MeetingKey>,
        seen: impl Fn(&[Topic]) -> usize,
    ) -> Vec<Left> {
        let seconds = unix_seconds();
        let mut meetings = BTreeMap::new();
        let mut by_topic = BTreeMap::new();
        for key in wanted {
            let old = self.meetings.remove(&key);
            let (entered, said_nobody) =
                old.map_or((None, false), |old| (old.entered, old.said_nobody));
            let alone = entered.is_some_and(|at| now >= at + NOBODY_IN_TOPIC_AFTER * 2);
            // Somebody found in a neighbour period is left alone there: only a peer in the period
            // of now ends the search.
            let of_now = topics(key.0, &key.1, seconds);
            let topics = if alone && seen(&of_now) == 0 {
                topics_with_neighbours(key.0, &key.1, seconds)
            } else {
                of_now
            };
            by_topic.extend(topics.iter().map(|topic| (*topic, key)));
            meetings.insert(
                key,
                Meeting {
                    topics,
                    entered,
                    said_nobody,
                },
            );
        }
        let before = std::mem::replace(&mut self.by_topic, by_topic);
        self.meetings = meetings;
        let mut left = Vec::new();
        for (position, server) in &self.points {
            for topic in before
                .keys()
                .filter(|topic| !self.by_topic.contains_key(topic))
            {
                server.client.leave(topic);
                left.push((*position, *topic));
            }
            for topic in self
                .by_topic
                .keys()
                .filter(|topic| !before.contains_key(topic))
            {
                let key = client_key(&self.device_secret, &server.url.server_name(), topic);
                server.client.join(*topic, key);
            }
        }
        left
    }

    /// Returns the meetings in which nobody else was seen for too long, each once until somebody is.
    pub(super) fn empty_meetings(
        &mut self,
        now: Time,
        seen: impl Fn(&MeetingKey) -> usize,
    ) -> Vec<NodeEvent> {
        let mut events = Vec::new();
        for (key, meeting) in &mut self.meetings {
            if seen(key) > 0 {
                meeting.said_nobody = false;
            } else if !meeting.said_nobody
                && meeting
                    .entered
                    .is_some_and(|at| now >= at + NOBODY_IN_TOPIC_AFTER)
            {
                meeting.said_nobody = true;
                let step = Step::NobodyInTopic {
                    label: key.0,
                    key: key.1,
                };
                events.push(NodeEvent::StepFailed { step });
            }
        }
        events
    }

    pub(super) fn meetings(&self) -> impl Iterator<Item = &MeetingKey> {
        self.meetings.keys()
    }

    pub(super) fn is_wanted(&self, key: &MeetingKey) -> bool {
        self.meetings.contains_key(key)
    }

    pub(super) fn topics_joined(&self, key: &MeetingKey) -> usize {
        self.meetings
            .get(key)
            .map_or(0, |meeting| meeting.topics.len())
    }

    pub(super) fn status(&self) -> Vec<SignalStatus> {
        self.points
            .values()
            .map(|point| {
                let status = point.client.status();
                let connected = status.state == ClientState::Connected;
                SignalStatus {
                    url: point.url.to_string(),
                    found_by: point.found_by,
                    connected,
                    reason: if connected { None } else { status.last_error },
                    retry_in_ms: status
                        .retry_in
                        .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
                }
            })
            .collect()
    }
}
