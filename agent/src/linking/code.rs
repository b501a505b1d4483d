//! The code that a device shows to link another one.

use std::fmt;
use std::str::FromStr;

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, KeyPair, PublicKey, Secret, blake2b_256, derive, namespace,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::links::base64url;
use crate::links::signals::{SignalsError, put_signals, read_signals};

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
const PREFIX: &str = "kinlog://link/#";

/// What the code holds: `u8 version=1 | agent 32 | device 32 | secret 32 | uint n | n signal URLs |
/// check 4`, base64url behind `kinlog://link/#`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkCode {
    /// The agent that gets a device.
    pub agent: AgentId,
    /// The device that shows the code.
    pub device: DeviceKey,
    /// Known to whoever saw the code.
    pub secret: Secret,
    /// Signal servers at which both meet.
    pub signal_urls: Vec<String>,
}

/// Text that is no code.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkCodeError {
    /// Another kind of text.
    #[error("expected a code that begins with {PREFIX}")]
    NoCode,
    /// A character that was lost or changed.
    #[error("the code does not check: a character was lost or changed")]
    Check,
    /// A version that this build does not know.
    #[error("the code has version {actual}, this build knows {VERSION}")]
    Version { actual: u8 },
    /// Fields that do not decode.
    #[error("the code does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A signal URL that is not UTF-8.
    #[error("signal URL {number} of the code is not UTF-8")]
    Url { number: usize },
}

impl From<SignalsError> for LinkCodeError {
    fn from(error: SignalsError) -> Self {
        match error {
            SignalsError::Decode(error) => error.into(),
            SignalsError::Url { number } => LinkCodeError::Url { number },
        }
    }
}

impl LinkCode {
    /// Returns the pair that signs the request, whose public key is the topic's.
    pub(crate) fn key_pair(&self) -> KeyPair {
        KeyPair::from_seed(derive(&self.secret, namespace::LINK_CODE, &[]).expose())
    }

    /// Returns the public key of the code's topic.
    pub(crate) fn public_key(&self) -> PublicKey {
        self.key_pair().public_key()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.put_raw(self.agent.as_bytes());
        bytes.put_raw(self.device.as_bytes());
        bytes.put_raw(self.secret.expose());
        put_signals(&mut bytes, &self.signal_urls);
        let check = check(&bytes);
        bytes.put_raw(&check);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, LinkCodeError> {
        let at = bytes.len().checked_sub(CHECK_BYTES);
        let (body, said) = bytes.split_at(at.ok_or(LinkCodeError::Check)?);
        if said != check(body) {
            return Err(LinkCodeError::Check);
        }
        let mut reader = Reader::strict(body);
        match reader.u8()? {
            VERSION => {}
            actual => return Err(LinkCodeError::Version { actual }),
        }
        let (agent, device) = (AgentId(reader.fixed()?), DeviceKey(reader.fixed()?));
        let secret = Secret::new(reader.fixed()?);
        let signal_urls = read_signals(&mut reader)?;
        reader.finish()?;
        Ok(LinkCode {
            agent,
            device,
            secret,
            signal_urls,
        })
    }
}

impl fmt::Display for LinkCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base64url::encode(&self.encode()))
    }
}

impl FromStr for LinkCode {
    type Err = LinkCodeError;

    fn from_str(text: &str) -> Result<Self, LinkCodeError> {
        let text = text.trim().strip_prefix(PREFIX);
        let text = text.ok_or(LinkCodeError::NoCode)?;
        let bytes = base64url::decode(text).map_err(|_| LinkCodeError::Check)?;
        LinkCode::decode(&bytes)
    }
}

fn check(body: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = blake2b_256(&[&namespace::LINK_CHECK.hash(), body]);
    hash[..CHECK_BYTES].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_round_trips_and_every_changed_character_is_noticed() {
        let code = LinkCode {
            agent: AgentId([1; 32]),
            device: DeviceKey([2; 32]),
            secret: Secret::new([3; 32]),
            signal_urls: vec!["ws://127.0.0.1:9000/".into()],
        };
        let text = code.to_string();
        assert_eq!(text.parse(), Ok(code));
        assert_eq!(
            "kinlog://join/#x".parse::<LinkCode>(),
            Err(LinkCodeError::NoCode)
        );
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(changed.parse::<LinkCode>().is_err(), "{at}");
            assert!(text[..at].parse::<LinkCode>().is_err(), "{at}");
        }
    }
}
