//! `seed accept`, `list`, `drop`: what this agent keeps for the members of rooms; `room grant`, `grants`,
//! `grant-revoke`: what others keep for ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::AgentId;

use crate::api::{AnswerSender, Error, GrantInfo, Reply, SeedingInfo, Text};
use crate::core::Core;
use crate::limits::GRANT_SECONDS;
use crate::links::Link;
use crate::requests::{Ended, blocking};
use crate::seeding::{GrantOffer, is_of};
use crate::state::HeldGrant;
use crate::tasks::Running;
use crate::wall::wall_ms;

pub(super) async fn accept(
    running: &Arc<Running>,
    link: &str,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let link = link.parse().map_err(Error::from)?;
    let Link::Grant(grant) = link else {
        return Err(Error::usage("the link is no seed grant")
            .hint("`kinlog seed LINK` keeps what a public link names")
            .into());
    };
    let reply = blocking(&running.core, move |core| {
        let held = core.accept_grant(&grant)?;
        let grants = vec![info(core, &held)];
        Ok(Reply::Seeding { grants })
    });
    let reply = reply.await?;
    running.ensure_signals().await?;
    Ok(to.reply(reply).await?)
}

pub(super) fn list(core: &Core) -> Result<Reply, Error> {
    let held = core.knowledge(|knowledge| knowledge.held_grants.clone());
    let grants = held.iter().map(|held| info(core, held)).collect();
    Ok(Reply::Seeding { grants })
}

/// Gives up a grant, with the others that the same member gave for the room, and what was kept by them.
pub(super) fn drop(core: &Core, name: &str) -> Result<Reply, Error> {
    let held = core.knowledge(|knowledge| knowledge.held_grants.clone());
    let meant: Vec<&HeldGrant> = held
        .iter()
        .filter(|held| !name.is_empty() && held.hash.to_string().starts_with(name))
        .collect();
    let [meant] = meant[..] else {
        let error = match meant.len() {
            0 => Error::not_found(format!("no seed grant {name:?} is held")),
            count => Error::usage(format!("{name:?} begins {count} seed grants")),
        };
        return Err(error.hint("`kinlog seed list` shows them"));
    };
    let (tag, giver) = (meant.grant.terms().room_tag, meant.grant.device());
    let dropped: Vec<&HeldGrant> = held
        .iter()
        .filter(|held| is_of(held, &tag, &giver))
        .collect();
    let grants = dropped.iter().map(|held| info(core, held)).collect();
    for held in &dropped {
        core.state.drop_held_grant(&held.hash)?;
    }
    core.relearn()?;
    core.replan()?;
    let named: BTreeSet<FeedKey> = dropped
        .iter()
        .flat_map(|held| &held.grant.terms().ranges)
        .map(|range| range.feed)
        .collect();
    let (mut blocks, mut bytes) = (0, 0);
    for key in named {
        // Kept for others only: what is wanted or known for another reason stays.
        let is_kept = core.plan().interests.contains_key(&key);
        let Some(feed) = core.store.feed(&key).filter(|_| !is_kept) else {
            continue;
        };
        if feed.role() != kinlog_feeds::store::Role::Seeded {
            continue;
        }
        let held = feed.info();
        blocks += held.blocks_held;
        bytes += held.bytes_held;
        core.forget_feed(&key)?;
    }
    Ok(Reply::SeedingDropped {
        grants,
        blocks,
        bytes,
    })
}

fn info(core: &Core, held: &HeldGrant) -> SeedingInfo {
    let terms = held.grant.terms();
    let now_ms = wall_ms();
    let state = match () {
        () if held.is_ended => "ended",
        () if held.grant.is_expired(now_ms) => "expired",
        () => "live",
    };
    let kept = terms
        .ranges
        .iter()
        .filter_map(|range| core.store.feed(&range.feed));
    let kept: Vec<_> = kept.map(|feed| feed.info()).collect();
    SeedingInfo {
        grant: Text(held.hash),
        room_tag: kinlog_feeds::text::encode_hex(&terms.room_tag.0),
        given_by: held.grant.device().into(),
        state: state.to_owned(),
        expires_at_ms: terms.expires_at_ms,
        quota_class: terms.quota_class,
        feeds: terms.ranges.len() as u64,
        blocks: kept.iter().map(|info| info.blocks_held).sum(),
        bytes: kept.iter().map(|info| info.bytes_held).sum(),
    }
}

pub(super) fn grant(
    core: &Core,
    room: &str,
    seeder: &str,
    expires_in: Option<u64>,
    quota_class: u8,
) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let seeder = match (seeder.parse::<Link>(), core.petnamed(seeder)?) {
        (Ok(Link::Agent { agent, .. }), _) | (_, Some(agent)) => agent,
        _ => seeder.parse::<AgentId>().map_err(|error| {
            Error::usage(format!("{seeder:?} names no agent: {error}"))
                .hint("give an agent id, or the link that `kinlog id` of the seeder shows")
        })?,
    };
    let expires_in = expires_in.unwrap_or(GRANT_SECONDS);
    let expires_at_ms = wall_ms().saturating_add(expires_in.saturating_mul(1000));
    let offer = GrantOffer {
        seeder,
        expires_at_ms,
        quota_class,
    };
    let (grant, link) = core.give_grant(&room, offer)?;
    Ok(Reply::Granted {
        room: room.label(),
        grant: Text(grant.hash()),
        feeds: grant.terms().ranges.len() as u64,
        expires_at_ms,
        link,
    })
}

pub(super) fn grants(core: &Core, room: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let connected: BTreeSet<_> = core.knowledge(|knowledge| {
        let shown = knowledge.proven.values().flatten();
        shown.map(|shown| shown.hash).collect()
    });
    let now_ms = wall_ms();
    let grants = room.standing.grants.iter().map(|((hash, _), granted)| {
        let grant = &granted.grant;
        GrantInfo {
            grant: Text(*hash),
            seeder: grant.seeder.into(),
            seeder_name: core.agent_label(&grant.seeder),
            given_by: granted.by.into(),
            given_by_name: core.agent_label(&granted.by),
            state: match grant.expires_at_ms < now_ms {
                true => "expired",
                false => "live",
            }
            .to_owned(),
            expires_at_ms: grant.expires_at_ms,
            quota_class: grant.quota_class,
            connected: connected.contains(hash),
        }
    });
    Ok(Reply::Grants {
        room: room.label(),
        grants: grants.collect(),
    })
}

pub(super) fn revoke(core: &Core, room: &str, grant: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let revoked = core.revoke_grants(&room, grant)?;
    Ok(Reply::GrantsRevoked {
        room: room.label(),
        grants: revoked.into_iter().map(Text).collect(),
    })
}
