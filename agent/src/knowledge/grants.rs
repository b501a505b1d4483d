//! What is known of seed grants for the rooms of this agent.

use kinlog_feeds::crypto::{AgentId, Hash};
use kinlog_indexer::RoomId;
use kinlog_indexer::grant::{RoomTag, SeedGrant};

use crate::knowledge::KnownRoom;

/// A grant that this device gave.
#[derive(Clone, Debug)]
pub(crate) struct GivenGrant {
    pub(crate) room: RoomId,
    pub(crate) hash: Hash,
    pub(crate) grant: SeedGrant,
}

impl GivenGrant {
    /// Returns whether it is one for `seeder` in `room`.
    pub(crate) fn is_for(&self, room: &RoomId, seeder: &AgentId) -> bool {
        self.room == *room && self.grant.terms().grantee == *seeder
    }
}

/// A grant that the other side of a session showed, as one of the seeder's own devices.
#[derive(Clone, Debug)]
pub(crate) struct ProvenGrant {
    pub(crate) room: RoomId,
    pub(crate) hash: Hash,
    pub(crate) grant: SeedGrant,
}

/// What a grant is worth in its room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GrantStanding {
    /// Its act counts: what it names is served.
    Live,
    /// A member's device signed it and no act of it is held yet: nothing is served, and what the
    /// seeder has is taken.
    Signed,
    /// It is worth nothing: expired, revoked, or of somebody who is no member.
    Nothing,
}

impl KnownRoom {
    /// Returns what a grant is worth at `now_ms`.
    pub(crate) fn grant_standing(&self, grant: &SeedGrant, now_ms: u64) -> GrantStanding {
        let (hash, terms) = (grant.hash(), grant.terms());
        let members = self.standing.members.iter();
        let mut givers = members.filter(|(_, member)| member.devices.contains_key(&grant.device()));
        let Some((giver, _)) = givers.next() else {
            return GrantStanding::Nothing;
        };
        // Others' word on it, a copy of its act, is worth nothing, and ends nothing.
        let said = (hash, *giver);
        if grant.is_expired(now_ms)
            || terms.room_tag != RoomTag::of(&self.id)
            || self.standing.revoked_grants.contains(&said)
        {
            return GrantStanding::Nothing;
        }
        match self.standing.grants.get(&said) {
            None => GrantStanding::Signed,
            Some(granted)
                if granted.grant.seeder == terms.grantee
                    && granted.grant.expires_at_ms >= now_ms =>
            {
                GrantStanding::Live
            }
            Some(_) => GrantStanding::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{DeviceKey, FeedKey, KeyPair, Secret};
    use kinlog_indexer::entry::{Grant, Role};
    use kinlog_indexer::grant::{GrantTerms, GrantedRange};

    use super::*;
    use crate::knowledge::{Granted, Member, MemberDevice};

    const EXPIRES_AT: u64 = 1_000;

    fn giver() -> KeyPair {
        KeyPair::from_seed(&[5; 32])
    }

    fn grant(room: &RoomId, giver: &KeyPair) -> SeedGrant {
        let terms = GrantTerms {
            room_tag: RoomTag::of(room),
            meet_key: Secret::new([2; 32]),
            grantee: AgentId([3; 32]),
            expires_at_ms: EXPIRES_AT,
            quota_class: 0,
            ranges: vec![GrantedRange::whole(FeedKey([6; 32]))],
        };
        SeedGrant::sign(terms, giver).expect("one range")
    }

    /// A room with the giver's device in it, and a grant whose act counts.
    fn room() -> (KnownRoom, SeedGrant) {
        let mut room = KnownRoom::new(RoomId([1; 32]), "family", FeedKey([6; 32]));
        let device = MemberDevice {
            entries: FeedKey([6; 32]),
            blobs: FeedKey([7; 32]),
            x25519: [0; 32],
        };
        let member = Member {
            role: Role::Member,
            devices: [(DeviceKey(giver().public_key().0), device)].into(),
        };
        room.standing.members.insert(AgentId([9; 32]), member);
        let grant = grant(&room.id, &giver());
        let said = Grant {
            seeder: AgentId([3; 32]),
            expires_at_ms: EXPIRES_AT,
            quota_class: 0,
            hash: grant.hash(),
        };
        let by = AgentId([9; 32]);
        room.standing
            .grants
            .insert((grant.hash(), by), Granted { grant: said, by });
        (room, grant)
    }

    #[test]
    fn a_grant_is_worth_something_while_its_act_counts_and_its_giver_is_a_member() {
        let (mut room, grant) = room();
        assert_eq!(room.grant_standing(&grant, EXPIRES_AT), GrantStanding::Live);
        let late = room.grant_standing(&grant, EXPIRES_AT + 1);
        assert_eq!(late, GrantStanding::Nothing, "expired");

        room.standing.grants.clear();
        assert_eq!(room.grant_standing(&grant, 0), GrantStanding::Signed);
        let by = AgentId([9; 32]);
        room.standing.revoked_grants.insert((grant.hash(), by));
        let revoked = room.grant_standing(&grant, 0);
        assert_eq!(revoked, GrantStanding::Nothing, "revoked");

        room.standing.revoked_grants.clear();
        room.standing.members.clear();
        let removed = room.grant_standing(&grant, 0);
        assert_eq!(removed, GrantStanding::Nothing, "the giver is gone");
    }

    #[test]
    fn a_grant_of_another_room_or_by_somebody_else_is_worth_nothing() {
        let (room, _) = room();
        let elsewhere = grant(&RoomId([8; 32]), &giver());
        let forged = grant(&room.id, &KeyPair::from_seed(&[6; 32]));
        for other in [elsewhere, forged] {
            assert_eq!(room.grant_standing(&other, 0), GrantStanding::Nothing);
        }
    }

    #[test]
    fn an_act_for_another_seeder_makes_no_grant_of_it() {
        let (mut room, grant) = room();
        let granted = room.standing.grants.values_mut().next().expect("put");
        granted.grant.seeder = AgentId([4; 32]);
        assert_eq!(room.grant_standing(&grant, 0), GrantStanding::Nothing);
    }
}
