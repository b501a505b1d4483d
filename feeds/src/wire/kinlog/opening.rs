//! What both sides say when they open the channel, and what follows from it.

use crate::encoding::{DecodeError, Reader, Writer};

/// Bits of [`Opening::features`]; a bit counts when both sides set it, unknown ones are ignored.
pub mod feature {
    /// Blocks are asked for and proved in sets.
    pub const SETS: u64 = 1;
    /// Feeds that both list need no channel of their own.
    pub const NUMBERS: u64 = 2;
    /// Blocks held are told as runs.
    pub const RUNS: u64 = 4;
    /// Heads are told of several feeds at once.
    pub const GROUPS: u64 = 8;
}

/// Lowest and highest version that this build speaks.
const VERSIONS: (u8, u8) = (1, 1);

/// `u8 lowest version | u8 highest version | uint features`; what follows is ignored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opening {
    /// Lowest version spoken.
    pub lowest: u8,
    /// Highest version spoken.
    pub highest: u8,
    /// [`feature`] bits.
    pub features: u64,
}

/// What both sides speak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Agreed {
    /// Version in force.
    pub version: u8,
    /// Features that both have.
    pub features: u64,
}

impl Agreed {
    /// Returns whether both sides have a feature.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }
}

impl Opening {
    /// Returns what this build says, with these features.
    pub fn new(features: u64) -> Opening {
        let (lowest, highest) = VERSIONS;
        Opening {
            lowest,
            highest,
            features,
        }
    }

    /// Encodes the opening.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.lowest, self.highest];
        out.put_uint(self.features);
        out
    }

    /// Decodes an opening; later fields are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Opening, DecodeError> {
        let mut reader = Reader::new(bytes);
        Ok(Opening {
            lowest: reader.u8()?,
            highest: reader.u8()?,
            features: reader.uint()?,
        })
    }

    /// Returns what both sides speak; `None` without a version that both know.
    pub fn agree(&self, other: &Opening) -> Option<Agreed> {
        let version = self.highest.min(other.highest);
        (version >= self.lowest.max(other.lowest)).then_some(Agreed {
            version,
            features: self.features & other.features,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_have_their_bytes_and_come_back() {
        let opening = Opening::new(feature::SETS | feature::NUMBERS | feature::RUNS);
        assert_eq!(opening.encode(), [1, 1, 7]);
        assert_eq!(Opening::decode(&[1, 1, 7]), Ok(opening));
        assert_eq!(
            Opening::decode(&[1, 1, 7, 9, 9]),
            Ok(opening),
            "later fields"
        );
        assert!(Opening::decode(&[1, 1]).is_err());
    }

    #[test]
    fn the_highest_version_and_the_features_of_both_are_agreed() {
        let opening = |lowest, highest, features| Opening {
            lowest,
            highest,
            features,
        };
        let ours = opening(1, 3, 0b110);
        assert_eq!(
            ours.agree(&opening(2, 9, 0b1011)),
            Some(Agreed {
                version: 3,
                features: 0b10
            })
        );
        assert_eq!(ours.agree(&opening(4, 9, 0b10)), None);
        assert_eq!(opening(4, 9, 0b10).agree(&ours), None);
    }
}
