//! What an agent says in the open: profile, directory, documents.

use kinlog_feeds::crypto::{FeedKey, Hash};
use kinlog_feeds::limits::UINT_MAX;

use crate::Text;
use crate::entry::BodyError;
use crate::entry::body::{fixed, text};
use crate::generated::kinlog_entry_v0 as wire;
use crate::limits::{
    DIRECTORY_HEADS_MAX, DOCUMENT_BYTES_MAX, KIND_BYTES_MAX, LABEL_BYTES_MAX, LANGUAGE_BYTES_MAX,
    MIME_BYTES_MAX, NAME_BYTES_MAX,
};

/// What an agent calls itself: everywhere when written to a public feed, in a room when there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profile {
    /// Name as shown; not unique, not verified.
    pub name: Text<NAME_BYTES_MAX>,
}

/// What the blocks of a feed are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Content {
    /// Entries: indexed.
    Entries,
    /// Raw bytes: kept and served, not indexed.
    Bytes,
}

impl Content {
    /// Returns the word that `index.db` and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Content::Entries => "entries",
            Content::Bytes => "bytes",
        }
    }
}

/// One feed of a device's public directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryLine {
    /// Path without the leading slash missing: `/notes`.
    pub label: Text<LABEL_BYTES_MAX>,
    /// Kind of path, fixed at creation: `log`, `shared`.
    pub kind: Text<KIND_BYTES_MAX>,
    /// What its blocks are.
    pub content: Content,
    /// The feed: what readers use.
    pub feed: FeedKey,
    /// The id the owner derived the feed's key from.
    pub feed_id: [u8; 16],
}

/// Another label for a feed of the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryRename {
    /// The feed.
    pub feed: FeedKey,
    /// Its label from now on.
    pub label: Text<LABEL_BYTES_MAX>,
}

/// Where the readers of an old label go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryRedirect {
    /// The old label.
    pub from: Text<LABEL_BYTES_MAX>,
    /// The new one.
    pub to: Text<LABEL_BYTES_MAX>,
}

/// A signed head, as a directory commits to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The feed.
    pub feed: FeedKey,
    /// Its length in blocks.
    pub length: u64,
    /// Its tree hash at that length.
    pub tree_hash: Hash,
}

/// The heads of those of the device's feeds that moved since the last commitment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DirectoryHeads {
    heads: Vec<Head>,
}

impl DirectoryHeads {
    /// Takes at most [`DIRECTORY_HEADS_MAX`] heads.
    pub fn new(heads: Vec<Head>) -> Result<Self, BodyError> {
        if heads.len() > DIRECTORY_HEADS_MAX {
            return Err(BodyError::Value {
                field: "heads",
                actual: heads.len() as u64,
            });
        }
        Ok(DirectoryHeads { heads })
    }

    /// Returns the heads.
    pub fn heads(&self) -> &[Head] {
        &self.heads
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
        Ok(Profile {
            name: text("name", body.name)?,
        })
    }
}

impl From<&Profile> for wire::Profile {
    fn from(body: &Profile) -> Self {
        wire::Profile {
            name: body.name.to_string(),
        }
    }
}

impl TryFrom<wire::DirectoryLine> for DirectoryLine {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryLine) -> Result<Self, BodyError> {
        let content = match body.content {
            0 => Content::Entries,
            1 => Content::Bytes,
            other => {
                return Err(BodyError::Value {
                    field: "content",
                    actual: u64::from(other),
                });
            }
        };
        Ok(DirectoryLine {
            label: text("label", body.label)?,
            kind: text("kind", body.kind)?,
            content,
            feed: FeedKey(fixed("feed_key", &body.feed_key)?),
            feed_id: fixed("feed_id", &body.feed_id)?,
        })
    }
}

impl From<&DirectoryLine> for wire::DirectoryLine {
    fn from(body: &DirectoryLine) -> Self {
        wire::DirectoryLine {
            label: body.label.to_string(),
            kind: body.kind.to_string(),
            content: match body.content {
                Content::Entries => 0,
                Content::Bytes => 1,
            },
            feed_key: body.feed.0.to_vec().into(),
            feed_id: body.feed_id.to_vec().into(),
        }
    }
}

impl TryFrom<wire::DirectoryRename> for DirectoryRename {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryRename) -> Result<Self, BodyError> {
        let feed = FeedKey(fixed("feed_key", &body.feed_key)?);
        Ok(DirectoryRename {
            feed,
            label: text("label", body.label)?,
        })
    }
}

impl From<&DirectoryRename> for wire::DirectoryRename {
    fn from(body: &DirectoryRename) -> Self {
        let feed_key = body.feed.0.to_vec().into();
        wire::DirectoryRename {
            feed_key,
            label: body.label.to_string(),
        }
    }
}

impl TryFrom<wire::DirectoryRedirect> for DirectoryRedirect {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryRedirect) -> Result<Self, BodyError> {
        let from = text("from_label", body.from_label)?;
        Ok(DirectoryRedirect {
            from,
            to: text("to_label", body.to_label)?,
        })
    }
}

impl From<&DirectoryRedirect> for wire::DirectoryRedirect {
    fn from(body: &DirectoryRedirect) -> Self {
        wire::DirectoryRedirect {
            from_label: body.from.to_string(),
            to_label: body.to.to_string(),
        }
    }
}

impl TryFrom<wire::DirectoryHeads> for DirectoryHeads {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryHeads) -> Result<Self, BodyError> {
        let heads = body
            .heads
            .into_iter()
            .map(|head| {
                if head.length > UINT_MAX {
                    return Err(BodyError::Value {
                        field: "length",
                        actual: head.length,
                    });
                }
                Ok(Head {
                    feed: FeedKey(fixed("feed_key", &head.feed_key)?),
                    length: head.length,
                    tree_hash: Hash(fixed("tree_hash", &head.tree_hash)?),
                })
            })
            .collect::<Result<Vec<Head>, BodyError>>()?;
        DirectoryHeads::new(heads)
    }
}

impl From<&DirectoryHeads> for wire::DirectoryHeads {
    fn from(body: &DirectoryHeads) -> Self {
        let heads = body
            .heads
            .iter()
            .map(|head| wire::directory_heads::Head {
                feed_key: head.feed.0.to_vec().into(),
                length: head.length,
                tree_hash: head.tree_hash.0.to_vec().into(),
            })
            .collect();
        wire::DirectoryHeads { heads }
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
