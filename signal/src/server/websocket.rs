//! Frames of the WebSocket protocol as a server reads and writes them (RFC 6455 section 5).
//!
//! Sans-IO: bytes in, messages out. The heads of frames are the library's; its streams are not used, as
//! each of theirs holds buffers. A connection that waits for its client holds none here. What clients say
//! is overwritten as soon as it was passed on, here and where it waited.

use std::io::Cursor;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use zeroize::{Zeroize as _, Zeroizing};

use crate::limits::{FRAME_BYTES_MAX, PARTS_MAX};

/// Longest head of a frame that a server writes.
pub(super) const HEAD_BYTES_MAX: usize = 10;

/// Most bytes that a ping, pong or close carries (section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

const MASK_BYTES: usize = 4;

/// What a client sent, whole and unmasked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Incoming {
    /// Text or bytes: neither is looked at here.
    Message(Bytes),
    /// To be answered with a pong that carries the same.
    Ping(Bytes),
    Pong,
    /// The client takes its leave; nothing follows.
    Close,
}

/// Bytes that are no frame of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum FrameError {
    /// A message above the limit.
    #[error("message of {actual} bytes, the limit is {FRAME_BYTES_MAX}")]
    TooLong { actual: u64 },
    /// Bits that mean something only in extensions, none of which is spoken.
    #[error("reserved bits are set")]
    Reserved,
    /// A kind of frame that there is not.
    #[error("opcode is unknown")]
    UnknownOpcode,
    /// Clients mask what they send (section 5.1).
    #[error("frame is not masked")]
    NotMasked,
    /// A ping, pong or close in parts or of more than 125 bytes.
    #[error("control frame is in parts or too long")]
    Control,
    /// A part of a message that did not begin, or a message within another one.
    #[error("parts of messages out of order")]
    OutOfOrder,
    /// A message in more parts than one needs.
    #[error("message in more than {PARTS_MAX} parts")]
    TooManyParts,
}

/// Reads what one client sends. After bytes were added to [`space`](Self::space), call
/// [`poll_incoming`](Self::poll_incoming) until `None`.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: BytesMut,
    /// Parts of a message that is not whole yet.
    parts: Option<Parts>,
}

/// A message that is not whole yet.
#[derive(Debug)]
struct Parts {
    bytes: Zeroizing<Vec<u8>>,
    count: usize,
}

/// The head of a frame, and how long it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Head {
    is_final: bool,
    opcode: OpCode,
    mask: [u8; MASK_BYTES],
    length: usize,
    head_bytes: usize,
}

impl Reader {
    /// Returns where what came is to be appended, with room for some of it: for `count` bytes when
    /// nothing is held.
    pub(super) fn space(&mut self, count: usize) -> &mut BytesMut {
        let held = self.bytes.len();
        // Twice as much, so that a frame in many pieces is moved a few times, and not with each.
        let wanted = grown(held, count);
        if self.bytes.capacity() == held && wanted > held {
            // Not by `reserve`, which would leave a copy behind.
            let mut larger = BytesMut::with_capacity(wanted);
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        &mut self.bytes
    }

    /// Gives the buffer back when nothing is in it.
    pub(super) fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    /// Returns the next thing that the client sent, or `None` until there are more bytes.
    ///
    /// After an error the connection is good for nothing. Never holds more than two messages.
    pub(super) fn poll_incoming(&mut self) -> Result<Option<Incoming>, FrameError> {
        loop {
            let Some(head) = Head::read(&self.bytes, self.held())? else {
                return Ok(None);
            };
            let whole = head.head_bytes + head.length;
            if self.bytes.len() < whole {
                return Ok(None);
            }
            let frame = self.bytes.get_mut(..whole).unwrap_or_default();
            let payload = frame.get_mut(head.head_bytes..).unwrap_or_default();
            unmask(payload, head.mask);
            let payload = Zeroizing::new(payload.to_vec());
            frame.zeroize();
            self.bytes.advance(whole);
            match head.opcode {
                OpCode::Control(Control::Close) => return Ok(Some(Incoming::Close)),
                OpCode::Control(Control::Ping) => {
                    return Ok(Some(Incoming::Ping(Bytes::from_owner(payload))));
                }
                OpCode::Control(_) => return Ok(Some(Incoming::Pong)),
                OpCode::Data(data) => {
                    let is_first = data != Data::Continue;
                    if let Some(message) = self.part(is_first, head.is_final, payload)? {
                        return Ok(Some(Incoming::Message(message)));
                    }
                }
            }
        }
    }

    /// Takes a part of a message; returns the message when it was the last.
    fn part(
        &mut self,
        is_first: bool,
        is_final: bool,
        payload: Zeroizing<Vec<u8>>,
    ) -> Result<Option<Bytes>, FrameError> {
        let parts = match (self.parts.take(), is_first) {
            (None, true) => Parts {
                bytes: payload,
                count: 1,
            },
            (Some(parts), false) => parts.with(&payload)?,
            (Some(_), true) | (None, false) => return Err(FrameError::OutOfOrder),
        };
        if is_final {
            return Ok(Some(Bytes::from_owner(parts.bytes)));
        }
        self.parts = Some(parts);
        Ok(None)
    }

    /// Returns the bytes of the message that is not whole yet.
    fn held(&self) -> usize {
        self.parts.as_ref().map_or(0, |parts| parts.bytes.len())
    }
}

impl Parts {
    /// Appends a part; what has to move is overwritten where it was.
    fn with(mut self, part: &[u8]) -> Result<Parts, FrameError> {
        self.count += 1;
        if self.count > PARTS_MAX {
            return Err(FrameError::TooManyParts);
        }
        let held = self.bytes.len();
        if self.bytes.capacity() - held < part.len() {
            let mut larger = Vec::with_capacity(grown(held, part.len()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = Zeroizing::new(larger);
        }
        self.bytes.extend_from_slice(part);
        Ok(self)
    }
}

impl Head {
    /// Reads the head of a frame; `None` when it is not whole yet. `held` bytes of its message are
    /// there already.
    fn read(bytes: &[u8], held: usize) -> Result<Option<Head>, FrameError> {
        let mut cursor = Cursor::new(bytes);
        // Nothing but an unknown opcode is an error of a head.
        let read = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::UnknownOpcode)?;
        let Some((header, length)) = read else {
            return Ok(None);
        };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::Reserved);
        }
        let mask = header.mask.ok_or(FrameError::NotMasked)?;
        let is_control = matches!(header.opcode, OpCode::Control(_));
        if is_control && (!header.is_final || length > CONTROL_BYTES_MAX as u64) {
            return Err(FrameError::Control);
        }
        let held = if is_control { 0 } else { held };
        let actual = length.saturating_add(held as u64);
        if actual > FRAME_BYTES_MAX as u64 {
            return Err(FrameError::TooLong { actual });
        }
        Ok(Some(Head {
            is_final: header.is_final,
            opcode: header.opcode,
            mask,
            // At most the limit, as just seen.
            length: length as usize,
            head_bytes: cursor.position() as usize,
        }))
    }
}

/// Returns the size of a buffer in the place of a full one: twice as large up to that of a message, and
/// with room for so much more.
fn grown(held: usize, more: usize) -> usize {
    (2 * held).min(FRAME_BYTES_MAX).max(held + more)
}

/// Takes the mask off (section 5.3), sixteen bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let wide = u128::from_ne_bytes([mask; 4].concat().try_into().unwrap_or_default());
    let mut chunks = payload.chunks_exact_mut(size_of::<u128>());
    for chunk in &mut chunks {
        if let Ok(bytes) = <[u8; 16]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u128::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    let rest = chunks.into_remainder().iter_mut();
    for (byte, mask) in rest.zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Returns the head of a frame that a server writes before so many bytes, and the head's length.
pub(super) fn head(opcode: OpCode, length: usize) -> ([u8; HEAD_BYTES_MAX], usize) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let mut head = [0; HEAD_BYTES_MAX];
    let mut room = head.as_mut_slice();
    // There is room for the longest.
    let _ = header.format(length as u64, &mut room);
    let used = HEAD_BYTES_MAX - room.len();
    (head, used)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Incoming>, FrameError> {
        let mut reader = Reader::default();
        reader.space(bytes.len()).extend_from_slice(bytes);
        let mut all = Vec::new();
        while let Some(incoming) = reader.poll_incoming()? {
            all.push(incoming);
        }
        Ok(all)
    }

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let (head, used) = head(OpCode::Data(Data::Binary), payload.len());
        let mut bytes = head[..used].to_vec();
        bytes[0] = first;
        bytes[1] |= 0x80;
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        bytes.extend(mask);
        let at = bytes.len();
        bytes.extend(payload);
        unmask(&mut bytes[at..], mask);
        bytes
    }

    fn message(text: &[u8]) -> Incoming {
        Incoming::Message(Bytes::copy_from_slice(text))
    }

    #[test]
    fn examples_of_rfc_6455_are_read() {
        // Section 5.7.
        let masked_text = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(read(&masked_text), Ok(vec![message(b"Hello")]));
        let masked_pong = [
            0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(read(&masked_pong), Ok(vec![Incoming::Pong]));
        let unmasked = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(read(&unmasked), Err(FrameError::NotMasked));
        let shown = |length| {
            let (head, used) = head(OpCode::Data(Data::Binary), length);
            head[..used].to_vec()
        };
        assert_eq!(shown(256), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(shown(65_536), [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn parts_become_a_message_and_a_ping_may_come_between() {
        let parts = [
            masked(0x02, b"Hel"),
            masked(0x89, b"are you there"),
            masked(0x00, b"l"),
            masked(0x80, b"o"),
            masked(0x88, b""),
        ]
        .concat();
        let ping = Incoming::Ping(Bytes::from_static(b"are you there"));
        assert_eq!(
            read(&parts),
            Ok(vec![ping, message(b"Hello"), Incoming::Close])
        );
    }

    #[test]
    fn what_the_protocol_forbids_is_an_error() {
        let over = |count| vec![0; count];
        for (bytes, expected) in [
            (masked(0xc2, b""), FrameError::Reserved),
            (masked(0x83, b""), FrameError::UnknownOpcode),
            (masked(0x80, b""), FrameError::OutOfOrder),
            (
                [masked(0x02, b""), masked(0x82, b"")].concat(),
                FrameError::OutOfOrder,
            ),
            (masked(0x09, b""), FrameError::Control),
            (masked(0x89, &over(126)), FrameError::Control),
            (
                masked(0x82, &over(FRAME_BYTES_MAX + 1)),
                FrameError::TooLong { actual: 65_537 },
            ),
            (
                [masked(0x02, &over(40_000)), masked(0x80, &over(30_000))].concat(),
                FrameError::TooLong { actual: 70_000 },
            ),
        ] {
            assert_eq!(read(&bytes), Err(expected));
        }
        let endless = [0x82].into_iter().chain([0xff; 13]).collect::<Vec<u8>>();
        let actual = u64::MAX;
        assert_eq!(
            read(&endless),
            Err(FrameError::TooLong { actual }),
            "before it is there"
        );
        assert!(read(&masked(0x82, &over(FRAME_BYTES_MAX))).is_ok());
    }

    /// A part without bytes moved all that came before it, was charged to nobody, and another could
    /// follow.
    #[test]
    fn a_message_has_so_many_parts_and_no_more() {
        let begun = masked(0x02, &vec![0; FRAME_BYTES_MAX]);
        let more = masked(0x00, b"").repeat(10_000);
        let endless = [begun.clone(), more].concat();
        assert_eq!(read(&endless), Err(FrameError::TooManyParts));
        let more = masked(0x00, b"").repeat(PARTS_MAX - 2);
        let whole = [begun, more, masked(0x80, b"")].concat();
        assert_eq!(read(&whole), Ok(vec![message(&[0; FRAME_BYTES_MAX])]));
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_moves_a_few_times() {
        let frame = masked(0x82, &vec![7; FRAME_BYTES_MAX]);
        let (mut reader, mut last, mut places, mut read) = (Reader::default(), None, 0, None);
        for byte in frame {
            let space = reader.space(4_096);
            let place = Some(space.as_ptr());
            places += usize::from(place != last);
            last = place;
            space.extend_from_slice(&[byte]);
            assert_eq!(read, None);
            read = reader.poll_incoming().unwrap();
            reader.release();
        }
        assert_eq!(read, Some(message(&[7; FRAME_BYTES_MAX])));
        assert!(places <= 6, "{places}");
    }

    #[test]
    fn a_connection_that_waits_holds_no_buffer() {
        let mut reader = Reader::default();
        reader.space(4_096).extend_from_slice(&masked(0x82, b"x"));
        assert!(reader.poll_incoming().is_ok_and(|it| it.is_some()));
        reader.release();
        assert_eq!(reader.bytes.capacity(), 0);
    }

    proptest! {
        #[test]
        fn what_another_client_wrote_is_read_in_any_pieces(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..6),
            cuts in prop::collection::vec(1..90usize, 0..40),
        ) {
            let mut client = WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Client, None);
            for body in &bodies {
                client.write(Message::Binary(body.clone().into())).unwrap();
            }
            client.flush().unwrap();
            let wire = client.get_ref().get_ref().clone();
            let (mut reader, mut rest, mut read) = (Reader::default(), &wire[..], Vec::new());
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let count = cuts.next().unwrap_or(usize::MAX).min(rest.len());
                let (now, later) = rest.split_at(count);
                reader.space(now.len()).extend_from_slice(now);
                while let Some(incoming) = reader.poll_incoming().unwrap() {
                    read.push(incoming);
                }
                reader.release();
                rest = later;
            }
            let expected: Vec<_> = bodies.iter().map(|body| message(body)).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
