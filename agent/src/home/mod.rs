//! The folder an agent lives in: its layout, its lock, its phrase, how it begins and is opened.

mod init;
mod keys;
mod layout;
mod lock;
mod open;
mod phrase;
mod recover;
mod renew;
mod repair;
mod revision;

pub(crate) use init::{Founding, found};
pub use init::{Initialised, check, init};
pub(crate) use keys::home_key;
pub use keys::{
    Protection, check_passphrase, lock, protection, remove_passphrase, set_passphrase, unlock,
};
pub(crate) use layout::private_file;
pub use layout::{Layout, socket_path};
pub use lock::{HomeLock, lock_home};
pub(crate) use open::{OpenHome, open_home};
pub use phrase::{Phrase, PhraseError};
pub use recover::{Recover, Recovered, recover};
pub use renew::{Renewed, renew};
pub use repair::{repair_store, survey_store};

use keys::{make_home_key, read_secret, write_secret};
use open::open_store;
