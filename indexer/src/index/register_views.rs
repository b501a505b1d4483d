//! The rows of registers: profiles, contacts, preferences, vouches; and what is only ever added:
//! claims about agents and entries.

use std::sync::Arc;

use rusqlite::params;

use crate::entry::{Attest, Body, Witness};
use crate::index::IndexError;
use crate::index::registers::{Standing, columns};
use crate::index::writer::{Placed, Writer};
use crate::register::{Register, ValueName};

impl Writer<'_> {
    /// Writes the row of the head that is shown, or that there is none.
    pub(super) fn write_value(
        &mut self,
        register: &Register,
        shown: Option<&Standing>,
    ) -> Result<(), IndexError> {
        match register.value {
            ValueName::Profile => self.write_profile(register, shown),
            ValueName::Contact(_) => self.write_contact(register, shown),
            ValueName::Preference(_) => self.write_preference(register, shown),
            ValueName::Vouch(_) => self.write_vouch(register, shown),
            // Settings are asked for by name, with their heads.
            ValueName::Setting(_) => Ok(()),
        }
    }

    fn write_profile(
        &mut self,
        register: &Register,
        shown: Option<&Standing>,
    ) -> Result<(), IndexError> {
        let (_, agent, room, _) = columns(register);
        self.db
            .prepare_cached("DELETE FROM profiles WHERE user_id = ?1 AND room_id = ?2")?
            .execute([&agent, &room])?;
        if let Some(head) = shown
            && let Body::Profile(profile) = &head.body
        {
            self.db
                .prepare_cached("INSERT INTO profiles VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    agent,
                    room,
                    profile.name.as_str(),
                    profile.about.as_str(),
                    head.clock.ms,
                    head.clock.counter,
                    head.at.feed.0,
                    head.at.index
                ])?;
        }
        let agent: Arc<str> = agent.into();
        match register.room {
            Some(_) => {
                self.stale_members.insert((room.into(), agent));
                Ok(())
            }
            None => self.rename_everywhere(&agent),
        }
    }

    fn write_contact(
        &mut self,
        register: &Register,
        shown: Option<&Standing>,
    ) -> Result<(), IndexError> {
        let (_, owner, _, about) = columns(register);
        self.db
            .prepare_cached("DELETE FROM contacts WHERE owner_id = ?1 AND user_id = ?2")?
            .execute([&owner, &about])?;
        if let Some(head) = shown
            && let Body::Contact(contact) = &head.body
            && let Some(petname) = &contact.petname
        {
            self.db
                .prepare_cached("INSERT INTO contacts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    owner,
                    about,
                    petname.as_str(),
                    contact.note.as_str(),
                    head.clock.ms,
                    head.at.feed.0,
                    head.at.index
                ])?;
        }
        Ok(())
    }

    fn write_preference(
        &mut self,
        register: &Register,
        shown: Option<&Standing>,
    ) -> Result<(), IndexError> {
        let (_, owner, _, name) = columns(register);
        self.db
            .prepare_cached("DELETE FROM preferences WHERE user_id = ?1 AND name = ?2")?
            .execute([&owner, &name])?;
        if let Some(head) = shown
            && let Body::Preference(preference) = &head.body
            && let Some(value) = &preference.value
        {
            self.db
                .prepare_cached("INSERT INTO preferences VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    owner,
                    name,
                    value.as_str(),
                    head.clock.ms,
                    head.at.feed.0,
                    head.at.index
                ])?;
        }
        Ok(())
    }

    fn write_vouch(
        &mut self,
        register: &Register,
        shown: Option<&Standing>,
    ) -> Result<(), IndexError> {
        let (_, agent, _, about) = columns(register);
        self.db
            .prepare_cached("DELETE FROM vouches WHERE user_id = ?1 AND about_id = ?2")?
            .execute([&agent, &about])?;
        if let Some(head) = shown
            && let Body::Vouch(vouch) = &head.body
        {
            self.db
                .prepare_cached("INSERT INTO vouches VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    agent,
                    about,
                    vouch.trusted,
                    vouch.reason.as_str(),
                    head.clock.ms,
                    head.at.feed.0,
                    head.at.index
                ])?;
        }
        Ok(())
    }

    pub(super) fn add_attest(
        &mut self,
        placed: &Placed,
        author: &str,
        attest: &Attest,
    ) -> Result<(), IndexError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO attests VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                placed.feed.0,
                placed.index,
                author,
                attest.about.to_string(),
                attest.text.as_str(),
                placed.clock.ms
            ])?;
        Ok(())
    }

    pub(super) fn add_witness(
        &mut self,
        placed: &Placed,
        author: &str,
        witness: &Witness,
    ) -> Result<(), IndexError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO witnesses VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                placed.feed.0,
                placed.index,
                author,
                witness.about.feed.0,
                witness.about.index,
                witness.text.as_str(),
                placed.clock.ms
            ])?;
        Ok(())
    }
}
