//! The write side of rooms: create, invite, join, admit, send.

mod create;
mod join;
mod join_message;
mod say;

pub use kinlog_indexer::RoomId;
