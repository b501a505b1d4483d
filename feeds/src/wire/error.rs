//! Why a connection ends, and why a message was not taken.

use crate::encoding::DecodeError;
use crate::wire::ChannelId;

/// Why a connection is over. All but the time-outs are the remote's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The handshake did not finish in time.
    #[error("handshake not finished within {seconds} s")]
    HandshakeTimeout { seconds: u64 },
    /// Nothing arrived for too long.
    #[error("nothing received for {seconds} s")]
    IdleTimeout { seconds: u64 },
    /// A frame longer than this side accepts.
    #[error("frame of {actual} bytes is above the limit of {limit}")]
    FrameTooLarge { limit: usize, actual: usize },
    /// A frame too short for what it must hold.
    #[error("frame of {actual} bytes, expected {expected}")]
    FrameLength { expected: usize, actual: usize },
    /// More bytes were handed in than one drain may leave behind.
    #[error("{actual} undrained input bytes are above the limit of {limit}")]
    InputOverflow { limit: usize, actual: usize },
    /// A Noise public key that is no point of the prime-order group.
    #[error("handshake key is not a valid point of the curve")]
    InvalidPoint,
    /// A handshake message whose authentication failed.
    #[error("handshake message does not authenticate")]
    HandshakeAuthentication,
    /// The secret stream's header frame names another stream.
    #[error("secret stream header names another stream")]
    StreamId,
    /// A frame of the secret stream whose authentication failed.
    #[error("frame {number} of the secret stream does not authenticate")]
    FrameAuthentication { number: u64 },
    /// The remote ended its secret stream.
    #[error("the remote ended its secret stream")]
    StreamFinished,
    /// A frame that does not decode as protomux.
    #[error("channel frame does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// An open that names an id the remote may not use now.
    #[error("remote opened channel {id}: that id is in use or skips one")]
    InvalidOpen { id: u64 },
    /// A reject of a channel that was not being opened.
    #[error("remote rejected channel {id}, which is not being opened")]
    InvalidReject { id: u64 },
    /// A batch inside a batch.
    #[error("batch inside a batch")]
    NestedBatch,
    /// More channels than allowed.
    #[error("remote opened more than {limit} channels")]
    TooManyChannels { limit: usize },
}

/// Why a message was not taken for sending.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is closed or was never opened.
    #[error("channel {channel:?} is not open")]
    NotOpen { channel: ChannelId },
    /// The message does not fit a frame that the remote accepts.
    #[error("message of {actual} bytes is above the remote's frame limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// The remote does not read: the driver should have stopped at `is_writable`.
    #[error("{actual} bytes wait to be sent, the limit is {limit}")]
    QueueFull { limit: usize, actual: usize },
    /// As many channels are open as a session may hold.
    #[error("{limit} channels are open already")]
    TooManyChannels { limit: usize },
    /// The handshake is not done yet.
    #[error("the handshake is not done yet")]
    NotReady,
    /// A channel of that protocol and id is open on this side already.
    #[error("channel {channel:?} has that protocol and id already")]
    AlreadyOpen { channel: ChannelId },
}
