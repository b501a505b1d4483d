//! A home from a backup: the same agent, a new device, the paths go on.

use std::path::Path;

use kinlog_feeds::crypto::{AgentId, DeviceKey, Secret};
use kinlog_indexer::identity::VerifiedSet;
use serde::Serialize;

use crate::api::{Error, Text};
use crate::backup::parts::Unpublished;
use crate::backup::unpack::unpack;
use crate::guard::{ForkGuard, Home, StateFolder};
use crate::home::renew::{Held, agent_of, certify, held_set, renewal};
use crate::home::{
    Building, Layout, Phrase, check_empty, format, make_home_key, open_store, write_secret,
};
use crate::keys::{DeviceKeys, random};
use crate::linking::{Approved, PendingDevice, forget_pending};
use crate::state::State;
use crate::vault::Passphrase;

/// A home that was made from a backup.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    pub agent: Text<AgentId>,
    pub name: String,
    /// The new device.
    pub device: Text<DeviceKey>,
    /// The one whose paths it continues.
    pub former: Text<DeviceKey>,
    /// Paths that go on once peers have shown how far they came.
    pub paths: u64,
    pub rooms: u64,
    /// When the backup was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// What only the device before had when the backup was made: it is lost with it.
    pub lost: Unpublished,
}

/// Who makes the device of a restored home the agent's.
#[derive(Debug)]
pub enum Approval<'a> {
    /// The 24 words.
    Phrase(&'a Phrase),
    /// Another device of the agent, as `kinlog device link` does: its answer to the request of `pending`.
    Device {
        pending: Box<PendingDevice>,
        answer: &'a [u8],
    },
}

/// Makes a home from a backup, with a device of its own that is the agent's by `approval`.
///
/// Nothing is signed but the certificate and what the new device writes: what the device before signed after
/// the backup was made stays its own, and each path is continued only where peers say that it ended. The
/// home is made beside its place and moved there when all of it is on the disk.
///
/// # Errors
/// `Usage` when the folder is not empty, or for the words or a device of another agent; `Permission` for a
/// wrong passphrase; `Verification` for a backup or an answer that does not hold. Nothing is left behind.
pub fn restore(
    file: &Path,
    passphrase: &Passphrase,
    home: &Path,
    state: &Path,
    approval: Approval<'_>,
) -> Result<Restored, Error> {
    check_empty(home)?;
    let building = Building::new(home)?;
    let layout = Layout::new(&building.folder);
    layout.create()?;
    let unpacked = unpack(file, passphrase, &layout.state())?;
    let summary = unpacked.summary;
    format::check_same(summary.format, &summary.kinlog)?;

    let copy = State::open_copy(&layout.state(), &unpacked.key.secrets())?;
    copy.check_whole()
        .map_err(|error| Error::from(error).in_file(file))?;
    let agent = agent_of(&copy)?;
    let home_key = make_home_key(&layout)?;
    drop(copy.seal_anew(&home_key)?);
    let values = State::open_with(&layout.state(), &home_key)?;

    let is_pending = matches!(approval, Approval::Device { .. });
    let (secret, certified) = approve(approval, &values)?;
    write_secret(&layout.device_secret(), &secret, &home_key)?;
    let keys = DeviceKeys::new(secret);
    let renewal = renewal(
        &values,
        &keys,
        summary.device.0,
        &certified,
        Held::Elsewhere,
    )?;
    values.renew(&renewal)?;
    let restored = Restored {
        agent: agent.into(),
        name: summary.name,
        device: keys.device().into(),
        former: summary.device,
        paths: renewal
            .own
            .iter()
            .filter(|feed| feed.path.is_some())
            .count() as u64,
        rooms: values.rooms()?.len() as u64,
        made_ms: summary.made_ms,
        lost: summary.unpublished,
    };
    drop(values);

    // A secret that was made a moment ago has no other holder: nothing guards it yet.
    let store = open_store(&layout, None)?;
    store.close()?;
    let guarded = Home::new(&layout, keys.device());
    ForkGuard::new(guarded, StateFolder::new(state))
        .install(store.id(), store.synced_sequence())?;
    format::write(&layout)?;
    building.finish(home)?;
    if is_pending && let Err(error) = forget_pending(home, state) {
        tracing::warn!(%error, "what was kept of the request is not deleted");
    }
    Ok(restored)
}

/// Returns the secret of the new device, and the statements that make it the agent's.
fn approve(approval: Approval<'_>, values: &State) -> Result<(Secret, VerifiedSet), Error> {
    match approval {
        Approval::Phrase(phrase) => {
            let secret = Secret::new(random()?);
            let keys = DeviceKeys::new(secret.clone());
            Ok((secret, certify(values, &keys, &phrase.root())?))
        }
        Approval::Device { pending, answer } => {
            let agent = agent_of(values)?;
            if pending.code().agent != agent {
                return Err(Error::usage("the code is that of another agent")
                    .hint("`kinlog device link` on a device of the agent whose backup this is"));
            }
            let Approved { secret, set, .. } = pending.approved(answer)?;
            // Each may have statements that the other has not.
            let set = held_set(values, &agent)?.union(&set);
            let device = DeviceKeys::new(secret.clone()).device();
            let identity = set.identity().ok();
            if identity.is_none_or(|identity| identity.device(&device).is_none()) {
                return Err(Error::verification(
                    "by what the backup knows, whoever approved this device was none of the agent's",
                )
                .hint("approve it on another device, or restore with the 24 words"));
            }
            Ok((secret, set))
        }
    }
}
