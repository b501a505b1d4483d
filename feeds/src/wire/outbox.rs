//! What waits to be sent: plaintext batches in two lanes, encrypted as they leave.
//!
//! Messages of the lane ahead leave before those of bulk data that waits already, so that what
//! somebody is waiting for does not queue behind a transfer. Within a lane the order is kept. What
//! closes a channel goes behind everything, and until all that has left nothing overtakes, as the
//! channel's number may mean something else afterwards.
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

/// When a message leaves, beside others that wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Before bulk data.
    Ahead,
    /// In its turn.
    Behind,
    /// Behind everything that waits, and before everything that comes later.
    Last,
}

/// Outgoing bytes of one connection.
pub(super) struct Outbox {
    /// `None` until the handshake is done.
    stream: Option<SecretStream>,
    /// Frames that are not encrypted: handshake and stream header.
    plain: VecDeque<Bytes>,
    ahead: Lane,
    behind: Lane,
    /// Everything goes behind until that lane is empty.
    keeps_order: bool,
    plain_bytes: usize,
    batch_bytes_max: usize,
    frame_bytes_max: usize,
    queue_bytes_max: usize,
}

/// Batches that leave in order.
#[derive(Default)]
struct Lane {
    full: VecDeque<Vec<u8>>,
    full_bytes: usize,
    open: Vec<u8>,
    channel: u64,
    /// Size of the batch before: the best guess for the next.
    last_bytes: usize,
}

impl Lane {
    /// Adds the head of an entry of `length` bytes and returns where to write the rest.
    fn entry(&mut self, channel: u64, entry: usize, length: usize, full: usize) -> &mut Vec<u8> {
        if !self.open.is_empty() && self.open.len() + entry > full {
            self.close();
        }
        let batch = &mut self.open;
        if batch.is_empty() {
            let room = FRONT_BYTES + BATCH_HEAD_BYTES_MAX + MAC_BYTES;
            batch.reserve(room + entry.max(self.last_bytes.min(full)));
            batch.extend_from_slice(&[0; FRONT_BYTES]);
            batch.put_uint(0);
            batch.put_uint(control::BATCH);
            batch.put_uint(channel);
        } else if self.channel != channel {
            batch.put_uint(0);
            batch.put_uint(channel);
        }
        self.channel = channel;
        batch.put_uint(length as u64);
        batch
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.last_bytes = self.open.len();
            self.full_bytes += self.open.len();
            self.full.push_back(std::mem::take(&mut self.open));
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        if self.full.is_empty() {
            self.close();
        }
        let batch = self.full.pop_front()?;
        self.full_bytes -= batch.len();
        Some(batch)
    }

    fn bytes(&self) -> usize {
        self.full_bytes + self.open.len()
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.is_empty()
    }
}

impl Outbox {
    pub(super) fn new(batch_bytes_max: usize, frame_bytes_max: usize) -> Self {
        Outbox {
            stream: None,
            plain: VecDeque::new(),
            ahead: Lane::default(),
            behind: Lane::default(),
            keeps_order: false,
            plain_bytes: 0,
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
        self.plain_bytes += frame.len();
        self.plain.push_back(Bytes::from(frame));
    }

    /// Queues the empty frame that keeps a connection alive, where nothing else waits.
    pub(super) fn push_keep_alive(&mut self) {
        if self.stream.is_some() && self.queued_bytes() == 0 {
            self.ahead.open = vec![0; FRONT_BYTES];
            self.ahead.close();
        }
    }

    /// Adds a message to the open batch of its lane.
    pub(super) fn push(
        &mut self,
        place: Place,
        channel: u64,
        message_type: u64,
        body: &[u8],
    ) -> Result<(), SendError> {
        let bytes = body.len();
        self.push_with(place, channel, message_type, bytes, |out| out.put_raw(body))
    }

    /// Adds a message of `body_bytes` that `write` appends to the open batch of its lane.
    pub(super) fn push_with(
        &mut self,
        place: Place,
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
        if place == Place::Last && !self.behind.is_empty() {
            self.ahead.close();
            self.behind.close();
            self.behind.full.append(&mut self.ahead.full);
            self.behind.full_bytes += std::mem::take(&mut self.ahead.full_bytes);
            self.keeps_order = true;
        }
        let lane = match place {
            Place::Behind => &mut self.behind,
            Place::Ahead | Place::Last if self.keeps_order => &mut self.behind,
            Place::Ahead | Place::Last => &mut self.ahead,
        };
        let batch = lane.entry(channel, entry, length, full);
        batch.put_uint(message_type);
        let start = batch.len();
        write(batch);
        debug_assert_eq!(
            batch.len() - start,
            body_bytes,
            "announced length of a message"
        );
        Ok(())
    }

    /// Returns the next frame, encrypted now.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.plain.pop_front() {
            self.plain_bytes -= frame.len();
            return Some(frame);
        }
        let stream = self.stream.as_mut()?;
        let mut frame = self.ahead.pop().or_else(|| self.behind.pop())?;
        self.keeps_order &= !self.behind.is_empty();
        frame.extend_from_slice(&[0; MAC_BYTES]);
        stream.seal(&mut frame[LENGTH_BYTES..]);
        put_length(&mut frame);
        Some(Bytes::from(frame))
    }

    /// Returns the bytes that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        self.plain_bytes + self.ahead.bytes() + self.behind.bytes()
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
        outbox.push(Place::Behind, 1, 2, &[3]).unwrap();
        outbox.push(Place::Behind, 1, 9, &[7; 300]).unwrap();
        outbox.push(Place::Behind, 2, 0, &[1, 2]).unwrap();
        outbox.push(Place::Behind, 0, control::CLOSE, &[2]).unwrap();
        outbox.push(Place::Behind, 1, 5, &[0]).unwrap();
        // Written by npm protomux 3.12.1 for the same messages between cork and uncork.
        let golden = "000001020203fd2d0109".to_owned()
            + &"07".repeat(300)
            + "00020300010200000203020001020500";
        assert_eq!(encode_hex(&outbox.behind.open[FRONT_BYTES..]), golden);
    }

    #[test]
    fn a_full_batch_is_closed_and_a_large_message_has_its_own() {
        let mut outbox = outbox(1000, 5000);
        for _ in 0..10 {
            outbox.push(Place::Behind, 1, 0, &[0; 300]).unwrap();
        }
        outbox.push(Place::Behind, 1, 0, &[0; 4000]).unwrap();
        let sizes: Vec<usize> = std::iter::from_fn(|| outbox.poll())
            .map(|f| f.len())
            .collect();
        // 20 bytes of frame, 3 of batch head and, each, 304 or 4004 bytes of message.
        assert_eq!(sizes, [935, 935, 935, 327, 4027]);
        assert_eq!(outbox.queued_bytes(), 0);
        let refused = outbox.push(Place::Behind, 1, 0, &[0; 5000]);
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
            .take_while(|_| outbox.push(Place::Behind, 1, 0, &[0; 900]).is_ok())
            .count();
        assert_eq!(taken, 10);
        assert!(outbox.queued_bytes() <= 10_000);
    }

    #[test]
    fn nothing_is_sent_in_the_clear() {
        let mut outbox = Outbox::new(1000, 1000);
        assert_eq!(
            outbox.push(Place::Behind, 1, 0, &[1]),
            Err(SendError::NotReady)
        );
        outbox.push_keep_alive();
        assert_eq!(outbox.poll(), None);
    }

    /// Decrypts what leaves and names the messages by their first byte.
    fn leaves(outbox: &mut Outbox) -> Vec<u8> {
        let mut stream = SecretStream::new(&Secret::new([1; 32]), &[2; 24]);
        let mut seen = Vec::new();
        while let Some(frame) = outbox.poll() {
            let mut frame = frame.to_vec();
            stream.open(&mut frame[LENGTH_BYTES..]).unwrap();
            // Every message of these tests has type 0, a body of one byte and channel 1.
            let body = &frame[FRONT_BYTES + 3..frame.len() - MAC_BYTES];
            seen.extend(body.chunks(3).map(|entry| entry[2]));
        }
        seen
    }

    #[test]
    fn what_is_urgent_overtakes_and_each_lane_keeps_its_order() {
        let mut outbox = outbox(FRONT_BYTES + 12, 5000);
        for (place, body) in [
            (Place::Behind, 1),
            (Place::Behind, 2),
            (Place::Ahead, 3),
            (Place::Behind, 4),
            (Place::Behind, 5),
            (Place::Ahead, 6),
        ] {
            outbox.push(place, 1, 0, &[body]).unwrap();
        }
        assert!(outbox.queued_bytes() >= 6 * 3);
        assert_eq!(leaves(&mut outbox), [3, 6, 1, 2, 4, 5]);
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[test]
    fn nothing_overtakes_the_close_of_a_channel() {
        let mut outbox = outbox(FRONT_BYTES + 12, 5000);
        for (place, body) in [
            (Place::Behind, 1),
            (Place::Ahead, 2),
            (Place::Last, 3),
            (Place::Ahead, 4),
            (Place::Behind, 5),
            (Place::Ahead, 6),
        ] {
            outbox.push(place, 1, 0, &[body]).unwrap();
        }
        assert_eq!(leaves(&mut outbox), [1, 2, 3, 4, 5, 6]);
        // The stream of the reader above is at its start again.
        let mut outbox = super::tests::outbox(FRONT_BYTES + 12, 5000);
        outbox.push(Place::Behind, 1, 0, &[1]).unwrap();
        outbox.push(Place::Last, 1, 0, &[2]).unwrap();
        assert!(outbox.keeps_order);
        assert_eq!(leaves(&mut outbox), [1, 2]);
        assert!(!outbox.keeps_order, "what is urgent overtakes again");
    }
}
