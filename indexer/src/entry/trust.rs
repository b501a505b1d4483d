//! What agents say about agents and events: recorded and shown, nothing follows from it yet.

use kinlog_feeds::crypto::AgentId;

use crate::Text;
use crate::entry::body::{fixed, text};
use crate::entry::marks::required;
use crate::entry::{BodyError, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{ATTEST_BYTES_MAX, REASON_BYTES_MAX, REGISTER_REPLACES_MAX};

/// A claim about an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attest {
    /// Whom it is about.
    pub about: AgentId,
    /// What is claimed.
    pub text: Text<ATTEST_BYTES_MAX>,
}

/// A statement that the author saw what an entry says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Witness {
    /// The entry.
    pub about: Ref,
    /// What was seen.
    pub text: Text<ATTEST_BYTES_MAX>,
}

/// Whether the author trusts an agent: a register for each of the two.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vouch {
    /// Who is trusted.
    pub about: AgentId,
    /// Whether; `false` takes an earlier vouch back.
    pub trusted: bool,
    /// Why, for people; may be empty.
    pub reason: Text<REASON_BYTES_MAX>,
    replaces: Vec<Ref>,
}

impl Vouch {
    /// Takes a vouch, and the at most [`REGISTER_REPLACES_MAX`] that it replaces.
    pub fn new(
        about: AgentId,
        trusted: bool,
        reason: Text<REASON_BYTES_MAX>,
        replaces: Vec<Ref>,
    ) -> Result<Self, BodyError> {
        Ok(Vouch {
            about,
            trusted,
            reason,
            replaces: at_most(replaces)?,
        })
    }

    /// Returns the same value, which replaces these writes instead.
    pub fn replacing(self, replaces: Vec<Ref>) -> Result<Self, BodyError> {
        Ok(Vouch {
            replaces: at_most(replaces)?,
            ..self
        })
    }

    /// Returns the writes that this one replaces.
    pub fn replaces(&self) -> &[Ref] {
        &self.replaces
    }
}

/// Checks the number of writes that a register replaces.
pub(crate) fn at_most(replaces: Vec<Ref>) -> Result<Vec<Ref>, BodyError> {
    if replaces.len() > REGISTER_REPLACES_MAX {
        return Err(BodyError::Value {
            field: "replaces",
            actual: replaces.len() as u64,
        });
    }
    Ok(replaces)
}

pub(crate) fn replaces_from_wire(replaces: Vec<wire::Ref>) -> Result<Vec<Ref>, BodyError> {
    let replaces = replaces.into_iter().take(REGISTER_REPLACES_MAX + 1);
    at_most(replaces.map(Ref::try_from).collect::<Result<_, _>>()?)
}

impl TryFrom<wire::Attest> for Attest {
    type Error = BodyError;

    fn try_from(body: wire::Attest) -> Result<Self, BodyError> {
        Ok(Attest {
            about: AgentId(fixed("about", &body.about)?),
            text: text("text", body.text)?,
        })
    }
}

impl From<&Attest> for wire::Attest {
    fn from(body: &Attest) -> Self {
        wire::Attest {
            about: body.about.0.to_vec().into(),
            text: body.text.to_string(),
        }
    }
}

impl TryFrom<wire::Witness> for Witness {
    type Error = BodyError;

    fn try_from(body: wire::Witness) -> Result<Self, BodyError> {
        Ok(Witness {
            about: required("about", body.about)?,
            text: text("text", body.text)?,
        })
    }
}

impl From<&Witness> for wire::Witness {
    fn from(body: &Witness) -> Self {
        wire::Witness {
            about: Some((&body.about).into()),
            text: body.text.to_string(),
        }
    }
}

impl TryFrom<wire::Vouch> for Vouch {
    type Error = BodyError;

    fn try_from(body: wire::Vouch) -> Result<Self, BodyError> {
        Vouch::new(
            AgentId(fixed("about", &body.about)?),
            body.trusted,
            text("reason", body.reason)?,
            replaces_from_wire(body.replaces)?,
        )
    }
}

impl From<&Vouch> for wire::Vouch {
    fn from(body: &Vouch) -> Self {
        wire::Vouch {
            about: body.about.0.to_vec().into(),
            trusted: body.trusted,
            reason: body.reason.to_string(),
            replaces: body.replaces.iter().map(Into::into).collect(),
        }
    }
}
