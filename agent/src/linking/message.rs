//! What the two sides of a link say, and the words that people compare.

use bytes::Bytes;
use kinlog_feeds::crypto::{
    KeyPair, PublicKey, SIGNATURE_BYTES, blake2b_256,
    namespace::{self, Namespace},
    verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::FORMAT;
use kinlog_indexer::identity::{CardError, DeviceCard};
use kinlog_indexer::limits::{IDENTITY_SET_BYTES_MAX, NAME_BYTES_MAX};

use crate::linking::LinkCode;

/// Words that people compare: 5 of 2,048, 55 bits. Nobody chooses two of the three keys they hang on,
/// so that finding a fourth with the same words takes 2^54 tries within the ten minutes of a code.
const WORDS: usize = 5;

/// Why a request or an answer is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkingError {
    /// Damaged bytes.
    #[error("it does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// Of a build with another format.
    #[error("it is of format {actual}, this build has {expected}")]
    OtherFormat { expected: u16, actual: u16 },
    /// Whoever made it has not this code.
    #[error("it was made for another code")]
    OtherCode,
    /// A device that did not sign its own card, or a directory that is not the device's.
    #[error("the card of the new device")]
    Card(#[source] CardError),
    /// A name that is no text.
    #[error("the name is no text")]
    Name,
}

/// A new device asks to be linked.
///
/// Layout: `u16 format | card 384 | buffer name | signature 64`, the signature by the code's key over
/// `NS("link-request") ||` everything before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkRequest {
    /// The new device.
    pub card: DeviceCard,
    /// What it is to be called.
    pub name: String,
}

impl LinkRequest {
    /// Encodes the request, signed with the code.
    pub fn encode(&self, code: &LinkCode) -> Bytes {
        let mut out = FORMAT.to_le_bytes().to_vec();
        out.put_raw(&self.card.encode());
        out.put_buffer(self.name.as_bytes());
        sign(out, namespace::LINK_REQUEST, &code.key_pair())
    }

    /// Decodes a request and verifies that it was made for `code`, by the device itself.
    pub fn verify(bytes: &[u8], code: &LinkCode) -> Result<Self, LinkingError> {
        let body = signed(bytes, namespace::LINK_REQUEST, &code.public_key())?;
        let mut reader = Reader::strict(body);
        check_format(&mut reader)?;
        let card = DeviceCard::read(&mut reader)?;
        let name = text(reader.buffer("device name", NAME_BYTES_MAX)?)?;
        reader.finish()?;
        card.verify(&code.agent).map_err(LinkingError::Card)?;
        Ok(LinkRequest { card, name })
    }
}

/// The device that showed the code answers: the new one is the agent's.
///
/// Layout: `u16 format | buffer name of the agent | buffer identity set | signature 64`, the signature
/// by the device that the code names over `NS("link-answer") ||` everything before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkAnswer {
    /// What the agent calls itself.
    pub name: String,
    /// Its encoded identity set, not verified.
    pub set: Bytes,
}

impl LinkAnswer {
    /// Encodes the answer, signed by the device that showed the code.
    pub fn encode(&self, device: &KeyPair) -> Bytes {
        let mut out = FORMAT.to_le_bytes().to_vec();
        out.put_buffer(self.name.as_bytes());
        out.put_buffer(&self.set);
        sign(out, namespace::LINK_ANSWER, device)
    }

    /// Decodes an answer and verifies that the device which the code names made it.
    pub fn verify(bytes: &[u8], code: &LinkCode) -> Result<Self, LinkingError> {
        let body = signed(bytes, namespace::LINK_ANSWER, &PublicKey(code.device.0))?;
        let mut reader = Reader::strict(body);
        check_format(&mut reader)?;
        let name = text(reader.buffer("agent name", NAME_BYTES_MAX)?)?;
        let set = reader.buffer("identity set", IDENTITY_SET_BYTES_MAX)?;
        let set = Bytes::copy_from_slice(set);
        reader.finish()?;
        Ok(LinkAnswer { name, set })
    }
}

/// A code and the device that asks by it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Linking<'a> {
    /// The code.
    pub code: &'a LinkCode,
    /// The new device.
    pub card: &'a DeviceCard,
}

impl Linking<'_> {
    /// Returns the words that both devices show: the first 55 bits of `H(NS("link-words") || code ||
    /// card)` as BIP39 words, 11 bits each.
    pub fn words(&self) -> String {
        let label = namespace::LINK_WORDS.hash();
        let hash = blake2b_256(&[&label, &self.code.encode(), &self.card.encode()]);
        let bits = u64::from_be_bytes(hash[..8].try_into().expect("a hash has 32 bytes"));
        let list = bip39::Language::English.word_list();
        let words = (0..WORDS).map(|at| list[(bits >> (53 - 11 * at)) as usize & 2047]);
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Returns whether somebody typed the same words.
pub(crate) fn same_words(typed: &str, expected: &str) -> bool {
    let typed = typed.to_lowercase();
    typed.split_whitespace().eq(expected.split_whitespace())
}

fn sign(mut out: Vec<u8>, label: Namespace, by: &KeyPair) -> Bytes {
    let mut message = label.hash().to_vec();
    message.put_raw(&out);
    let signature = by.sign(&message);
    out.put_raw(&signature);
    out.into()
}

fn signed<'a>(bytes: &'a [u8], label: Namespace, by: &PublicKey) -> Result<&'a [u8], LinkingError> {
    let at = bytes.len().checked_sub(SIGNATURE_BYTES);
    let (body, signature) = bytes.split_at(at.ok_or(LinkingError::OtherCode)?);
    let signature = signature.try_into().expect("split before the signature");
    let mut message = label.hash().to_vec();
    message.put_raw(body);
    verify(by, &message, signature).map_err(|_| LinkingError::OtherCode)?;
    Ok(body)
}

fn check_format(reader: &mut Reader<'_>) -> Result<(), LinkingError> {
    let actual = u16::from_le_bytes(reader.fixed()?);
    if actual != FORMAT {
        return Err(LinkingError::OtherFormat {
            expected: FORMAT,
            actual,
        });
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String, LinkingError> {
    let text = std::str::from_utf8(bytes).map_err(|_| LinkingError::Name)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{AgentId, DeviceKey, Secret};

    use super::*;

    fn code(secret: u8) -> LinkCode {
        LinkCode {
            agent: AgentId([1; 32]),
            device: DeviceKey(KeyPair::from_seed(&[2; 32]).public_key().0),
            secret: Secret::new([secret; 32]),
            signal_urls: Vec::new(),
        }
    }

    fn request(agent: u8, device: u8) -> LinkRequest {
        let pair = KeyPair::from_seed(&[device; 32]);
        let [public, private] = [30, 31].map(|seed| KeyPair::from_seed(&[seed; 32]));
        LinkRequest {
            card: DeviceCard::sign(&AgentId([agent; 32]), &pair, [9; 32], &public, &private),
            name: "phone".to_owned(),
        }
    }

    #[test]
    fn a_request_holds_for_its_code_and_its_agent_only() {
        let (one, two) = (code(3), code(4));
        let bytes = request(1, 5).encode(&one);
        assert_eq!(LinkRequest::verify(&bytes, &one), Ok(request(1, 5)));
        assert_eq!(
            LinkRequest::verify(&bytes, &two),
            Err(LinkingError::OtherCode)
        );
        let elsewhere = request(8, 5).encode(&one);
        assert!(matches!(
            LinkRequest::verify(&elsewhere, &one),
            Err(LinkingError::Card(_))
        ));
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(LinkRequest::verify(&damaged, &one).is_err(), "byte {at}");
            assert!(
                LinkRequest::verify(&bytes[..at], &one).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn an_answer_is_that_of_the_device_which_showed_the_code() {
        let answer = LinkAnswer {
            name: "Ada".to_owned(),
            set: Bytes::from_static(b"set"),
        };
        let right = answer.encode(&KeyPair::from_seed(&[2; 32]));
        assert_eq!(LinkAnswer::verify(&right, &code(3)), Ok(answer.clone()));
        let wrong = answer.encode(&KeyPair::from_seed(&[7; 32]));
        assert_eq!(
            LinkAnswer::verify(&wrong, &code(3)),
            Err(LinkingError::OtherCode)
        );
    }

    #[test]
    fn words_follow_from_code_and_card() {
        let words = |code: &LinkCode, device| {
            let card = request(1, device).card;
            Linking { code, card: &card }.words()
        };
        let (one, two) = (code(3), code(4));
        assert_eq!(words(&one, 5).split(' ').count(), WORDS);
        assert_eq!(words(&one, 5), words(&one, 5));
        assert_ne!(words(&one, 5), words(&one, 6));
        assert_ne!(words(&one, 5), words(&two, 5));
        assert!(same_words("  Apple\tzoo ", "apple zoo"));
        assert!(!same_words("apple", "apple zoo"));
    }
}
