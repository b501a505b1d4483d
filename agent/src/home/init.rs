//! How a home begins: whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::{AgentId, DeviceKey, Secret};
use kinlog_indexer::Clock;
use kinlog_indexer::entry::{Body, Entry, Links, PathKind, Profile};
use kinlog_indexer::identity::{IdentitySet, Powers, VerifiedSet};
use serde::Serialize;

use crate::api::{Error, Text};
use crate::guard::{ForkGuard, Home, StateFolder};
use crate::home::{Layout, Phrase, format, make_home_key, open_store, write_secret};
use crate::keys::{DIRECTORY_ID, DeviceKeys, random};
use crate::links::Link;
use crate::sign_in::SignInRecord;
use crate::state::{OwnFeed, State};
use crate::wall_ms;

/// A home that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    pub name: String,
    /// `kinlog://agent/...`.
    pub link: String,
}

/// Makes a home for a new agent with this device as its first; the root key signs once and is dropped.
///
/// The home is made beside its place and moved there when all of it is on the disk. `state` is the
/// folder where the twin of its install record is kept, outside every home.
///
/// # Errors
/// `Usage` when the folder is not empty (an agent lives there already) or the name is too long:
/// nothing is touched then.
pub fn init(home: &Path, state: &Path, name: &str, phrase: &Phrase) -> Result<Initialised, Error> {
    let profile = check(home, name)?;
    let secret = Secret::new(random()?);
    let root = phrase.root();
    let agent = AgentId(root.public_key().0);
    let card = DeviceKeys::new(secret.clone()).card(&agent);
    let set = IdentitySet::begin(&root, card, Powers::ALL, profile.name);
    drop(root);
    let set = set
        .check(&agent)
        .map_err(|error| Error::general(format!("identity set: {error}")))?;
    let name = name.to_owned();
    let signal_urls = Vec::new();
    found(
        home,
        state,
        Founding {
            secret,
            agent,
            name,
            set,
            signal_urls,
            sign_in: None,
        },
    )
}

/// What a home begins with.
#[derive(Debug)]
pub(crate) struct Founding {
    /// The device's own, made for this home.
    pub(crate) secret: Secret,
    pub(crate) agent: AgentId,
    /// What the agent calls itself.
    pub(crate) name: String,
    /// Statements that make the device the agent's.
    pub(crate) set: VerifiedSet,
    pub(crate) signal_urls: Vec<String>,
    /// By which the device was added, to be held like on the others.
    pub(crate) sign_in: Option<SignInRecord>,
}

/// Makes a home for a device that is the agent's already.
pub(crate) fn found(home: &Path, state: &Path, founding: Founding) -> Result<Initialised, Error> {
    let Founding { agent, name, .. } = founding;
    let profile = check(home, &name)?;
    let building = Building::new(home)?;
    let layout = Layout::new(&building.folder);
    layout.create()?;

    let key = make_home_key(&layout)?;
    write_secret(&layout.device_secret(), &founding.secret, &key)?;
    let keys = DeviceKeys::new(founding.secret);
    let directory = keys.feed_key(&DIRECTORY_ID);

    let values = State::open_with(&layout.state(), &key)?;
    values.set_value("agent", agent.as_bytes())?;
    values.set_value("name", name.as_bytes())?;
    values.set_value("device", keys.device().as_bytes())?;
    values.put_identity(&agent, &founding.set.set().encode())?;
    for url in &founding.signal_urls {
        values.add_signal(url)?;
    }
    if let Some(record) = &founding.sign_in {
        values.put_sign_in(&agent, &record.meet_key, Some(&record.encode()))?;
    }
    values.add_own_feed(&OwnFeed {
        key: directory,
        id: DIRECTORY_ID,
        path: None,
        is_entries: true,
        is_plain: false,
        is_private: false,
        kind: PathKind::Log,
    })?;
    drop(values);

    // A secret that was made a moment ago has no other holder: nothing guards it yet.
    let store = open_store(&layout, None)?;
    let feed = store
        .create_feed(
            &keys.manifest(&DIRECTORY_ID),
            kinlog_feeds::store::Role::Own,
            kinlog_feeds::store::Kind::Kinlog,
        )
        .map_err(Error::from)?;
    let clock = Clock {
        ms: wall_ms(),
        counter: 0,
    };
    let entry = Entry {
        links: Links::default(),
        depth: 0,
        clock,
        body: Body::Profile(profile),
    };
    let block = entry
        .encode_open()
        .map_err(|error| Error::general(format!("profile: {error}")))?;
    feed.append_batch(&keys.feed(&DIRECTORY_ID), &[block])
        .map_err(Error::from)?;
    store.close().map_err(Error::from)?;
    let device = keys.device();
    let guarded = Home::new(&layout, device);
    ForkGuard::new(guarded, StateFolder::new(state))
        .install(store.id(), store.synced_sequence())?;

    format::write(&layout)?;
    building.finish(home)?;
    Ok(Initialised {
        agent: agent.into(),
        device: keys.device().into(),
        name,
        link: Link::Agent {
            agent,
            path: None,
            signal_urls: Vec::new(),
        }
        .to_string(),
    })
}

/// Checks that [`init`] can begin, before anybody writes down 24 words in vain.
///
/// # Errors
/// `Usage` when the folder is not empty, or the name is empty, too long or has control characters.
pub fn check(home: &Path, name: &str) -> Result<Profile, Error> {
    check_empty(home)?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Error::usage(format!("{name:?} is no name for an agent"))
            .hint("give one that can be read, without control characters: --name desk"));
    }
    let name = name
        .try_into()
        .map_err(|error| Error::usage(format!("name: {error}")))?;
    Ok(Profile::named(name))
}

/// Refuses a folder in which something is already.
///
/// # Errors
/// `Usage` with what is there.
pub fn check_empty(home: &Path) -> Result<(), Error> {
    if Layout::new(home).is_initialised() {
        return Err(
            Error::usage(format!("an agent lives in {} already", home.display()))
                .hint("`kinlog id` shows it; give another --home to make a second one"),
        );
    }
    match fs::read_dir(home).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(
            Error::usage(format!("folder {} is not empty", home.display()))
                .hint("give a folder that is empty or does not exist"),
        ),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::general(format!(
            "folder {}: {error}",
            home.display()
        ))),
    }
}

/// The folder beside the home in which it is made; removed unless it was moved to its place.
pub(crate) struct Building {
    pub(crate) folder: PathBuf,
}

impl Building {
    pub(crate) fn new(home: &Path) -> Result<Building, Error> {
        let name = home
            .file_name()
            .ok_or_else(|| Error::usage(format!("{} is no name of a folder", home.display())))?;
        let mut building = name.to_owned();
        building.push(format!(".new-{}", std::process::id()));
        let folder = home.with_file_name(building);
        // What a killed process with our number left behind is nobody's home.
        let _ = fs::remove_dir_all(&folder);
        Ok(Building { folder })
    }

    /// Moves the whole home to its place.
    pub(crate) fn finish(self, home: &Path) -> Result<(), Error> {
        let failed =
            |error: std::io::Error| Error::general(format!("folder {}: {error}", home.display()));
        sync_folder(&self.folder).map_err(failed)?;
        fs::rename(&self.folder, home).map_err(failed)?;
        match home
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => sync_folder(parent).map_err(failed),
            None => sync_folder(Path::new(".")).map_err(failed),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
