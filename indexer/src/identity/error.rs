//! Identity sets that do not decode or do not hold.

use kinlog_feeds::crypto::{AgentId, SignatureError};
use kinlog_feeds::encoding::DecodeError;

use crate::identity::CardError;

/// An identity set that does not decode or does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Damaged bytes.
    #[error("identity set")]
    Decode(#[from] DecodeError),
    /// Above 64 KiB.
    #[error("identity set of {actual} bytes is above the limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// More than 256 statements.
    #[error("identity set of {actual} statements is above the limit of {limit}")]
    TooMany { limit: usize, actual: usize },
    /// A statement that names more than 8 others.
    #[error("statement names {actual} others, above the limit of {limit}")]
    TooManyNames { limit: usize, actual: usize },
    /// Written by a build with another format.
    #[error("identity statement of format {actual}, this build has {expected}")]
    OtherFormat { expected: u16, actual: u16 },
    /// A name that is no text.
    #[error("name at byte {at} is not utf-8")]
    NotUtf8 { at: usize },
    /// Statements, or the hashes that one names, out of order or twice: a set has one spelling.
    #[error("number {number} is out of order or twice")]
    NotCanonical { number: usize },
    /// A statement about another agent.
    #[error("statement about {actual} in the set of {expected}")]
    OtherAgent { expected: AgentId, actual: AgentId },
    /// A signature that does not hold.
    #[error("statement {number}")]
    Signature {
        number: usize,
        source: SignatureError,
    },
    /// A device that did not accept to be this agent's, or a directory to be the device's.
    #[error("card in statement {number}")]
    Card { number: usize, source: CardError },
    /// A device that is to write and has no directories.
    #[error("statement {number} lets a device write that has no directories")]
    WritesNowhere { number: usize },
    /// A root that did not accept to be this agent's.
    #[error("acceptance in statement {number}")]
    Acceptance {
        number: usize,
        source: SignatureError,
    },
    /// No statement that counts.
    #[error("no device of {agent} in the set")]
    Empty { agent: AgentId },
}
