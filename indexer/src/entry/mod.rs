//! What a block of an `entries` feed says: the envelope and the bodies inside it.
//!
//! The envelope (`docs/formats.md`, "Entries") is final: version, links, depth, clock, tag, format,
//! body. What is inside a body carries format 0 and a revision until it is declared final. Bytes
//! become values here and nowhere else: [`Envelope::decode`] and [`Body::decode`] check every
//! bound, and say "newer than this build" where they meet something they do not know.

mod body;
mod envelope;
mod link;
mod message;
mod public;
mod room;

pub use body::{Body, BodyError, tag};
pub use envelope::{Entry, EntryError, Envelope, OPEN_BLOCK};
pub use link::{LINK_HASH_BYTES, Link, LinkScope, LinkTag, Links, LinksError};
pub use message::{File, Message};
pub use public::{
    Content, DirectoryHeads, DirectoryLine, DirectoryRedirect, DirectoryRename, Document, Head,
    Profile,
};
pub use room::{Admit, Genesis, History, Invite, Membership, MembershipError, Role};
