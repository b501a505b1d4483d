//! One connection: bytes in, events out; messages in, bytes out.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::Time;
use crate::crypto::namespace::hypercore_namespace;
use crate::crypto::{Secret, blake2b_256_keyed};
use crate::encoding::Reader;
use crate::limits::{
    HANDSHAKE_TIMEOUT, INPUT_SLACK_BYTES_MAX, SEND_QUEUE_BYTES, UNAUTHENTICATED_BYTES_MAX,
};
use crate::wire::frame::{self, LENGTH_BYTES, Next};
use crate::wire::hypercore::Message;
use crate::wire::kinlog;
use crate::wire::mux::{Mux, control};
use crate::wire::noise::{Handshake, Keys};
use crate::wire::outbox::{Outbox, Place};
use crate::wire::secret_stream::{HEADER_BYTES, OVERHEAD_BYTES, Received, SecretStream};
use crate::wire::{Config, Role, SendError, WireError};

const STREAM_ID_BYTES: usize = 32;
/// The frame between Noise and the secret stream.
const HEADER_FRAME_BYTES: usize = STREAM_ID_BYTES + HEADER_BYTES;

/// A channel of one connection, as this side numbers it. Never reused within a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelId(pub u64);

/// What a connection tells its driver.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Noise is done: channels can be opened. The remote's static key is authenticated.
    HandshakeComplete {
        /// The final handshake hash, to which capabilities are bound.
        hash: [u8; 64],
        /// The remote's static key, a point of the Edwards curve.
        remote_static: [u8; 32],
    },
    /// The remote opened a channel that this side has not: answer with
    /// [`open`](Connection::open) or [`reject_remote`](Connection::reject_remote).
    RemoteOpen {
        /// Protocol name.
        protocol: String,
        /// Id within the protocol.
        id: Option<Bytes>,
        /// The protocol's own opening bytes; they come again with [`Event::Opened`].
        handshake: Bytes,
    },
    /// Both sides have opened the channel.
    Opened {
        /// The channel.
        channel: ChannelId,
        /// The remote's opening bytes.
        handshake: Bytes,
    },
    /// The remote rejected the channel; it is gone.
    Rejected {
        /// The channel.
        channel: ChannelId,
    },
    /// The remote closed the channel; it is gone.
    Closed {
        /// The channel.
        channel: ChannelId,
    },
    /// A message on an open channel.
    Message {
        /// The channel.
        channel: ChannelId,
        /// Number of the message's type in its protocol.
        message_type: u64,
        /// Encoded body, a slice of the decrypted frame.
        body: Bytes,
    },
}

/// One encrypted, multiplexed connection, as a state machine without IO.
pub struct Connection {
    config: Config,
    phase: Phase,
    input: BytesMut,
    batch: Option<BatchCursor>,
    mux: Mux,
    outbox: Outbox,
    frames_received: u64,
    /// The latest time that a driver told.
    now: Time,
    started: Time,
    received_at: Time,
    sent_at: Time,
    failed: Option<WireError>,
}

/// How far the encryption is.
enum Phase {
    /// Noise messages are exchanged.
    Handshake(Box<Handshake>),
    /// Noise is done; the remote's header of its secret stream comes next.
    Header {
        receive: Secret,
        stream_id: [u8; 32],
    },
    /// Every frame is encrypted.
    Open(SecretStream),
}

/// Where decoding stands in a batch.
struct BatchCursor {
    frame: Bytes,
    at: usize,
    channel: u64,
}

/// A message as it stands in a frame.
struct RawMessage {
    channel: u64,
    message_type: u64,
    body: Bytes,
}

impl Connection {
    /// Starts a connection at `now`; the initiator's first handshake message is ready to be sent.
    pub fn new(now: Time, config: Config) -> Self {
        let (handshake, first) =
            Handshake::new(config.role, &config.static_seed, &config.ephemeral_seed);
        let mut outbox = Outbox::new(config.send_batch_bytes, config.send_frame_max);
        if let Some(first) = first {
            outbox.push_plain_frame(&first);
        }
        Connection {
            config,
            phase: Phase::Handshake(Box::new(handshake)),
            input: BytesMut::new(),
            batch: None,
            mux: Mux::default(),
            outbox,
            frames_received: 0,
            now,
            started: now,
            received_at: now,
            sent_at: now,
            failed: None,
        }
    }

    /// Takes bytes from the remote; pair with [`poll_event`](Self::poll_event).
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) -> Result<(), WireError> {
        self.check_input(bytes.len())?;
        self.input.extend_from_slice(bytes);
        self.handle_input(now)
    }

    /// Returns the buffer into which a driver may read directly, instead of
    /// [`handle_bytes`](Self::handle_bytes); it only appends, then calls
    /// [`handle_input`](Self::handle_input).
    pub fn input_buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Takes note that bytes were appended to [`input_buffer`](Self::input_buffer).
    pub fn handle_input(&mut self, now: Time) -> Result<(), WireError> {
        self.now = now;
        self.received_at = now;
        self.check_input(0)
    }

    /// Returns the next event, decrypting and decoding as far as needed.
    ///
    /// Call until `None` after every `handle_*`. An error ends the connection: it is returned
    /// again by every later call.
    pub fn poll_event(&mut self) -> Result<Option<Event>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.next_event()
            .inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Returns the next bytes for the remote. Call until `None` after every drain.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let bytes = self.outbox.poll()?;
        self.sent_at = self.now;
        Some(bytes)
    }

    /// Lets the time pass; an error ends the connection.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), WireError> {
        self.now = now;
        if self.is_handshaking() && now.since(self.started) >= HANDSHAKE_TIMEOUT {
            return self.fail(WireError::HandshakeTimeout {
                seconds: HANDSHAKE_TIMEOUT.as_secs(),
            });
        }
        if let Some(limit) = self.config.idle_timeout
            && now.since(self.received_at) >= limit
        {
            return self.fail(WireError::IdleTimeout {
                seconds: limit.as_secs(),
            });
        }
        if let Some(interval) = self.config.keep_alive
            && !self.is_handshaking()
            && now.since(self.sent_at) >= interval
        {
            // Bytes that wait say as much as an empty frame would, once the remote reads again.
            if self.outbox.queued_bytes() == 0 {
                self.outbox.push_keep_alive();
            }
            self.sent_at = now;
        }
        Ok(())
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        let idle = self
            .config
            .idle_timeout
            .map(|limit| self.received_at + limit);
        let other = if self.is_handshaking() {
            Some(self.started + HANDSHAKE_TIMEOUT)
        } else {
            self.config
                .keep_alive
                .map(|interval| self.sent_at + interval)
        };
        idle.into_iter().chain(other).min()
    }

    /// Opens a channel, or answers the remote's open of the same protocol and id.
    ///
    /// Messages may be sent at once: the remote keeps them until it has opened too.
    pub fn open(
        &mut self,
        protocol: &str,
        id: Option<&[u8]>,
        handshake: &[u8],
    ) -> Result<ChannelId, SendError> {
        self.mux.open(&mut self.outbox, protocol, id, handshake)
    }

    /// Rejects the channel that the remote opened; does nothing if there is none.
    pub fn reject_remote(&mut self, protocol: &str, id: Option<&[u8]>) -> Result<(), SendError> {
        self.mux.reject_remote(&mut self.outbox, protocol, id)
    }

    /// Closes a channel; no event follows. Does nothing if it is closed already.
    pub fn close(&mut self, channel: ChannelId) -> Result<(), SendError> {
        self.mux.close(&mut self.outbox, channel)
    }

    /// Sends a message; it leaves with the next [`poll_transmit`](Self::poll_transmit).
    pub fn send(
        &mut self,
        channel: ChannelId,
        message_type: u64,
        body: &[u8],
    ) -> Result<(), SendError> {
        let address = self.mux.address(channel)?;
        self.outbox.push(Place::Behind, address, message_type, body)
    }

    /// Sends a message ahead of bulk data that waits; those sent this way keep their order.
    pub fn send_ahead(
        &mut self,
        channel: ChannelId,
        message_type: u64,
        body: &[u8],
    ) -> Result<(), SendError> {
        let address = self.mux.address(channel)?;
        self.outbox.push(Place::Ahead, address, message_type, body)
    }

    /// Sends a Hypercore message, encoding it straight into the outgoing frame.
    pub fn send_message(&mut self, channel: ChannelId, message: &Message) -> Result<(), SendError> {
        self.push_message(Place::Behind, channel, message)
    }

    /// Sends a Hypercore message ahead of bulk data that waits.
    pub fn send_message_ahead(
        &mut self,
        channel: ChannelId,
        message: &Message,
    ) -> Result<(), SendError> {
        self.push_message(Place::Ahead, channel, message)
    }

    /// Sends a message of `kinlog/feed/1`, ahead of bulk data that waits if `ahead`.
    pub fn send_kinlog(
        &mut self,
        channel: ChannelId,
        message: &kinlog::Message,
        ahead: bool,
    ) -> Result<(), SendError> {
        let address = self.mux.address(channel)?;
        let place = if ahead { Place::Ahead } else { Place::Behind };
        let (kind, bytes) = (message.message_type(), message.encoded_len());
        self.outbox
            .push_with(place, address, kind, bytes, |out| message.encode(out))
    }

    fn push_message(
        &mut self,
        place: Place,
        channel: ChannelId,
        message: &Message,
    ) -> Result<(), SendError> {
        let address = self.mux.address(channel)?;
        let bytes = message.encoded_len();
        self.outbox
            .push_with(place, address, message.message_type(), bytes, |out| {
                message.encode(out)
            })
    }

    /// Accepts frames of up to `bytes` from now on.
    pub fn set_receive_frame_max(&mut self, bytes: usize) {
        self.config.receive_frame_max = bytes;
    }

    /// Sends frames of up to `bytes` from now on: what the remote announced.
    pub fn set_send_frame_max(&mut self, bytes: usize) {
        self.config.send_frame_max = bytes;
        self.outbox.set_frame_bytes_max(bytes);
    }

    /// Returns which side this is.
    pub fn role(&self) -> Role {
        self.config.role
    }

    /// Returns whether the remote keeps up: fewer than
    /// [`SEND_QUEUE_BYTES`](crate::limits::SEND_QUEUE_BYTES) wait to be sent.
    pub fn is_writable(&self) -> bool {
        self.outbox.queued_bytes() < SEND_QUEUE_BYTES
    }

    /// Returns whether more input is of use; false while channels of the remote wait for an
    /// answer and their messages fill the buffer.
    pub fn wants_input(&self) -> bool {
        self.failed.is_none() && !self.mux.is_paused()
    }

    fn is_handshaking(&self) -> bool {
        !matches!(self.phase, Phase::Open(_))
    }

    fn check_input(&mut self, more: usize) -> Result<(), WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let limit = if self.is_handshaking() {
            UNAUTHENTICATED_BYTES_MAX
        } else {
            LENGTH_BYTES + self.config.receive_frame_max + INPUT_SLACK_BYTES_MAX
        };
        let actual = self.input.len() + more;
        if actual > limit {
            return self.fail(WireError::InputOverflow { limit, actual });
        }
        Ok(())
    }

    fn fail(&mut self, error: WireError) -> Result<(), WireError> {
        self.failed = Some(error.clone());
        Err(error)
    }

    fn next_event(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            if let Some(event) = self.mux.poll_event() {
                return Ok(Some(event));
            }
            if self.mux.is_paused() {
                return Ok(None);
            }
            if let Some(cursor) = &mut self.batch {
                let Some(message) = cursor.next()? else {
                    self.batch = None;
                    continue;
                };
                if let Some(event) = self.deliver(message)? {
                    return Ok(Some(event));
                }
                continue;
            }
            let frame = match frame::take(&mut self.input, self.config.receive_frame_max)? {
                Next::Frame(frame) => frame,
                Next::Missing(bytes) => {
                    // Checked against the frame limit; strangers get no room ahead of their bytes.
                    if matches!(self.phase, Phase::Open(_)) {
                        self.input.reserve(bytes);
                    }
                    return Ok(None);
                }
            };
            if let Some(event) = self.handle_frame(frame)? {
                return Ok(Some(event));
            }
        }
    }

    fn handle_frame(&mut self, mut frame: BytesMut) -> Result<Option<Event>, WireError> {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                let step = handshake.receive(&frame[LENGTH_BYTES..])?;
                if let Some(reply) = step.reply {
                    self.outbox.push_plain_frame(&reply);
                }
                Ok(step.keys.map(|keys| self.start_streams(&keys)))
            }
            Phase::Header { receive, stream_id } => {
                let payload = &frame[LENGTH_BYTES..];
                let Ok(payload) = <&[u8; HEADER_FRAME_BYTES]>::try_from(payload) else {
                    let (expected, actual) = (HEADER_FRAME_BYTES, payload.len());
                    return Err(WireError::FrameLength { expected, actual });
                };
                let (id, header) = payload.split_at(stream_id.len());
                if id != stream_id {
                    return Err(WireError::StreamId);
                }
                let header = header.try_into().expect("what is left of the header frame");
                self.phase = Phase::Open(SecretStream::new(receive, header));
                Ok(None)
            }
            Phase::Open(stream) => {
                let number = self.frames_received;
                let received = stream
                    .open(&mut frame[LENGTH_BYTES..])
                    .map_err(|_| WireError::FrameAuthentication { number })?;
                if received == Received::Final {
                    return Err(WireError::StreamFinished);
                }
                self.frames_received += 1;
                let end = frame.len() + 1 - OVERHEAD_BYTES;
                self.handle_plain(frame.freeze().slice(LENGTH_BYTES + 1..end))
            }
        }
    }

    fn handle_plain(&mut self, plain: Bytes) -> Result<Option<Event>, WireError> {
        if plain.is_empty() {
            return Ok(None); // keeps the connection alive
        }
        let mut reader = Reader::new(&plain);
        let (channel, message_type) = (reader.uint()?, reader.uint()?);
        if channel == 0 && message_type == control::BATCH {
            let channel = reader.uint()?;
            let at = reader.position();
            self.batch = Some(BatchCursor {
                frame: plain,
                at,
                channel,
            });
            return Ok(None);
        }
        let body = plain.slice(reader.position()..);
        self.deliver(RawMessage {
            channel,
            message_type,
            body,
        })
    }

    fn deliver(&mut self, message: RawMessage) -> Result<Option<Event>, WireError> {
        let RawMessage {
            channel,
            message_type,
            body,
        } = message;
        self.mux
            .handle_message(&mut self.outbox, channel, message_type, body)
    }

    fn start_streams(&mut self, keys: &Keys) -> Event {
        let stream_id = |role: Role| {
            let number = match role {
                Role::Initiator => 0,
                Role::Responder => 1,
            };
            blake2b_256_keyed(&keys.hash, &[&hypercore_namespace::secret_stream(number)])
        };
        let header = &self.config.stream_header;
        let mut payload = [0; HEADER_FRAME_BYTES];
        payload[..STREAM_ID_BYTES].copy_from_slice(&stream_id(self.config.role));
        payload[STREAM_ID_BYTES..].copy_from_slice(header);
        self.outbox.push_plain_frame(&payload);
        self.outbox
            .start_stream(SecretStream::new(&keys.send, header));
        self.phase = Phase::Header {
            receive: keys.receive.clone(),
            stream_id: stream_id(self.config.role.other()),
        };
        Event::HandshakeComplete {
            hash: keys.hash,
            remote_static: keys.remote_static,
        }
    }
}

impl BatchCursor {
    fn next(&mut self) -> Result<Option<RawMessage>, WireError> {
        let mut reader = Reader::new(self.frame.get(self.at..).unwrap_or_default());
        while !reader.is_empty() {
            let length = reader.uint_max("batched message", self.frame.len())?;
            if length == 0 {
                self.channel = reader.uint()?;
                continue;
            }
            let start = self.at + reader.position();
            let mut message = Reader::new(reader.raw(length)?);
            let message_type = message.uint()?;
            let body = self.frame.slice(start + message.position()..start + length);
            self.at = start + length;
            return Ok(Some(RawMessage {
                channel: self.channel,
                message_type,
                body,
            }));
        }
        Ok(None)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("config", &self.config)
            .field("handshaking", &self.is_handshaking())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::decode_hex;

    /// A connection past its handshake, for frames in the clear.
    fn open_connection() -> Connection {
        let config = Config::new(Role::Initiator, [1; 32], [2; 32], [3; 24]);
        let mut connection = Connection::new(Time::ZERO, config);
        let stream = || SecretStream::new(&Secret::new([4; 32]), &[5; 24]);
        connection.outbox.start_stream(stream());
        connection.phase = Phase::Open(stream());
        connection
    }

    fn events(connection: &mut Connection, plain: &str) -> Vec<Event> {
        let plain = Bytes::from(decode_hex(plain).unwrap());
        let first = connection.handle_plain(plain).unwrap();
        let rest = std::iter::from_fn(|| connection.poll_event().unwrap());
        first.into_iter().chain(rest).collect()
    }

    #[test]
    fn frames_of_protomux_are_understood() {
        // Written by npm protomux 3.12.1: two opens, a message, a corked batch, a close.
        let id = [1; 32];
        let mut connection = open_connection();
        let open = format!(
            "0001010f{}20{}aabb",
            "6879706572636f72652f616c706861",
            "01".repeat(32)
        );
        let handshake = Bytes::from_static(&[0xaa, 0xbb]);
        let announced = Event::RemoteOpen {
            protocol: "hypercore/alpha".to_owned(),
            id: Some(Bytes::copy_from_slice(&id)),
            handshake: handshake.clone(),
        };
        assert_eq!(events(&mut connection, &open), [announced]);
        let one = connection.open("hypercore/alpha", Some(&id), b"").unwrap();
        let other = connection.open("hypercore/alpha", None, b"").unwrap();
        assert_eq!(
            connection.poll_event(),
            Ok(Some(Event::Opened {
                channel: one,
                handshake
            }))
        );
        let opened = Event::Opened {
            channel: other,
            handshake: Bytes::new(),
        };
        let open_no_id = "0001020f6879706572636f72652f616c70686100";
        assert_eq!(events(&mut connection, open_no_id), [opened]);

        let message = |channel, message_type, body: &[u8]| Event::Message {
            channel,
            message_type,
            body: Bytes::copy_from_slice(body),
        };
        assert_eq!(events(&mut connection, "010203"), [message(one, 2, &[3])]);
        let batch = "000001020203fd2d0109".to_owned()
            + &"07".repeat(300)
            + "00020300010200000203020001020500";
        let expected = [
            message(one, 2, &[3]),
            message(one, 9, &[7; 300]),
            message(other, 0, &[1, 2]),
            Event::Closed { channel: other },
            message(one, 5, &[0]),
        ];
        assert_eq!(events(&mut connection, &batch), expected);
        assert_eq!(
            events(&mut connection, "000301"),
            [Event::Closed { channel: one }]
        );
        assert_eq!(
            events(&mut connection, ""),
            [],
            "an empty frame keeps the connection alive"
        );
    }

    #[test]
    fn frames_without_meaning_end_the_connection() {
        for (plain, expected) in [
            ("00000002000000", WireError::NestedBatch),
            ("000201", WireError::InvalidReject { id: 1 }),
            ("0001020161", WireError::InvalidOpen { id: 2 }),
            ("000100016100", WireError::InvalidOpen { id: 0 }),
        ] {
            let mut connection = open_connection();
            let plain = plain.to_owned() + "00";
            let plain = Bytes::from(decode_hex(&plain).unwrap());
            let result = match connection.handle_plain(plain) {
                Ok(None) => connection.poll_event(),
                other => other,
            };
            assert_eq!(result, Err(expected));
        }
        for truncated in ["00", "0001", "000001", "00000105", "fd", "000101ff"] {
            let mut connection = open_connection();
            let plain = Bytes::from(decode_hex(truncated).unwrap());
            let result = match connection.handle_plain(plain) {
                Ok(None) => connection.poll_event(),
                other => other,
            };
            let silent = truncated == "000001"; // an empty batch
            assert!(
                silent || matches!(result, Err(WireError::Decode(_))),
                "{truncated}: {result:?}"
            );
        }
    }
}
