//! Meeting others before there is a home: by an agent that lives for one question.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_indexer::identity::{Cut, VerifiedSet};
use tokio::time::{Instant, sleep_until};

use crate::agent::{Agent, NetworkConfig, OpenOptions};
use crate::api::{Error, Selection};
use crate::home::{Phrase, init};
use crate::linking::LinkCode;
use crate::requests::blocking;
use crate::state::{Pin, PinTarget};

/// What others hold of an agent.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its statements.
    pub set: VerifiedSet,
    /// What it calls itself.
    pub name: Option<String>,
    /// Public directories of its devices, as far as they came.
    pub directories: Vec<(DeviceKey, Cut)>,
}

/// Asks at the code's signal servers, and those of `network`, to be linked; returns the answer.
///
/// `beside` is the home that is to be: the question is asked from a folder next to it, which is gone
/// afterwards.
///
/// # Errors
/// `NoPeers` when nobody answered within `wait`.
pub async fn link_over_network(
    beside: &Path,
    code: &LinkCode,
    request: Bytes,
    mut network: NetworkConfig,
    wait: Duration,
) -> Result<Bytes, Error> {
    network.signal_urls.extend(code.signal_urls.iter().cloned());
    let scout = Scout::open(beside, network).await?;
    let core = scout.agent.running().core.clone();
    let mut changes = core.changes();
    let asked = code.clone();
    blocking(&core, move |core| core.ask_to_be_linked(&asked, request)).await?;
    let until = Instant::now() + wait;
    let answer = loop {
        changes.borrow_and_update();
        if let Some(answer) = core.knowledge(|knowledge| knowledge.link_answer.clone()) {
            break Ok(answer);
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep_until(until) => break Err(Error::no_peers(
                "the device that showed the code did not answer",
            )
            .hint("it has to show the code still, and both need a signal server in common; or carry it by file: --request FILE")),
        }
    };
    drop(core);
    scout.close().await?;
    answer
}

/// Fetches the statements of an agent, its name and its public directories from whoever holds them.
///
/// Returns `None` when nobody was found within `wait`; what came until then otherwise.
///
/// # Errors
/// What opening a folder beside the home or starting the network gives.
pub async fn fetch_identity(
    beside: &Path,
    agent: AgentId,
    network: NetworkConfig,
    wait: Duration,
) -> Result<Option<Fetched>, Error> {
    let scout = Scout::open(beside, network).await?;
    let core = scout.agent.running().core.clone();
    let mut changes = core.changes();
    let pin = Pin {
        // A path that nobody has: identity and directories come, and nothing else.
        target: PinTarget::Path(
            agent,
            Some(
                "/.identity"
                    .parse()
                    .map_err(|error| Error::usage(format!("path: {error}")))?,
            ),
        ),
        selection: Selection::Last(1),
        depth: 0,
        is_local: true,
        live: true,
        tier: "gift".to_owned(),
        reason: "recover".to_owned(),
    };
    blocking(&core, move |core| {
        core.state.put_pin(&pin)?;
        core.relearn()?;
        core.replan()
    })
    .await?;
    let until = Instant::now() + wait;
    let mut quiet_until = until;
    let mut seen = None;
    loop {
        changes.borrow_and_update();
        let known = core.knowledge(|knowledge| knowledge.agents.get(&agent).cloned());
        let fetched = known.map(|known| {
            let cut = |feed| {
                let head = core.store.feed(feed)?.head();
                let (length, tree_hash) = (head.length, head.tree_hash());
                (length > 0).then_some(Cut { length, tree_hash })
            };
            let directories = known.writers();
            let directories = directories.filter_map(|one| Some((one.key, cut(&one.directory)?)));
            Fetched {
                directories: directories.collect(),
                set: known.verified.clone(),
                name: known.name.clone(),
            }
        });
        let state = fetched.as_ref().map(|fetched| {
            let lengths = fetched.directories.iter().map(|(_, cut)| cut.length);
            (
                fetched.set.set().len(),
                lengths.sum::<u64>(),
                fetched.name.clone(),
            )
        });
        let now = Instant::now();
        if state.is_some() && state != seen {
            seen = state;
            // Something came: a little longer, for what comes right after it.
            quiet_until = until.min(now + QUIET);
        }
        if now >= quiet_until {
            drop(core);
            scout.close().await?;
            return Ok(fetched);
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep_until(quiet_until) => {}
        }
    }
}

/// Time without news after which what came is taken for all there is.
const QUIET: Duration = Duration::from_secs(3);

/// An agent of its own in a folder that is gone with it.
#[derive(Debug)]
struct Scout {
    agent: Agent,
    folder: ScoutFolder,
}

#[derive(Debug)]
struct ScoutFolder(PathBuf);

impl Drop for ScoutFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Scout {
    async fn open(beside: &Path, network: NetworkConfig) -> Result<Scout, Error> {
        let mut name = beside.file_name().unwrap_or_default().to_owned();
        name.push(format!(".asking-{}", std::process::id()));
        let folder = ScoutFolder(beside.with_file_name(name));
        // What a killed process with our number left behind is nobody's.
        let _ = std::fs::remove_dir_all(&folder.0);
        let (home, state) = (folder.0.join("home"), folder.0.join("state"));
        let open = OpenOptions::new(&state);
        let made = home.clone();
        let make = move || {
            std::fs::create_dir_all(made.parent().unwrap_or(&made))
                .map_err(|error| Error::general(format!("{}: {error}", made.display())))?;
            let phrase = Phrase::generate().map_err(|error| Error::general(error.to_string()))?;
            init(&made, &state, "asking", &phrase)
        };
        let made = tokio::task::spawn_blocking(make).await;
        made.map_err(|error| Error::general(format!("worker: {error}")))??;
        let agent = Agent::open(&home, open).await?;
        agent.start_network(network).await?;
        agent.running().ensure_signals().await?;
        Ok(Scout { agent, folder })
    }

    async fn close(self) -> Result<(), Error> {
        let Scout { agent, folder } = self;
        let closed = agent.shutdown().await;
        drop(folder);
        closed
    }
}
