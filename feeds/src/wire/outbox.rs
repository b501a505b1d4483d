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
        if actual > SEND_QUEUE_BYTES_MAX {
            return Err(SendError::QueueFull {
                limit: SEND_QUEUE_BYTES_MAX,
                actual,
            });
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
