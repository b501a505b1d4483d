//! A link through a peer that both ends have a session with.
//!
//! What it carries is the stream of an ordinary session between the two, so the relay sees what any wire
//! sees: sealed bytes. Each end says how much may be on its way to it ([`CIRCUIT_WINDOW_BYTES`]), so whatever
//! waits, waits at the one who sends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::limits::{
    CIRCUIT_DATA_BYTES_MAX, CIRCUIT_MESSAGE_BYTES_MIN, CIRCUIT_MESSAGES_MAX, CIRCUIT_WINDOW_BYTES,
};
use crate::link::{Counters, Link, LinkError, LinkPath, LinkStats, Transport};

/// What one end tells the relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ToRelay {
    Data(Bytes),
    Credit(u32),
    Closed,
}

type Say = Box<dyn Fn(ToRelay) -> Result<(), LinkError> + Send + Sync>;

/// One end of a circuit, for the session that runs over it.
pub(crate) struct RelayedLink {
    say: Say,
    allowance: Arc<Semaphore>,
    incoming: Mutex<Incoming>,
    held: Arc<AtomicU32>,
    counters: Counters,
}

#[derive(Debug)]
struct Incoming {
    messages: mpsc::Receiver<Bytes>,
    /// What was taken and is not told yet.
    taken: u32,
}

/// The same end, for whoever hears from the relay; dropping it ends the link.
#[derive(Debug)]
pub(crate) struct RelayedEnd {
    messages: mpsc::Sender<Bytes>,
    allowance: Arc<Semaphore>,
    held: Arc<AtomicU32>,
}

/// The relay, or the other end, sent more than may be on its way, or allowed more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("more on its way by a circuit than its window takes")]
pub(crate) struct WindowExceeded;

/// Returns one end of a new circuit; `say` hands on what it has to tell.
pub(crate) fn end(
    say: impl Fn(ToRelay) -> Result<(), LinkError> + Send + Sync + 'static,
) -> (RelayedLink, RelayedEnd) {
    let (sender, messages) = mpsc::channel(CIRCUIT_MESSAGES_MAX);
    let allowance = Arc::new(Semaphore::new(CIRCUIT_WINDOW_BYTES as usize));
    let held = Arc::new(AtomicU32::new(0));
    let link = RelayedLink {
        say: Box::new(say),
        allowance: Arc::clone(&allowance),
        incoming: Mutex::new(Incoming { messages, taken: 0 }),
        held: Arc::clone(&held),
        counters: Counters::default(),
    };
    let end = RelayedEnd {
        messages: sender,
        allowance,
        held,
    };
    (link, end)
}

/// Returns what a message of so many bytes counts for in the window.
pub(crate) fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .max(CIRCUIT_MESSAGE_BYTES_MIN)
}

impl RelayedEnd {
    /// Takes bytes of the other end.
    pub(crate) fn handle_data(&self, bytes: Bytes) -> Result<(), WindowExceeded> {
        let cost = cost(bytes.len());
        let held = self.held.fetch_add(cost, Relaxed);
        if held.saturating_add(cost) > CIRCUIT_WINDOW_BYTES {
            return Err(WindowExceeded);
        }
        // A link that has ended takes nothing; its session says so by itself.
        match self.messages.try_send(bytes) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(WindowExceeded),
            _ => Ok(()),
        }
    }

    /// The other end takes so many bytes more.
    pub(crate) fn handle_credit(&self, bytes: u32) -> Result<(), WindowExceeded> {
        let more = self.allowance.available_permits() + bytes as usize;
        if more > CIRCUIT_WINDOW_BYTES as usize {
            return Err(WindowExceeded);
        }
        self.allowance.add_permits(bytes as usize);
        Ok(())
    }
}

impl Drop for RelayedEnd {
    fn drop(&mut self) {
        self.allowance.close();
    }
}

#[async_trait]
impl Link for RelayedLink {
    async fn send(&self, message: BytesMut) -> Result<(), LinkError> {
        let bytes = message.len();
        if bytes > CIRCUIT_DATA_BYTES_MAX {
            return Err(LinkError::TooLarge {
                bytes,
                max: CIRCUIT_DATA_BYTES_MAX,
            });
        }
        let permits = self.allowance.acquire_many(cost(bytes)).await;
        permits.map_err(|_| LinkError::Closed)?.forget();
        (self.say)(ToRelay::Data(message.freeze()))?;
        self.counters.count_out(bytes);
        Ok(())
    }

    async fn recv(&self) -> Result<Option<Bytes>, LinkError> {
        let mut incoming = self.incoming.lock().await;
        let Some(message) = incoming.messages.recv().await else {
            return Ok(None);
        };
        self.counters.count_in(message.len());
        incoming.taken += cost(message.len());
        if incoming.taken >= CIRCUIT_WINDOW_BYTES / 4 {
            let taken = std::mem::take(&mut incoming.taken);
            self.held.fetch_sub(taken, Relaxed);
            (self.say)(ToRelay::Credit(taken))?;
        }
        Ok(Some(message))
    }

    fn max_message(&self) -> usize {
        CIRCUIT_DATA_BYTES_MAX
    }

    fn stats(&self) -> LinkStats {
        self.counters.stats()
    }

    async fn path(&self) -> LinkPath {
        LinkPath {
            transport: Transport::Relayed,
            ice: None,
            remote: None,
        }
    }

    async fn close(&self) {
        // A relay that is gone needs no word.
        let _ = (self.say)(ToRelay::Closed);
        self.incoming.lock().await.messages.close();
    }
}

impl fmt::Debug for RelayedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayedLink")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(bytes: usize) -> BytesMut {
        BytesMut::from(&vec![1; bytes][..])
    }

    #[tokio::test]
    async fn whoever_sends_waits_for_credit_and_goes_on_with_it() {
        let (told, mut tells) = mpsc::unbounded_channel();
        let (link, end) = end(move |it| told.send(it).map_err(|_| LinkError::Closed));
        for _ in 0..CIRCUIT_WINDOW_BYTES as usize / CIRCUIT_DATA_BYTES_MAX {
            link.send(message(CIRCUIT_DATA_BYTES_MAX)).await.unwrap();
            assert!(matches!(tells.recv().await, Some(ToRelay::Data(_))));
        }
        let further = link.send(message(1));
        tokio::pin!(further);
        let soon = tokio::time::timeout(Duration::from_millis(20), &mut further);
        assert!(soon.await.is_err());
        end.handle_credit(CIRCUIT_MESSAGE_BYTES_MIN).unwrap();
        further.await.unwrap();
        // More than there was is nobody's to give.
        assert!(end.handle_credit(CIRCUIT_WINDOW_BYTES + 1).is_err());
        drop(end);
        assert!(matches!(
            link.send(message(1)).await,
            Err(LinkError::Closed)
        ));
    }

    #[tokio::test]
    async fn what_is_taken_is_told_and_what_exceeds_the_window_is_refused() {
        let (told, mut tells) = mpsc::unbounded_channel();
        let (link, end) = end(move |it| told.send(it).map_err(|_| LinkError::Closed));
        let part = Bytes::from(vec![2; CIRCUIT_DATA_BYTES_MAX]);
        let whole = CIRCUIT_WINDOW_BYTES as usize / CIRCUIT_DATA_BYTES_MAX;
        for _ in 0..whole {
            end.handle_data(part.clone()).unwrap();
        }
        assert_eq!(end.handle_data(part.clone()), Err(WindowExceeded));
        for _ in 0..whole / 4 {
            assert_eq!(link.recv().await.unwrap(), Some(part.clone()));
        }
        let told = tells.try_recv().unwrap();
        assert_eq!(told, ToRelay::Credit(CIRCUIT_WINDOW_BYTES / 4));
        drop(end);
        for _ in whole / 4..whole {
            assert!(link.recv().await.unwrap().is_some());
        }
        assert_eq!(link.recv().await.unwrap(), None);
    }
}
