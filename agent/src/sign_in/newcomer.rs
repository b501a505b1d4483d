//! A new device on its way in: it has no home yet, only a node that asks.
//!
//! It looks for the agent by its topic and takes its identity set, looks for the capsule by the topic of the
//! code, opens it, adds itself and makes its home. Until then it shows nobody who it is.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, Secret};
use kinlog_feeds::store::{MemoryDisk, Options, Store};
use kinlog_indexer::FORMAT;
use kinlog_indexer::Text as Name;
use kinlog_indexer::identity::{IdentitySet, VerifiedSet};
use kinlog_indexer::limits::NAME_BYTES_MAX;
use kinlog_swarm::{
    Credentials, Host, Label, Node, NodeConfig, PeerMessage, SessionId, SessionInfo,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::api::{Error, Text};
use crate::home::{Founding, Initialised, check_empty, found};
use crate::keys::{DeviceKeys, random};
use crate::limits::{HOST_EVENTS_QUEUED_MAX, SIGN_IN_OTHERS_WAIT, SIGN_IN_TELL_WAIT};
use crate::links::is_signal_url;
use crate::sign_in::search::{Search, add_device};
use crate::sign_in::{Capsule, CapsuleError, SignInCode, SignInRecord};
use crate::tasks::node_error;
use crate::vault::Passphrase;

/// What it takes to sign in.
#[derive(Debug)]
pub struct SignIn {
    /// Folder of the home that is to be made.
    pub home: PathBuf,
    /// Folder with the twins of install records.
    pub state: PathBuf,
    /// Who signs in.
    pub agent: AgentId,
    /// Signal servers to look at.
    pub signal_urls: Vec<String>,
    /// What the new device is called.
    pub device_name: Name<NAME_BYTES_MAX>,
    /// The password.
    pub password: Passphrase,
    /// The code.
    pub code: SignInCode,
    /// How long others may take to answer.
    pub wait: Duration,
}

/// How far signing in is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignInStep {
    /// Looks for peers who know the agent, and for some who hold its capsule.
    Looking,
    /// Somebody gave the identity set; it holds.
    AgentFound {
        /// Devices of the agent.
        devices: usize,
    },
    /// Somebody gave a capsule; it is being opened.
    Opening,
    /// The home is made.
    Made,
}

/// A new device of an agent.
#[derive(Clone, Debug, Serialize)]
pub struct SignedIn {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    /// What the agent calls itself.
    pub name: String,
    /// What this device is called.
    pub device_name: String,
    /// `kinlog://agent/...`.
    pub link: String,
    /// A peer has taken the statement that adds this device.
    pub told: bool,
}

/// Makes a home for a new device of an agent whose password and code somebody has.
///
/// # Errors
/// `Permission` when password and code open nothing that peers have; which of the two is wrong is not said.
/// `NoPeers` when nobody who knows the agent was met, `Usage` for a folder that is not empty.
pub async fn sign_in(asked: SignIn, mut say: impl FnMut(SignInStep)) -> Result<SignedIn, Error> {
    check_empty(&asked.home)?;
    if let Some(url) = asked.signal_urls.iter().find(|url| !is_signal_url(url)) {
        return Err(Error::usage(format!(
            "{url:?} is no signal server: expected ws:// or wss://"
        )));
    }
    if asked.signal_urls.is_empty() {
        return Err(
            Error::no_peers("no signal server is known to meet others at")
                .hint("name one with --signal URL, or use a link that carries one"),
        );
    }
    let keys = DeviceKeys::new(Secret::new(random()?));
    let (node, host, heard) = start(&asked, &keys)?;
    let mut way = Way {
        asked: &asked,
        search: Search::new(asked.agent, asked.code.meet_key()),
        node: &node,
        host,
        heard,
    };
    let arrived = way.arrive(keys, &mut say).await;
    node.shutdown().await;
    arrived
}

fn start(
    asked: &SignIn,
    keys: &DeviceKeys,
) -> Result<(Node, Arc<Newcomer>, mpsc::Receiver<Heard>), Error> {
    let store = Store::open(Arc::new(MemoryDisk::new()), Options::new(random()?))
        .map_err(|error| Error::general(error.to_string()))?;
    let mut config = NodeConfig::new(keys.secret().clone());
    config.signal_urls.clone_from(&asked.signal_urls);
    config.format = FORMAT;
    let (events, heard) = mpsc::channel(HOST_EVENTS_QUEUED_MAX);
    let host = Arc::new(Newcomer {
        agent: asked.agent,
        meet_key: asked.code.meet_key(),
        set: RwLock::default(),
        events,
    });
    let node = Node::start(config, store, host.clone()).map_err(node_error)?;
    node.join(Label::Agent, asked.agent.0);
    node.join(Label::Code, host.meet_key);
    Ok((node, host, heard))
}

/// One run of signing in.
struct Way<'a> {
    asked: &'a SignIn,
    search: Search,
    node: &'a Node,
    host: Arc<Newcomer>,
    heard: mpsc::Receiver<Heard>,
}

impl Way<'_> {
    async fn arrive(
        &mut self,
        keys: DeviceKeys,
        say: &mut impl FnMut(SignInStep),
    ) -> Result<SignedIn, Error> {
        let (capsule, record) = self.find(say).await?;
        let asked = self.asked;
        let known = self.search.known().ok_or_else(|| self.nobody())?;
        let card = keys.card(&asked.agent);
        let name = asked.device_name.clone();
        let set = add_device(&known.verified, &capsule, card, name)?;
        let made = self.make(&keys, &capsule, record, &set).await?;
        say(SignInStep::Made);
        Ok(SignedIn {
            agent: made.agent,
            device: made.device,
            name: made.name,
            device_name: asked.device_name.to_string(),
            link: made.link,
            told: self.tell(set.set()).await,
        })
    }

    /// Finds a record that stands and opens it.
    async fn find(
        &mut self,
        say: &mut impl FnMut(SignInStep),
    ) -> Result<(Capsule, SignInRecord), Error> {
        say(SignInStep::Looking);
        let mut until = Instant::now() + self.asked.wait;
        let mut found = None;
        loop {
            let Ok(Some(heard)) = timeout_at(until, self.heard.recv()).await else {
                return Err(self.nobody());
            };
            match heard {
                Heard::Opened(session) if session.label == Label::Code => {
                    self.send(session.id, PeerMessage::SignInGet { after: 0 });
                }
                Heard::Opened(_) | Heard::Told => {}
                Heard::Identity(set) => {
                    if let Err(error) = self.search.learn(set) {
                        tracing::warn!(%error, "a peer gave an identity set that does not hold");
                    }
                }
                Heard::Record(record) => self.search.take(&record),
            }
            let devices = self
                .search
                .known()
                .map(|known| known.identity.devices.len());
            if let Some(devices) = devices.filter(|devices| found != Some(*devices)) {
                found = Some(devices);
                say(SignInStep::AgentFound { devices });
            }
            while let Some(record) = self.search.next() {
                say(SignInStep::Opening);
                match self.open(&record).await? {
                    Some(capsule) => return Ok((capsule, record)),
                    // Somebody else may have a newer one: it is given the time to come.
                    None => until = until.min(Instant::now() + SIGN_IN_OTHERS_WAIT),
                }
            }
        }
    }

    /// Opens a record; `None` when password and code do not.
    async fn open(&self, record: &SignInRecord) -> Result<Option<Capsule>, Error> {
        let (sealed, agent) = (record.sealed, record.agent);
        let (password, code) = (self.asked.password.clone(), self.asked.code.clone());
        let open = move || Capsule::open(&sealed, &agent, &password, &code);
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = opened.map_err(|error| Error::general(format!("worker: {error}")))?;
        match opened {
            Ok(capsule) if capsule.device() == record.key => Ok(Some(capsule)),
            Ok(_) => Err(Error::verification(
                "the capsule holds another key than its record says",
            )),
            Err(CapsuleError::Closed) => Ok(None),
            Err(error) => Err(Error::verification(format!("sign-in capsule: {error}"))),
        }
    }

    async fn make(
        &self,
        keys: &DeviceKeys,
        capsule: &Capsule,
        record: SignInRecord,
        set: &VerifiedSet,
    ) -> Result<Initialised, Error> {
        let (home, state) = (self.asked.home.clone(), self.asked.state.clone());
        let founding = Founding {
            secret: keys.secret().clone(),
            agent: self.asked.agent,
            name: capsule.name.to_string(),
            set: set.clone(),
            signal_urls: self.asked.signal_urls.clone(),
            sign_in: Some(record),
        };
        let make = move || found(&home, &state, founding);
        let made = tokio::task::spawn_blocking(make).await;
        made.map_err(|error| Error::general(format!("worker: {error}")))?
    }

    /// Tells the peers that are there who was added; returns whether one of them has it.
    async fn tell(&mut self, set: &IdentitySet) -> bool {
        let (hash, bytes) = (set.hash(), set.encode());
        let met = self.host.know(hash, bytes);
        for session in met {
            self.send(session, PeerMessage::IdentityOffer { hash });
        }
        let until = Instant::now() + SIGN_IN_TELL_WAIT;
        loop {
            match timeout_at(until, self.heard.recv()).await {
                Ok(Some(Heard::Told)) => return true,
                Ok(Some(Heard::Opened(session))) if session.label == Label::Agent => {
                    self.send(session.id, PeerMessage::IdentityOffer { hash });
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn send(&self, session: SessionId, message: PeerMessage) {
        if let Err(error) = self.node.send(session, message) {
            tracing::warn!(%session, %error, "message to a peer was not sent");
        }
    }

    /// Says what it came to; a wrong code meets nobody, a wrong password opens nothing, and both sound alike.
    fn nobody(&self) -> Error {
        let agent = self.asked.agent;
        match self.search.hash() {
            None => Error::no_peers(format!("nobody who knows agent {agent} was met"))
                .hint("`kinlog up` on another device of the agent, or a seeder of it, has to be online"),
            Some(_) => Error::permission("this password and code together open no sign-in of this agent that \
                                          peers hold")
                .hint("check both, and that a device that holds the sign-in is online: `kinlog sign-in status` there"),
        }
    }
}

/// What peers said.
#[derive(Debug)]
enum Heard {
    Opened(SessionInfo),
    Identity(Bytes),
    Record(Bytes),
    /// A peer has the statements with this device.
    Told,
}

/// The statements with this device, once they are made; and who is to be told of them.
#[derive(Debug, Default)]
struct OwnSet {
    set: Option<(Hash, Bytes)>,
    met: Vec<SessionId>,
}

/// The node's host: it serves nothing, wants no feed, and shows no certificate.
#[derive(Debug)]
struct Newcomer {
    agent: AgentId,
    meet_key: [u8; 32],
    set: RwLock<OwnSet>,
    events: mpsc::Sender<Heard>,
}

impl Newcomer {
    /// Takes the statements to tell others; returns the sessions that wait for them.
    fn know(&self, hash: Hash, bytes: Bytes) -> Vec<SessionId> {
        let mut own = self.set.write().unwrap_or_else(PoisonError::into_inner);
        own.set = Some((hash, bytes));
        own.met.clone()
    }

    fn own_set(&self) -> Option<(Hash, Bytes)> {
        let own = self.set.read().unwrap_or_else(PoisonError::into_inner);
        own.set.clone()
    }

    /// Passes something on; what finds the queue full is lost, for a peer that floods gets no memory.
    fn pass(&self, heard: Heard) {
        if let Err(error) = self.events.try_send(heard) {
            tracing::warn!(%error, "message of a peer was dropped");
        }
    }
}

impl Host for Newcomer {
    fn serves(&self, _: &SessionInfo) -> Vec<FeedKey> {
        Vec::new()
    }

    fn wants(&self, _: &SessionInfo) -> Vec<FeedKey> {
        Vec::new()
    }

    fn identity(&self, _: &SessionInfo) -> Option<Credentials> {
        None
    }

    fn handle_session_open(&self, session: &SessionInfo) {
        if session.label == Label::Agent {
            let mut own = self.set.write().unwrap_or_else(PoisonError::into_inner);
            own.met.push(session.id);
        }
        self.pass(Heard::Opened(session.clone()));
    }

    fn handle_session_closed(&self, session: &SessionInfo) {
        let mut own = self.set.write().unwrap_or_else(PoisonError::into_inner);
        own.met.retain(|one| *one != session.id);
    }

    fn handle_peer_message(&self, session: &SessionInfo, message: PeerMessage) -> Vec<PeerMessage> {
        let is_about_agent = session.label == Label::Agent && session.key == self.agent.0;
        let is_about_code = session.label == Label::Code && session.key == self.meet_key;
        match message {
            PeerMessage::IdentityOffer { hash } if is_about_agent => match self.own_set() {
                Some((own, _)) if own == hash => {
                    self.pass(Heard::Told);
                    Vec::new()
                }
                Some(_) => Vec::new(),
                None => vec![PeerMessage::IdentityGet],
            },
            PeerMessage::IdentityGet if is_about_agent => {
                let set = self.own_set();
                set.map(|(_, bytes)| PeerMessage::IdentitySet { bytes })
                    .into_iter()
                    .collect()
            }
            PeerMessage::IdentitySet { bytes } if is_about_agent => {
                self.pass(Heard::Identity(bytes));
                Vec::new()
            }
            PeerMessage::SignInRecord { bytes } if is_about_code => {
                self.pass(Heard::Record(bytes));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}
