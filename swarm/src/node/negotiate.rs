//! One attempt to connect, as a task: descriptions and candidates through the signal server, a
//! link or an error to the node.

use bytes::Bytes;
use kinlog_signal::{Client, SignalKind};
use tokio::sync::mpsc;

use crate::link::LinkError;
use crate::link::webrtc::{FromPeer, ToPeer, WebrtcLink, WebrtcSettings, opening};
use crate::node::introductions::PeerPath;

/// Everything an attempt works with.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) path: PeerPath,
    pub(crate) attempt: u64,
    pub(crate) client: Client,
    pub(crate) settings: WebrtcSettings,
    pub(crate) incoming: mpsc::Receiver<FromPeer>,
}

impl Attempt {
    /// Offers, and waits for the channel.
    pub(crate) async fn offer(mut self) -> Result<WebrtcLink, LinkError> {
        let say = |message| send(&self.client, &self.path, message);
        opening::offer(&self.settings, self.attempt, &mut self.incoming, say).await
    }

    /// Answers an offer, and waits for the channel.
    pub(crate) async fn answer(mut self, offer: Bytes) -> Result<WebrtcLink, LinkError> {
        let say = |message| send(&self.client, &self.path, message);
        opening::answer(&self.settings, &offer, &mut self.incoming, say).await
    }
}

fn send(client: &Client, path: &PeerPath, message: ToPeer) {
    let (kind, body) = match message {
        ToPeer::Offer(body) => (SignalKind::Offer, body),
        ToPeer::Answer(body) => (SignalKind::Answer, body),
        ToPeer::Candidate(body) => (SignalKind::Candidate, body),
    };
    if let Err(error) = client.send(path.topic, path.peer, kind, body) {
        tracing::debug!(%error, "signal not sent");
    }
}
