//! The offer that is open, and the way from two texts to a session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinlog_feeds::crypto::Secret;
use kinlog_swarm::link::LinkError;
use kinlog_swarm::link::webrtc::{
    Negotiation, Progress, ShortDescription, WebrtcLink, WebrtcSettings,
};
use kinlog_swarm::{Label, NodeError, SessionRole, SignalStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{Error, ErrorKind};
use crate::core::Core;
use crate::keys::random;
use crate::limits::{
    PAIR_CANDIDATES_MAX, PAIR_CONNECT_WAIT, PAIR_GATHER_WAIT, PAIR_HELLO_WAIT, PAIR_OPEN,
    PAIR_SERVERS_LOOK_EVERY, PAIR_SERVERS_WAIT,
};
use crate::network::Network;
use crate::pairing::meet::watch_over;
use crate::pairing::text::attempt_of;
use crate::pairing::{PairKind, PairText, Paired};
use crate::requests::blocking;
use crate::tasks::node_error;
use crate::wall_ms;

/// The pairings of a home: one offer, and one answer, at a time.
#[derive(Debug)]
pub(crate) struct Pairings {
    offer: Mutex<Option<Offer>>,
    answering: Arc<Semaphore>,
}

/// An offer that waits for its answer.
#[derive(Debug)]
struct Offer {
    negotiation: Negotiation,
    key: Secret,
    until: Instant,
}

impl Default for Pairings {
    fn default() -> Self {
        Pairings {
            offer: Mutex::default(),
            answering: Arc::new(Semaphore::new(1)),
        }
    }
}

/// An answer that was made and waits for the other side.
#[derive(Debug)]
pub(crate) struct Answering {
    negotiation: Negotiation,
    key: Secret,
    pub(crate) until: Instant,
    _alone: OwnedSemaphorePermit,
}

impl Pairings {
    /// Makes an offer, in the place of one that was open.
    pub(crate) async fn offer(&self, network: &Network) -> Result<PairText, Error> {
        let key = Secret::new(random()?);
        let offer = Negotiation::offer(&settings(network).await, attempt_of(&key)).await;
        let (mut negotiation, description) = offer.map_err(|error| link_error(&error))?;
        let description = gather(&mut negotiation, &description).await?;
        let offer = Offer {
            negotiation,
            key: key.clone(),
            until: Instant::now() + PAIR_OPEN,
        };
        // The one before is closed as it is dropped.
        *self.open() = Some(offer);
        Ok(PairText {
            kind: PairKind::Offer,
            key,
            made_s: wall_ms() / 1000,
            description,
        })
    }

    /// Answers the offer of another machine.
    pub(crate) async fn answer(
        &self,
        network: &Network,
        text: &str,
    ) -> Result<(PairText, Answering), Error> {
        let offer = read(text, PairKind::Offer)?;
        let is_own = self.open().as_ref().is_some_and(|own| own.key == offer.key);
        if is_own {
            return Err(Error::usage("this offer was made here")
                .hint("take it to the other machine: `kinlog pair answer TEXT` there"));
        }
        let alone = self.answering.clone().try_acquire_owned();
        let alone = alone.map_err(|_| {
            Error::new(ErrorKind::Quota, "another offer is being answered already")
                .hint("one at a time: end that command first")
        })?;
        let body = offer.description.body(attempt_of(&offer.key));
        let answer = Negotiation::answer(&settings(network).await, &body).await;
        let (mut negotiation, description) = answer.map_err(|error| link_error(&error))?;
        let description = gather(&mut negotiation, &description).await?;
        let answering = Answering {
            negotiation,
            key: offer.key.clone(),
            until: Instant::now() + PAIR_OPEN,
            _alone: alone,
        };
        let text = PairText {
            kind: PairKind::Answer,
            key: offer.key,
            made_s: wall_ms() / 1000,
            description,
        };
        Ok((text, answering))
    }

    /// Takes the answer to the offer that is open, and meets the other machine.
    pub(crate) async fn finish(
        &self,
        core: &Arc<Core>,
        network: &Arc<Network>,
        text: &str,
    ) -> Result<Paired, Error> {
        let answer = read(text, PairKind::Answer)?;
        let offer = self.take(&answer)?;
        let Offer {
            mut negotiation,
            key,
            ..
        } = offer;
        let body = answer.description.body(attempt_of(&key));
        let accepted = negotiation.accept(&body).await;
        accepted.map_err(|error| link_error(&error))?;
        let until = Instant::now() + PAIR_CONNECT_WAIT;
        let opened = timeout_at(until, open(&mut negotiation)).await;
        opened.map_err(|_| not_connected(PAIR_CONNECT_WAIT))??;
        let link = negotiation.into_link().await;
        let link = link.map_err(|error| link_error(&error))?;
        meet(core, network, link, key, SessionRole::Initiator).await
    }

    /// Takes the offer that an answer is to; one that is open still stays for another answer.
    fn take(&self, answer: &PairText) -> Result<Offer, Error> {
        let mut open = self.open();
        let again = "`kinlog pair offer` makes a new one";
        let Some(offer) = open.as_ref() else {
            return Err(Error::not_found("no offer is open here").hint(again));
        };
        if Instant::now() >= offer.until {
            *open = None;
            return Err(Error::no_peers(format!(
                "the offer has expired: it was open for {} minutes",
                PAIR_OPEN.as_secs() / 60
            ))
            .hint(again));
        }
        if offer.key != answer.key {
            return Err(Error::usage(
                "this is the answer to another offer than the one that is open here",
            )
            .hint("take the answer to the machine that made that offer, or begin anew"));
        }
        open.take()
            .ok_or_else(|| Error::not_found("no offer is open here"))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Option<Offer>> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answering {
    /// Waits until the other machine took the answer, and meets it.
    pub(crate) async fn meet(
        mut self,
        core: &Arc<Core>,
        network: &Arc<Network>,
    ) -> Result<Paired, Error> {
        let opened = timeout_at(self.until, open(&mut self.negotiation)).await;
        opened.map_err(|_| not_connected(PAIR_OPEN))??;
        let link = self.negotiation.into_link().await;
        let link = link.map_err(|error| link_error(&error))?;
        meet(core, network, link, self.key, SessionRole::Responder).await
    }
}

/// Returns how carried descriptions are made: a person needs minutes between the two, so that servers which signal
/// servers are about to tell are waited for.
async fn settings(network: &Network) -> WebrtcSettings {
    let is_asked = |point: &SignalStatus| !point.connected && point.reason.is_none();
    let told = timeout(PAIR_SERVERS_WAIT, async {
        loop {
            let servers = network.node.ice_servers().await;
            let status = network.node.status().await;
            if !servers.is_empty() || !status.signal.iter().any(is_asked) {
                return servers;
            }
            tokio::time::sleep(PAIR_SERVERS_LOOK_EVERY).await;
        }
    });
    WebrtcSettings {
        servers: told.await.unwrap_or_default(),
        stun_urls: network.stun_urls.clone(),
        contacts: network.contacts.clone(),
        patience: Some(PAIR_OPEN),
        ..WebrtcSettings::default()
    }
}

fn read(text: &str, expected: PairKind) -> Result<PairText, Error> {
    let text: PairText = text
        .parse()
        .map_err(|error: crate::pairing::PairTextError| {
            Error::usage(error.to_string())
                .hint("take the whole text as the other machine shows it, in quotes")
        })?;
    if text.kind != expected {
        let (given, what) = match text.kind {
            PairKind::Offer => ("an offer", "`kinlog pair answer TEXT` takes it"),
            PairKind::Answer => ("an answer", "`kinlog pair finish TEXT` takes it"),
        };
        let expected = expected.name();
        return Err(Error::usage(format!("this text is {given}, no {expected}")).hint(what));
    }
    if text.is_expired(wall_ms() / 1000) {
        return Err(Error::no_peers(format!(
            "the {} has expired: texts are good for {} minutes",
            text.kind.name(),
            PAIR_OPEN.as_secs() / 60
        ))
        .hint("`kinlog pair offer` makes a new one; `kinlog doctor` compares the clock"));
    }
    Ok(text)
}

/// Waits for candidates that take longer than the description does, as none can follow later; returns what is
/// carried.
async fn gather(
    negotiation: &mut Negotiation,
    description: &[u8],
) -> Result<ShortDescription, Error> {
    let mut candidates = Vec::new();
    let gathered = timeout(PAIR_GATHER_WAIT, async {
        while candidates.len() < PAIR_CANDIDATES_MAX {
            match negotiation.progress().await? {
                Progress::Candidate(body) => candidates.push(body),
                Progress::Open => {}
            }
        }
        Ok(())
    });
    if let Ok(Err(error)) = gathered.await {
        return Err(link_error(&error));
    }
    ShortDescription::of(description, &candidates).map_err(|error| link_error(&error))
}

async fn open(negotiation: &mut Negotiation) -> Result<(), Error> {
    loop {
        match negotiation.progress().await {
            Ok(Progress::Open) => return Ok(()),
            Ok(Progress::Candidate(_)) => {}
            Err(error) => return Err(link_error(&error)),
        }
    }
}

/// Runs a session over the link, and waits until the other side has said who it is.
async fn meet(
    core: &Arc<Core>,
    network: &Arc<Network>,
    link: WebrtcLink,
    key: Secret,
    role: SessionRole,
) -> Result<Paired, Error> {
    let key = *key.expose();
    let mut changes = core.changes();
    // Whoever waits for it may be gone any moment: the place of the pairing is given back all the same.
    let (told, session) = oneshot::channel();
    let (with, over) = (Arc::clone(core), Arc::clone(network));
    tokio::spawn(async move {
        if let Err(error) = blocking(&with, move |core| core.pair_by(key)).await {
            let _ = told.send(Err(error));
            return;
        }
        let attached = over
            .node
            .attach(Arc::new(link), Label::Code, key, role)
            .await;
        let attached = attached.map_err(node_error);
        let session = attached.as_ref().ok().copied();
        let is_awaited = told.send(attached).is_ok();
        if let (Some(session), false) = (session, is_awaited) {
            over.node.close(session);
        }
        let network = Arc::downgrade(&over);
        drop(over);
        watch_over(with, network, key, session).await;
    });
    let session = session
        .await
        .map_err(|_| node_error(NodeError::Stopped))??;
    let until = Instant::now() + PAIR_HELLO_WAIT;
    loop {
        changes.borrow_and_update();
        let paired = core.knowledge(|knowledge| knowledge.pairs.paired(&key));
        if let Some(paired) = paired {
            return Ok(paired);
        }
        let changed = timeout_at(until, changes.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            network.node.close(session);
            return Err(Error::no_peers(
                "the machines are connected, and the other one does not say who it is",
            )
            .hint("it may run another version: `kinlog doctor` says which"));
        }
    }
}

fn link_error(error: &LinkError) -> Error {
    match error {
        LinkError::BadDescription { .. } => Error::usage(error.to_string())
            .hint("the text was made by another build, or on purpose: begin anew"),
        _ => Error::no_peers(error.to_string()),
    }
}

fn not_connected(wait: Duration) -> Error {
    Error::no_peers(format!(
        "no connection within {} s although both texts were carried",
        wait.as_secs()
    ))
    .hint(
        "no address of either machine is reached from the other: put both into one network, or use \
         a STUN server (kinlog up --stun URL), and begin anew",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairing::text::description;

    fn text(kind: PairKind, made_s: u64) -> String {
        let text = PairText {
            kind,
            key: Secret::new([1; 32]),
            made_s,
            description: description(),
        };
        text.to_string()
    }

    #[test]
    fn a_text_that_is_of_no_use_says_why() {
        let now = wall_ms() / 1000;
        let refused = |text: &str| {
            let error = read(text, PairKind::Answer).unwrap_err();
            (error.kind, error.message, error.hint.unwrap_or_default())
        };
        assert!(read(&text(PairKind::Answer, now), PairKind::Answer).is_ok());
        let (kind, message, _) = refused(&text(PairKind::Answer, now - 3600));
        assert_eq!(kind, ErrorKind::NoPeers);
        assert!(message.contains("expired"), "{message}");
        let (kind, message, hint) = refused(&text(PairKind::Offer, now));
        assert_eq!(
            (kind, &message[..]),
            (ErrorKind::Usage, "this text is an offer, no answer")
        );
        assert!(hint.contains("kinlog pair answer"), "{hint}");
        let whole = text(PairKind::Answer, now);
        let (kind, message, _) = refused(&whole[..whole.len() - 3]);
        assert_eq!(kind, ErrorKind::Usage);
        assert!(message.contains("missing"), "{message}");
        assert_eq!(refused("kinlog://join/#AAAA").0, ErrorKind::Usage);
    }

    #[tokio::test]
    async fn an_offer_is_for_one_answer_and_for_ten_minutes() {
        let answer = |key: u8| PairText {
            kind: PairKind::Answer,
            key: Secret::new([key; 32]),
            made_s: 0,
            description: description(),
        };
        let settings = WebrtcSettings {
            bind: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            ..WebrtcSettings::default()
        };
        let pairings = Pairings::default();
        let kind = |taken: Result<Offer, Error>| taken.map(|_| ()).unwrap_err().kind;
        assert_eq!(kind(pairings.take(&answer(1))), ErrorKind::NotFound);
        let put = async |until: Instant| {
            let (negotiation, _) = Negotiation::offer(&settings, 7).await.unwrap();
            let key = Secret::new([1; 32]);
            *pairings.open() = Some(Offer {
                negotiation,
                key,
                until,
            });
        };
        put(Instant::now() + PAIR_OPEN).await;
        // The answer to another offer leaves it open.
        assert_eq!(kind(pairings.take(&answer(2))), ErrorKind::Usage);
        assert!(pairings.take(&answer(1)).is_ok());
        assert_eq!(kind(pairings.take(&answer(1))), ErrorKind::NotFound);
        put(Instant::now()).await;
        assert_eq!(kind(pairings.take(&answer(1))), ErrorKind::NoPeers);
    }
}
