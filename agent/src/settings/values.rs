//! Writing a value: after every write of it that is known here and not replaced yet.

use std::sync::PoisonError;

use kinlog_indexer::entry::{Body, Ref};
use kinlog_indexer::limits::REGISTER_REPLACES_MAX;
use kinlog_indexer::register::{Register, ValueName, replacing};

use crate::api::Error;
use crate::core::{Core, Place};

impl Core {
    /// Returns a register of this agent that is no room's.
    pub(crate) fn own_register(&self, value: ValueName) -> Register {
        Register {
            agent: self.agent,
            room: None,
            value,
        }
    }

    /// Writes what this agent says or keeps; it replaces every write of the same value that stands here.
    /// Durable and indexed on return. Returns the entry.
    pub(crate) fn write_value(&self, body: Body) -> Result<Ref, Error> {
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_value_in_turn(body)
    }

    /// As [`write_value`](Self::write_value), for whoever holds the turn.
    pub(super) fn write_value_in_turn(&self, body: Body) -> Result<Ref, Error> {
        let heads = match ValueName::of(&body) {
            Some((value, _)) => {
                let register = self.own_register(value);
                self.index(|index| index.register(&register))?
            }
            None => Vec::new(),
        };
        let heads: Vec<Ref> = heads.into_iter().map(|head| head.at).collect();
        // More than one write may name are replaced by several, of which the last one stands.
        let mut parts: Vec<&[Ref]> = heads.chunks(REGISTER_REPLACES_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let own = self.reserved_feed(&body)?;
        let bodies = parts
            .into_iter()
            .map(|part| replacing(&body, part.to_vec()))
            .collect::<Result<Vec<Body>, _>>()
            .map_err(|error| Error::usage(format!("entry: {error}")))?;
        let appended = match own.is_private {
            true => self.write_entries(&own, Place::Private(&self.own_epoch()?), bodies)?,
            false => self.write_entries(&own, Place::Public, bodies)?,
        };
        Ok(Ref {
            feed: own.key,
            index: appended.length - 1,
        })
    }

    /// Reads what the index says of this agent's contacts.
    pub(crate) fn learn_contacts(&self) -> Result<(), Error> {
        self.index(|index| {
            let contacts = index.contacts(&self.agent)?.into_iter();
            let petnames = contacts.map(|row| (row.agent, row.petname)).collect();
            self.knowledge(|knowledge| {
                knowledge.petnames = petnames;
                for (agent, known) in &mut knowledge.agents {
                    known.petname = knowledge.petnames.get(agent).cloned();
                }
            });
            Ok(())
        })
    }
}
