//! A seed grant: all that a seeder needs to keep a room's feeds for its members, and all it gets.
//!
//! `u8 version=1 | room tag 16 | meet key 32 | grantee agent 32 | u64 expiry ms | u8 quota class |
//! uint n <= 2,048 | n x (feed 32, uint start, uint end, 0 = open) | member's device 32 |
//! signature 64`, the signature by that device over `NS("seed-grant") ||` everything before it. The
//! ranges are in the order of the feeds, those of one feed in their own, without a block in two.

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, Secret, SignatureError,
    blake2b_256, namespace, verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_feeds::limits::UINT_MAX;

use crate::RoomId;
use crate::limits::SEED_GRANT_RANGES_MAX;

const VERSION: u8 = 1;

/// Bytes of a room's tag.
pub const ROOM_TAG_BYTES: usize = 16;

/// What a seeder knows a room by: `H(NS("room-tag") || room id)[..16]`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RoomTag(pub [u8; ROOM_TAG_BYTES]);

/// Blocks of a feed that a grant names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GrantedRange {
    /// The feed.
    pub feed: FeedKey,
    /// First block.
    pub start: u64,
    /// Block behind the last; `None`: also all that are still to come.
    pub end: Option<u64>,
}

/// What a member says in a grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantTerms {
    /// The room, as the seeder knows it.
    pub room_tag: RoomTag,
    /// Key by which members and seeder meet.
    pub meet_key: Secret,
    /// The seeder.
    pub grantee: AgentId,
    /// Wall clock after which the grant holds no more, ms.
    pub expires_at_ms: u64,
    /// What it may take of the seeder's space; the seeder knows what the classes mean.
    pub quota_class: u8,
    /// What it is for.
    pub ranges: Vec<GrantedRange>,
}

/// A member's word that a seeder may keep feeds of a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeedGrant {
    terms: GrantTerms,
    device: DeviceKey,
    signature: [u8; SIGNATURE_BYTES],
}

/// Why something is no grant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Bytes that do not decode.
    #[error("seed grant: {0}")]
    Decode(#[from] DecodeError),
    /// Made by a later build.
    #[error("seed grant of version {actual}, this build knows {VERSION}")]
    Version { actual: u8 },
    /// More ranges than one grant has.
    #[error("seed grant for {count} ranges, at most {}", SEED_GRANT_RANGES_MAX)]
    TooMany { count: usize },
    /// A range without a block, or beyond any feed.
    #[error("seed grant for blocks {start}..{end} of feed {feed}, which are none")]
    Range { feed: FeedKey, start: u64, end: u64 },
    /// A range that does not come after the one before it.
    #[error("range {number} of a seed grant is not behind the one before it")]
    Order { number: usize },
    /// The device did not sign it.
    #[error("seed grant of device {device}: {source}")]
    Signature {
        device: DeviceKey,
        source: SignatureError,
    },
}

impl RoomTag {
    /// Returns the tag of a room.
    pub fn of(room: &RoomId) -> Self {
        let hash = blake2b_256(&[&namespace::ROOM_TAG.hash(), room.as_bytes()]);
        let (tag, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        RoomTag(*tag)
    }
}

impl GrantedRange {
    /// Returns every block of a feed, also those to come.
    pub fn whole(feed: FeedKey) -> Self {
        GrantedRange {
            feed,
            start: 0,
            end: None,
        }
    }

    /// Returns the blocks.
    pub fn blocks(&self) -> Range<u64> {
        self.start..self.end.unwrap_or(UINT_MAX)
    }
}

impl SeedGrant {
    /// Gives a grant as the device `device`, its ranges in any order.
    ///
    /// # Errors
    /// More than [`SEED_GRANT_RANGES_MAX`] ranges, one without a block, two with the same block.
    pub fn sign(mut terms: GrantTerms, device: &KeyPair) -> Result<SeedGrant, GrantError> {
        terms.ranges.sort_unstable();
        if terms.ranges.len() > SEED_GRANT_RANGES_MAX {
            let count = terms.ranges.len();
            return Err(GrantError::TooMany { count });
        }
        check(&terms.ranges)?;
        let mut grant = SeedGrant {
            terms,
            device: DeviceKey(device.public_key().0),
            signature: [0; SIGNATURE_BYTES],
        };
        grant.signature = device.sign(&signable(&grant.said()));
        Ok(grant)
    }

    /// Decodes a grant and verifies its signature.
    ///
    /// # Errors
    /// Bytes that are no grant, or one that its device did not sign.
    pub fn decode(bytes: &[u8]) -> Result<SeedGrant, GrantError> {
        let mut reader = Reader::strict(bytes);
        match reader.u8()? {
            VERSION => {}
            actual => return Err(GrantError::Version { actual }),
        }
        let room_tag = RoomTag(reader.fixed()?);
        let meet_key = Secret::new(reader.fixed()?);
        let grantee = AgentId(reader.fixed()?);
        let expires_at_ms = reader.u64()?;
        let quota_class = reader.u8()?;
        let count = reader.uint_max("ranges of a seed grant", SEED_GRANT_RANGES_MAX)?;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let feed = FeedKey(reader.fixed()?);
            let (start, end) = (reader.uint()?, reader.uint()?);
            let end = (end != 0).then_some(end);
            ranges.push(GrantedRange { feed, start, end });
        }
        check(&ranges)?;
        let device = DeviceKey(reader.fixed()?);
        let (said, _) = bytes.split_at(bytes.len() - reader.rest().len());
        let signature = reader.fixed()?;
        reader.finish()?;
        verify(&PublicKey(device.0), &signable(said), &signature)
            .map_err(|source| GrantError::Signature { device, source })?;
        let terms = GrantTerms {
            room_tag,
            meet_key,
            grantee,
            expires_at_ms,
            quota_class,
            ranges,
        };
        Ok(SeedGrant {
            terms,
            device,
            signature,
        })
    }

    /// Returns the bytes; whoever calls this keeps them out of logs: they hold the meet key.
    pub fn encode(&self) -> Bytes {
        let mut out = self.said();
        out.put_raw(&self.signature);
        out.into()
    }

    /// Returns the hash by which acts name the grant: `H(NS("seed-grant") ||` all its bytes `)`.
    pub fn hash(&self) -> Hash {
        Hash(blake2b_256(&[
            &namespace::SEED_GRANT.hash(),
            &self.encode(),
        ]))
    }

    /// Returns what the grant says.
    pub fn terms(&self) -> &GrantTerms {
        &self.terms
    }

    /// Returns the member's device that gave it.
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// Returns whether it holds no more at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms > self.terms.expires_at_ms
    }

    fn said(&self) -> Vec<u8> {
        let terms = &self.terms;
        let mut out = vec![VERSION];
        out.put_raw(&terms.room_tag.0);
        out.put_raw(terms.meet_key.expose());
        out.put_raw(terms.grantee.as_bytes());
        out.put_raw(&terms.expires_at_ms.to_le_bytes());
        out.push(terms.quota_class);
        out.put_uint(terms.ranges.len() as u64);
        for range in &terms.ranges {
            out.put_raw(range.feed.as_bytes());
            out.put_uint(range.start);
            out.put_uint(range.end.unwrap_or(0));
        }
        out.put_raw(self.device.as_bytes());
        out
    }
}

fn signable(said: &[u8]) -> Vec<u8> {
    [&namespace::SEED_GRANT.hash(), said].concat()
}

fn check(ranges: &[GrantedRange]) -> Result<(), GrantError> {
    for range in ranges {
        let blocks = range.blocks();
        if blocks.is_empty() || blocks.end > UINT_MAX {
            return Err(GrantError::Range {
                feed: range.feed,
                start: blocks.start,
                end: blocks.end,
            });
        }
    }
    for (number, pair) in (1..).zip(ranges.windows(2)) {
        let (before, after) = (&pair[0], &pair[1]);
        let is_behind = before.feed < after.feed
            || (before.feed == after.feed && before.blocks().end <= after.start);
        if !is_behind {
            return Err(GrantError::Order { number });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::text;
    use proptest::prelude::*;

    use super::*;
    use crate::limits::SEED_GRANT_BYTES_MAX;

    fn terms(ranges: Vec<GrantedRange>) -> GrantTerms {
        GrantTerms {
            room_tag: RoomTag::of(&RoomId([1; 32])),
            meet_key: Secret::new([2; 32]),
            grantee: AgentId([3; 32]),
            expires_at_ms: 1_800_000_000_000,
            quota_class: 4,
            ranges,
        }
    }

    fn sign(ranges: Vec<GrantedRange>) -> Result<SeedGrant, GrantError> {
        SeedGrant::sign(terms(ranges), &KeyPair::from_seed(&[5; 32]))
    }

    fn range(feed: u8, start: u64, end: Option<u64>) -> GrantedRange {
        GrantedRange {
            feed: FeedKey([feed; 32]),
            start,
            end,
        }
    }

    fn two() -> SeedGrant {
        sign(vec![range(7, 10, Some(300)), range(6, 0, None)]).unwrap()
    }

    #[test]
    fn the_bytes_of_a_grant_are_final() {
        // Tag and hash were made by other code.
        let bytes = two().encode();
        let mut expected = vec![1];
        expected.extend(text::decode_hex("03239749f3cd22f708fa05aebdcdbfee").unwrap());
        expected.extend([2; 32]);
        expected.extend([3; 32]);
        expected.extend(1_800_000_000_000_u64.to_le_bytes());
        expected.extend([4, 2]);
        expected.extend([6; 32]);
        expected.extend([0, 0]);
        expected.extend([7; 32]);
        expected.extend([10, 0xfd, 44, 1]);
        expected.extend(KeyPair::from_seed(&[5; 32]).public_key().0);
        assert_eq!(
            text::encode_hex(&bytes[..bytes.len() - SIGNATURE_BYTES]),
            text::encode_hex(&expected)
        );
        assert_eq!(
            text::encode_hex(&two().hash().0),
            "a8408ed9988ccd3a9fccfe7cf6250f554dafe26498620f64463ac74b8d7b95e3"
        );
    }

    #[test]
    fn every_altered_or_lost_byte_is_noticed() {
        let bytes = two().encode();
        for at in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[at] ^= 1;
            assert!(SeedGrant::decode(&altered).is_err(), "{at}");
            assert!(SeedGrant::decode(&bytes[..at]).is_err(), "{at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(SeedGrant::decode(&longer).is_err());
    }

    #[test]
    fn ranges_are_in_order_and_none_is_empty() {
        for none in [range(6, 4, Some(4)), range(6, UINT_MAX, None)] {
            assert!(matches!(sign(vec![none]), Err(GrantError::Range { .. })));
        }
        let beyond = range(6, 4, Some(UINT_MAX + 1));
        assert!(matches!(sign(vec![beyond]), Err(GrantError::Range { .. })));
        let twice = vec![range(6, 0, None), range(6, 9, Some(10))];
        assert_eq!(sign(twice), Err(GrantError::Order { number: 1 }));
        assert!(sign(vec![range(6, 0, Some(9)), range(6, 9, Some(10))]).is_ok());

        // What `sign` brings in order is refused where it comes in another.
        let mut grant = two();
        grant.terms.ranges.reverse();
        let said = signable(&grant.said());
        grant.signature = KeyPair::from_seed(&[5; 32]).sign(&said);
        let decoded = SeedGrant::decode(&grant.encode());
        assert_eq!(decoded, Err(GrantError::Order { number: 1 }));
    }

    #[test]
    fn the_largest_grant_fits_its_limit() {
        let largest = |number: usize| {
            let mut feed = [0; 32];
            feed[..8].copy_from_slice(&(number as u64).to_be_bytes());
            GrantedRange {
                feed: FeedKey(feed),
                start: UINT_MAX - 1,
                end: Some(UINT_MAX),
            }
        };
        let all: Vec<_> = (0..SEED_GRANT_RANGES_MAX).map(largest).collect();
        let grant = sign(all.clone()).unwrap();
        assert!(grant.encode().len() <= SEED_GRANT_BYTES_MAX);
        let more = [&all[..], &[range(255, 0, None)]].concat();
        let count = SEED_GRANT_RANGES_MAX + 1;
        assert_eq!(sign(more), Err(GrantError::TooMany { count }));
    }

    #[test]
    fn a_grant_holds_until_its_last_millisecond() {
        assert!(!two().is_expired(1_800_000_000_000));
        assert!(two().is_expired(1_800_000_000_001));
    }

    proptest! {
        #[test]
        fn grants_round_trip(
            parts in proptest::collection::btree_map(
                any::<u8>(),
                (0..1_u64 << 40, proptest::option::of(1..1_u64 << 20)),
                0..20,
            ),
        ) {
            let ranges = parts
                .into_iter()
                .map(|(feed, (start, count))| range(feed, start, count.map(|count| start + count)));
            let grant = sign(ranges.collect()).unwrap();
            prop_assert_eq!(SeedGrant::decode(&grant.encode()), Ok(grant));
        }
    }
}
