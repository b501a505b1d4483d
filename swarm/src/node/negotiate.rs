//! One attempt to connect, as a task: descriptions and candidates through the signal server, a
//! link or an error to the node.

use std::time::Duration;

use bytes::Bytes;
use kinlog_signal::{Client, SignalKind};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::limits::NEGOTIATION_WAIT_MAX;
use crate::link::LinkError;
use crate::link::webrtc::{Negotiation, Progress, WebrtcLink, WebrtcSettings};
use crate::node::introductions::PeerPath;

/// What the other side sent for this attempt.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Answer(Bytes),
    Candidate(Bytes),
}

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
        within(NEGOTIATION_WAIT_MAX, async {
            let (negotiation, body) = Negotiation::offer(&self.settings, self.attempt).await?;
            self.send(SignalKind::Offer, body);
            self.open(negotiation, false).await
        })
        .await
    }

    /// Answers an offer, and waits for the channel.
    pub(crate) async fn answer(mut self, offer: Bytes) -> Result<WebrtcLink, LinkError> {
        within(NEGOTIATION_WAIT_MAX, async {
            let (negotiation, body) = Negotiation::answer(&self.settings, &offer).await?;
            self.send(SignalKind::Answer, body);
            self.open(negotiation, true).await
        })
        .await
    }

    /// `answered`: both descriptions are set; until then the stack takes no candidates.
    async fn open(
        &mut self,
        mut negotiation: Negotiation,
        mut answered: bool,
    ) -> Result<WebrtcLink, LinkError> {
        let mut early: Vec<Bytes> = Vec::new();
        loop {
            tokio::select! {
                progress = negotiation.progress() => match progress {
                    Ok(Progress::Open) => return negotiation.into_link().await,
                    Ok(Progress::Candidate(body)) => self.send(SignalKind::Candidate, body),
                    Err(error) => {
                        negotiation.close().await;
                        return Err(error);
                    }
                },
                Some(signal) = self.incoming.recv() => match signal {
                    FromPeer::Answer(body) if !answered => {
                        negotiation.accept(&body).await?;
                        answered = true;
                        for body in early.drain(..) {
                            add(&negotiation, &body).await;
                        }
                    }
                    FromPeer::Answer(_) => {}
                    FromPeer::Candidate(body) if answered => add(&negotiation, &body).await,
                    FromPeer::Candidate(body) => early.push(body),
                },
            }
        }
    }

    fn send(&self, kind: SignalKind, body: Bytes) {
        if let Err(error) = self
            .client
            .send(self.path.topic, self.path.peer, kind, body)
        {
            tracing::debug!(%error, "signal not sent");
        }
    }
}

/// One candidate that is unusable leaves the others.
async fn add(negotiation: &Negotiation, body: &[u8]) {
    if let Err(error) = negotiation.add_candidate(body).await {
        tracing::debug!(%error, "candidate ignored");
    }
}

async fn within<T>(
    wait: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(wait, work).await.map_err(|_| LinkError::Timeout {
        seconds: wait.as_secs(),
    })?
}
