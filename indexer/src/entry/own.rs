//! What an agent keeps for itself on all its devices: petnames, preferences, pins. Registers, but for the
//! pin, which is the value of a setting.

use kinlog_feeds::crypto::AgentId;
use prost::Message as _;

use crate::Text;
use crate::entry::body::{fixed, message, tag, text};
use crate::entry::trust::{at_most, replaces_from_wire};
use crate::entry::{BodyError, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{
    CONTACT_NOTE_BYTES_MAX, NAME_BYTES_MAX, PIN_REASON_BYTES_MAX, PIN_TIER_BYTES_MAX,
    PREFERENCE_BYTES_MAX, PREFERENCE_NAME_BYTES_MAX,
};

/// What the author calls an agent, whatever that agent calls itself: a register for each agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    /// Whom.
    pub about: AgentId,
    /// The name; `None` ends the contact.
    pub petname: Option<Text<NAME_BYTES_MAX>>,
    /// A few words for oneself; may be empty.
    pub note: Text<CONTACT_NOTE_BYTES_MAX>,
    replaces: Vec<Ref>,
}

impl Contact {
    /// Takes a contact, and the at most
    /// [`REGISTER_REPLACES_MAX`](crate::limits::REGISTER_REPLACES_MAX) writes that it replaces.
    pub fn new(
        about: AgentId,
        petname: Option<Text<NAME_BYTES_MAX>>,
        note: Text<CONTACT_NOTE_BYTES_MAX>,
        replaces: Vec<Ref>,
    ) -> Result<Self, BodyError> {
        Ok(Contact {
            about,
            petname,
            note,
            replaces: at_most(replaces)?,
        })
    }

    /// Returns the same value, which replaces these writes instead.
    pub fn replacing(self, replaces: Vec<Ref>) -> Result<Self, BodyError> {
        Ok(Contact {
            replaces: at_most(replaces)?,
            ..self
        })
    }

    /// Returns the writes that this one replaces.
    pub fn replaces(&self) -> &[Ref] {
        &self.replaces
    }
}

/// What the author likes some part of Kinlog to do: a register for each name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Preference {
    /// Name of the preference.
    pub name: Text<PREFERENCE_NAME_BYTES_MAX>,
    /// Its value; `None` takes an earlier one back.
    pub value: Option<Text<PREFERENCE_BYTES_MAX>>,
    replaces: Vec<Ref>,
}

impl Preference {
    /// Takes a preference, and the at most
    /// [`REGISTER_REPLACES_MAX`](crate::limits::REGISTER_REPLACES_MAX) writes that it replaces.
    pub fn new(
        name: Text<PREFERENCE_NAME_BYTES_MAX>,
        value: Option<Text<PREFERENCE_BYTES_MAX>>,
        replaces: Vec<Ref>,
    ) -> Result<Self, BodyError> {
        Ok(Preference {
            name,
            value,
            replaces: at_most(replaces)?,
        })
    }

    /// Returns the same value, which replaces these writes instead.
    pub fn replacing(self, replaces: Vec<Ref>) -> Result<Self, BodyError> {
        Ok(Preference {
            replaces: at_most(replaces)?,
            ..self
        })
    }

    /// Returns the writes that this one replaces.
    pub fn replaces(&self) -> &[Ref] {
        &self.replaces
    }
}

/// How something is kept: the value of a setting that names what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinSetting {
    /// Also what is appended later.
    pub live: bool,
    /// Who it is for: what goes last when room runs out.
    pub tier: Text<PIN_TIER_BYTES_MAX>,
    /// Why, for people.
    pub reason: Text<PIN_REASON_BYTES_MAX>,
    /// How many times links in documents are followed.
    pub depth: u8,
}

impl PinSetting {
    /// Returns the pin as it stands in a setting.
    pub fn encode(&self) -> Vec<u8> {
        let body = wire::PinSetting {
            live: self.live,
            tier: self.tier.to_string(),
            reason: self.reason.to_string(),
            depth: self.depth.into(),
        };
        body.encode_to_vec()
    }

    /// Reads the value of a setting.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let body = message::<wire::PinSetting>(tag::SETTING, &bytes)?;
        let depth = u64::from(body.depth);
        Ok(PinSetting {
            live: body.live,
            tier: text("tier", body.tier)?,
            reason: text("reason", body.reason)?,
            depth: u8::try_from(depth).map_err(|_| BodyError::Value {
                field: "depth",
                actual: depth,
            })?,
        })
    }
}

impl TryFrom<wire::Contact> for Contact {
    type Error = BodyError;

    fn try_from(body: wire::Contact) -> Result<Self, BodyError> {
        let petname = body.petname.map(|petname| text("petname", petname));
        Contact::new(
            AgentId(fixed("about", &body.about)?),
            petname.transpose()?,
            text("note", body.note)?,
            replaces_from_wire(body.replaces)?,
        )
    }
}

impl From<&Contact> for wire::Contact {
    fn from(body: &Contact) -> Self {
        wire::Contact {
            about: body.about.0.to_vec().into(),
            petname: body.petname.as_ref().map(ToString::to_string),
            note: body.note.to_string(),
            replaces: body.replaces.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Preference> for Preference {
    type Error = BodyError;

    fn try_from(body: wire::Preference) -> Result<Self, BodyError> {
        let value = body.value.map(|value| text("value", value));
        Preference::new(
            text("name", body.name)?,
            value.transpose()?,
            replaces_from_wire(body.replaces)?,
        )
    }
}

impl From<&Preference> for wire::Preference {
    fn from(body: &Preference) -> Self {
        wire::Preference {
            name: body.name.to_string(),
            value: body.value.as_ref().map(ToString::to_string),
            replaces: body.replaces.iter().map(Into::into).collect(),
        }
    }
}
