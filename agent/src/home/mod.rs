//! The folder an agent lives in: its layout, its lock, its phrase and how it begins.

mod init;
mod layout;
mod lock;
mod phrase;

pub use init::{Initialised, init};
pub use layout::{Layout, socket_path};
pub use lock::{HomeLock, lock_home};
pub use phrase::{Phrase, PhraseError};
