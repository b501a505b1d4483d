//! The giver's side: a grant with its act, renewed as the room changes, revoked.

use std::collections::BTreeSet;

use kinlog_feeds::crypto::{AgentId, Hash, Secret};
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::{Deed, Grant, GrantRevoke, Role};
use kinlog_indexer::grant::{GrantTerms, GrantedRange, RoomTag, SeedGrant};
use kinlog_indexer::seal::EpochSecret;

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::knowledge::{GivenGrant, KnownRoom};
use crate::limits::GRANT_MEET_KEYS_MAX;
use crate::links::{GrantLink, Link};
use crate::rooms::act;
use crate::wall::wall_ms;

/// What a member grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantOffer {
    pub(crate) seeder: AgentId,
    pub(crate) expires_at_ms: u64,
    pub(crate) quota_class: u8,
}

impl Core {
    /// Gives a grant and returns it with the link that carries it; again for the same seeder returns
    /// the link of what it has, unless other terms are asked for.
    pub(crate) fn give_grant(
        &self,
        room: &KnownRoom,
        offer: GrantOffer,
    ) -> Result<(SeedGrant, String), Error> {
        self.own_in_room(room)?;
        if self.role_in(room)? < Role::Member {
            return Err(Error::permission(format!(
                "a guest of room {} gives no seed grant",
                room.label()
            ))
            .hint("ask a member to do it"));
        }
        if room.standing.role(&offer.seeder).is_some() {
            return Err(Error::usage(format!(
                "agent {} is in room {}: it keeps the room anyway",
                offer.seeder,
                room.label()
            )));
        }
        let secret = granted_epochs(room).into_iter().next().ok_or_else(|| {
            Error::general(format!("no epoch of room {} is known", room.label()))
                .hint("it comes with the entries of the other members")
        })?;
        let grant = self.sign_grant(room, &secret, &offer)?;
        self.state.add_given_grant(&room.id, &grant)?;
        self.write_in_room(room, vec![act(Deed::Grant(said(&grant)))])?;
        self.relearn()?;
        self.replan()?;
        let link = GrantLink {
            grant: grant.clone(),
            signal_urls: self.state.signals()?,
        };
        Ok((grant, Link::Grant(Box::new(link)).to_string()))
    }

    /// Ends grants of a room: that with a hash that begins so, and those that the same seeder has
    /// beside it; or all of an agent. Returns their hashes.
    pub(crate) fn revoke_grants(&self, room: &KnownRoom, name: &str) -> Result<Vec<Hash>, Error> {
        self.own_in_room(room)?;
        let live = &room.standing.grants;
        let named = live.iter().filter(|((hash, _), granted)| {
            let seeder = granted.grant.seeder.to_string();
            name.len() >= 4 && (hash.to_string().starts_with(name) || seeder == name)
        });
        let seeders: BTreeSet<AgentId> = named.map(|(_, granted)| granted.grant.seeder).collect();
        if seeders.is_empty() {
            return Err(Error::not_found(format!(
                "no seed grant {name:?} in room {}",
                room.label()
            ))
            .hint("`kinlog room grants ROOM` shows them"));
        }
        let is_over = self.role_in(room)? >= Role::Admin;
        let meant: BTreeSet<Hash> = live
            .iter()
            .filter(|(_, granted)| seeders.contains(&granted.grant.seeder))
            .filter(|(_, granted)| is_over || granted.by == self.agent)
            .map(|((hash, _), _)| *hash)
            .collect();
        let meant: Vec<Hash> = meant.into_iter().collect();
        if meant.is_empty() {
            return Err(Error::permission(
                "the grant was given by somebody else: its giver ends it, or an admin",
            ));
        }
        self.end_grants(room, &meant)?;
        for seeder in &seeders {
            self.tell_seeders(&room.id, seeder);
        }
        Ok(meant)
    }

    /// Renews the grants that this device gave, where feeds came or epochs changed since.
    ///
    /// The newest grant of a seeder names the meet key of the newest epoch and all feeds. Those with
    /// meet keys of epochs before stay while everybody who has them is still a member, so that a
    /// member who was away finds the seeder by the key it knows; the others are ended.
    pub(crate) fn renew_grants(&self) -> Result<(), Error> {
        let given = self.knowledge(|knowledge| knowledge.given_grants.clone());
        let mut of: Vec<(RoomId, AgentId)> = given
            .iter()
            .map(|one| (one.room, one.grant.terms().grantee))
            .collect();
        of.sort_unstable();
        of.dedup();
        for (room, seeder) in of {
            let room = self.knowledge(|knowledge| knowledge.rooms.get(&room).cloned());
            let Some(room) = room.filter(|room| room.devices().contains(&self.keys.device()))
            else {
                continue;
            };
            let given: Vec<&GivenGrant> = given
                .iter()
                .filter(|one| one.is_for(&room.id, &seeder))
                .collect();
            if self.renew_for(&room, &seeder, &given)? {
                self.tell_seeders(&room.id, &seeder);
            }
        }
        Ok(())
    }

    fn renew_for(
        &self,
        room: &KnownRoom,
        seeder: &AgentId,
        given: &[&GivenGrant],
    ) -> Result<bool, Error> {
        let Some(newest) = given.last().map(|one| one.grant.terms()) else {
            return Ok(false);
        };
        let epochs = granted_epochs(room);
        let (Some(secret), false) = (epochs.first(), newest.expires_at_ms < wall_ms()) else {
            return Ok(false);
        };
        let keys: Vec<Secret> = epochs.iter().map(EpochSecret::meet_key).collect();
        let is_current = |one: &GivenGrant| {
            let terms = one.grant.terms();
            terms.meet_key == keys[0] && terms.ranges == ranges(room)
        };
        let lacks = !given.iter().any(|one| is_current(one));
        let over: Vec<Hash> = given
            .iter()
            .filter(|one| {
                let key = &one.grant.terms().meet_key;
                !keys.contains(key) || (*key == keys[0] && !is_current(one))
            })
            .map(|one| one.hash)
            .collect();
        if lacks {
            let offer = GrantOffer {
                seeder: *seeder,
                expires_at_ms: newest.expires_at_ms,
                quota_class: newest.quota_class,
            };
            let grant = self.sign_grant(room, secret, &offer)?;
            self.state.add_given_grant(&room.id, &grant)?;
            self.write_in_room(room, vec![act(Deed::Grant(said(&grant)))])?;
        }
        if !over.is_empty() {
            self.end_grants(room, &over)?;
        } else if lacks {
            self.relearn()?;
            self.replan()?;
        }
        Ok(lacks || !over.is_empty())
    }

    fn end_grants(&self, room: &KnownRoom, hashes: &[Hash]) -> Result<(), Error> {
        let live = hashes
            .iter()
            .map(|hash| act(Deed::GrantRevoke(GrantRevoke { hash: *hash })));
        self.write_in_room(room, live.collect())?;
        for hash in hashes {
            self.state.drop_given_grant(hash)?;
        }
        self.relearn()?;
        self.replan()
    }

    fn sign_grant(
        &self,
        room: &KnownRoom,
        secret: &EpochSecret,
        offer: &GrantOffer,
    ) -> Result<SeedGrant, Error> {
        let terms = GrantTerms {
            room_tag: RoomTag::of(&room.id),
            meet_key: secret.meet_key(),
            grantee: offer.seeder,
            expires_at_ms: offer.expires_at_ms,
            quota_class: offer.quota_class,
            ranges: ranges(room),
        };
        SeedGrant::sign(terms, self.keys.signing()).map_err(|error| Error::usage(chain(&error)))
    }
}

/// Returns every feed of a room, whole.
fn ranges(room: &KnownRoom) -> Vec<GrantedRange> {
    room.feeds
        .keys()
        .copied()
        .map(GrantedRange::whole)
        .collect()
}

/// Returns what the act of a grant says.
fn said(grant: &SeedGrant) -> Grant {
    let terms = grant.terms();
    Grant {
        seeder: terms.grantee,
        expires_at_ms: terms.expires_at_ms,
        quota_class: terms.quota_class,
        hash: grant.hash(),
    }
}

/// Returns the epochs whose meet keys a seeder may be met by, newest first, at most
/// [`GRANT_MEET_KEYS_MAX`]: those of which everybody who was given one is still a member. Whoever was removed has the keys of the epochs before, and none of these.
fn granted_epochs(room: &KnownRoom) -> Vec<EpochSecret> {
    let members = room.devices();
    let is_granted = |id: &kinlog_indexer::seal::EpochId| {
        let epoch = room.standing.epochs.get(id);
        epoch.is_some_and(|epoch| epoch.recipients.is_subset(&members))
            && room.keys.secret(id).is_some()
    };
    let newest = room.standing.newest_epochs(GRANT_MEET_KEYS_MAX, is_granted);
    newest
        .iter()
        .filter_map(|id| room.keys.secret(id).cloned())
        .collect()
}
