//! Registers: values of which each write names the writes that it replaces.
//!
//! The *heads* of a register are the writes that no other replaces; they stand side by side until
//! somebody who sees them writes again. A clock decides only which of them is shown, so one that
//! runs ahead wins until the next write and no longer.
//!
//! A write replaces those it names and what the same feed wrote earlier, as far as they come before
//! it. *Before* is the order of (stated depth, clock, feed, index): who saw a write states a greater
//! depth, so nobody replaces what is still to be written, and no writes replace each other in a
//! circle: of one or more writes there is always a head.

use kinlog_feeds::crypto::AgentId;

use crate::entry::{Body, BodyError, Ref};
use crate::{Clock, RoomId};

/// Which value of whom a write is of.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Register {
    /// Whose value it is.
    pub agent: AgentId,
    /// Where it is said: in a room, or to everybody or to the own devices alone.
    pub room: Option<RoomId>,
    /// What it is.
    pub value: ValueName,
}

/// What a register holds, and of whom or what.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ValueName {
    /// What the agent calls itself.
    Profile,
    /// What its devices share under a name.
    Setting(String),
    /// What it calls an agent.
    Contact(AgentId),
    /// What it likes some part of Kinlog to do.
    Preference(String),
    /// Whether it trusts an agent.
    Vouch(AgentId),
}

impl ValueName {
    /// Returns the value that an entry writes, with the writes that it replaces; `None` for what is
    /// no register.
    pub fn of(body: &Body) -> Option<(Self, &[Ref])> {
        Some(match body {
            Body::Profile(body) => (ValueName::Profile, body.replaces()),
            Body::Setting(body) => (ValueName::Setting(body.name.to_string()), body.replaces()),
            Body::Contact(body) => (ValueName::Contact(body.about), body.replaces()),
            Body::Preference(body) => {
                let name = body.name.to_string();
                (ValueName::Preference(name), body.replaces())
            }
            Body::Vouch(body) => (ValueName::Vouch(body.about), body.replaces()),
            _ => return None,
        })
    }

    /// Returns the word for the sort of value.
    pub const fn sort(&self) -> &'static str {
        match self {
            ValueName::Profile => "profile",
            ValueName::Setting(_) => "setting",
            ValueName::Contact(_) => "contact",
            ValueName::Preference(_) => "preference",
            ValueName::Vouch(_) => "vouch",
        }
    }

    /// Returns which one of its sort it is; empty where an agent has one only.
    pub fn name(&self) -> String {
        match self {
            ValueName::Profile => String::new(),
            ValueName::Setting(name) | ValueName::Preference(name) => name.clone(),
            ValueName::Contact(agent) | ValueName::Vouch(agent) => agent.to_string(),
        }
    }

    /// Reads what [`sort`](Self::sort) and [`name`](Self::name) gave.
    pub fn parse(sort: &str, name: &str) -> Option<Self> {
        let agent = || name.parse::<AgentId>().ok();
        match sort {
            "profile" => name.is_empty().then_some(ValueName::Profile),
            "setting" => Some(ValueName::Setting(name.to_owned())),
            "contact" => Some(ValueName::Contact(agent()?)),
            "preference" => Some(ValueName::Preference(name.to_owned())),
            "vouch" => Some(ValueName::Vouch(agent()?)),
            _ => None,
        }
    }
}

/// Returns a write of the same value that replaces others, at most
/// [`REGISTER_REPLACES_MAX`](crate::limits::REGISTER_REPLACES_MAX); a body of another sort as it is.
pub fn replacing(body: &Body, replaces: Vec<Ref>) -> Result<Body, BodyError> {
    Ok(match body.clone() {
        Body::Profile(body) => Body::Profile(body.replacing(replaces)?),
        Body::Setting(body) => Body::Setting(body.replacing(replaces)?),
        Body::Contact(body) => Body::Contact(body.replacing(replaces)?),
        Body::Preference(body) => Body::Preference(body.replacing(replaces)?),
        Body::Vouch(body) => Body::Vouch(body.replacing(replaces)?),
        other => other,
    })
}

/// Returns a value without the writes that it replaces: two that are equal do not contradict each
/// other.
pub(crate) fn value_of(body: &Body) -> Body {
    replacing(body, Vec::new()).expect("no writes are not too many")
}

/// A write of a register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// The entry.
    pub at: Ref,
    /// Depth that it states.
    pub depth: u64,
    /// Its date.
    pub clock: Clock,
    /// The writes that it names as replaced.
    pub replaces: Vec<Ref>,
}

impl Write {
    /// Returns what decides which of two writes can replace the other: the greater.
    fn rank(&self) -> (u64, Clock, Ref) {
        (self.depth, self.clock, self.at)
    }

    /// Returns whether this write replaces another of the same register.
    pub fn replaced(&self, other: &Write) -> bool {
        let is_later = self.at.feed == other.at.feed && self.at.index > other.at.index;
        (is_later || self.replaces.contains(&other.at)) && self.rank() > other.rank()
    }

    /// Returns what decides which of several heads is shown: the greatest.
    pub fn order(&self) -> (Clock, Ref) {
        (self.clock, self.at)
    }
}

/// Returns the heads among the writes of one register, the one that is shown last.
pub fn heads(writes: &[Write]) -> Vec<&Write> {
    let is_head = |write: &&Write| !writes.iter().any(|other| other.replaced(write));
    let mut heads: Vec<&Write> = writes.iter().filter(is_head).collect();
    heads.sort_by_key(|write| write.order());
    heads
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::FeedKey;

    use super::*;

    const FIFTY_YEARS_MS: u64 = 50 * 365 * 24 * 3_600_000;

    fn at(feed: u8, index: u64) -> Ref {
        let feed = FeedKey([feed; 32]);
        Ref { feed, index }
    }

    fn write(at: Ref, depth: u64, ms: u64, replaces: &[Ref]) -> Write {
        let clock = Clock { ms, counter: 0 };
        let replaces = replaces.to_vec();
        Write {
            at,
            depth,
            clock,
            replaces,
        }
    }

    fn shown(writes: &[Write]) -> Vec<Ref> {
        heads(writes).into_iter().map(|write| write.at).collect()
    }

    #[test]
    fn a_clock_decides_between_writes_that_knew_nothing_of_each_other() {
        let one = write(at(1, 0), 1, 1_000, &[]);
        let other = write(at(2, 0), 1, 2_000, &[]);
        assert_eq!(shown(&[one.clone(), other.clone()]), [at(1, 0), at(2, 0)]);
        assert_eq!(shown(&[other, one]), [at(1, 0), at(2, 0)]);
    }

    #[test]
    fn a_future_clock_wins_until_the_next_write_and_no_longer() {
        let ahead = write(at(1, 0), 1, FIFTY_YEARS_MS, &[]);
        let beside = write(at(2, 0), 1, 2_000, &[]);
        let after = write(at(2, 1), 2, 3_000, &[at(1, 0)]);
        let mut writes = vec![ahead, beside];
        assert_eq!(shown(&writes).last(), Some(&at(1, 0)));
        writes.push(after);
        assert_eq!(shown(&writes), [at(2, 1)]);
    }

    #[test]
    fn nobody_replaces_what_is_still_to_be_written() {
        // One names the next blocks of another's feed before they are there.
        let greedy = write(at(1, 0), 5, 1_000, &[at(2, 0), at(2, 1)]);
        let beside = write(at(2, 0), 4, 2_000, &[]);
        let after = write(at(2, 1), 6, 3_000, &[at(1, 0)]);
        assert_eq!(shown(&[greedy, beside, after]), [at(2, 1)]);
    }

    #[test]
    fn two_that_name_each_other_leave_one() {
        let one = write(at(1, 0), u64::MAX, 1_000, &[at(2, 0)]);
        let other = write(at(2, 0), u64::MAX, 1_000, &[at(1, 0)]);
        assert_eq!(shown(&[one, other]), [at(2, 0)]);
        assert_eq!(shown(&[write(at(1, 0), 1, 1, &[at(1, 0)])]), [at(1, 0)]);
    }

    #[test]
    fn what_a_feed_wrote_earlier_is_replaced_unless_it_lies_about_its_depth() {
        let first = write(at(1, 0), 3, 9_000, &[]);
        let second = write(at(1, 1), 4, 1_000, &[]);
        assert_eq!(shown(&[first.clone(), second]), [at(1, 1)]);
        let lie = write(at(1, 1), 0, 1_000, &[]);
        assert_eq!(shown(&[first, lie]), [at(1, 1), at(1, 0)]);
    }

    proptest::proptest! {
        #[test]
        fn one_or_more_writes_have_a_head_whatever_they_name(
            writes in proptest::collection::vec(
                (0u8..3, 0u64..4, 0u64..4, 0u64..3, proptest::collection::vec((0u8..3, 0u64..4), 0..4)),
                1..9,
            ),
        ) {
            let writes: Vec<Write> = writes
                .into_iter()
                .map(|(feed, index, depth, ms, named)| {
                    let named: Vec<Ref> = named.into_iter().map(|(feed, index)| at(feed, index)).collect();
                    write(at(feed, index), depth, ms, &named)
                })
                .collect();
            proptest::prop_assert!(!heads(&writes).is_empty());
        }
    }
}
