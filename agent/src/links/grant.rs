//! What a grant link holds: `u8 version=1 | buffer grant | uint n | n x buffer signal URL | check 4`.

use kinlog_feeds::crypto::{blake2b_256, namespace};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::grant::{GrantError, SeedGrant};
use kinlog_indexer::limits::SEED_GRANT_BYTES_MAX;

use crate::links::base64url;
use crate::links::signals::{SignalsError, put_signals, read_signals};

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;

/// A seed grant on its way to the seeder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantLink {
    /// The grant.
    pub grant: SeedGrant,
    /// Signal servers at which the members are met.
    pub signal_urls: Vec<String>,
}

/// A fragment that is no grant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantLinkError {
    /// Characters that are not base64url.
    #[error("the grant is not base64url: a character was lost or changed")]
    NotBase64,
    /// Too short to hold a check, or a check that does not fit.
    #[error("the grant's check does not fit: a character was lost or changed")]
    Check,
    /// A version that this build does not know.
    #[error("the grant link has version {actual}, this build knows {VERSION}")]
    Version { actual: u8 },
    /// Fields that do not decode.
    #[error("the grant link does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A grant that does not hold.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A signal URL that is not UTF-8.
    #[error("signal URL {number} of the grant is not UTF-8")]
    Url { number: usize },
}

impl From<SignalsError> for GrantLinkError {
    fn from(error: SignalsError) -> Self {
        match error {
            SignalsError::Decode(error) => error.into(),
            SignalsError::Url { number } => GrantLinkError::Url { number },
        }
    }
}

impl GrantLink {
    /// Encodes the grant as it stands behind `#` in a link.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.put_buffer(&self.grant.encode());
        put_signals(&mut bytes, &self.signal_urls);
        let check = check(&bytes);
        bytes.put_raw(&check);
        base64url::encode(&bytes)
    }

    /// Decodes what stands behind `#` in a link, and verifies the grant's signature.
    ///
    /// # Errors
    /// Text that was changed, or a grant that does not hold.
    pub fn decode(text: &str) -> Result<GrantLink, GrantLinkError> {
        let bytes = base64url::decode(text).map_err(|_| GrantLinkError::NotBase64)?;
        let at = bytes
            .len()
            .checked_sub(CHECK_BYTES)
            .ok_or(GrantLinkError::Check)?;
        let (body, said) = bytes.split_at(at);
        if said != check(body) {
            return Err(GrantLinkError::Check);
        }
        let mut reader = Reader::strict(body);
        match reader.u8()? {
            VERSION => {}
            actual => return Err(GrantLinkError::Version { actual }),
        }
        let grant = SeedGrant::decode(reader.buffer("seed grant", SEED_GRANT_BYTES_MAX)?)?;
        let signal_urls = read_signals(&mut reader)?;
        reader.finish()?;
        Ok(GrantLink { grant, signal_urls })
    }
}

fn check(body: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = blake2b_256(&[&namespace::GRANT_CHECK.hash(), body]);
    let (check, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    *check
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{AgentId, FeedKey, KeyPair, Secret};
    use kinlog_indexer::RoomId;
    use kinlog_indexer::grant::{GrantTerms, GrantedRange, RoomTag};

    use super::*;

    fn link() -> GrantLink {
        let terms = GrantTerms {
            room_tag: RoomTag::of(&RoomId([1; 32])),
            meet_key: Secret::new([2; 32]),
            grantee: AgentId([3; 32]),
            expires_at_ms: 1_800_000_000_000,
            quota_class: 0,
            ranges: vec![GrantedRange::whole(FeedKey([6; 32]))],
        };
        GrantLink {
            grant: SeedGrant::sign(terms, &KeyPair::from_seed(&[5; 32])).expect("one range"),
            signal_urls: vec!["wss://signal.example/".into()],
        }
    }

    #[test]
    fn grant_links_round_trip_and_any_changed_or_lost_character_is_noticed() {
        let text = link().encode();
        assert_eq!(GrantLink::decode(&text), Ok(link()));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(GrantLink::decode(&changed).is_err(), "{at}");
            assert!(GrantLink::decode(&text[..at]).is_err(), "{at}");
        }
    }
}
