//! The folder an agent lives in: its layout, its lock, its phrase, how it begins and is opened.

pub(crate) mod format;
mod init;
mod keys;
mod layout;
mod lock;
mod open;
mod phrase;
mod protection;
mod recover;
pub(crate) mod renew;
mod repair;

pub(crate) use init::{Founding, found};
pub use init::{Initialised, check, init};
pub(crate) use keys::home_key;
pub(crate) use layout::private_file;
pub use layout::{Layout, socket_path};
pub use lock::{HomeLock, lock_home};
pub(crate) use open::{OpenHome, open_home};
pub use phrase::{Phrase, PhraseError};
pub use protection::{
    Protection, check_passphrase, check_unlocked, keep_in_key_ring, lock, protection,
    remove_passphrase, set_passphrase, unlock,
};
pub use recover::{Recover, Recovered, recover};
pub use renew::{Renewed, renew};
pub use repair::{repair_store, survey_store};

pub use init::check_empty;
pub(crate) use init::{Building, sync_folder};
use keys::read_secret;
pub(crate) use keys::{make_home_key, write_secret};
pub(crate) use open::open_store;
