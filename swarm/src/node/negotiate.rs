//! One attempt to connect, as a task: descriptions and candidates through an introducer, a link or
//! an error to the node.

use bytes::Bytes;
use kinlog_feeds::PublicKey;
use kinlog_signal::{Client, SignalKind, Topic};
use tokio::sync::mpsc;

use crate::link::LinkError;
use crate::link::webrtc::{FromPeer, ToPeer, WebrtcLink, WebrtcSettings, opening};
use crate::session::{Beyond, Command, MeshMessage};

/// Who carries bodies to one peer.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    /// A signal server.
    Signal { client: Client, topic: Topic },
    /// A session with a peer that both know.
    Peer(mpsc::UnboundedSender<Command>),
}

impl Carrier {
    /// Sends a body to `peer`; what cannot be sent is lost, as it may be on the way.
    pub(crate) fn send(&self, peer: PublicKey, kind: SignalKind, body: Bytes) {
        match self {
            Carrier::Signal { client, topic } => {
                if let Err(error) = client.send(*topic, peer, kind, body) {
                    tracing::debug!(%error, "signal not sent");
                }
            }
            Carrier::Peer(session) => {
                // A session that is ending carries nothing more.
                let beyond = Beyond::To(peer);
                let message = MeshMessage::Introduced { beyond, kind, body };
                let _ = session.send(Command::Mesh(message));
            }
        }
    }
}

/// Everything an attempt works with.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) peer: PublicKey,
    pub(crate) attempt: u64,
    pub(crate) carrier: Carrier,
    pub(crate) settings: WebrtcSettings,
    pub(crate) incoming: mpsc::Receiver<FromPeer>,
}

impl Attempt {
    /// Offers, and waits for the channel.
    pub(crate) async fn offer(mut self) -> Result<WebrtcLink, LinkError> {
        let say = |message| send(&self.carrier, self.peer, message);
        opening::offer(&self.settings, self.attempt, &mut self.incoming, say).await
    }

    /// Answers an offer, and waits for the channel.
    pub(crate) async fn answer(mut self, offer: Bytes) -> Result<WebrtcLink, LinkError> {
        let say = |message| send(&self.carrier, self.peer, message);
        opening::answer(&self.settings, &offer, &mut self.incoming, say).await
    }
}

fn send(carrier: &Carrier, peer: PublicKey, message: ToPeer) {
    let (kind, body) = match message {
        ToPeer::Offer(body) => (SignalKind::Offer, body),
        ToPeer::Answer(body) => (SignalKind::Answer, body),
        ToPeer::Candidate(body) => (SignalKind::Candidate, body),
    };
    carrier.send(peer, kind, body);
}
