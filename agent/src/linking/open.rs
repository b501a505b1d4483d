//! The side that shows the code: one open at a time, for ten minutes, for one device.

use bytes::Bytes;
use kinlog_feeds::crypto::{DeviceKey, Secret};
use kinlog_feeds::encoding::Reader;
use kinlog_indexer::identity::{DeviceAdded, Powers, Said};
use kinlog_swarm::{Label, PeerMessage, SessionId, SessionInfo};

use crate::api::{Error, LinkAskedInfo};
use crate::core::Core;
use crate::failure::chain;
use crate::keys::random;
use crate::limits::{LINK_OPEN, SIGNAL_URLS_MAX};
use crate::linking::message::same_words;
use crate::linking::{LinkAnswer, LinkCode, LinkRequest, Linking};
use crate::vault::SecretPlace;
use crate::wall_ms;

/// Name of the value in `state.db`: `u64 until ms | u32 powers | code`, sealed with the home's key.
const VALUE: &str = "link";

const PLACE: SecretPlace<'static> = SecretPlace::new("single", "value", VALUE.as_bytes());

/// A code that is open.
#[derive(Clone, Debug)]
pub(crate) struct OpenLink {
    pub(crate) code: LinkCode,
    pub(crate) until_ms: u64,
    /// What the new device may do.
    powers: Powers,
    /// Who asked.
    pub(crate) asked: Option<LinkRequest>,
}

impl OpenLink {
    /// Returns what people are shown of a device that asks.
    pub(crate) fn info(&self, request: &LinkRequest) -> LinkAskedInfo {
        LinkAskedInfo {
            device: request.card.device.into(),
            name: request.name.clone(),
            powers: self.powers.words().into_iter().map(str::to_owned).collect(),
            words: self.words(request),
        }
    }

    /// Returns the words that both devices show.
    fn words(&self, request: &LinkRequest) -> String {
        let (code, card) = (&self.code, &request.card);
        Linking { code, card }.words()
    }
}

/// A code that let a device in. As long as it would have been open, that device gets the same answer
/// whenever it asks: the session on which it asked first may be gone when its words are confirmed.
#[derive(Clone, Debug)]
pub(crate) struct AnsweredLink {
    pub(crate) code: LinkCode,
    pub(crate) until_ms: u64,
    device: DeviceKey,
    answer: Bytes,
}

impl Core {
    /// Opens a code, in place of one that was open.
    ///
    /// # Errors
    /// `Permission` when this device may not add devices, or not with these powers.
    pub(crate) fn open_link(&self, powers: Option<Powers>) -> Result<LinkCode, Error> {
        let own = self.own_powers()?;
        let powers = powers.unwrap_or(own);
        if !own.contains(Powers::ADD) || !own.contains(powers.without(Powers::WRITE)) {
            return Err(Error::permission(format!(
                "this device may not add a device with the powers {}: it has {}",
                powers.words().join(", "),
                own.words().join(", "),
            ))
            .hint("ask a device that may, or use the phrase: `kinlog recover` on the new device"));
        }
        let mut signal_urls = self.state.signals()?;
        signal_urls.truncate(SIGNAL_URLS_MAX);
        let code = LinkCode {
            agent: self.agent,
            device: self.keys.device(),
            secret: Secret::new(random()?),
            signal_urls,
        };
        let until_ms = wall_ms() + u64::try_from(LINK_OPEN.as_millis()).unwrap_or(u64::MAX);
        let mut value = until_ms.to_le_bytes().to_vec();
        value.extend_from_slice(&powers.0.to_le_bytes());
        value.extend_from_slice(&code.encode());
        self.keep_link(&value)?;
        self.knowledge(|knowledge| {
            knowledge.link = Some(OpenLink {
                code: code.clone(),
                until_ms,
                powers,
                asked: None,
            });
        });
        self.replan()?;
        Ok(code)
    }

    /// Returns the open code, if its time is not over.
    pub(crate) fn link(&self) -> Result<OpenLink, Error> {
        let held = self.knowledge(|knowledge| knowledge.link.clone());
        let held = match held {
            Some(link) => Some(link),
            None => self.kept_link()?,
        };
        match held {
            Some(link) if wall_ms() < link.until_ms => Ok(link),
            Some(_) => {
                self.close_link()?;
                Err(Error::permission("the code is older than ten minutes")
                    .hint("`kinlog device link` makes a new one"))
            }
            None => Err(Error::not_found("no code is open")
                .hint("`kinlog device link` makes one; it is good for ten minutes and one device")),
        }
    }

    fn keep_link(&self, value: &[u8]) -> Result<(), Error> {
        let sealed = self.state.seal(PLACE, value)?;
        Ok(self.state.set_value(VALUE, &sealed)?)
    }

    fn kept_link(&self) -> Result<Option<OpenLink>, Error> {
        let Some(sealed) = self.state.value(VALUE)? else {
            return Ok(None);
        };
        // One that was sealed in another home came with a backup: it is not open here.
        let Ok(value) = self.state.unseal(PLACE, &sealed) else {
            return Ok(None);
        };
        let mut reader = Reader::new(&value);
        let (Ok(until_ms), Ok(powers)) = (reader.u64(), reader.u32()) else {
            return Ok(None);
        };
        let Ok(code) = LinkCode::decode(reader.rest()) else {
            return Ok(None);
        };
        let link = OpenLink {
            code,
            until_ms,
            powers: Powers(powers),
            asked: None,
        };
        self.knowledge(|knowledge| knowledge.link = Some(link.clone()));
        Ok(Some(link))
    }

    /// Closes the code: it is used, it failed, or its time is over.
    pub(crate) fn close_link(&self) -> Result<(), Error> {
        self.keep_link(&[])?;
        self.knowledge(|knowledge| knowledge.link = None);
        self.replan()
    }

    /// Takes a device's request; a code is spent by one that does not hold, and by a second device.
    pub(crate) fn ask_link(&self, request: &[u8]) -> Result<LinkAskedInfo, Error> {
        let mut link = self.link()?;
        let request = LinkRequest::verify(request, &link.code);
        let spent = |reason: String| {
            self.close_link()?;
            Err(
                Error::verification(format!("link request: {reason}; the code is spent"))
                    .hint("`kinlog device link` makes a new one"),
            )
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return spent(chain(&error)),
        };
        if let Some(before) = &link.asked
            && before.card.device != request.card.device
        {
            return spent("two devices ask by one code".to_owned());
        }
        let info = link.info(&request);
        link.asked = Some(request);
        self.knowledge(|knowledge| knowledge.link = Some(link));
        self.changed();
        Ok(info)
    }

    /// Adds the device that asked, now that somebody has compared the words; returns the answer to it.
    ///
    /// # Errors
    /// `Verification` for other words: the code is spent.
    pub(crate) fn confirm_link(&self, words: &str) -> Result<(LinkRequest, Bytes), Error> {
        let link = self.link()?;
        let Some(request) = link.asked.clone() else {
            return Err(Error::not_found("no device asked by the code yet"));
        };
        if !same_words(words, &link.words(&request)) {
            self.close_link()?;
            return Err(Error::verification(
                "the words are not the same on both devices: the code is spent, nothing was added",
            )
            .hint(
                "somebody may stand between the devices; `kinlog device link` makes a new code",
            ));
        }
        let name = request.name.as_str();
        let said = Said::DeviceAdded(DeviceAdded {
            card: request.card.clone(),
            powers: link.powers,
            name: name
                .try_into()
                .map_err(|error| Error::usage(format!("name: {error}")))?,
        });
        self.state_as_device(said, &[])?;
        let set = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&self.agent);
            known.map(|known| known.set.clone())
        });
        let answer = LinkAnswer {
            name: self.name.clone(),
            set: set.unwrap_or_default(),
        };
        let answer = answer.encode(self.keys.signing());
        let key = link.code.public_key().0;
        let answered = AnsweredLink {
            code: link.code,
            until_ms: link.until_ms,
            device: request.card.device,
            answer: answer.clone(),
        };
        self.knowledge(|knowledge| knowledge.link_answered = Some(answered));
        self.close_link()?;
        if let Some(network) = self.network() {
            for session in network.sessions_about(Label::Code, &key) {
                let bytes = answer.clone();
                network.send(session.id, PeerMessage::JoinResponse { bytes });
            }
        }
        Ok((request, answer))
    }

    /// Takes what a device asks on a session of a code's topic.
    pub(crate) fn hear_linker(&self, session: &SessionInfo, request: &[u8]) -> Result<(), Error> {
        let answered = self.knowledge(|knowledge| knowledge.link_answered.clone());
        if let Some(answered) = answered.filter(|one| wall_ms() < one.until_ms)
            && answered.code.public_key().0 == session.key
            && let Ok(request) = LinkRequest::verify(request, &answered.code)
            && request.card.device == answered.device
        {
            if let Some(network) = self.network() {
                let bytes = answered.answer;
                network.send(session.id, PeerMessage::JoinResponse { bytes });
            }
            return Ok(());
        }
        self.ask_link(request).map(|_| ())
    }

    /// Says on a session of a code's topic what the new device asks, if this is one.
    pub(crate) fn greet_linker(&self, key: &[u8; 32], session: SessionId) {
        let asks = self.knowledge(|knowledge| knowledge.asks_link.clone());
        if let (Some((code, bytes)), Some(network)) = (asks, self.network())
            && code == *key
        {
            network.send(session, PeerMessage::JoinRequest { bytes });
        }
    }

    /// Asks by a code at every meeting in its topic: what a device does before it has a home.
    pub(crate) fn ask_to_be_linked(&self, code: &LinkCode, request: Bytes) -> Result<(), Error> {
        let key = code.public_key().0;
        self.knowledge(|knowledge| knowledge.asks_link = Some((key, request)));
        self.replan()?;
        if let Some(network) = self.network() {
            for session in network.sessions_about(Label::Code, &key) {
                self.greet_linker(&key, session.id);
            }
        }
        Ok(())
    }
}
