//! What a block of an `entries` feed says: the envelope and the bodies inside it.
//!
//! The envelope (`docs/formats.md`, "Entries") is final: version, links, depth, clock, tag, format,
//! body. What is inside a body is of format 1, final too (`docs/design/0016-format-1.md`). Bytes
//! become values here and nowhere else: [`Envelope::decode`] and [`Body::decode`] check every
//! bound, and say "newer than this build" where they meet something they do not know.

mod act;
mod act_wire;
mod body;
mod claim;
mod directory;
mod envelope;
mod epoch_keys;
mod genesis;
mod link;
mod marks;
mod membership;
mod message;
mod own;
mod private;
mod public;
mod snapshot;
mod tombstone;
mod trust;

pub use act::{
    Act, ActHash, Admit, Deed, DeviceJoin, DeviceRevoke, Epoch, EpochCopy, Grant, GrantRevoke,
    Invite, InviteRevoke, InviteUse, Leave, Parents, Remove, Role, RoleChange,
};
pub use body::{Body, BodyError, tag};
pub use claim::{ClaimScope, Cut, FeedClaim, FeedClaimError, Ref};
pub use directory::{
    Cleared, Content, DirectoryHeads, DirectoryLine, DirectoryRedirect, DirectoryRename,
    DirectoryRetire, Head, PathKind,
};
pub use envelope::{Entry, EntryError, Envelope, OPEN_BLOCK};
pub use epoch_keys::EpochKeys;
pub use genesis::{Genesis, History, NewerGenesis, ROOM_RULES};
pub use link::{LINK_HASH_BYTES, Link, LinkScope, LinkTag, Links, LinksError};
pub use marks::{Edit, Mentions, Reaction};
pub use membership::{Membership, MembershipError};
pub use message::{File, Message};
pub use own::{Contact, PinSetting, Preference};
pub use private::{OwnEpoch, RoomKeys, Setting};
pub use public::{Document, Profile};
pub use snapshot::{PageRef, Snapshot, SnapshotPage, SnapshotRow, Stands};
pub use tombstone::{Deleted, Tombstone};
pub use trust::{Attest, Vouch, Witness};
