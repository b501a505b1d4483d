//! The signal servers of a node and the topics joined on each.

use std::collections::BTreeMap;

use kinlog_feeds::crypto::Secret;
use kinlog_feeds::{KeyPair, Time};
use kinlog_signal::client::ClientState;
use kinlog_signal::topic::{client_key, topics, topics_with_neighbours};
use kinlog_signal::{Client, ClientConfig, ClientEvent, SignalUrl, Topic};
use tokio::sync::mpsc;

use super::introductions::MeetingKey;
use super::status::SignalStatus;
use super::{NodeError, NodeEvent, Step};
use crate::clock::unix_seconds;
use crate::limits::NOBODY_IN_TOPIC_AFTER;

/// One server.
#[derive(Debug)]
struct Server {
    client: Client,
    url: SignalUrl,
}

/// One meeting that is wanted, with the topics it has on all servers now.
#[derive(Debug)]
struct Meeting {
    topics: Vec<Topic>,
    entered: Option<Time>,
    said_nobody: bool,
}

/// All servers and meetings.
#[derive(Debug)]
pub(super) struct Signalling {
    device_secret: Secret,
    servers: Vec<Server>,
    meetings: BTreeMap<MeetingKey, Meeting>,
    by_topic: BTreeMap<Topic, MeetingKey>,
}

/// A topic that is wanted no more.
pub(super) type Left = (usize, Topic);

impl Signalling {
    /// Starts a client for each URL; their events arrive in `events` with the server's position.
    pub(super) fn start(
        device_secret: Secret,
        urls: &[String],
        events: &mpsc::Sender<(usize, ClientEvent)>,
    ) -> Result<Self, NodeError> {
        let mut servers = Vec::new();
        for url in urls {
            let url: SignalUrl =
                url.parse()
                    .map_err(|error: kinlog_signal::UrlError| NodeError::SignalUrl {
                        url: url.clone(),
                        reason: error.to_string(),
                    })?;
            let (client, mut received) = Client::start(ClientConfig::new(url.clone()));
            let (position, events) = (servers.len(), events.clone());
            tokio::spawn(async move {
                while let Some(event) = received.recv().await {
                    if events.send((position, event)).await.is_err() {
                        return;
                    }
                }
            });
            servers.push(Server { client, url });
        }
        Ok(Signalling {
            device_secret,
            servers,
            meetings: BTreeMap::new(),
            by_topic: BTreeMap::new(),
        })
    }

    pub(super) fn client(&self, server: usize) -> Option<&Client> {
        self.servers.get(server).map(|it| &it.client)
    }

    pub(super) fn url(&self, server: usize) -> String {
        self.servers
            .get(server)
            .map(|it| it.url.to_string())
            .unwrap_or_default()
    }

    pub(super) fn meeting(&self, topic: &Topic) -> Option<MeetingKey> {
        self.by_topic.get(topic).copied()
    }

    /// Returns the key by which this device is known in a topic of a server.
    pub(super) fn own_key(&self, server: usize, topic: &Topic) -> Option<KeyPair> {
        let server = self.servers.get(server)?;
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
        for (position, server) in self.servers.iter().enumerate() {
            for topic in before
                .keys()
                .filter(|topic| !self.by_topic.contains_key(topic))
            {
                server.client.leave(topic);
                left.push((position, *topic));
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

    pub(super) fn topics_joined(&self, key: &MeetingKey) -> usize {
        self.meetings
            .get(key)
            .map_or(0, |meeting| meeting.topics.len())
    }

    pub(super) fn status(&self) -> Vec<SignalStatus> {
        self.servers
            .iter()
            .map(|server| {
                let status = server.client.status();
                let connected = status.state == ClientState::Connected;
                SignalStatus {
                    url: server.url.to_string(),
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
