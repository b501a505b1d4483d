//! One connection: bytes in, events out; messages in, bytes out.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::Time;
use crate::wire::hypercore::Message;
use crate::wire::{Config, Role, SendError, WireError};

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
    input: BytesMut,
}

impl Connection {
    /// Starts a connection at `now`; the initiator's first handshake message is ready to be sent.
    pub fn new(_now: Time, config: Config) -> Self {
        Connection {
            config,
            input: BytesMut::new(),
        }
    }

    /// Takes bytes from the remote; pair with [`poll_event`](Self::poll_event).
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) -> Result<(), WireError> {
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
    pub fn handle_input(&mut self, _now: Time) -> Result<(), WireError> {
        Ok(())
    }

    /// Returns the next event, decrypting and decoding as far as needed.
    ///
    /// Call until `None` after every `handle_*`. An error ends the connection.
    pub fn poll_event(&mut self) -> Result<Option<Event>, WireError> {
        Ok(None)
    }

    /// Returns the next bytes for the remote. Call until `None` after every drain.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        None
    }

    /// Lets the time pass; an error ends the connection.
    pub fn handle_timeout(&mut self, _now: Time) -> Result<(), WireError> {
        Ok(())
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// Opens a channel, or answers the remote's open of the same protocol and id.
    ///
    /// Messages may be sent at once: the remote keeps them until it has opened too.
    pub fn open(
        &mut self,
        _protocol: &str,
        _id: Option<&[u8]>,
        _handshake: &[u8],
    ) -> Result<ChannelId, SendError> {
        Err(SendError::Closed)
    }

    /// Rejects the channel that the remote opened; does nothing if there is none.
    pub fn reject_remote(&mut self, _protocol: &str, _id: Option<&[u8]>) {}

    /// Closes a channel; no event follows. Does nothing if it is closed already.
    pub fn close(&mut self, _channel: ChannelId) {}

    /// Sends a message; it leaves with the next [`poll_transmit`](Self::poll_transmit).
    pub fn send(
        &mut self,
        channel: ChannelId,
        _message_type: u64,
        _body: &[u8],
    ) -> Result<(), SendError> {
        Err(SendError::NotOpen { channel })
    }

    /// Sends a Hypercore message, encoding it straight into the outgoing frame.
    pub fn send_message(
        &mut self,
        channel: ChannelId,
        _message: &Message,
    ) -> Result<(), SendError> {
        Err(SendError::NotOpen { channel })
    }

    /// Accepts frames of up to `bytes` from now on.
    pub fn set_receive_frame_max(&mut self, bytes: usize) {
        self.config.receive_frame_max = bytes;
    }

    /// Sends frames of up to `bytes` from now on: what the remote announced.
    pub fn set_send_frame_max(&mut self, bytes: usize) {
        self.config.send_frame_max = bytes;
    }

    /// Returns which side this is.
    pub fn role(&self) -> Role {
        self.config.role
    }

    /// Returns whether the remote keeps up: fewer than
    /// [`SEND_QUEUE_BYTES`](crate::limits::SEND_QUEUE_BYTES) wait to be sent.
    pub fn is_writable(&self) -> bool {
        true
    }

    /// Returns whether more input is of use; false while channels of the remote wait for an
    /// answer and their messages fill the buffer.
    pub fn wants_input(&self) -> bool {
        true
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
