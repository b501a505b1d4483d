//! What this agent says of itself and of others, and what it keeps for itself: profile, contacts,
//! preferences, vouches and claims.

use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::entry::{Attest, Body, Contact, Preference, Profile, Ref, Vouch, Witness};
use kinlog_indexer::index::{ClaimRow, ClaimSubject};
use kinlog_indexer::limits::{PROFILE_SIGNAL_BYTES_MAX, PROFILE_SIGNALS_MAX};
use kinlog_signal::SignalUrl;

use crate::api::{ClaimInfo, ContactInfo, Error, PreferenceInfo, ProfileInfo, Reply, VouchInfo};
use crate::core::{Core, met_at};
use crate::requests::rooms::agent_called;

pub(super) fn profile(core: &Core, of: Option<&str>) -> Result<Reply, Error> {
    let agent = match of {
        Some(who) => agent_called(core, who)?,
        None => core.agent,
    };
    let row = core.index(|index| index.profile(&agent))?;
    let petname = core.knowledge(|knowledge| knowledge.petnames.get(&agent).cloned());
    if row.is_none() && agent != core.agent && petname.is_none() {
        return Err(
            Error::not_found(format!("nothing is known of agent {agent}"))
                .hint("follow one of its paths: `kinlog follow kinlog://agent/KEY/PATH`"),
        );
    }
    let own_name = (agent == core.agent).then(|| core.name.clone());
    let signal_urls = core.index(|index| met_at(index, &agent))?;
    Ok(Reply::Profile(ProfileInfo {
        agent: agent.into(),
        about: row
            .as_ref()
            .map(|row| row.about.clone())
            .unwrap_or_default(),
        updated_at_ms: row.as_ref().map(|row| row.updated_at),
        name: row.map(|row| row.name).or(own_name).unwrap_or_default(),
        petname,
        signal_urls,
    }))
}

pub(super) fn set_profile(
    core: &Core,
    name: Option<&str>,
    about: Option<&str>,
    signal_urls: Option<Vec<String>>,
) -> Result<Reply, Error> {
    let now = core.profile()?;
    let name = match name {
        Some(name) => readable("name", name)?,
        None => now.name.clone(),
    };
    let about = match about {
        Some(about) => bounded("about", about)?,
        None => now.about.clone(),
    };
    let signal_urls = match signal_urls {
        Some(urls) => listable(urls)?,
        None => now.signal_urls().to_vec(),
    };
    let profile = Profile::new(name, about, Vec::new()).map_err(refused)?;
    let profile = profile.meeting_at(signal_urls);
    core.write_value(Body::Profile(profile.clone()))?;
    core.say_profile_in_rooms(&profile);
    self::profile(core, None)
}

/// Returns signal servers as a profile lists them.
fn listable(urls: Vec<String>) -> Result<Vec<String>, Error> {
    if urls.len() > PROFILE_SIGNALS_MAX {
        return Err(Error::usage(format!(
            "{} signal servers, a profile lists at most {PROFILE_SIGNALS_MAX}",
            urls.len()
        )));
    }
    let listed = urls.into_iter().map(|text| {
        let url = text.parse::<SignalUrl>();
        let url = url
            .map_err(|error| Error::usage(error.to_string()))?
            .to_string();
        match url.len() {
            0..=PROFILE_SIGNAL_BYTES_MAX => Ok(url),
            bytes => Err(Error::usage(format!(
                "{text:?} has {bytes} bytes, a URL in a profile at most {PROFILE_SIGNAL_BYTES_MAX}"
            ))),
        }
    });
    listed.collect()
}

pub(super) fn contacts(core: &Core) -> Result<Reply, Error> {
    let rows = core.index(|index| index.contacts(&core.agent))?;
    let contacts = rows.into_iter().map(|row| {
        let name = core.knowledge(|knowledge| knowledge.agents.get(&row.agent)?.name.clone());
        ContactInfo {
            agent: row.agent.into(),
            petname: row.petname,
            note: row.note,
            name,
            updated_at_ms: row.updated_at,
        }
    });
    Ok(Reply::Contacts {
        contacts: contacts.collect(),
    })
}

/// Calls an agent by a petname; without a note an earlier one stays.
pub(super) fn set_contact(
    core: &Core,
    who: &str,
    petname: &str,
    note: Option<&str>,
) -> Result<Reply, Error> {
    let agent = agent_called(core, who)?;
    if agent == core.agent {
        return Err(Error::usage("that is this agent itself")
            .hint("`kinlog profile set --name NAME` changes what it calls itself"));
    }
    let petname = readable("petname", petname)?;
    let other = core.petnamed(&petname)?;
    if other.is_some_and(|other| other != agent) {
        return Err(
            Error::usage(format!("another contact is called {:?}", &*petname))
                .hint("choose another name, or rename that one: `kinlog contact list`"),
        );
    }
    let known = core.index(|index| index.contacts(&core.agent))?;
    let known = known.into_iter().find(|row| row.agent == agent);
    let note = match note {
        Some(note) => note.to_owned(),
        None => known.map(|row| row.note).unwrap_or_default(),
    };
    let note = bounded("note", &note)?;
    let contact = Contact::new(agent, Some(petname), note, Vec::new()).map_err(refused)?;
    core.write_value(Body::Contact(contact))?;
    only(core, &agent)
}

pub(super) fn remove_contact(core: &Core, who: &str) -> Result<Reply, Error> {
    let agent = agent_called(core, who)?;
    let removed = only(core, &agent)?;
    if matches!(&removed, Reply::Contacts { contacts } if contacts.is_empty()) {
        return Err(Error::not_found(format!("{who:?} is no contact"))
            .hint("`kinlog contact list` shows all"));
    }
    let contact = Contact::new(agent, None, Default::default(), Vec::new()).map_err(refused)?;
    core.write_value(Body::Contact(contact))?;
    Ok(removed)
}

fn only(core: &Core, agent: &AgentId) -> Result<Reply, Error> {
    let Reply::Contacts { mut contacts } = contacts(core)? else {
        return Err(Error::general("contacts are not contacts"));
    };
    contacts.retain(|contact| *contact.agent == *agent);
    Ok(Reply::Contacts { contacts })
}

pub(super) fn preferences(core: &Core, name: Option<&str>) -> Result<Reply, Error> {
    let rows = core
        .index(|index| index.preferences(&core.agent))?
        .into_iter();
    let rows = rows.filter(|row| name.is_none_or(|name| row.name == name));
    let preferences: Vec<PreferenceInfo> = rows
        .map(|row| PreferenceInfo {
            name: row.name,
            value: row.value,
            updated_at_ms: row.updated_at,
        })
        .collect();
    if let (Some(name), true) = (name, preferences.is_empty()) {
        return Err(Error::not_found(format!("preference {name:?} is not set"))
            .hint("`kinlog preference list` shows those that are"));
    }
    Ok(Reply::Preferences { preferences })
}

pub(super) fn set_preference(core: &Core, name: &str, value: Option<&str>) -> Result<Reply, Error> {
    let is_name =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(Error::usage(format!("{name:?} is no name of a preference"))
            .hint("letters, digits, `.`, `-` and `_`: `read.last`"));
    }
    if value.is_none() {
        preferences(core, Some(name))?;
    }
    let value = value.map(|value| bounded("value", value)).transpose()?;
    let name = bounded("name", name)?;
    let preference = Preference::new(name, value, Vec::new()).map_err(refused)?;
    core.write_value(Body::Preference(preference))?;
    preferences(core, None)
}

pub(super) fn vouch(core: &Core, who: &str, trusted: bool, reason: &str) -> Result<Reply, Error> {
    let about = other_called(core, who)?;
    let reason = bounded("reason", reason)?;
    let vouch = Vouch::new(about, trusted, reason, Vec::new()).map_err(refused)?;
    core.write_value(Body::Vouch(vouch))?;
    vouches_of(core, Some(core.agent), Some(about))
}

pub(super) fn vouches(core: &Core, by: Option<&str>, about: Option<&str>) -> Result<Reply, Error> {
    let named = |who: Option<&str>| who.map(|who| agent_called(core, who)).transpose();
    vouches_of(core, named(by)?, named(about)?)
}

fn vouches_of(core: &Core, by: Option<AgentId>, about: Option<AgentId>) -> Result<Reply, Error> {
    let rows = core.index(|index| index.vouches(by.as_ref(), about.as_ref()))?;
    let vouches = rows.into_iter().map(|row| VouchInfo {
        by: row.by.into(),
        by_name: core.agent_label(&row.by),
        about: row.about.into(),
        about_name: core.agent_label(&row.about),
        trusted: row.trusted,
        reason: row.reason,
        updated_at_ms: row.updated_at,
    });
    Ok(Reply::Vouches {
        vouches: vouches.collect(),
    })
}

pub(super) fn attest(core: &Core, who: &str, text: &str) -> Result<Reply, Error> {
    let about = other_called(core, who)?;
    let text = readable("claim", text)?;
    let at = core.write_value(Body::Attest(Attest { about, text }))?;
    let rows = core.index(|index| index.attests(Some(&core.agent), Some(&about)))?;
    Ok(written(core, rows, at))
}

/// Says that this agent saw what a message of a room, or a block of a feed, says.
pub(super) fn witness(
    core: &Core,
    entry: &str,
    room: Option<&str>,
    text: &str,
) -> Result<Reply, Error> {
    let about = match room {
        Some(room) => core.message_names(&core.room(room)?)?.entry(entry)?,
        None => {
            let (feed, index) = entry.rsplit_once('#').ok_or_else(|| {
                Error::usage(format!("{entry:?} names no entry"))
                    .hint("FEED#INDEX, or a message with --room ROOM")
            })?;
            let index = index.parse().map_err(|_| {
                Error::usage(format!("{index:?} is no index of a block")).hint("FEED#INDEX")
            })?;
            let feed = core.feed_key(feed)?;
            Ref { feed, index }
        }
    };
    let text = readable("claim", text)?;
    let at = core.write_value(Body::Witness(Witness { about, text }))?;
    let rows = core.index(|index| index.witnesses(Some(&core.agent), Some(&about)))?;
    Ok(written(core, rows, at))
}

/// Lists claims: about agents, and about entries.
pub(super) fn claims(core: &Core, by: Option<&str>, about: Option<&str>) -> Result<Reply, Error> {
    let named = |who: Option<&str>| who.map(|who| agent_called(core, who)).transpose();
    let (by, about) = (named(by)?, named(about)?);
    let rows = core.index(|index| {
        let mut rows = index.attests(by.as_ref(), about.as_ref())?;
        if about.is_none() {
            rows.extend(index.witnesses(by.as_ref(), None)?);
        }
        rows.sort_by_key(|row| (std::cmp::Reverse(row.created_at), row.at));
        Ok(rows)
    })?;
    let claims = rows.into_iter().map(|row| claim(core, row)).collect();
    Ok(Reply::Claims { claims })
}

fn written(core: &Core, rows: Vec<ClaimRow>, at: Ref) -> Reply {
    let rows = rows.into_iter().filter(|row| row.at == at);
    let claims = rows.map(|row| claim(core, row)).collect();
    Reply::Claims { claims }
}

fn claim(core: &Core, row: ClaimRow) -> ClaimInfo {
    let (about, entry) = match row.about {
        ClaimSubject::Agent(agent) => (Some(agent), None),
        ClaimSubject::Entry(entry) => (None, Some(entry)),
    };
    ClaimInfo {
        by: row.by.into(),
        by_name: core.agent_label(&row.by),
        about: about.map(Into::into),
        about_name: about.map(|agent| core.agent_label(&agent)),
        feed: entry.map(|entry| entry.feed.into()),
        index: entry.map(|entry| entry.index),
        text: row.text,
        created_at_ms: row.created_at,
    }
}

fn other_called(core: &Core, who: &str) -> Result<AgentId, Error> {
    let agent = agent_called(core, who)?;
    if agent == core.agent {
        return Err(Error::usage(
            "that is this agent itself: others vouch for it",
        ));
    }
    Ok(agent)
}

/// Takes a text that can be read in one line.
fn readable<const MAX: usize>(
    what: &'static str,
    text: &str,
) -> Result<kinlog_indexer::Text<MAX>, Error> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(Error::usage(format!("{text:?} is no {what}"))
            .hint("give one that can be read, without control characters"));
    }
    bounded(what, text)
}

fn bounded<const MAX: usize>(
    what: &'static str,
    text: &str,
) -> Result<kinlog_indexer::Text<MAX>, Error> {
    let text = text.try_into();
    text.map_err(|error| Error::usage(format!("{what}: {error}")))
}

fn refused(error: kinlog_indexer::entry::BodyError) -> Error {
    Error::usage(format!("entry: {error}"))
}
