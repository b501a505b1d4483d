//! What a caller hands to an agent that is to keep a capsule: nothing by which it could be opened.
//!
//! Password, code and seed stay with the process that asked the person for them.

use std::fmt;
use std::str::FromStr;

use kinlog_feeds::crypto::{AgentId, Secret};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_feeds::text;
use kinlog_indexer::Text;
use kinlog_indexer::identity::DeviceCard;
use kinlog_indexer::limits::NAME_BYTES_MAX;

use crate::api::Error;
use crate::keys::random;
use crate::sign_in::{Capsule, SignInCode};
use crate::vault::Passphrase;

/// A sealed capsule, the key in it and the topic it is served in.
///
/// As text: z-base-32 of `card 192 | meet key 32 | sealed capsule 359`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignInOffer {
    /// The key's own word that it is the agent's.
    pub card: DeviceCard,
    /// Key of the topic of the code.
    pub meet_key: [u8; 32],
    /// The capsule.
    pub sealed: [u8; Capsule::SEALED_BYTES],
}

/// Text that is no offer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// Not z-base-32.
    #[error("sign-in offer: {0}")]
    Text(#[from] text::KeyTextError),
    /// Another layout.
    #[error("sign-in offer: {0}")]
    Decode(#[from] DecodeError),
}

impl SignInOffer {
    /// Makes a new key for `agent` and seals it. Blocks for as long as [`Capsule::seal`].
    ///
    /// # Errors
    /// `General` without random numbers, or without the memory that sealing takes.
    pub fn make(
        agent: &AgentId,
        name: Text<NAME_BYTES_MAX>,
        password: &Passphrase,
        code: &SignInCode,
    ) -> Result<SignInOffer, Error> {
        let capsule = Capsule::new(Secret::new(random()?), name);
        let sealed = capsule.seal(agent, password, code, &random()?, &random()?);
        Ok(SignInOffer {
            card: capsule.card(agent),
            meet_key: code.meet_key(),
            sealed: sealed.map_err(|error| Error::general(error.to_string()))?,
        })
    }
}

impl fmt::Display for SignInOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.card.encode();
        bytes.put_raw(&self.meet_key);
        bytes.put_raw(&self.sealed);
        f.write_str(&text::encode(&bytes))
    }
}

impl FromStr for SignInOffer {
    type Err = OfferError;

    fn from_str(offer: &str) -> Result<Self, OfferError> {
        let bytes = text::decode(offer)?;
        let mut reader = Reader::strict(&bytes);
        let card = DeviceCard::read(&mut reader)?;
        let meet_key = reader.fixed()?;
        let sealed = reader.fixed()?;
        reader.finish()?;
        Ok(SignInOffer {
            card,
            meet_key,
            sealed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_travels_as_text_and_holds_for_its_agent() {
        let agent = AgentId([3; 32]);
        let capsule = Capsule::new(Secret::new([5; 32]), "Ada".try_into().unwrap());
        let offer = SignInOffer {
            card: capsule.card(&agent),
            meet_key: [7; 32],
            sealed: [6; Capsule::SEALED_BYTES],
        };
        let text = offer.to_string();
        assert_eq!(text.parse::<SignInOffer>(), Ok(offer.clone()));
        assert_eq!(offer.card.verify(&agent), Ok(()));
        for damaged in [&text[..text.len() - 1], "", "no!", &format!("{text}yy")] {
            assert!(damaged.parse::<SignInOffer>().is_err(), "{damaged}");
        }
    }
}
