//! What an agent says in the open: profile, documents.

use crate::Text;
use crate::entry::body::text;
use crate::entry::trust::{at_most, replaces_from_wire};
use crate::entry::{BodyError, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{
    ABOUT_BYTES_MAX, DOCUMENT_BYTES_MAX, LANGUAGE_BYTES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX,
};

/// What an agent calls itself: everywhere when written to a public feed, in a room when there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profile {
    /// Name as shown; not unique, not verified.
    pub name: Text<NAME_BYTES_MAX>,
    /// A few words about themselves; may be empty.
    pub about: Text<ABOUT_BYTES_MAX>,
    replaces: Vec<Ref>,
}

impl Profile {
    /// Says a name, and nothing else; it replaces no earlier profile.
    pub fn named(name: Text<NAME_BYTES_MAX>) -> Self {
        Profile {
            name,
            about: Text::default(),
            replaces: Vec::new(),
        }
    }

    /// Takes a profile, and the at most [`REGISTER_REPLACES_MAX`](crate::limits::REGISTER_REPLACES_MAX)
    /// that it replaces.
    pub fn new(
        name: Text<NAME_BYTES_MAX>,
        about: Text<ABOUT_BYTES_MAX>,
        replaces: Vec<Ref>,
    ) -> Result<Self, BodyError> {
        Ok(Profile {
            name,
            about,
            replaces: at_most(replaces)?,
        })
    }

    /// Returns the same value, which replaces these writes instead.
    pub fn replacing(self, replaces: Vec<Ref>) -> Result<Self, BodyError> {
        Ok(Profile {
            replaces: at_most(replaces)?,
            ..self
        })
    }

    /// Returns the writes that this one replaces.
    pub fn replaces(&self) -> &[Ref] {
        &self.replaces
    }
}

/// A searchable text under one of the author's paths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// Title, often the file's name.
    pub title: Text<NAME_BYTES_MAX>,
    /// The text.
    pub text: Text<DOCUMENT_BYTES_MAX>,
    /// MIME type, such as `text/markdown`.
    pub mime: Text<MIME_BYTES_MAX>,
    /// Language as BCP 47 has it, or nothing.
    pub language: Text<LANGUAGE_BYTES_MAX>,
}

impl TryFrom<wire::Profile> for Profile {
    type Error = BodyError;

    fn try_from(body: wire::Profile) -> Result<Self, BodyError> {
        Profile::new(
            text("name", body.name)?,
            text("about", body.about)?,
            replaces_from_wire(body.replaces)?,
        )
    }
}

impl From<&Profile> for wire::Profile {
    fn from(body: &Profile) -> Self {
        wire::Profile {
            name: body.name.to_string(),
            about: body.about.to_string(),
            replaces: body.replaces.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Document> for Document {
    type Error = BodyError;

    fn try_from(body: wire::Document) -> Result<Self, BodyError> {
        Ok(Document {
            title: text("title", body.title)?,
            text: text("text", body.text)?,
            mime: text("mime", body.mime)?,
            language: text("language", body.language)?,
        })
    }
}

impl From<&Document> for wire::Document {
    fn from(body: &Document) -> Self {
        wire::Document {
            title: body.title.to_string(),
            text: body.text.to_string(),
            mime: body.mime.to_string(),
            language: body.language.to_string(),
        }
    }
}
