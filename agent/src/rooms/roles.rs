//! Changing what members may do, removing them, and leaving.

use std::collections::BTreeSet;

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::AgentId;
use kinlog_feeds::store::Role as FeedRole;
use kinlog_indexer::entry::{Cut, Deed, InviteRevoke, Leave, Remove, Role, RoleChange};
use kinlog_indexer::limits::ROOM_CUTS_MAX;

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::{KnownRoom, Member};
use crate::rooms::RoomFeed;
use crate::rooms::write::{Batch, act, readers};

/// What leaving a room gave back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Purged {
    pub(crate) feeds: u64,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Core {
    /// Gives a member another role.
    pub(crate) fn change_role(
        &self,
        room: &KnownRoom,
        agent: &AgentId,
        role: Role,
    ) -> Result<(), Error> {
        let (own, member) = self.over(room, agent)?;
        if role > own {
            return Err(Error::permission(format!(
                "{} of room {}: nobody gives a role above the own one ({})",
                role.as_str(),
                room.label(),
                own.as_str()
            )));
        }
        if member.role == role {
            return Ok(());
        }
        if member.role == Role::Owner && owners(room) == 1 {
            return Err(last_owner(room));
        }
        let change = RoleChange {
            agent: *agent,
            role,
        };
        self.write_in_room(room, vec![act(Deed::Role(change))])?;
        self.replan()
    }

    /// Removes a member: its feeds are cut where they are held, invites that it may know are revoked,
    /// and everything after it is sealed in an epoch that it has no copy of; all in one commit.
    /// Returns how many invites were revoked.
    pub(crate) fn remove_member(
        &self,
        room: &KnownRoom,
        agent: &AgentId,
        reason: &str,
    ) -> Result<u64, Error> {
        if *agent == self.agent {
            return Err(Error::usage("nobody removes oneself")
                .hint(format!("`kinlog room leave {}`", room.label())));
        }
        let (_, member) = self.over(room, agent)?;
        if member.role == Role::Owner && owners(room) == 1 {
            return Err(last_owner(room));
        }
        let reason = reason
            .try_into()
            .map_err(|error| Error::usage(format!("reason: {error}")))?;
        let key = self.act_key(room)?;
        let mut batch = Batch::default();
        let remove = Remove {
            agent: *agent,
            cuts: self.room_cuts(room, |feed| feed.agent == *agent),
            reason,
        };
        batch.push(act(Deed::Remove(remove)), key.clone());
        // Whoever was in the room has read every invite that anybody may use.
        let invites = room.standing.invites.iter();
        let open: Vec<_> = invites
            .filter(|(_, invite)| invite.uses.is_none_or(|uses| uses > invite.used))
            .map(|(key, _)| *key)
            .collect();
        let acts = room.standing.invite_acts.iter();
        for (invite, public_key) in acts.filter(|(_, key)| open.contains(key)) {
            let revoke = InviteRevoke {
                public_key: *public_key,
                act: *invite,
            };
            batch.push(act(Deed::InviteRevoke(revoke)), key.clone());
        }
        let mut readers = readers(&room.standing);
        for device in member.devices.keys() {
            readers.remove(device);
        }
        self.mint(room, room.standing.heads(), &readers, &mut batch)?;
        self.write_batch(room, batch)?;
        for public_key in &open {
            self.state.forget_invite(public_key)?;
        }
        self.relearn()?;
        self.replan()?;
        Ok(open.len() as u64)
    }

    /// Leaves a room: what was said stays, nothing more is written. The others read on in an epoch
    /// that this agent has no copy of.
    pub(crate) fn leave_room(&self, room: &KnownRoom) -> Result<(), Error> {
        let own = self.role_in(room)?;
        if own == Role::Owner && owners(room) == 1 && room.standing.members.len() > 1 {
            return Err(last_owner(room));
        }
        let leave = Leave {
            cuts: self.room_cuts(room, |feed| feed.agent == self.agent),
        };
        if room.standing.members.len() > 1 {
            let mut batch = Batch::default();
            batch.push(act(Deed::Leave(leave)), self.act_key(room)?);
            self.write_batch(room, batch)?;
        }
        self.replan()
    }

    /// Forgets a room: its keys, the feeds of others, and the blocks of the own ones.
    pub(crate) fn purge_room(&self, room: &KnownRoom) -> Result<Purged, Error> {
        let mut purged = Purged::default();
        let feeds: Vec<FeedKey> = room.feeds.keys().copied().collect();
        self.state.forget_room(&room.id)?;
        self.forget_log(&room.id);
        self.relearn()?;
        self.replan()?;
        for key in feeds {
            let Some(feed) = self.store.feed(&key) else {
                continue;
            };
            let before = feed.info();
            purged.feeds += 1;
            purged.blocks += before.blocks_held;
            purged.bytes += before.bytes_held;
            if feed.role() == FeedRole::Own {
                // Its head stays, so that no length of it is signed twice.
                feed.clear(0..feed.head().length)?;
            } else if !self.plan().interests.contains_key(&key) {
                self.store.drop_feed(&key)?;
            }
            self.stored(&key)?;
        }
        // Nothing of the room is left in the index either.
        self.rebuild_index()?;
        Ok(purged)
    }

    /// Returns this agent's role and a member over whom it has power.
    fn over(&self, room: &KnownRoom, agent: &AgentId) -> Result<(Role, Member), Error> {
        let own = self.role_in(room)?;
        let member = room.standing.members.get(agent).ok_or_else(|| {
            Error::not_found(format!("{agent} is no member of room {}", room.label()))
                .hint(format!("`kinlog room members {}` shows all", room.label()))
        })?;
        if own < Role::Admin || member.role > own {
            return Err(Error::permission(format!(
                "this agent is {} of room {}, {} is {}",
                own.as_str(),
                room.label(),
                self.agent_label(agent),
                member.role.as_str()
            ))
            .hint("admins and owners change and remove those who are no higher than they are"));
        }
        Ok((own, member.clone()))
    }

    /// Returns how much is held of feeds of a room: what is accepted of them from now on. Those of devices
    /// that were revoked and of stays that are over are named, too: of what is not named nothing is shown
    /// any more. Of what is cut already no more is named than that: whatever comes of the act that cut it, the
    /// rest stays hidden. Beyond [`ROOM_CUTS_MAX`] those of devices that are in the room come first.
    pub(super) fn room_cuts(
        &self,
        room: &KnownRoom,
        is_meant: impl Fn(&RoomFeed) -> bool,
    ) -> Vec<Cut> {
        let devices = room.standing.devices();
        let live: BTreeSet<FeedKey> = devices
            .flat_map(|(_, _, device)| [device.entries, device.blobs])
            .collect();
        let meant = room.feeds.values().filter(|feed| is_meant(feed));
        let mut keys: Vec<FeedKey> = meant.map(|feed| feed.key).collect();
        keys.sort_by_key(|key| !live.contains(key));
        let held = keys.into_iter().filter_map(|key| {
            let head = self.store.feed(&key)?.head();
            let held = Cut {
                feed: key,
                length: head.length,
                tree_hash: head.tree_hash(),
            };
            let cut = room.standing.cuts.get(&key).copied();
            Some(cut.filter(|cut| cut.length <= held.length).unwrap_or(held))
        });
        let held = held.filter(|cut| cut.length > 0);
        held.take(ROOM_CUTS_MAX).collect()
    }
}

fn owners(room: &KnownRoom) -> usize {
    let members = room.standing.members.values();
    members.filter(|member| member.role == Role::Owner).count()
}

fn last_owner(room: &KnownRoom) -> Error {
    Error::permission(format!("room {} would have no owner", room.label())).hint(format!(
        "make somebody else one first: `kinlog room role {} WHO owner`",
        room.label()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::RoomTerms;
    use crate::test_folder::TestFolder;

    #[test]
    fn of_a_feed_that_is_cut_no_more_is_named_than_that() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let mut room = ada.room_with(&room.id).unwrap();
        let named = |room: &KnownRoom| {
            let cuts = ada.room_cuts(room, |feed| feed.agent == ada.agent);
            let of_entries = cuts.into_iter().find(|cut| cut.feed == room.entries);
            of_entries.map(|cut| cut.length)
        };
        let held = ada.store.feed(&room.entries).unwrap().head().length;
        assert_eq!(named(&room), Some(held));
        for (length, expected) in [(held + 1, Some(held)), (1, Some(1)), (0, None)] {
            let cut = Cut {
                feed: room.entries,
                length,
                tree_hash: Default::default(),
            };
            room.standing.cuts.insert(room.entries, cut);
            assert_eq!(named(&room), expected);
        }
    }
}
