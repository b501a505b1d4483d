//! The bodies of entries, and the border where protobuf becomes values.

use bytes::Bytes;
use prost::Message as _;

use crate::entry::{
    Act, Attest, Cleared, Contact, DirectoryHeads, DirectoryLine, DirectoryRedirect,
    DirectoryRename, DirectoryRetire, Document, Edit, EpochKeys, File, Message, OwnEpoch,
    Preference, Profile, Reaction, RoomKeys, Setting, Snapshot, SnapshotPage, Tombstone, Vouch,
    Witness,
};
use crate::generated::kinlog_entry_v1 as wire;
use crate::{BODY_FORMAT, TextError};

/// Body tags. A number, once given, keeps its meaning.
pub mod tag {
    /// [`Profile`](super::Profile)
    pub const PROFILE: u64 = 1;
    /// [`DirectoryLine`](super::DirectoryLine)
    pub const DIRECTORY_LINE: u64 = 2;
    /// [`DirectoryRename`](super::DirectoryRename)
    pub const DIRECTORY_RENAME: u64 = 3;
    /// [`DirectoryRedirect`](super::DirectoryRedirect)
    pub const DIRECTORY_REDIRECT: u64 = 4;
    /// [`DirectoryHeads`](super::DirectoryHeads)
    pub const DIRECTORY_HEADS: u64 = 5;
    /// [`Document`](super::Document)
    pub const DOCUMENT: u64 = 6;
    /// [`SnapshotPage`](super::SnapshotPage)
    pub const SNAPSHOT_PAGE: u64 = 7;
    /// [`Snapshot`](super::Snapshot)
    pub const SNAPSHOT: u64 = 8;
    /// [`DirectoryRetire`](super::DirectoryRetire)
    pub const DIRECTORY_RETIRE: u64 = 9;
    /// [`OwnEpoch`](super::OwnEpoch)
    pub const OWN_EPOCH: u64 = 12;
    /// [`Setting`](super::Setting)
    pub const SETTING: u64 = 13;
    /// [`Contact`](super::Contact)
    pub const CONTACT: u64 = 14;
    /// [`RoomKeys`](super::RoomKeys)
    pub const ROOM_KEYS: u64 = 15;
    /// [`Deed::Genesis`](crate::entry::Deed::Genesis)
    pub const GENESIS: u64 = 16;
    /// [`Deed::Admit`](crate::entry::Deed::Admit)
    pub const ADMIT: u64 = 17;
    /// [`Message`](super::Message)
    pub const MESSAGE: u64 = 18;
    /// [`File`](super::File)
    pub const FILE: u64 = 19;
    /// [`Deed::Invite`](crate::entry::Deed::Invite)
    pub const INVITE: u64 = 20;
    /// [`Deed::Role`](crate::entry::Deed::Role)
    pub const ROLE: u64 = 21;
    /// [`Deed::Remove`](crate::entry::Deed::Remove)
    pub const REMOVE: u64 = 22;
    /// [`Deed::Leave`](crate::entry::Deed::Leave)
    pub const LEAVE: u64 = 23;
    /// [`Deed::DeviceJoin`](crate::entry::Deed::DeviceJoin)
    pub const DEVICE_JOIN: u64 = 24;
    /// [`Deed::DeviceRevoke`](crate::entry::Deed::DeviceRevoke)
    pub const DEVICE_REVOKE: u64 = 25;
    /// [`Deed::InviteRevoke`](crate::entry::Deed::InviteRevoke)
    pub const INVITE_REVOKE: u64 = 26;
    /// [`Deed::Epoch`](crate::entry::Deed::Epoch)
    pub const EPOCH: u64 = 27;
    /// [`Deed::Grant`](crate::entry::Deed::Grant)
    pub const GRANT: u64 = 28;
    /// [`Deed::GrantRevoke`](crate::entry::Deed::GrantRevoke)
    pub const GRANT_REVOKE: u64 = 29;
    /// [`EpochKeys`](super::EpochKeys)
    pub const EPOCH_KEYS: u64 = 30;
    /// [`Reaction`](super::Reaction)
    pub const REACTION: u64 = 31;
    /// [`Edit`](super::Edit)
    pub const EDIT: u64 = 32;
    /// [`Tombstone`](super::Tombstone)
    pub const TOMBSTONE: u64 = 33;
    /// [`Attest`](super::Attest)
    pub const ATTEST: u64 = 34;
    /// [`Witness`](super::Witness)
    pub const WITNESS: u64 = 35;
    /// [`Vouch`](super::Vouch)
    pub const VOUCH: u64 = 36;
    /// [`Preference`](super::Preference)
    pub const PREFERENCE: u64 = 37;
    /// [`Cleared`](super::Cleared)
    pub const CLEARED: u64 = 38;
    /// [`Deed::Delete`](crate::entry::Deed::Delete)
    pub const DELETE: u64 = 39;

    /// Returns whether entries with this tag are acts: they decide who is in a room.
    pub const fn is_act(tag: u64) -> bool {
        matches!(tag, GENESIS | ADMIT | INVITE..=GRANT_REVOKE | DELETE)
    }
}

/// A body that this build does not read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A tag or format that this build does not know; not an error of the writer.
    #[error("body {tag} in format {format:#x} is newer than this build")]
    Newer { tag: u64, format: u64 },
    /// Bytes that are no protobuf of this tag (includes text that is not UTF-8).
    #[error("body {tag} is no valid protobuf: {reason}")]
    Protobuf { tag: u64, reason: String },
    /// Text above its limit.
    #[error("field {field}")]
    Text {
        field: &'static str,
        source: TextError,
    },
    /// A key, hash or id of the wrong length.
    #[error("field {field}: {actual} bytes instead of {expected}")]
    Length {
        field: &'static str,
        expected: usize,
        actual: usize,
    },
    /// A number outside its range.
    #[error("field {field}: value {actual} is not allowed")]
    Value { field: &'static str, actual: u64 },
    /// Items that do not stand in their order.
    #[error("field {field}: not in order")]
    Order { field: &'static str },
    /// A field that must be there.
    #[error("field {field} is missing")]
    Missing { field: &'static str },
}

/// What an entry says.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// What the author calls themselves.
    Profile(Profile),
    /// A feed under a label.
    DirectoryLine(DirectoryLine),
    /// Another label for a feed.
    DirectoryRename(DirectoryRename),
    /// Where a label went.
    DirectoryRedirect(DirectoryRedirect),
    /// Heads that the device vouches for.
    DirectoryHeads(DirectoryHeads),
    /// A searchable text.
    Document(Document),
    /// Part of a directory put together.
    SnapshotPage(SnapshotPage),
    /// A directory put together.
    Snapshot(Snapshot),
    /// A feed that is listed no more.
    DirectoryRetire(DirectoryRetire),
    /// An epoch of the own devices.
    OwnEpoch(OwnEpoch),
    /// A value that the own devices share.
    Setting(Setting),
    /// What the author calls an agent.
    Contact(Contact),
    /// What the author likes some part to do.
    Preference(Preference),
    /// What the own devices need of a room.
    RoomKeys(RoomKeys),
    /// Blocks to be dropped.
    Cleared(Cleared),
    /// Something that decides who is in a room.
    Act(Box<Act>),
    /// Keys of the epochs before.
    EpochKeys(EpochKeys),
    /// A chat message.
    Message(Message),
    /// A file.
    File(File),
    /// A reaction to a message.
    Reaction(Reaction),
    /// Another text for a message.
    Edit(Edit),
    /// The end of a message.
    Tombstone(Tombstone),
    /// A claim about an agent.
    Attest(Attest),
    /// Something that was seen.
    Witness(Witness),
    /// Trust in an agent.
    Vouch(Vouch),
}

impl Body {
    /// Decodes the body of an entry with this tag and format.
    pub fn decode(tag: u64, format: u64, bytes: &Bytes) -> Result<Self, BodyError> {
        if format != u64::from(BODY_FORMAT) {
            return Err(BodyError::Newer { tag, format });
        }
        match tag {
            tag::PROFILE => Ok(Body::Profile(parse::<wire::Profile, _>(tag, bytes)?)),
            tag::DIRECTORY_LINE => Ok(Body::DirectoryLine(parse::<wire::DirectoryLine, _>(
                tag, bytes,
            )?)),
            tag::DIRECTORY_RENAME => Ok(Body::DirectoryRename(parse::<wire::DirectoryRename, _>(
                tag, bytes,
            )?)),
            tag::DIRECTORY_REDIRECT => Ok(Body::DirectoryRedirect(parse::<
                wire::DirectoryRedirect,
                _,
            >(tag, bytes)?)),
            tag::DIRECTORY_HEADS => Ok(Body::DirectoryHeads(parse::<wire::DirectoryHeads, _>(
                tag, bytes,
            )?)),
            tag::DOCUMENT => Ok(Body::Document(parse::<wire::Document, _>(tag, bytes)?)),
            tag::SNAPSHOT_PAGE => Ok(Body::SnapshotPage(parse::<wire::SnapshotPage, _>(
                tag, bytes,
            )?)),
            tag::SNAPSHOT => Ok(Body::Snapshot(parse::<wire::Snapshot, _>(tag, bytes)?)),
            tag::DIRECTORY_RETIRE => Ok(Body::DirectoryRetire(parse::<wire::DirectoryRetire, _>(
                tag, bytes,
            )?)),
            tag::OWN_EPOCH => Ok(Body::OwnEpoch(parse::<wire::OwnEpoch, _>(tag, bytes)?)),
            tag::SETTING => Ok(Body::Setting(parse::<wire::Setting, _>(tag, bytes)?)),
            tag::CONTACT => Ok(Body::Contact(parse::<wire::Contact, _>(tag, bytes)?)),
            tag::PREFERENCE => Ok(Body::Preference(parse::<wire::Preference, _>(tag, bytes)?)),
            tag::ROOM_KEYS => Ok(Body::RoomKeys(parse::<wire::RoomKeys, _>(tag, bytes)?)),
            tag::CLEARED => Ok(Body::Cleared(parse::<wire::Cleared, _>(tag, bytes)?)),
            tag::MESSAGE => Ok(Body::Message(parse::<wire::Message, _>(tag, bytes)?)),
            tag::FILE => Ok(Body::File(parse::<wire::File, _>(tag, bytes)?)),
            tag::REACTION => Ok(Body::Reaction(parse::<wire::Reaction, _>(tag, bytes)?)),
            tag::EDIT => Ok(Body::Edit(parse::<wire::Edit, _>(tag, bytes)?)),
            tag::TOMBSTONE => Ok(Body::Tombstone(parse::<wire::Tombstone, _>(tag, bytes)?)),
            tag::ATTEST => Ok(Body::Attest(parse::<wire::Attest, _>(tag, bytes)?)),
            tag::WITNESS => Ok(Body::Witness(parse::<wire::Witness, _>(tag, bytes)?)),
            tag::VOUCH => Ok(Body::Vouch(parse::<wire::Vouch, _>(tag, bytes)?)),
            tag::EPOCH_KEYS => Ok(Body::EpochKeys(parse::<wire::EpochKeys, _>(tag, bytes)?)),
            _ if tag::is_act(tag) => Ok(Body::Act(Box::new(Act::decode(tag, bytes)?))),
            _ => Err(BodyError::Newer { tag, format }),
        }
    }

    /// Returns the tag that stands in the envelope.
    pub fn tag(&self) -> u64 {
        match self {
            Body::Profile(_) => tag::PROFILE,
            Body::DirectoryLine(_) => tag::DIRECTORY_LINE,
            Body::DirectoryRename(_) => tag::DIRECTORY_RENAME,
            Body::DirectoryRedirect(_) => tag::DIRECTORY_REDIRECT,
            Body::DirectoryHeads(_) => tag::DIRECTORY_HEADS,
            Body::Document(_) => tag::DOCUMENT,
            Body::SnapshotPage(_) => tag::SNAPSHOT_PAGE,
            Body::Snapshot(_) => tag::SNAPSHOT,
            Body::DirectoryRetire(_) => tag::DIRECTORY_RETIRE,
            Body::OwnEpoch(_) => tag::OWN_EPOCH,
            Body::Setting(_) => tag::SETTING,
            Body::Contact(_) => tag::CONTACT,
            Body::Preference(_) => tag::PREFERENCE,
            Body::RoomKeys(_) => tag::ROOM_KEYS,
            Body::Cleared(_) => tag::CLEARED,
            Body::Act(act) => act.deed.tag(),
            Body::EpochKeys(_) => tag::EPOCH_KEYS,
            Body::Message(_) => tag::MESSAGE,
            Body::File(_) => tag::FILE,
            Body::Reaction(_) => tag::REACTION,
            Body::Edit(_) => tag::EDIT,
            Body::Tombstone(_) => tag::TOMBSTONE,
            Body::Attest(_) => tag::ATTEST,
            Body::Witness(_) => tag::WITNESS,
            Body::Vouch(_) => tag::VOUCH,
        }
    }

    /// Encodes the body in this build's format.
    pub fn encode(&self) -> Bytes {
        let bytes = match self {
            Body::Profile(body) => wire::Profile::from(body).encode_to_vec(),
            Body::DirectoryLine(body) => wire::DirectoryLine::from(body).encode_to_vec(),
            Body::DirectoryRename(body) => wire::DirectoryRename::from(body).encode_to_vec(),
            Body::DirectoryRedirect(body) => wire::DirectoryRedirect::from(body).encode_to_vec(),
            Body::DirectoryHeads(body) => wire::DirectoryHeads::from(body).encode_to_vec(),
            Body::Document(body) => wire::Document::from(body).encode_to_vec(),
            Body::SnapshotPage(body) => wire::SnapshotPage::from(body).encode_to_vec(),
            Body::Snapshot(body) => wire::Snapshot::from(body).encode_to_vec(),
            Body::DirectoryRetire(body) => wire::DirectoryRetire::from(body).encode_to_vec(),
            Body::OwnEpoch(body) => wire::OwnEpoch::from(body).encode_to_vec(),
            Body::Setting(body) => wire::Setting::from(body).encode_to_vec(),
            Body::Contact(body) => wire::Contact::from(body).encode_to_vec(),
            Body::Preference(body) => wire::Preference::from(body).encode_to_vec(),
            Body::RoomKeys(body) => wire::RoomKeys::from(body).encode_to_vec(),
            Body::Cleared(body) => wire::Cleared::from(body).encode_to_vec(),
            Body::Act(body) => return body.encode(),
            Body::EpochKeys(body) => wire::EpochKeys::from(body).encode_to_vec(),
            Body::Message(body) => wire::Message::from(body).encode_to_vec(),
            Body::File(body) => wire::File::from(body).encode_to_vec(),
            Body::Reaction(body) => wire::Reaction::from(body).encode_to_vec(),
            Body::Edit(body) => wire::Edit::from(body).encode_to_vec(),
            Body::Tombstone(body) => wire::Tombstone::from(body).encode_to_vec(),
            Body::Attest(body) => wire::Attest::from(body).encode_to_vec(),
            Body::Witness(body) => wire::Witness::from(body).encode_to_vec(),
            Body::Vouch(body) => wire::Vouch::from(body).encode_to_vec(),
        };
        bytes.into()
    }
}

/// Decodes protobuf and checks what protobuf cannot say.
fn parse<W, T>(tag: u64, bytes: &Bytes) -> Result<T, BodyError>
where
    W: prost::Message + Default,
    T: TryFrom<W, Error = BodyError>,
{
    T::try_from(message::<W>(tag, bytes)?)
}

pub(super) fn message<W: prost::Message + Default>(
    tag: u64,
    bytes: &Bytes,
) -> Result<W, BodyError> {
    W::decode(bytes.clone()).map_err(|error| BodyError::Protobuf {
        tag,
        reason: error.to_string(),
    })
}

/// Checks that a field has exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], BodyError> {
    bytes.try_into().map_err(|_| BodyError::Length {
        field,
        expected: N,
        actual: bytes.len(),
    })
}

/// Checks that a text is within its bound.
pub(crate) fn text<const MAX: usize>(
    field: &'static str,
    text: String,
) -> Result<crate::Text<MAX>, BodyError> {
    crate::Text::new(text).map_err(|source| BodyError::Text { field, source })
}
