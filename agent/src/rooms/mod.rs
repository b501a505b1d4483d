//! The write side of rooms: create, invite, join, admit, send.

mod id;
mod sealed_box;

pub use id::RoomId;
