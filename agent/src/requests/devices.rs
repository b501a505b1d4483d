//! The devices of this agent, and those of others.

use std::collections::BTreeSet;

use kinlog_feeds::crypto::{AgentId, Hash};
use kinlog_feeds::text::encode_hex;
use kinlog_indexer::identity::{Cut, Device, Identity, SafetyNumber, Said, Verdict};

use crate::api::{CutInfo, DeviceInfo, Error, Reply};
use crate::core::Core;
use crate::knowledge::KnownAgent;
use crate::requests::rooms::{agent_named, members_called};

pub(super) fn list(core: &Core, of: Option<&str>) -> Result<Reply, Error> {
    let known = match of {
        None => known(core, &core.agent)?,
        Some(text) => named(core, text)?,
    };
    let identity = &known.identity;
    let current = identity.devices.iter();
    let mut devices: Vec<DeviceInfo> = current
        .map(|device| info(core, &known, device, "device", &[]))
        .collect();
    devices.sort_by_key(|device| (device.role != "this", device.role.clone()));
    devices.extend(identity.revoked.iter().map(|revoked| {
        let by = revoked.revocations.iter();
        let by: Vec<String> = by.map(|one| identity.signer_name(&one.by)).collect();
        info(core, &known, &revoked.device, "revoked", &by)
    }));
    devices.extend(undone(core, &known));
    Ok(Reply::Devices { devices })
}

pub(super) fn rename(core: &Core, device: &str, name: &str) -> Result<Reply, Error> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Error::usage(format!("{name:?} is no name for a device"))
            .hint("give one that can be read, without control characters"));
    }
    let device = core.find_device(device)?;
    core.rename_device(&device, name)?;
    let known = known(core, &core.agent)?;
    let renamed = known.identity.device(&device.key);
    let renamed = renamed.map(|device| info(core, &known, device, "device", &[]));
    Ok(Reply::Devices {
        devices: renamed.into_iter().collect(),
    })
}

pub(super) fn revoke(
    core: &Core,
    device: &str,
    undo: &[String],
    preview: bool,
) -> Result<Reply, Error> {
    let device = core.find_device(device)?;
    let before = known(core, &core.agent)?;
    let said = said_by(&before, &device);
    let undone = undo
        .iter()
        .map(|text| {
            let meant = said.iter().find(|(about, name, _)| {
                name == text || (text.len() >= 4 && about.to_string().starts_with(text.as_str()))
            });
            let (about, ..) = meant.ok_or_else(|| {
                Error::not_found(format!("{} said nothing about {text:?}", device.name))
                    .hint("without --yes the command shows what the device said")
            })?;
            Ok(*about)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let (public, private) = core.cuts(&device);
    if !preview {
        core.revoke_device(&device, &undone)?;
    }
    let shown = said.into_iter().map(|(about, name, what)| {
        let stays = match undone.contains(&about) {
            true => "taken back",
            false => "stays",
        };
        format!("{what} {name}: {stays}")
    });
    let cut = |cut: Option<Cut>| {
        cut.map(|cut| CutInfo {
            length: cut.length,
            tree_hash: encode_hex(&cut.tree_hash.0),
        })
    };
    let by = match preview {
        true => Vec::new(),
        false => vec![
            known(core, &core.agent)?
                .identity
                .signer_name(&core.keys.signing().public_key()),
        ],
    };
    let state = if preview { "device" } else { "revoked" };
    Ok(Reply::Revocation {
        device: Box::new(info(core, &before, &device, state, &by)),
        public: cut(public),
        private: cut(private),
        said: shown.collect(),
        done: !preview,
    })
}

pub(super) fn safety(core: &Core, text: &str) -> Result<Reply, Error> {
    let other = named(core, text)?;
    let own = known(core, &core.agent)?;
    if other.identity.agent == core.agent {
        return Err(Error::usage(
            "that is this agent: a safety number is one with somebody else",
        ));
    }
    let (mine, theirs) = (own.identity.root(), other.identity.root());
    let number = SafetyNumber::of((&core.agent, &mine), (&other.identity.agent, &theirs));
    Ok(Reply::Safety {
        agent: other.identity.agent.into(),
        name: core
            .called(&other.identity.agent, other.name.as_deref())
            .unwrap_or_default(),
        number: number.to_string(),
    })
}

fn known(core: &Core, agent: &AgentId) -> Result<KnownAgent, Error> {
    core.known_agent(agent).ok_or_else(|| {
        Error::not_found(format!("no identity set of {agent} is held"))
            .hint("`kinlog follow kinlog://agent/...` fetches it")
    })
}

/// Finds an agent by its link, its key, or the name it gives itself, in public or in a room, when only one
/// is called so.
fn named(core: &Core, text: &str) -> Result<KnownAgent, Error> {
    if let Some(agent) = agent_named(core, text)? {
        return known(core, &agent);
    }
    let mut called: BTreeSet<AgentId> = core.knowledge(|knowledge| {
        let agents = knowledge.agents.values();
        let called = agents.filter(|known| known.name.as_deref() == Some(text));
        called.map(|known| known.identity.agent).collect()
    });
    called.extend(members_called(core, text)?);
    match called.iter().collect::<Vec<_>>().as_slice() {
        [agent] => known(core, agent),
        [] => Err(Error::not_found(format!("nobody known is called {text:?}"))
            .hint("give the link or the key of the agent")),
        several => Err(
            Error::usage(format!("{} agents call themselves {text:?}", several.len()))
                .hint("give the link or the key of the agent"),
        ),
    }
}

fn info(
    core: &Core,
    known: &KnownAgent,
    device: &Device,
    state: &str,
    revoked_by: &[String],
) -> DeviceInfo {
    let is_this = device.key == core.keys.device();
    let is_former = core.knowledge(|knowledge| {
        let mut former = knowledge.former.values();
        former.any(|feed| feed.device == device.key)
    });
    let lines = known.lines.iter();
    DeviceInfo {
        key: device.key.into(),
        name: device.name.clone(),
        role: if is_this {
            "this"
        } else if is_former {
            "former"
        } else {
            "other"
        }
        .to_owned(),
        paths: lines.filter(|line| line.device == device.key).count() as u64,
        must_renew: core
            .guard
            .doubt()
            .filter(|_| is_this)
            .map(|doubt| doubt.to_string()),
        state: state.to_owned(),
        powers: device
            .powers
            .words()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        added_by: known.identity.signer_name(&device.added_by),
        revoked_by: revoked_by.to_vec(),
    }
}

/// Devices that nobody revoked, and that are none: a revocation took back what added them.
fn undone(core: &Core, known: &KnownAgent) -> Vec<DeviceInfo> {
    let identity = &known.identity;
    let voided = identity.verdicts.iter().filter_map(|(hash, verdict)| {
        let Verdict::Voided(by) = verdict else {
            return None;
        };
        let statement = known.verified.set().statement(hash)?;
        let Said::DeviceAdded(added) = statement.said() else {
            return None;
        };
        let device = added.card.device;
        if identity.device(&device).is_some() || identity.revoked(&device).is_some() {
            return None;
        }
        let device = Device {
            key: device,
            x25519: added.card.x25519,
            directory: added.card.directory,
            private_directory: added.card.private_directory,
            name: added.name.to_string(),
            powers: added.powers,
            added_by: *statement.signer(),
            added_in: *hash,
        };
        Some(info(
            core,
            known,
            &device,
            "undone",
            &[signer_of(known, by, identity)],
        ))
    });
    voided.collect()
}

fn signer_of(known: &KnownAgent, statement: &Hash, identity: &Identity) -> String {
    let statement = known.verified.set().statement(statement);
    statement.map_or_else(String::new, |one| identity.signer_name(one.signer()))
}

/// What a device said of others: about whom, its name, and what.
fn said_by(
    known: &KnownAgent,
    device: &Device,
) -> Vec<(kinlog_feeds::crypto::DeviceKey, String, &'static str)> {
    let identity = &known.identity;
    let statements = known.verified.set().statements();
    let counts = statements.filter(|one| {
        one.signer().0 == device.key.0 && identity.verdict(&one.hash()) == Some(Verdict::Counts)
    });
    let said = counts.filter_map(|one| match one.said() {
        Said::DeviceAdded(added) => Some((added.card.device, added.name.to_string(), "it added")),
        Said::DeviceRevoked(revoked) => {
            let name = identity.revoked(&revoked.device);
            let name = name.map_or_else(
                || revoked.device.to_string(),
                |revoked| revoked.device.name.clone(),
            );
            Some((revoked.device, name, "it revoked"))
        }
        Said::RootReplaced(_) | Said::Other(_) => None,
    });
    said.collect()
}
