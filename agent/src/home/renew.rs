//! A new device in place of one that may not sign any more.
//!
//! The phrase certifies it; the old secret is gone afterwards. The paths are continued when the home
//! is opened the next time, from what is written down here.

use std::fs;
use std::path::Path;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, KeyPair, Secret};
use kinlog_indexer::identity::{
    DeviceAdded, IdentityError, IdentitySet, Powers, Said, Statement, VerifiedSet,
};
use serde::Serialize;

use crate::api::{Error, Text};
use crate::failure::chain;
use crate::guard::{ForkGuard, Home, StateFolder};
use crate::home::init::sync_folder;
use crate::home::{
    Layout, Phrase, format, home_key, lock_home, open_store, read_secret, write_secret,
};
use crate::keys::{DIRECTORY_ID, DeviceKeys, random};
use crate::state::{FormerFeed, OwnFeed, Renewal, State};
use crate::vault::KeyFolder;

/// A device that was renewed.
#[derive(Clone, Debug, Serialize)]
pub struct Renewed {
    pub agent: Text<AgentId>,
    /// The new device.
    pub device: Text<DeviceKey>,
    /// The one whose paths it continues.
    pub former: Text<DeviceKey>,
    /// Paths that go on in a new feed.
    pub paths: u64,
    /// Blocks that no peer was shown, and are written again.
    pub blocks_written_again: u64,
}

/// Makes a new device for the agent whose phrase this is, in place of the one in `home`.
///
/// What happens at a crash: before the change of `state.db` the home is as it was, and may not sign;
/// after it the next opening puts the new secret in place.
///
/// # Errors
/// `Usage` for the words of another agent; `Permission` while another process holds the home.
pub fn renew(home: &Path, state: &Path, phrase: &Phrase) -> Result<Renewed, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    format::check(&layout)?;
    layout.check_modes()?;
    let _lock = lock_home(&layout)?;
    let key = home_key(&layout, &KeyFolder::new(state), None)?;
    let values = State::open_with(&layout.state(), &key)?;
    finish(&layout, &values)?;
    let old = DeviceKeys::new(read_secret(&layout.device_secret(), &key)?);
    let agent = agent_of(&values)?;
    let root = phrase.root();
    check_root(&held_set(&values, &agent)?, &root)?;
    // One that an earlier attempt left was never in use.
    let _ = fs::remove_file(layout.next_secret());
    let secret = Secret::new(random()?);
    write_secret(&layout.next_secret(), &secret, &key)?;
    sync_folder(layout.home()).map_err(|error| Error::general(error.to_string()))?;
    let keys = DeviceKeys::new(secret);
    let guarded = Home::new(&layout, keys.device());
    let guard = ForkGuard::new(guarded, StateFolder::new(state));
    let store = open_store(&layout, None)?;
    let held = |key: &FeedKey| store.feed(key).map_or(0, |feed| feed.head().length);
    let certified = certify(&values, &keys, &root)?;
    drop(root);
    let renewal = renewal(&values, &keys, old.device(), &certified, Held::Here(&held))?;
    store.close()?;
    guard.install(store.id(), store.synced_sequence())?;

    let continued = renewal
        .former
        .iter()
        .filter(|feed| feed.successor.is_some());
    let renewed = Renewed {
        agent: agent.into(),
        device: keys.device().into(),
        former: old.device().into(),
        paths: continued.clone().count() as u64,
        blocks_written_again: continued.map(|feed| feed.length - feed.published).sum(),
    };
    values.renew(&renewal)?;
    finish(&layout, &values)?;
    Ok(renewed)
}

/// How far the feeds of the device before had come.
pub(crate) enum Held<'a> {
    /// They are in this store, with so many blocks.
    Here(&'a dyn Fn(&FeedKey) -> u64),
    /// Peers have them: what is known here is of a backup.
    Elsewhere,
}

/// Returns the statements of the agent with that of the root which makes a device its own.
pub(crate) fn certify(
    values: &State,
    keys: &DeviceKeys,
    root: &KeyPair,
) -> Result<VerifiedSet, Error> {
    let agent = agent_of(values)?;
    let name = values.value("name")?.unwrap_or_default();
    let name = String::from_utf8_lossy(&name).into_owned();
    let said = Said::DeviceAdded(DeviceAdded {
        card: keys.card(&agent),
        powers: Powers::ALL,
        name: name
            .as_str()
            .try_into()
            .map_err(|error| Error::usage(format!("name: {error}")))?,
    });
    let held = held_set(values, &agent)?;
    check_root(&held, root)?;
    with(&held, root, said, &[])
}

/// Returns what changes in `state.db` when a device takes the place of another: it is the agent's by the
/// statements `certified`, each path goes on in a new feed, and the feeds before are former ones.
pub(crate) fn renewal(
    values: &State,
    keys: &DeviceKeys,
    before: DeviceKey,
    certified: &VerifiedSet,
    held: Held<'_>,
) -> Result<Renewal, Error> {
    let agent = agent_of(values)?;
    let identity_set = certified.set().encode().to_vec();
    let published = values.published()?;
    let mut own = vec![OwnFeed::entries(keys.feed_key(&DIRECTORY_ID), DIRECTORY_ID)];
    let mut former = Vec::new();
    for feed in values.own_feeds()? {
        let successor = match &feed.path {
            None => None,
            Some(path) => {
                let id = random()?;
                own.push(OwnFeed {
                    key: keys.feed_key(&id),
                    id,
                    path: Some(path.clone()),
                    is_entries: feed.is_entries,
                    is_plain: false,
                    is_private: feed.is_private,
                    kind: feed.kind,
                });
                Some(keys.feed_key(&id))
            }
        };
        let shown = published.iter().find(|(key, _)| *key == feed.key);
        let shown = shown.map_or(0, |(_, length)| *length);
        let length = match held {
            Held::Here(length) => length(&feed.key),
            Held::Elsewhere => shown,
        };
        former.push(FormerFeed {
            key: feed.key,
            device: before,
            path: feed.path,
            is_entries: feed.is_entries,
            is_plain: feed.is_plain,
            is_private: feed.is_private,
            length,
            published: shown.min(length),
            successor,
            is_restored: matches!(held, Held::Elsewhere),
        });
    }
    if matches!(held, Held::Elsewhere) {
        // What devices before that one never published is gone with its home.
        former.extend(values.former_feeds()?.into_iter().map(|feed| FormerFeed {
            length: feed.published,
            ..feed
        }));
    }
    Ok(Renewal {
        agent,
        device: keys.device(),
        identity_set,
        own,
        former,
    })
}

/// Puts the secret of the device in place that `state.db` says is this one.
pub(super) fn finish(layout: &Layout, values: &State) -> Result<(), Error> {
    let next = layout.next_secret();
    if !next.exists() {
        return Ok(());
    }
    let device = values.value("device")?;
    let keys = DeviceKeys::new(read_secret(&next, values.key())?);
    if device.as_deref() != Some(keys.device().as_bytes()) {
        return Ok(());
    }
    let failed = |error: std::io::Error| Error::general(format!("{}: {error}", next.display()));
    fs::rename(&next, layout.device_secret()).map_err(failed)?;
    sync_folder(layout.home()).map_err(failed)
}

pub(crate) fn agent_of(values: &State) -> Result<AgentId, Error> {
    let agent = values
        .value("agent")?
        .and_then(|bytes| bytes.try_into().ok());
    let agent =
        agent.ok_or_else(|| Error::verification("state.db does not say whose home this is"));
    Ok(AgentId(agent?))
}

/// Returns the statements that are held of the agent.
pub(crate) fn held_set(values: &State, agent: &AgentId) -> Result<VerifiedSet, Error> {
    let held = values.identities()?;
    let held = held.into_iter().find(|(one, _)| one == agent);
    let held = held.map_or_else(
        || Ok(IdentitySet::default()),
        |(_, set)| IdentitySet::decode(&set),
    );
    held.and_then(|set| set.check(agent)).map_err(refused)
}

/// Refuses words that are not those which speak for the agent now.
pub(super) fn check_root(held: &VerifiedSet, root: &KeyPair) -> Result<(), Error> {
    let identity = held.identity().map_err(refused)?;
    let key = root.public_key();
    if identity.root() == key {
        return Ok(());
    }
    if identity.roots.contains(&key) {
        return Err(Error::permission("these 24 words were replaced by others")
            .hint("use the words that `kinlog recover --replace-root` showed last"));
    }
    Err(Error::usage("these 24 words are those of another agent"))
}

/// Returns the statements with one more of the root.
pub(super) fn with(
    held: &VerifiedSet,
    root: &KeyPair,
    said: Said,
    without: &[Hash],
) -> Result<VerifiedSet, Error> {
    let names = held.names(&root.public_key(), without);
    let statement = Statement::sign(*held.agent(), root, names, said);
    let one = IdentitySet::new([statement]).and_then(|one| one.check(held.agent()));
    // A set that is full makes room for what the root says.
    Ok(held.union(&one.map_err(refused)?))
}

fn refused(error: IdentityError) -> Error {
    Error::general(format!("identity set: {}", chain(&error)))
}
