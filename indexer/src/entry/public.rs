//! What an agent says in the open: profile, documents.

use crate::Text;
use crate::entry::body::text;
use crate::entry::trust::{at_most, replaces_from_wire};
use crate::entry::{BodyError, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{
    ABOUT_BYTES_MAX, DOCUMENT_BYTES_MAX, LANGUAGE_BYTES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX,
    PROFILE_SIGNAL_BYTES_MAX, PROFILE_SIGNALS_MAX,
};

/// What an agent calls itself: everywhere when written to a public feed, in a room when there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profile {
    /// Name as shown; not unique, not verified.
    pub name: Text<NAME_BYTES_MAX>,
    /// A few words about themselves; may be empty.
    pub about: Text<ABOUT_BYTES_MAX>,
    replaces: Vec<Ref>,
    signal_urls: Vec<String>,
}

impl Profile {
    /// Says a name, and nothing else; it replaces no earlier profile.
    pub fn named(name: Text<NAME_BYTES_MAX>) -> Self {
        Profile {
            name,
            about: Text::default(),
            replaces: Vec::new(),
            signal_urls: Vec::new(),
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
            signal_urls: Vec::new(),
        })
    }

    /// Lists signal servers at which the author is met: the first
    /// [`PROFILE_SIGNALS_MAX`](crate::limits::PROFILE_SIGNALS_MAX) of those that are no longer than
    /// [`PROFILE_SIGNAL_BYTES_MAX`](crate::limits::PROFILE_SIGNAL_BYTES_MAX).
    #[must_use]
    pub fn meeting_at(mut self, signal_urls: Vec<String>) -> Self {
        self.signal_urls = signal_urls;
        self.signal_urls
            .retain(|url| url.len() <= PROFILE_SIGNAL_BYTES_MAX);
        self.signal_urls.truncate(PROFILE_SIGNALS_MAX);
        self
    }

    /// Returns the signal servers at which the author says to be met, as they were written.
    pub fn signal_urls(&self) -> &[String] {
        &self.signal_urls
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
        let profile = Profile::new(
            text("name", body.name)?,
            text("about", body.about)?,
            replaces_from_wire(body.replaces)?,
        )?;
        // What a later build may say there, and what is none, takes nothing from the name.
        Ok(profile.meeting_at(body.signal_urls))
    }
}

impl From<&Profile> for wire::Profile {
    fn from(body: &Profile) -> Self {
        wire::Profile {
            name: body.name.to_string(),
            about: body.about.to_string(),
            replaces: body.replaces.iter().map(Into::into).collect(),
            signal_urls: body.signal_urls.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_lists_a_few_servers_and_nothing_said_there_takes_its_name() {
        let url = |length: usize| format!("wss://{}", "x".repeat(length - 6));
        let listed = [
            vec![url(PROFILE_SIGNAL_BYTES_MAX); 3],
            vec![url(257), String::new()],
        ];
        let sent = wire::Profile {
            name: "Ada".to_owned(),
            signal_urls: [listed.concat(), vec![url(9); 100]].concat(),
            ..wire::Profile::default()
        };
        let profile = Profile::try_from(sent).unwrap();
        assert_eq!(&*profile.name, "Ada");
        let lengths: Vec<usize> = profile.signal_urls().iter().map(String::len).collect();
        assert_eq!(lengths, [256, 256, 256, 0]);
        let again = Profile::try_from(wire::Profile::from(&profile)).unwrap();
        assert_eq!(again, profile);
        let replaced = profile.clone().replacing(Vec::new()).unwrap();
        assert_eq!(replaced.signal_urls(), profile.signal_urls());
    }
}
