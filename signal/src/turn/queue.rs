//! What waits for one TCP client, bounded by messages and by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::limits::{STREAM_QUEUE_BYTES_MAX, STREAM_QUEUE_MAX};

/// The end at which messages are put in.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// The end at which they are written to the socket.
#[derive(Debug)]
pub(super) struct Queued {
    receiver: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// As much waits as may, or nobody writes any more: the message is lost.
#[derive(Debug)]
pub(super) struct Full;

/// Returns both ends of an empty queue.
pub(super) fn queue() -> (Queue, Queued) {
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE_MAX);
    let waiting = Arc::new(AtomicUsize::new(0));
    let queued = Queued {
        receiver,
        waiting: Arc::clone(&waiting),
    };
    (Queue { sender, waiting }, queued)
}

impl Queue {
    /// Puts a message in, when there is room for it.
    pub(super) fn put(&self, bytes: Bytes) -> Result<(), Full> {
        let count = bytes.len();
        let before = self.waiting.fetch_add(count, Ordering::Relaxed);
        let fits = before + count <= STREAM_QUEUE_BYTES_MAX;
        if fits && self.sender.try_send(bytes).is_ok() {
            return Ok(());
        }
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        Err(Full)
    }
}

impl Queued {
    /// Returns the next message; it waits until [`written`](Self::written). `None` when none will come.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }

    /// Takes note that a message waits no longer.
    pub(super) fn written(&self, bytes: &Bytes) {
        self.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::limits::MESSAGE_BYTES_MAX;

    /// Messages alone were counted: 256 of 4 KiB for each of a thousand clients that read nothing.
    #[tokio::test]
    async fn a_queue_is_full_by_bytes_or_by_messages() {
        let largest = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
        let (queue, mut queued) = queue();
        let put = |count| (0..count).take_while(|_| queue.put(largest.clone()).is_ok());
        assert_eq!(put(1_000).count(), 16);
        let first = queued.next().await.unwrap();
        assert_eq!(put(1).count(), 0, "it is being written");
        queued.written(&first);
        assert_eq!(put(1_000).count(), 1);

        let (queue, _queued) = super::queue();
        let small = (0..1_000).take_while(|_| queue.put(Bytes::from_static(b"small")).is_ok());
        assert_eq!(small.count(), STREAM_QUEUE_MAX);
    }

    #[test]
    fn nothing_waits_for_who_is_gone() {
        let (queue, queued) = queue();
        drop(queued);
        assert!(queue.put(Bytes::from_static(b"late")).is_err());
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
    }
}
