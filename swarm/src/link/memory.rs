//! A link inside one process, for tests: two bounded queues.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Mutex, mpsc};

use crate::limits::{LINK_MESSAGE_BYTES_MAX, MEMORY_LINK_MESSAGES_MAX};
use crate::link::{Counters, Fingerprints, Link, LinkError, LinkPath, LinkStats, Transport};

/// One end of a link inside this process.
#[derive(Debug)]
pub struct MemoryLink {
    outgoing: Mutex<Option<mpsc::Sender<Bytes>>>,
    incoming: Mutex<mpsc::Receiver<Bytes>>,
    fingerprints: Option<Fingerprints>,
    counters: Counters,
}

/// Returns the two ends of a new link.
pub fn pair() -> (MemoryLink, MemoryLink) {
    let (left_tx, right_rx) = mpsc::channel(MEMORY_LINK_MESSAGES_MAX);
    let (right_tx, left_rx) = mpsc::channel(MEMORY_LINK_MESSAGES_MAX);
    let end = |tx, rx| MemoryLink {
        outgoing: Mutex::new(Some(tx)),
        incoming: Mutex::new(rx),
        fingerprints: None,
        counters: Counters::default(),
    };
    (end(left_tx, left_rx), end(right_tx, right_rx))
}

impl MemoryLink {
    /// Makes this end claim DTLS fingerprints, so that a test can let the two ends disagree as
    /// they do when a signal server swaps descriptions.
    pub fn with_fingerprints(mut self, fingerprints: Fingerprints) -> Self {
        self.fingerprints = Some(fingerprints);
        self
    }
}

#[async_trait]
impl Link for MemoryLink {
    async fn send(&self, message: BytesMut) -> Result<(), LinkError> {
        if message.len() > LINK_MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLarge {
                bytes: message.len(),
                max: LINK_MESSAGE_BYTES_MAX,
            });
        }
        let Some(outgoing) = self.outgoing.lock().await.clone() else {
            return Err(LinkError::Closed);
        };
        let bytes = message.len();
        outgoing
            .send(message.freeze())
            .await
            .map_err(|_| LinkError::Closed)?;
        self.counters.count_out(bytes);
        Ok(())
    }

    async fn recv(&self) -> Result<Option<Bytes>, LinkError> {
        let message = self.incoming.lock().await.recv().await;
        if let Some(message) = &message {
            self.counters.count_in(message.len());
        }
        Ok(message)
    }

    fn max_message(&self) -> usize {
        LINK_MESSAGE_BYTES_MAX
    }

    fn stats(&self) -> LinkStats {
        self.counters.stats()
    }

    async fn path(&self) -> LinkPath {
        LinkPath {
            transport: Transport::Memory,
            ice: None,
            remote: None,
        }
    }

    fn fingerprints(&self) -> Option<Fingerprints> {
        self.fingerprints
    }

    async fn close(&self) {
        self.outgoing.lock().await.take();
    }
}
