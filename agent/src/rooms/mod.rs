//! The write side of rooms: create, invite, join, admit, send; roles, removal, leaving.

mod admit;
mod create;
mod devices;
mod direct;
mod epoch;
mod export;
mod feed;
mod history;
mod invite;
mod join;
mod join_message;
mod rate;
mod roles;
mod room_keys;
mod room_message;
mod say;
mod siblings;
mod telling;
mod write;

pub(crate) use create::RoomTerms;
pub use feed::RoomFeed;
pub(crate) use feed::{put_feeds, read_feeds};
pub(crate) use invite::{InviteTerms, has_expired};
pub(crate) use join::Checks;
pub use join_message::{JoinAnswer, JoinError, JoinRequest, Refusal};
pub use kinlog_indexer::RoomId;
pub(crate) use rate::Rate;
pub use room_keys::RoomKeys;
pub use room_message::{EpochKeysGiven, KeysWanted, RemovedNotice, RoomMessage, RoomMessageError};
pub(crate) use write::{act, stored_keys};
