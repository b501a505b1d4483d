//! What is said about messages: reactions, edits, deletions. Each names its message by feed and
//! index.

use kinlog_feeds::crypto::AgentId;

use crate::Text;
use crate::entry::body::{fixed, text};
use crate::entry::{BodyError, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{EMOJI_BYTES_MAX, MENTIONS_MAX, MESSAGE_BYTES_MAX, REACTION_REMOVES_MAX};

/// Agents that a message names, ascending and each once, at most [`MENTIONS_MAX`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mentions(Vec<AgentId>);

impl Mentions {
    /// Takes agents in any order; `None` when there are more than [`MENTIONS_MAX`].
    pub fn new(agents: impl IntoIterator<Item = AgentId>) -> Option<Self> {
        let mut agents: Vec<AgentId> = agents.into_iter().collect();
        agents.sort_unstable();
        agents.dedup();
        (agents.len() <= MENTIONS_MAX).then_some(Mentions(agents))
    }

    /// Returns the agents.
    pub fn agents(&self) -> &[AgentId] {
        &self.0
    }

    pub(crate) fn from_wire(mentions: &[bytes::Bytes]) -> Result<Self, BodyError> {
        let agents: Vec<AgentId> = mentions
            .iter()
            .map(|agent| Ok(AgentId(fixed("mentions", agent)?)))
            .collect::<Result<_, BodyError>>()?;
        if !agents.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(BodyError::Order { field: "mentions" });
        }
        let actual = agents.len() as u64;
        Mentions::new(agents).ok_or(BodyError::Value {
            field: "mentions",
            actual,
        })
    }

    pub(crate) fn to_wire(&self) -> Vec<bytes::Bytes> {
        self.0.iter().map(|agent| agent.0.to_vec().into()).collect()
    }
}

/// A reaction to a message, or the end of some: a set to which entries add and from which they
/// take what they name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reaction {
    /// The message.
    pub target: Ref,
    /// What is added; nothing where reactions are only taken back.
    pub emoji: Text<EMOJI_BYTES_MAX>,
    removes: Vec<Ref>,
}

impl Reaction {
    /// Takes a reaction, or at most [`REACTION_REMOVES_MAX`] own ones to take back.
    pub fn new(
        target: Ref,
        emoji: Text<EMOJI_BYTES_MAX>,
        removes: Vec<Ref>,
    ) -> Result<Self, BodyError> {
        if removes.len() > REACTION_REMOVES_MAX {
            return Err(BodyError::Value {
                field: "removes",
                actual: removes.len() as u64,
            });
        }
        Ok(Reaction {
            target,
            emoji,
            removes,
        })
    }

    /// Returns the entries whose reactions are taken back.
    pub fn removes(&self) -> &[Ref] {
        &self.removes
    }
}

/// Another text for a message; counts when the message is the author's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// The message.
    pub target: Ref,
    /// What it says from now on.
    pub text: Text<MESSAGE_BYTES_MAX>,
    /// Whom it names from now on.
    pub mentions: Mentions,
}

pub(crate) fn required(field: &'static str, body: Option<wire::Ref>) -> Result<Ref, BodyError> {
    body.ok_or(BodyError::Missing { field })?.try_into()
}

impl TryFrom<wire::Reaction> for Reaction {
    type Error = BodyError;

    fn try_from(body: wire::Reaction) -> Result<Self, BodyError> {
        let removes = body.removes.into_iter().take(REACTION_REMOVES_MAX + 1);
        Reaction::new(
            required("target", body.target)?,
            text("emoji", body.emoji)?,
            removes.map(Ref::try_from).collect::<Result<_, _>>()?,
        )
    }
}

impl From<&Reaction> for wire::Reaction {
    fn from(body: &Reaction) -> Self {
        wire::Reaction {
            target: Some((&body.target).into()),
            emoji: body.emoji.to_string(),
            removes: body.removes.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Edit> for Edit {
    type Error = BodyError;

    fn try_from(body: wire::Edit) -> Result<Self, BodyError> {
        Ok(Edit {
            target: required("target", body.target)?,
            text: text("text", body.text)?,
            mentions: Mentions::from_wire(&body.mentions)?,
        })
    }
}

impl From<&Edit> for wire::Edit {
    fn from(body: &Edit) -> Self {
        wire::Edit {
            target: Some((&body.target).into()),
            text: body.text.to_string(),
            mentions: body.mentions.to_wire(),
        }
    }
}
