//! A new device by the phrase alone: when every other one is lost, or not at hand.

use std::path::Path;

use kinlog_feeds::crypto::{AgentId, Secret};
use kinlog_indexer::identity::{
    Device, DeviceAdded, DeviceRevoked, IdentitySet, Powers, RootReplaced, Said,
};
use serde::Serialize;

use crate::api::Error;
use crate::failure::chain;
use crate::home::renew::{check_root, with};
use crate::home::{Founding, Initialised, Phrase, check, found};
use crate::keys::{DeviceKeys, random};
use crate::linking::Fetched;

/// What else the phrase says while it is at hand.
#[derive(Clone, Debug, Default)]
pub struct Recover {
    /// Name of the new device.
    pub name: String,
    /// Revokes every other device.
    pub revoke_others: bool,
    /// Revokes these, by key, start of the key, or name.
    pub revoke: Vec<String>,
    /// Lets these words speak for the agent from now on, and the old ones no more.
    pub replace_root: Option<Phrase>,
    pub signal_urls: Vec<String>,
}

/// A device that was made by the phrase.
#[derive(Clone, Debug, Serialize)]
pub struct Recovered {
    #[serde(flatten)]
    pub made: Initialised,
    /// Name of the new device.
    pub device_name: String,
    /// Others held the identity: its statements are known here.
    pub found_others: bool,
    /// Names of the other devices.
    pub others: Vec<String>,
    /// Names of those that were revoked.
    pub revoked: Vec<String>,
    pub replaced_root: bool,
}

/// Makes a home with a new device of the agent whose phrase this is; `fetched` is what others hold.
///
/// Without it the new device is certified all the same, and its statement joins the others at the first
/// meeting. The root key signs and is dropped.
///
/// # Errors
/// `Usage` when the folder is not empty, or for the words of another agent; `Permission` for words that
/// were replaced; `NotFound` for a device to revoke that is not known.
pub fn recover(
    home: &Path,
    state: &Path,
    phrase: &Phrase,
    fetched: Option<Fetched>,
    options: Recover,
) -> Result<Recovered, Error> {
    let profile = check(home, &options.name)?;
    let root = phrase.root();
    let refused = |error: kinlog_indexer::identity::IdentityError| {
        Error::verification(format!("identity set: {}", chain(&error)))
    };
    let (mut set, name, directories) = match fetched {
        Some(fetched) => {
            check_root(&fetched.set, &root)?;
            (fetched.set, fetched.name, fetched.directories)
        }
        None => {
            let agent = AgentId(root.public_key().0);
            let none = IdentitySet::default().check(&agent).map_err(refused)?;
            (none, None, Vec::new())
        }
    };
    let found_others = !set.set().is_empty();
    let others = match found_others {
        true => set.identity().map_err(refused)?.devices,
        false => Vec::new(),
    };
    let revoked: Vec<&Device> = match options.revoke_others {
        true => others.iter().collect(),
        false => options
            .revoke
            .iter()
            .map(|text| named(&others, text))
            .collect::<Result<_, _>>()?,
    };
    let agent = *set.agent();
    let secret = Secret::new(random()?);
    let device = DeviceKeys::new(secret.clone());
    let added = Said::DeviceAdded(DeviceAdded {
        card: device.card(&agent),
        powers: Powers::ALL,
        name: profile.name,
    });
    set = with(&set, &root, added, &[])?;
    for device in &revoked {
        let cut = directories.iter().find(|(key, _)| *key == device.key);
        let said = Said::DeviceRevoked(DeviceRevoked {
            device: device.key,
            public: cut.map(|(_, cut)| *cut),
            private: None,
        });
        set = with(&set, &root, said, &[])?;
    }
    if let Some(next) = &options.replace_root {
        let said = Said::RootReplaced(RootReplaced::sign(&agent, &next.root()));
        set = with(&set, &root, said, &[])?;
    }
    drop(root);
    let identity = set.identity().map_err(refused)?;
    if identity.device(&device.device()).is_none() {
        return Err(Error::general(
            "the identity set has no room for another device",
        ));
    }
    let names = |devices: &mut dyn Iterator<Item = &Device>| -> Vec<String> {
        devices.map(|device| device.name.clone()).collect()
    };
    let revoked = names(&mut revoked.into_iter());
    let founding = Founding {
        secret,
        agent,
        name: name.unwrap_or_else(|| options.name.clone()),
        set,
        signal_urls: options.signal_urls,
        sign_in: None,
    };
    Ok(Recovered {
        made: found(home, state, founding)?,
        device_name: options.name,
        found_others,
        others: names(&mut others.iter()),
        revoked,
        replaced_root: options.replace_root.is_some(),
    })
}

fn named<'a>(devices: &'a [Device], text: &str) -> Result<&'a Device, Error> {
    let mut meant = devices.iter().filter(|device| {
        device.name == text || (text.len() >= 4 && device.key.to_string().starts_with(text))
    });
    match (meant.next(), meant.next()) {
        (Some(device), None) => Ok(device),
        (Some(_), Some(_)) => Err(Error::usage(format!("several devices are called {text:?}"))
            .hint("give the key, or --revoke-others")),
        (None, _) => Err(Error::not_found(format!("no device {text:?} of this agent was found"))
            .hint("somebody who knows the agent has to be online: --signal URL; or recover first, then `kinlog device revoke`")),
    }
}
