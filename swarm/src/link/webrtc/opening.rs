//! The way of a negotiation from its first description to an open link, whoever carries the bodies.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Negotiation, Progress, WebrtcLink, WebrtcSettings};
use crate::limits::{CANDIDATES_MAX, NEGOTIATION_WAIT_MAX};
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

/// `answered`: both descriptions are set.
async fn open(
    mut negotiation: Negotiation,
    mut answered: bool,
    incoming: &mut mpsc::Receiver<FromPeer>,
    say: &mut (impl FnMut(ToPeer) + Send),
) -> Result<WebrtcLink, LinkError> {
    let mut candidates = Candidates::default();
    loop {
        if answered {
            for body in candidates.waiting.drain(..) {
                // One candidate that is unusable leaves the others.
                if let Err(error) = negotiation.add_candidate(&body).await {
                    tracing::debug!(%error, "candidate ignored");
                }
            }
        }
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
                }
                FromPeer::Answer(_) => {}
                FromPeer::Candidate(body) => candidates.take(body),
            },
        }
    }
}

/// Candidates of the other side: until both descriptions are set, the stack takes none.
#[derive(Debug, Default)]
struct Candidates {
    waiting: Vec<Bytes>,
    taken: usize,
}

impl Candidates {
    /// Keeps a candidate, unless there were [`CANDIDATES_MAX`] of them.
    fn take(&mut self, body: Bytes) {
        if self.taken < CANDIDATES_MAX {
            self.taken += 1;
            self.waiting.push(body);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negotiation_takes_so_many_candidates_and_no_more() {
        let mut candidates = Candidates::default();
        let mut handed_on = 0;
        for _ in 0..3 {
            for _ in 0..CANDIDATES_MAX {
                candidates.take(Bytes::from_static(b"candidate"));
            }
            // Those that went to the stack count, too.
            handed_on += candidates.waiting.drain(..).count();
        }
        assert_eq!(handed_on, CANDIDATES_MAX);
    }
}
