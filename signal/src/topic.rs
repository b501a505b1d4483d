//! Topics: the blinded names under which peers meet on a signal server.
//!
//! A topic is `H_K(NS("topic") || label || period)`: without the key K nobody can tell what is
//! behind it, and it changes every 24 hours, at a second of the day that depends on the key. Topics
//! of keys that are public (`agent`, `feed`) can be guessed by whoever knows those keys.

use std::fmt;

use kinlog_feeds::crypto::{Secret, blake2b_256_keyed, derive, namespace};
use kinlog_feeds::encoding::Writer as _;
use kinlog_feeds::{KeyPair, text};

use crate::ServerName;
use crate::limits::{NEIGHBOUR_PERIOD_SECONDS, PERIOD_SECONDS};

/// What two peers meet by: the kind of key that a topic hides.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Label {
    /// An agent id.
    Agent = 1,
    /// A feed key.
    Feed = 2,
    /// The meet key of a room.
    Room = 3,
    /// The public key of an invitation.
    Invite = 4,
    /// The key of a spoken code.
    Code = 5,
    /// The key of a private network.
    Net = 6,
}

impl Label {
    /// Returns the label's byte in hashes and in the session hello.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Returns the label in one lower-case word.
    pub const fn name(self) -> &'static str {
        match self {
            Label::Agent => "agent",
            Label::Feed => "feed",
            Label::Room => "room",
            Label::Invite => "invite",
            Label::Code => "code",
            Label::Net => "net",
        }
    }

    /// Returns whether the key of such a topic is known to its members only, so that members show
    /// each other certificates.
    pub const fn is_private(self) -> bool {
        matches!(self, Label::Room | Label::Invite | Label::Code)
    }

    /// Returns the label with the given byte.
    pub const fn from_byte(byte: u8) -> Option<Label> {
        Some(match byte {
            1 => Label::Agent,
            2 => Label::Feed,
            3 => Label::Room,
            4 => Label::Invite,
            5 => Label::Code,
            6 => Label::Net,
            _ => return None,
        })
    }
}

/// 32 opaque bytes that name a meeting place on a signal server.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Topic(pub [u8; 32]);

impl Topic {
    /// Returns the raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", &text::encode(&self.0)[..8])
    }
}

/// Returns the second of the day at which topics of `key` roll over.
pub fn roll_offset(key: &[u8; 32]) -> u64 {
    let hash = blake2b_256_keyed(key, &[&namespace::TOPIC_OFFSET.hash()]);
    let first = u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes"));
    first % PERIOD_SECONDS
}

/// Returns the number of the period that `unix_seconds` lies in for topics of `key`.
pub fn period(key: &[u8; 32], unix_seconds: u64) -> u64 {
    // Seconds before the first roll of 1970 count as period 0; nobody meets there.
    unix_seconds.saturating_sub(roll_offset(key)) / PERIOD_SECONDS
}

/// Returns the topic of `key` in the given period.
pub fn topic_in_period(label: Label, key: &[u8; 32], period: u64) -> Topic {
    Topic(blake2b_256_keyed(
        key,
        &[
            &namespace::TOPIC.hash(),
            &[label.byte()],
            &period.to_le_bytes(),
        ],
    ))
}

/// Returns the topics to be in at `unix_seconds`, the current one first.
///
/// There is one, or, within 30 minutes of a roll, also that of the neighbouring period, so that
/// peers whose clocks differ meet.
pub fn topics(label: Label, key: &[u8; 32], unix_seconds: u64) -> Vec<Topic> {
    let current = period(key, unix_seconds);
    let into = unix_seconds.saturating_sub(roll_offset(key)) % PERIOD_SECONDS;
    let mut topics = vec![topic_in_period(label, key, current)];
    if into < NEIGHBOUR_PERIOD_SECONDS {
        if let Some(before) = current.checked_sub(1) {
            topics.push(topic_in_period(label, key, before));
        }
    } else if into >= PERIOD_SECONDS - NEIGHBOUR_PERIOD_SECONDS {
        topics.push(topic_in_period(label, key, current + 1));
    }
    topics
}

/// Returns the topics of the current period and of both its neighbours.
///
/// For a client that found nobody for a while: its clock may be off by more than half an hour.
pub fn topics_with_neighbours(label: Label, key: &[u8; 32], unix_seconds: u64) -> Vec<Topic> {
    let current = period(key, unix_seconds);
    [
        Some(current),
        current.checked_sub(1),
        current.checked_add(1),
    ]
    .into_iter()
    .flatten()
    .map(|period| topic_in_period(label, key, period))
    .collect()
}

/// Returns the key pair that stands for a device on one server in one topic.
///
/// The seed is `derive(device secret, "signal-client", server || topic)`, server as its length and
/// its lower-case `host:port`: two servers, or two topics, see keys that nothing connects.
pub fn client_key(device_secret: &Secret, server: &ServerName, topic: &Topic) -> KeyPair {
    let mut context = Vec::new();
    context.put_buffer(server.as_str().as_bytes());
    context.put_raw(&topic.0);
    KeyPair::from_seed(derive(device_secret, namespace::SIGNAL_CLIENT, &context).expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn topics_roll_at_the_offset_of_their_key() {
        let roll = roll_offset(&KEY) + 20_000 * PERIOD_SECONDS;
        assert_eq!(period(&KEY, roll), 20_000);
        assert_eq!(period(&KEY, roll - 1), 19_999);
        assert_ne!(roll_offset(&KEY), roll_offset(&[8; 32]));
    }

    #[test]
    fn clocks_that_differ_by_half_an_hour_share_a_topic() {
        let roll = roll_offset(&KEY) + 20_000 * PERIOD_SECONDS;
        for at in (roll - 4_000..roll + 4_000).step_by(61) {
            let here = topics(Label::Room, &KEY, at);
            let there = topics(Label::Room, &KEY, at + NEIGHBOUR_PERIOD_SECONDS - 1);
            assert!(
                here.iter().any(|topic| there.contains(topic)),
                "no shared topic at {at}"
            );
        }
    }

    #[test]
    fn far_from_a_roll_there_is_one_topic() {
        let roll = roll_offset(&KEY) + 20_000 * PERIOD_SECONDS;
        assert_eq!(
            topics(Label::Room, &KEY, roll + PERIOD_SECONDS / 2).len(),
            1
        );
        assert_eq!(topics(Label::Room, &KEY, roll + 1_799).len(), 2);
        assert_eq!(topics(Label::Room, &KEY, roll + 1_800).len(), 1);
        assert_eq!(topics(Label::Room, &KEY, roll - 1_800).len(), 2);
        assert_eq!(topics(Label::Room, &KEY, roll - 1_801).len(), 1);
    }

    #[test]
    fn labels_keys_and_periods_give_different_topics() {
        let topic = topic_in_period(Label::Room, &KEY, 1);
        assert_ne!(topic, topic_in_period(Label::Feed, &KEY, 1));
        assert_ne!(topic, topic_in_period(Label::Room, &[8; 32], 1));
        assert_ne!(topic, topic_in_period(Label::Room, &KEY, 2));
    }

    #[test]
    fn client_keys_differ_by_server_topic_and_device() {
        let server = ServerName::new("one.example", 443);
        let other = ServerName::new("two.example", 443);
        let (a, b) = (Topic([1; 32]), Topic([2; 32]));
        let device = Secret::new([3; 32]);
        let key = client_key(&device, &server, &a).public_key();
        assert_eq!(key, client_key(&device, &server, &a).public_key());
        assert_ne!(key, client_key(&device, &other, &a).public_key());
        assert_ne!(key, client_key(&device, &server, &b).public_key());
        assert_ne!(
            key,
            client_key(&Secret::new([4; 32]), &server, &a).public_key()
        );
    }

    #[test]
    fn label_bytes_round_trip() {
        for byte in 0..=255 {
            assert!(Label::from_byte(byte).is_none_or(|label| label.byte() == byte));
        }
        assert_eq!((1..=6).filter_map(Label::from_byte).count(), 6);
    }
}
