//! Sign-in with a password: making it, showing it, taking it back, holding those of others.

use kinlog_feeds::crypto::PublicKey;

use crate::api::{Error, HeldSignInInfo, Reply, SignInInfo, SignInKeyInfo};
use crate::core::Core;
use crate::sign_in::{HoldLink, SignInOffer, agent_named, is_sign_in_key};

pub(super) fn create(core: &Core, offer: &SignInOffer) -> Result<Reply, Error> {
    core.create_sign_in(offer)?;
    show(core)
}

pub(super) fn revoke(core: &Core) -> Result<Reply, Error> {
    core.revoke_sign_in()?;
    show(core)
}

pub(super) fn hold(core: &Core, link: &str) -> Result<Reply, Error> {
    let link: HoldLink = link
        .parse()
        .map_err(|error: crate::sign_in::HoldLinkError| Error::usage(error.to_string()))?;
    core.hold_sign_in(&link)?;
    show(core)
}

/// Holds the record of another agent no longer.
pub(super) fn release(core: &Core, agent: &str) -> Result<Reply, Error> {
    let (agent, _) = agent_named(agent)?;
    if agent == core.agent {
        return Err(Error::usage("the sign-in is of this agent itself")
            .hint("`kinlog sign-in revoke` ends it"));
    }
    if core.sign_in(&agent).is_none() {
        return Err(Error::not_found(format!(
            "no sign-in record of {agent} is held here"
        )));
    }
    core.forget_sign_in(&agent)?;
    show(core)
}

pub(super) fn show(core: &Core) -> Result<Reply, Error> {
    let identity = core.own_identity()?;
    let held = core.sign_in(&core.agent).and_then(|held| held.record);
    let held = held.filter(|record| record.stands(&identity).is_ok());
    let revoked = identity.revoked.iter().map(|one| (&one.device, true));
    let all = identity.devices.iter().map(|one| (one, false));
    let keys = all
        .chain(revoked)
        .filter(|(device, _)| is_sign_in_key(device));
    let keys: Vec<SignInKeyInfo> = keys
        .map(|(key, is_revoked)| {
            let of_key = |by: &PublicKey| by.0 == key.key.0;
            let added = identity.devices.iter().filter(|one| of_key(&one.added_by));
            SignInKeyInfo {
                key: key.key.into(),
                made_by: identity.signer_name(&key.added_by),
                revoked: is_revoked,
                devices: added.map(|one| one.name.clone()).collect(),
            }
        })
        .collect();
    let state = match &held {
        Some(_) => "ready",
        None if keys.iter().any(|key| !key.revoked) => "elsewhere",
        None => "none",
    };
    let of_others = core.knowledge(|knowledge| {
        let others = knowledge.sign_ins.iter();
        let others = others.filter(|(agent, _)| **agent != core.agent);
        let others = others.map(|(agent, held)| {
            let known = knowledge.agents.get(agent);
            HeldSignInInfo {
                agent: (*agent).into(),
                name: knowledge.called(agent, known.and_then(|known| known.name.as_deref())),
                number: held.record.as_ref().map(|record| record.counter),
            }
        });
        others.collect()
    });
    Ok(Reply::SignIn(SignInInfo {
        state: state.to_owned(),
        number: held.as_ref().map(|record| record.counter),
        hold_link: held.as_ref().map(|record| {
            let (agent, meet_key) = (record.agent, record.meet_key);
            HoldLink { agent, meet_key }.to_string()
        }),
        keys,
        held: of_others,
    }))
}
