//! From an offer to an open data channel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinlog_signal::ice::IceServers;
use rtc::ice::mdns::MulticastDnsMode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidateInit, RTCIceGatheringState, RTCIceTransportPolicy, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
};

use super::body::{self, Text};
use super::relays::Servers;
use super::runtime::ConnectionRuntime;
use super::{Contacts, Owned, ToldAddresses, WebrtcLink, stack_error, told};
use crate::limits::{
    GATHERING_WAIT, GATHERING_WAIT_FOR_SERVERS, ICE_CHECK_INTERVAL, ICE_CHECKS_MAX,
    ICE_DISCONNECTED_AFTER, ICE_FAILED_AFTER, ICE_KEEPALIVE_INTERVAL, NEGOTIATION_EVENTS_MAX,
    PATIENT_CHECK_INTERVAL, REFLEXIVE_ACCEPTED_AFTER, RELAY_ACCEPTED_AFTER,
    WEBRTC_SEND_BUFFER_BYTES_MAX,
};
use crate::link::{Counters, Fingerprints, LinkError};

/// Name of the one channel. It is opened in band by the side that offers: a channel that both sides
/// number themselves would save half a round trip, but the stack drops messages that arrive before
/// its own side of such a channel is up.
const CHANNEL: &str = "kinlog";

/// The `mid` of the one media section that a description with a data channel has.
const MEDIA_ID: &str = "0";

/// What every connection of a node has in common.
#[derive(Clone, Debug, Default)]
pub struct WebrtcSettings {
    /// STUN servers, as `stun:host:port`.
    pub stun_urls: Vec<String>,
    /// Addresses to gather candidates on; empty: every interface of the machine, and loopback.
    pub bind: Vec<IpAddr>,
    /// Socket buffer asked for on UDP sockets; `None`: 4 MiB.
    pub udp_socket_buffer_bytes: Option<usize>,
    /// What others are told in the place of these addresses.
    pub told: Option<ToldAddresses>,
    /// STUN and TURN servers that signal servers told.
    pub servers: Vec<IceServers>,
    /// Whether the other side is reached by TURN servers alone, and so learns no address of this
    /// machine.
    pub relay_only: bool,
    /// Keeps which addresses of others were tried.
    pub contacts: Contacts,
    /// Goes on trying for that long: where descriptions are carried by hand. A connection that breaks is
    /// noticed as late.
    pub patience: Option<Duration>,
}

/// One attempt to connect to one peer.
pub struct Negotiation {
    attempt: u64,
    contacts: Contacts,
    told: Option<ToldAddresses>,
    relay_only: bool,
    gathering_wait: Duration,
    runtime: Arc<ConnectionRuntime>,
    connection: Owned,
    /// The channel; the side that answers has it once the other one opened it.
    channel: Option<Arc<dyn DataChannel>>,
    events: mpsc::Receiver<Event>,
    /// A message that came before the channel's opening was told.
    first: Option<Bytes>,
}

impl fmt::Debug for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiation")
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What happened on the way to an open channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// A candidate was gathered after the description left: its body is to be sent.
    Candidate(Bytes),
    /// The channel is open.
    Open,
}

/// What the stack tells while a connection comes up.
enum Event {
    Channel(Arc<dyn DataChannel>),
    Candidate(String),
    Gathered,
    Failed(RTCPeerConnectionState),
}

struct Handler {
    events: mpsc::Sender<Event>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json() {
            let _ = self.events.try_send(Event::Candidate(init.candidate));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.events.try_send(Event::Gathered);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        // Whoever opens more than one channel talks to nobody on the others.
        let _ = self.events.try_send(Event::Channel(channel));
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if matches!(
            state,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
        ) {
            let _ = self.events.try_send(Event::Failed(state));
        }
    }
}

impl Negotiation {
    /// Begins attempt number `attempt`; returns it with the body of the offer to send.
    pub async fn offer(
        settings: &WebrtcSettings,
        attempt: u64,
    ) -> Result<(Self, Bytes), LinkError> {
        let mut negotiation = Self::new(settings, attempt).await?;
        let channel = negotiation
            .connection
            .create_data_channel(CHANNEL, None)
            .await;
        negotiation.channel = Some(channel.map_err(stack_error)?);
        let offer = negotiation
            .connection
            .create_offer(None)
            .await
            .map_err(stack_error)?;
        let body = negotiation.describe(offer).await?;
        Ok((negotiation, body))
    }

    /// Takes the body of an offer; returns the attempt with the body of the answer to send.
    pub async fn answer(
        settings: &WebrtcSettings,
        offer: &[u8],
    ) -> Result<(Self, Bytes), LinkError> {
        let (attempt, sdp) = body::decode(Text::Offer, offer)?;
        let bad = |reason: String| LinkError::BadDescription {
            what: "offer",
            reason,
        };
        let sdp = RTCSessionDescription::offer(sdp).map_err(|e| bad(e.to_string()))?;
        settings.contacts.note(&sdp.sdp);
        let mut negotiation = Self::new(settings, attempt).await?;
        negotiation
            .connection
            .set_remote_description(sdp)
            .await
            .map_err(|e| bad(e.to_string()))?;
        let answer = negotiation
            .connection
            .create_answer(None)
            .await
            .map_err(stack_error)?;
        let body = negotiation.describe(answer).await?;
        Ok((negotiation, body))
    }

    /// Returns the number of the attempt.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Takes the body of the answer to our offer.
    pub async fn accept(&self, answer: &[u8]) -> Result<(), LinkError> {
        let (_, sdp) = body::decode(Text::Answer, answer)?;
        let bad = |reason: String| LinkError::BadDescription {
            what: "answer",
            reason,
        };
        self.contacts.note(&sdp);
        let sdp = RTCSessionDescription::answer(sdp).map_err(|e| bad(e.to_string()))?;
        self.connection
            .set_remote_description(sdp)
            .await
            .map_err(|e| bad(e.to_string()))
    }

    /// Takes the body of a candidate of the other side.
    pub async fn add_candidate(&self, candidate: &[u8]) -> Result<(), LinkError> {
        let (_, candidate) = body::decode(Text::Candidate, candidate)?;
        self.contacts.note(&candidate);
        let init = RTCIceCandidateInit {
            candidate,
            sdp_mid: Some(MEDIA_ID.to_owned()),
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        self.connection
            .add_ice_candidate(init)
            .await
            .map_err(|e| LinkError::BadDescription {
                what: "candidate",
                reason: e.to_string(),
            })
    }

    /// Waits for what happens next; cancelling it loses nothing.
    pub async fn progress(&mut self) -> Result<Progress, LinkError> {
        loop {
            let channel = self.channel.as_deref();
            let channel_event = async {
                match channel {
                    Some(channel) => channel.poll().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = channel_event => match event {
                    Some(DataChannelEvent::OnOpen) => return Ok(Progress::Open),
                    Some(DataChannelEvent::OnMessage(message)) => {
                        self.first = Some(message.data.freeze());
                        return Ok(Progress::Open);
                    }
                    Some(DataChannelEvent::OnClose | DataChannelEvent::OnClosing) | None => {
                        return Err(LinkError::Closed);
                    }
                    Some(_) => {}
                },
                event = self.events.recv() => match event {
                    Some(Event::Channel(channel)) if self.channel.is_none() => {
                        self.channel = Some(channel);
                    }
                    Some(Event::Channel(_) | Event::Gathered) => {}
                    Some(Event::Candidate(text)) => {
                        let text = self.told(text);
                        return Ok(Progress::Candidate(body::encode(self.attempt, &text)));
                    }
                    Some(Event::Failed(state)) => {
                        return Err(LinkError::Webrtc { reason: format!("connection {state}") });
                    }
                    None => return Err(LinkError::Closed),
                },
            }
        }
    }

    /// Returns the open channel as a link.
    pub async fn into_link(self) -> Result<WebrtcLink, LinkError> {
        self.runtime.set_connected();
        let sdp_of = |description: Option<RTCSessionDescription>, what| {
            description
                .and_then(|it| body::fingerprint(&it.sdp))
                .ok_or_else(|| LinkError::BadDescription {
                    what,
                    reason: "no sha-256 fingerprint".to_owned(),
                })
        };
        let local = sdp_of(self.connection.local_description().await, "our description")?;
        let remote = sdp_of(self.connection.remote_description().await, "description")?;
        Ok(WebrtcLink {
            connection: self.connection,
            channel: self.channel.ok_or(LinkError::Closed)?,
            fingerprints: Fingerprints { local, remote },
            first: Mutex::new(self.first),
            counters: Counters::default(),
        })
    }

    /// Gives the attempt up.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }

    async fn new(settings: &WebrtcSettings, attempt: u64) -> Result<Self, LinkError> {
        let (events_tx, events) = mpsc::channel(NEGOTIATION_EVENTS_MAX);
        let runtime = Arc::new(ConnectionRuntime::new(settings.udp_socket_buffer_bytes));
        let servers = Servers::choose(settings, &runtime).await?;
        let gathering_wait = match servers.for_stack.is_empty() {
            true => GATHERING_WAIT,
            false => GATHERING_WAIT_FOR_SERVERS,
        };
        let mut configuration =
            RTCConfigurationBuilder::default().with_ice_servers(servers.for_stack);
        if settings.relay_only {
            configuration = configuration.with_ice_transport_policy(RTCIceTransportPolicy::Relay);
        }
        let relay_wait = if settings.relay_only {
            Duration::ZERO
        } else {
            RELAY_ACCEPTED_AFTER
        };
        let (interval, checks, failed_after) = match settings.patience {
            None => (ICE_CHECK_INTERVAL, ICE_CHECKS_MAX, ICE_FAILED_AFTER),
            Some(patience) => (PATIENT_CHECK_INTERVAL, u16::MAX, patience),
        };
        let engine = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_ice_connection_attempts(Some(interval), Some(checks))
            .with_ice_timeouts(
                Some(ICE_DISCONNECTED_AFTER),
                Some(failed_after),
                Some(ICE_KEEPALIVE_INTERVAL),
            )
            .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_srflx_acceptance_min_wait(Some(REFLEXIVE_ACCEPTED_AFTER))
            .with_relay_acceptance_min_wait(Some(relay_wait))
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration.build())
            .with_setting_engine(engine)
            .with_handler(Arc::new(Handler { events: events_tx }))
            .with_runtime(Arc::<ConnectionRuntime>::clone(&runtime))
            .with_udp_addrs(bind_addresses(&settings.bind))
            .with_data_channel_send_buffer_limit(WEBRTC_SEND_BUFFER_BYTES_MAX)
            .build()
            .await
            .map_err(stack_error)?;
        Ok(Negotiation {
            attempt,
            contacts: settings.contacts.clone(),
            told: settings.told.clone(),
            relay_only: settings.relay_only,
            gathering_wait,
            runtime,
            connection: Owned {
                connection: Arc::new(connection),
                _over_tcp: servers.over_tcp,
            },
            channel: None,
            events,
            first: None,
        })
    }

    /// Sets our description, waits for its candidates, and returns its body.
    async fn describe(&mut self, description: RTCSessionDescription) -> Result<Bytes, LinkError> {
        self.connection
            .set_local_description(description)
            .await
            .map_err(stack_error)?;
        let gathered = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    Event::Gathered => break,
                    Event::Candidate(_) | Event::Failed(_) | Event::Channel(_) => {}
                }
            }
        };
        // What is not gathered by now follows as single candidates.
        let _ = timeout(self.gathering_wait, gathered).await;
        let sdp = self.connection.local_description().await.map(|it| it.sdp);
        let sdp = self.told(sdp.ok_or(LinkError::Closed)?);
        Ok(body::encode(self.attempt, &sdp))
    }

    fn told(&self, text: String) -> String {
        let text = if self.relay_only {
            told::without_related(&text)
        } else {
            text
        };
        match &self.told {
            Some(told) => told.tell(&text),
            None => text,
        }
    }
}

/// Wildcards stand for every interface but loopback, which is named beside them so that two
/// processes of one machine without a network find each other.
fn bind_addresses(bind: &[IpAddr]) -> Vec<SocketAddr> {
    let every: &[IpAddr] = &[
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    ];
    let addresses = if bind.is_empty() { every } else { bind };
    addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the candidates out of a description, as when gathering them took too long.
    fn without_candidates(kind: Text, description: &[u8]) -> (Bytes, Vec<Bytes>) {
        let (attempt, sdp) = body::decode(kind, description).unwrap();
        let (candidates, rest): (Vec<&str>, Vec<&str>) = sdp
            .lines()
            .filter(|line| !line.contains("end-of-candidates"))
            .partition(|line| line.starts_with("a=candidate:"));
        let bodies = candidates
            .iter()
            .map(|line| body::encode(attempt, line.trim_start_matches("a=")))
            .collect();
        let rest: String = rest.iter().map(|line| format!("{line}\r\n")).collect();
        (body::encode(attempt, &rest), bodies)
    }

    async fn open(negotiation: &mut Negotiation) {
        while negotiation.progress().await.unwrap() != Progress::Open {}
    }

    #[tokio::test]
    async fn late_candidates_alone_open_the_channel() {
        let settings = WebrtcSettings::default();
        let (mut left, offer) = Negotiation::offer(&settings, 7).await.unwrap();
        let (offer, left_candidates) = without_candidates(Text::Offer, &offer);
        let (mut right, answer) = Negotiation::answer(&settings, &offer).await.unwrap();
        assert_eq!(right.attempt(), 7);
        let (answer, right_candidates) = without_candidates(Text::Answer, &answer);
        left.accept(&answer).await.unwrap();
        for body in &left_candidates {
            right.add_candidate(body).await.unwrap();
        }
        for body in &right_candidates {
            left.add_candidate(body).await.unwrap();
        }
        tokio::time::timeout(Duration::from_secs(20), async {
            tokio::join!(open(&mut left), open(&mut right))
        })
        .await
        .expect("the channel opens");
    }

    #[cfg(target_os = "linux")]
    fn sockets() -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn attempt_that_is_dropped_leaves_no_socket_open() {
        let before = sockets();
        let settings = WebrtcSettings::default();
        let (left, offer) = Negotiation::offer(&settings, 7).await.unwrap();
        let (right, _) = Negotiation::answer(&settings, &offer).await.unwrap();
        assert!(sockets() > before, "the test sees them");
        drop((left, right));
        tokio::time::timeout(Duration::from_secs(10), async {
            while sockets() > before {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the sockets are closed");
    }

    #[tokio::test]
    async fn descriptions_that_are_none_are_refused() {
        let settings = WebrtcSettings::default();
        let garbage = body::encode(1, "v=1\r\nnonsense");
        assert!(Negotiation::answer(&settings, &garbage).await.is_err());
        let (left, _) = Negotiation::offer(&settings, 1).await.unwrap();
        assert!(left.accept(&garbage).await.is_err());
        assert!(
            left.add_candidate(&body::encode(1, "candidate:x"))
                .await
                .is_err()
        );
    }
}
