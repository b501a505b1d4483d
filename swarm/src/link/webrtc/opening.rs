//! The way of a negotiation from its first description to an open link, whoever carries the bodies.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Negotiation, Progress, WebrtcLink, WebrtcSettings};
use crate::limits::NEGOTIATION_WAIT_MAX;
use crate::link::LinkError;

/// What the other side sent for this attempt.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Answer(Bytes),
    Candidate(Bytes),
}

/// What the other side is to be sent.
#[derive(Debug)]
pub(crate) enum ToPeer {
    Offer(Bytes),
    Answer(Bytes),
    Candidate(Bytes),
}

/// Offers, and waits for the channel.
pub(crate) async fn offer(
    settings: &WebrtcSettings,
    attempt: u64,
    incoming: &mut mpsc::Receiver<FromPeer>,
    mut say: impl FnMut(ToPeer) + Send,
) -> Result<WebrtcLink, LinkError> {
    within(NEGOTIATION_WAIT_MAX, async {
        let (negotiation, body) = Negotiation::offer(settings, attempt).await?;
        say(ToPeer::Offer(body));
        open(negotiation, false, incoming, &mut say).await
    })
    .await
}

/// Answers an offer, and waits for the channel.
pub(crate) async fn answer(
    settings: &WebrtcSettings,
    offer: &[u8],
    incoming: &mut mpsc::Receiver<FromPeer>,
    mut say: impl FnMut(ToPeer) + Send,
) -> Result<WebrtcLink, LinkError> {
    within(NEGOTIATION_WAIT_MAX, async {
        let (negotiation, body) = Negotiation::answer(settings, offer).await?;
        say(ToPeer::Answer(body));
        open(negotiation, true, incoming, &mut say).await
    })
    .await
}

/// `answered`: both descriptions are set; until then the stack takes no candidates.
async fn open(
    mut negotiation: Negotiation,
    mut answered: bool,
    incoming: &mut mpsc::Receiver<FromPeer>,
    say: &mut (impl FnMut(ToPeer) + Send),
) -> Result<WebrtcLink, LinkError> {
    let mut early: Vec<Bytes> = Vec::new();
    loop {
        tokio::select! {
            progress = negotiation.progress() => match progress {
                Ok(Progress::Open) => return negotiation.into_link().await,
                Ok(Progress::Candidate(body)) => say(ToPeer::Candidate(body)),
                Err(error) => {
                    negotiation.close().await;
                    return Err(error);
                }
            },
            Some(signal) = incoming.recv() => match signal {
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
