//! The key ring of the operating system as a keeper: the Secret Service of the user's session, over D-Bus
//! (freedesktop.org Secret Service API 0.2; GNOME Keyring, KWallet and KeePassXC speak it).
//!
//! An item is found by two attributes, `application` = `kinlog` and `home` = the id of the vault. Its secret
//! is the key in z-base-32, so that what shows passwords shows text. Between us and the service it
//! passes in clear: the socket of the session's bus is the user's own, and whoever can read it can ask.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use dbus_secret_service::{EncryptionType, Error, Item, SecretService};
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::text;
use zeroize::Zeroizing;

use crate::limits::KEY_RING_PROMPT_SECONDS;
use crate::vault::{HomeKey, KeyKeeper, VaultId};

/// The key ring of whoever runs this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRing;

impl KeyRing {
    fn service() -> io::Result<SecretService> {
        SecretService::connect_with_max_prompt_timeout(
            EncryptionType::Plain,
            KEY_RING_PROMPT_SECONDS,
        )
        .map_err(failed)
    }
}

impl KeyKeeper for KeyRing {
    fn read(&self, id: VaultId) -> io::Result<Option<HomeKey>> {
        let service = KeyRing::service()?;
        let Some(item) = find(&service, id)? else {
            return Ok(None);
        };
        item.ensure_unlocked()
            .or_else(|_| item.unlock())
            .map_err(failed)?;
        let text = item.get_secret().map(Zeroizing::new).map_err(failed)?;
        let key = std::str::from_utf8(&text).ok().and_then(|text| {
            let bytes = text::decode(text.trim()).map(Zeroizing::new).ok()?;
            <[u8; 32]>::try_from(bytes.as_slice()).ok()
        });
        match key {
            Some(key) => Ok(Some(HomeKey::new(Secret::new(key)))),
            None => Err(io::Error::other("what it holds for this home is no key")),
        }
    }

    fn keep(&self, id: VaultId, key: &HomeKey) -> io::Result<()> {
        let service = KeyRing::service()?;
        let collection = service.get_default_collection().map_err(failed)?;
        collection
            .ensure_unlocked()
            .or_else(|_| collection.unlock())
            .map_err(failed)?;
        let text = Zeroizing::new(text::encode(key.expose()));
        let home = text::encode(&id.0);
        collection
            .create_item(
                &format!("Key of Kinlog home {home}"),
                attributes(&home),
                text.as_bytes(),
                true,
                "text/plain",
            )
            .map(drop)
            .map_err(failed)
    }

    fn forget(&self, id: VaultId) -> io::Result<()> {
        let service = KeyRing::service()?;
        match find(&service, id)? {
            Some(item) => item.delete().map_err(failed),
            None => Ok(()),
        }
    }

    fn place_on_disk(&self, _: VaultId) -> Option<PathBuf> {
        None
    }
}

fn attributes(home: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", "kinlog"), ("home", home)])
}

fn find(service: &SecretService, id: VaultId) -> io::Result<Option<Item<'_>>> {
    let home = text::encode(&id.0);
    let found = service.search_items(attributes(&home)).map_err(failed)?;
    Ok(found.unlocked.into_iter().chain(found.locked).next())
}

/// Says what is wrong in words; the service's own errors name neither home nor secret.
fn failed(error: Error) -> io::Error {
    let message = match error {
        Error::Locked | Error::Prompt => "it is locked".to_owned(),
        Error::NoResult => "it has no default collection".to_owned(),
        Error::Unavailable => "no key ring answers in this session".to_owned(),
        Error::Dbus(error) => {
            let message = error
                .message()
                .unwrap_or("the session's bus does not answer");
            format!("no key ring answers in this session ({message})")
        }
        error => error.to_string(),
    };
    io::Error::other(message)
}
