//! What waits to be sent: one open batch, and encrypted frames behind it.
//!
//! A batch is built where it will be encrypted: three bytes of length and one for the tag are left
//! free in front, so that nothing is copied on its way out but the message into the batch.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::encoding::{Writer, uint_len};
use crate::limits::SEND_QUEUE_BYTES_MAX;
use crate::wire::SendError;
use crate::wire::frame::{LENGTH_BYTES, put_length};
use crate::wire::mux::control;
use crate::wire::secret_stream::{OVERHEAD_BYTES, SecretStream};

/// Room in front of the plaintext: the frame's length and the stream's tag.
const FRONT_BYTES: usize = LENGTH_BYTES + 1;
const MAC_BYTES: usize = OVERHEAD_BYTES - 1;
/// Channel 0, type batch, and a channel number.
const BATCH_HEAD_BYTES_MAX: usize = 2 + 9;

/// Outgoing bytes of one connection.
pub(super) struct Outbox {
    /// `None` until the handshake is done.
    stream: Option<SecretStream>,
    frames: VecDeque<Bytes>,
    frames_bytes: usize,
    batch: Vec<u8>,
    batch_channel: u64,
    /// Size of the batch before: the best guess for the next.
    last_batch_bytes: usize,
    batch_bytes_max: usize,
    frame_bytes_max: usize,
    queue_bytes_max: usize,
}

impl Outbox {
    pub(super) fn new(batch_bytes_max: usize, frame_bytes_max: usize) -> Self {
        Outbox {
            stream: None,
            frames: VecDeque::new(),
            frames_bytes: 0,
            batch: Vec::new(),
            batch_channel: 0,
            last_batch_bytes: 0,
            batch_bytes_max,
            frame_bytes_max,
            queue_bytes_max: SEND_QUEUE_BYTES_MAX,
        }
    }

    pub(super) fn start_stream(&mut self, stream: SecretStream) {
        self.stream = Some(stream);
    }

    pub(super) fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.frame_bytes_max = bytes;
    }

    /// Queues a frame that is not encrypted: handshake and stream header.
    pub(super) fn push_plain_frame(&mut self, payload: &[u8]) {
        let mut frame = Vec::with_capacity(LENGTH_BYTES + payload.len());
        frame.extend_from_slice(&[0; LENGTH_BYTES]);
        frame.extend_from_slice(payload);
        put_length(&mut frame);
        self.queue(frame);
    }

    /// Queues the empty frame that keeps a connection alive.
    pub(super) fn push_keep_alive(&mut self) {
        self.seal_batch();
        if let Some(stream) = &mut self.stream {
            let mut frame = vec![0; FRONT_BYTES + MAC_BYTES];
            stream.seal(&mut frame[LENGTH_BYTES..]);
            put_length(&mut frame);
            self.queue(frame);
        }
    }

    /// Adds a message to the open batch.
    pub(super) fn push(
        &mut self,
        channel: u64,
        message_type: u64,
        body: &[u8],
    ) -> Result<(), SendError> {
        self.push_with(channel, message_type, body.len(), |out| out.put_raw(body))
    }

    /// Adds a message of `body_bytes` that `write` appends to the open batch.
    pub(super) fn push_with(
        &mut self,
        channel: u64,
        message_type: u64,
        body_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), SendError> {
        if self.stream.is_none() {
            return Err(SendError::NotReady);
        }
        let length = uint_len(message_type) + body_bytes;
        // A change of channel costs a zero and the channel's number.
        let entry = 1 + uint_len(channel) + uint_len(length as u64) + length;
        let limit = self
            .frame_bytes_max
            .saturating_sub(OVERHEAD_BYTES + BATCH_HEAD_BYTES_MAX);
        if entry > limit {
            return Err(SendError::TooLarge {
                limit,
                actual: entry,
            });
        }
        let actual = self.queued_bytes() + entry;
        if actual > self.queue_bytes_max {
            let limit = self.queue_bytes_max;
            return Err(SendError::QueueFull { limit, actual });
        }
        let full = self.batch_bytes_max.min(limit);
        if !self.batch.is_empty() && self.batch.len() + entry > full {
            self.seal_batch();
        }
        if self.batch.is_empty() {
            let room = FRONT_BYTES + BATCH_HEAD_BYTES_MAX + MAC_BYTES;
            self.batch
                .reserve(room + entry.max(self.last_batch_bytes.min(full)));
            self.batch.extend_from_slice(&[0; FRONT_BYTES]);
            self.batch.put_uint(0);
            self.batch.put_uint(control::BATCH);
            self.batch.put_uint(channel);
        } else if self.batch_channel != channel {
            self.batch.put_uint(0);
            self.batch.put_uint(channel);
        }
        self.batch_channel = channel;
        self.batch.put_uint(length as u64);
        self.batch.put_uint(message_type);
        let start = self.batch.len();
        write(&mut self.batch);
        debug_assert_eq!(
            self.batch.len() - start,
            body_bytes,
            "announced length of a message"
        );
        Ok(())
    }

    /// Returns the next frame; the open batch is closed when nothing stands before it.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        if self.frames.is_empty() {
            self.seal_batch();
        }
        let frame = self.frames.pop_front()?;
        self.frames_bytes -= frame.len();
        Some(frame)
    }

    /// Returns the bytes that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        self.frames_bytes + self.batch.len()
    }

    fn seal_batch(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if self.batch.is_empty() {
            return;
        }
        let mut frame = std::mem::take(&mut self.batch);
        self.last_batch_bytes = frame.len();
        frame.extend_from_slice(&[0; MAC_BYTES]);
        stream.seal(&mut frame[LENGTH_BYTES..]);
        put_length(&mut frame);
        self.queue(frame);
    }

    fn queue(&mut self, frame: Vec<u8>) {
        self.frames_bytes += frame.len();
        self.frames.push_back(Bytes::from(frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;
    use crate::text::encode_hex;

    fn outbox(batch_bytes_max: usize, frame_bytes_max: usize) -> Outbox {
        let mut outbox = Outbox::new(batch_bytes_max, frame_bytes_max);
        outbox.start_stream(SecretStream::new(&Secret::new([1; 32]), &[2; 24]));
        outbox
    }

    #[test]
    fn a_batch_has_the_bytes_of_protomux() {
        let mut outbox = outbox(65_536, 65_536);
        outbox.push(1, 2, &[3]).unwrap();
        outbox.push(1, 9, &[7; 300]).unwrap();
        outbox.push(2, 0, &[1, 2]).unwrap();
        outbox.push(0, control::CLOSE, &[2]).unwrap();
        outbox.push(1, 5, &[0]).unwrap();
        // Written by npm protomux 3.12.1 for the same messages between cork and uncork.
        let golden = "000001020203fd2d0109".to_owned()
            + &"07".repeat(300)
            + "00020300010200000203020001020500";
        assert_eq!(encode_hex(&outbox.batch[FRONT_BYTES..]), golden);
    }

    #[test]
    fn a_full_batch_is_closed_and_a_large_message_has_its_own() {
        let mut outbox = outbox(1000, 5000);
        for _ in 0..10 {
            outbox.push(1, 0, &[0; 300]).unwrap();
        }
        outbox.push(1, 0, &[0; 4000]).unwrap();
        let sizes: Vec<usize> = std::iter::from_fn(|| outbox.poll())
            .map(|f| f.len())
            .collect();
        // 20 bytes of frame, 3 of batch head and, each, 304 or 4004 bytes of message.
        assert_eq!(sizes, [935, 935, 935, 327, 4027]);
        assert_eq!(outbox.queued_bytes(), 0);
        let refused = outbox.push(1, 0, &[0; 5000]);
        assert!(
            matches!(refused, Err(SendError::TooLarge { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_queue_that_nobody_drains_ends() {
        let mut outbox = outbox(1000, 1000);
        outbox.queue_bytes_max = 10_000;
        let taken = (0..1000)
            .take_while(|_| outbox.push(1, 0, &[0; 900]).is_ok())
            .count();
        assert_eq!(taken, 10);
        assert!(outbox.queued_bytes() <= 10_000);
    }

    #[test]
    fn nothing_is_sent_in_the_clear() {
        let mut outbox = Outbox::new(1000, 1000);
        assert_eq!(outbox.push(1, 0, &[1]), Err(SendError::NotReady));
        outbox.push_keep_alive();
        assert_eq!(outbox.poll(), None);
    }
}
