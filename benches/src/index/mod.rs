//! The index over entries: taking in what feeds hold, and answering people meanwhile.

mod authority;
mod chat;
mod ingest;
mod questions;
mod rebuilding;
mod removal;

pub(crate) use authority::AUTHORITY;
pub(crate) use ingest::INGEST;
pub(crate) use questions::{LAST_50, SEARCH};
pub(crate) use rebuilding::{REBUILD, REBUILD_MEMORY, rebuild};
pub(crate) use removal::REMOVAL;
