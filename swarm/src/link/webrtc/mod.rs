//! A link over one reliable ordered WebRTC data channel.
//!
//! [`Negotiation`] takes two peers from an offer to an open channel by exchanging opaque bodies;
//! [`WebrtcLink`] is the channel. The stack is crate `webrtc`, tuned as measured: large UDP socket
//! buffers ([`runtime`]), messages of 64 KiB, a send buffer of 1 MiB, fast ICE checks.

mod body;
mod contacts;
mod negotiation;
pub(crate) mod opening;
mod relays;
mod runtime;
mod short;
mod told;
mod turn_tcp;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use ::webrtc::data_channel::{DataChannel, DataChannelEvent};
use ::webrtc::error::Error as StackError;
use ::webrtc::peer_connection::{
    PeerConnection, RTCIceCandidate, RTCIceCandidateType, RTCIceProtocol,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::limits::LINK_MESSAGE_BYTES_MAX;
use crate::link::{
    CandidateKind, Counters, Fingerprints, IceCandidate, IcePath, Link, LinkError, LinkPath,
    LinkStats, Transport,
};

pub use body::{attempt_of, is_knock, knock};
pub use contacts::Contacts;
pub use negotiation::{Negotiation, Progress, WebrtcSettings};
pub(crate) use opening::{FromPeer, ToPeer};
pub use short::{ShortDescription, ShortDescriptionError};
pub use told::ToldAddresses;

/// A connection of the stack, closed when it is dropped. The stack's task and its sockets outlive
/// one that is dropped alone: each attempt that timed out would keep them for ever.
struct Owned {
    connection: Arc<dyn PeerConnection>,
    /// Ways to TURN servers by TCP, gone with the connection.
    _over_tcp: Vec<turn_tcp::TcpRelay>,
}

impl Deref for Owned {
    type Target = dyn PeerConnection;

    fn deref(&self) -> &Self::Target {
        &*self.connection
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Without a runtime the stack's task is gone already.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connection = Arc::clone(&self.connection);
            // It fails only when there is nothing left to close.
            runtime.spawn(async move { drop(connection.close().await) });
        }
    }
}

/// An open data channel.
pub struct WebrtcLink {
    connection: Owned,
    channel: Arc<dyn DataChannel>,
    fingerprints: Fingerprints,
    /// A message that arrived while the link was made.
    first: Mutex<Option<Bytes>>,
    counters: Counters,
}

impl fmt::Debug for WebrtcLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebrtcLink")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl WebrtcLink {
    async fn selected_pair(&self) -> Option<IcePath> {
        let transport = self.connection.sctp().await?.transport().ice_transport();
        let pair = transport.get_selected_candidate_pair().await.ok()??;
        Some(IcePath {
            local: candidate(pair.local()),
            remote: candidate(pair.remote()),
            protocol: match pair.local().protocol {
                RTCIceProtocol::Tcp => "tcp".to_owned(),
                _ => "udp".to_owned(),
            },
        })
    }
}

#[async_trait]
impl Link for WebrtcLink {
    async fn send(&self, message: BytesMut) -> Result<(), LinkError> {
        let bytes = message.len();
        if bytes > LINK_MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLarge {
                bytes,
                max: LINK_MESSAGE_BYTES_MAX,
            });
        }
        self.channel.send(message).await.map_err(stack_error)?;
        self.counters.count_out(bytes);
        Ok(())
    }

    async fn recv(&self) -> Result<Option<Bytes>, LinkError> {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(message) = first {
            self.counters.count_in(message.len());
            return Ok(Some(message));
        }
        loop {
            match self.channel.poll().await {
                Some(DataChannelEvent::OnMessage(message)) => {
                    self.counters.count_in(message.data.len());
                    return Ok(Some(message.data.freeze()));
                }
                Some(DataChannelEvent::OnClosing | DataChannelEvent::OnClose) | None => {
                    return Ok(None);
                }
                Some(DataChannelEvent::OnError) => return Err(LinkError::Closed),
                Some(_) => {}
            }
        }
    }

    fn max_message(&self) -> usize {
        LINK_MESSAGE_BYTES_MAX
    }

    fn stats(&self) -> LinkStats {
        self.counters.stats()
    }

    async fn path(&self) -> LinkPath {
        LinkPath {
            transport: Transport::Webrtc,
            ice: self.selected_pair().await,
            remote: None,
        }
    }

    fn fingerprints(&self) -> Option<Fingerprints> {
        Some(self.fingerprints)
    }

    async fn close(&self) {
        // Both fail only when there is nothing left to close.
        let _ = self.channel.close().await;
        let _ = self.connection.close().await;
    }
}

fn candidate(candidate: &RTCIceCandidate) -> IceCandidate {
    let address = candidate.address.parse::<IpAddr>().ok();
    IceCandidate {
        kind: match candidate.typ {
            RTCIceCandidateType::Srflx => CandidateKind::Srflx,
            RTCIceCandidateType::Prflx => CandidateKind::Prflx,
            RTCIceCandidateType::Relay => CandidateKind::Relay,
            _ => CandidateKind::Host,
        },
        address: address.map(|ip| SocketAddr::new(ip, candidate.port)),
    }
}

fn stack_error(error: StackError) -> LinkError {
    match error {
        StackError::ErrDataChannelClosed | StackError::ErrConnectionClosed => LinkError::Closed,
        other => LinkError::Webrtc {
            reason: other.to_string(),
        },
    }
}
