//! Inviting to a room, and taking invites back.

use kinlog_feeds::crypto::{AgentId, PublicKey, Secret};
use kinlog_indexer::entry::{Deed, Invite as RoomInvite, InviteRevoke, ROOM_RULES, Role};

use crate::api::Error;
use crate::core::Core;
use crate::keys::random;
use crate::knowledge::{Gone, KnownRoom};
use crate::links::{Invite, Link};
use crate::rooms::write::act;
use crate::wall_ms;

/// Whom an invite lets in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct InviteTerms {
    /// As what.
    pub(crate) role: Role,
    /// Until when, wall clock in ms; `None`: for ever.
    pub(crate) expires_at_ms: Option<u64>,
    /// How many; `None`: without limit.
    pub(crate) uses: Option<u32>,
}

impl InviteTerms {
    /// Anybody who has the link, as a member, until it is revoked.
    pub(crate) const OPEN: InviteTerms = InviteTerms {
        role: Role::Member,
        expires_at_ms: None,
        uses: None,
    };
}

impl Core {
    /// Returns a link by which others join a room. The open one is the same until it is revoked.
    pub(crate) fn invite(&self, room: &KnownRoom, terms: &InviteTerms) -> Result<String, Error> {
        self.own_in_room(room)?;
        let role = self.role_in(room)?;
        if role < Role::Member
            || terms.role > role
            || (role < Role::Admin && terms.role > Role::Member)
        {
            return Err(Error::permission(format!(
                "{} {} of room {} invites no {}",
                article(role),
                role.as_str(),
                room.label(),
                terms.role.as_str()
            ))
            .hint("members invite guests and members, admins and owners up to their own role"));
        }
        let held = self.state.invites()?.into_iter().find(|(id, key, _)| {
            let open = room.standing.invites.get(key);
            *id == room.id
                && *terms == InviteTerms::OPEN
                && open.is_some_and(|open| {
                    (open.role, open.expires_at_ms, open.uses) == (Role::Member, None, None)
                })
        });
        let seed = match &held {
            Some((_, _, seed)) => seed.clone(),
            None => Secret::new(random()?),
        };
        let invite = Invite {
            room: room.id,
            seed,
            signal_urls: self.state.signals()?,
        };
        if held.is_none() {
            self.state.add_invite(&room.id, &invite)?;
            // The entry lets every member admit, also when we are away.
            let said = RoomInvite {
                public_key: invite.public_key(),
                role: terms.role,
                expires_at_ms: terms.expires_at_ms,
                uses: terms.uses,
            };
            self.write_in_room(room, vec![act(Deed::Invite(said))])?;
            self.relearn()?;
            self.replan()?;
        }
        Ok(Link::Join(invite).to_string())
    }

    /// Takes an invite back: nobody is admitted by it any more.
    pub(crate) fn revoke_invite(&self, room: &KnownRoom, key: &PublicKey) -> Result<(), Error> {
        let open = room.standing.invites.get(key).ok_or_else(|| {
            Error::not_found(format!("no open invite {key} in room {}", room.label()))
                .hint(format!("`kinlog room invites {}` shows all", room.label()))
        })?;
        if open.by != self.agent && self.role_in(room)? < Role::Admin {
            return Err(Error::permission(format!(
                "invite {key} is of somebody else: its author, admins and owners revoke it"
            )));
        }
        // Who may end only the own one leaves what others made with its key.
        let is_admin = self.role_in(room)? >= Role::Admin;
        let acts = room.standing.invite_acts.iter();
        let acts = acts.filter(|(made, by)| *by == key && (is_admin || **made == open.act));
        let revokes = acts.map(|(made, _)| {
            act(Deed::InviteRevoke(InviteRevoke {
                public_key: *key,
                act: *made,
            }))
        });
        self.write_in_room(room, revokes.collect())?;
        self.state.forget_invite(key)?;
        self.relearn()?;
        self.replan()
    }

    /// Says how this agent went out of a room.
    pub(crate) fn gone_error(&self, room: &KnownRoom, gone: &Gone) -> Error {
        let label = room.label();
        if gone.by == self.agent {
            return Error::permission(format!("this agent left room {label}"));
        }
        let by = self.agent_label(&gone.by);
        let reason = match gone.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        Error::permission(format!(
            "you were removed from room {label} by {by}{reason}"
        ))
        .hint("what was said until then stays here; coming back takes a new invite")
    }

    /// Returns what people call an agent: its name in some room or in the open, and its id.
    pub(crate) fn agent_label(&self, agent: &AgentId) -> String {
        if let Some(petname) = self.called(agent, None) {
            return petname;
        }
        let named = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent)?;
            known.name.as_ref().map(|_| known.label())
        });
        let of_rooms = || {
            let rooms =
                self.knowledge(|knowledge| knowledge.rooms.keys().copied().collect::<Vec<_>>());
            rooms.iter().find_map(|room| {
                let members = self.look(|index| index.room_members(room)).ok()?;
                let member = members.into_iter().find(|member| member.agent == *agent)?;
                let name = member.display_name?;
                Some(format!("{name} ({})", &agent.to_string()[..8]))
            })
        };
        named
            .or_else(of_rooms)
            .unwrap_or_else(|| agent.to_string()[..8].to_owned())
    }

    /// Returns what this agent is in a room.
    /// Refuses to do anything in a room that a newer build made.
    pub(crate) fn has_known_rules(&self, room: &KnownRoom) -> Result<(), Error> {
        let Some(rules) = room.standing.newer_rules else {
            return Ok(());
        };
        Err(Error::usage(format!(
            "room {} was made by a newer kinlog: it has rules {rules}, this one knows {ROOM_RULES}",
            room.label()
        ))
        .hint("it is kept and passed on as it is; a newer kinlog opens it"))
    }

    pub(crate) fn role_in(&self, room: &KnownRoom) -> Result<Role, Error> {
        self.has_known_rules(room)?;
        room.standing
            .role(&self.agent)
            .ok_or_else(|| match room.standing.gone.get(&self.agent) {
                Some(gone) => self.gone_error(room, gone),
                None => Error::permission(format!("this agent is no member of {}", room.label())),
            })
    }
}

/// Returns whether an invite, or something else that ends at a time, has ended.
pub(crate) fn has_expired(expires_at_ms: Option<u64>) -> bool {
    expires_at_ms.is_some_and(|at| at <= wall_ms())
}

fn article(role: Role) -> &'static str {
    match role {
        Role::Admin | Role::Owner => "an",
        Role::Guest | Role::Member => "a",
    }
}
