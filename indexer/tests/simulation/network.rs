//! The network: links that delay, hold back and break, with every message in its encoding.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::wire::hypercore::{Data, Message};
use kinlog_feeds::wire::kinlog::{FeedMessage, Message as Framed};
use kinlog_feeds::{FeedKey, Time};
use testkit::random::Random;

use crate::plan::Plan;

/// Bytes on their way above which a connection takes no more, and at which it does again.
const HIGH_WATER_BYTES: usize = 64 * 1024;
const LOW_WATER_BYTES: usize = 32 * 1024;

/// Silence after which a connection is given up, as `kinlog_feeds::limits::IDLE_TIMEOUT` says.
pub(crate) const SILENCE_MAX: Duration = kinlog_feeds::limits::IDLE_TIMEOUT;

/// A message as it is on the wire: its type and its body.
pub(crate) type Encoded = (u64, Bytes);

/// What arrives in the order of sending: the channel of a feed, or everything.
pub(crate) type Lane = Option<FeedKey>;

/// A message, and of which feed; of a group any.
pub(crate) type Sent = (FeedKey, Encoded);

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) session: u64,
    lanes: BTreeMap<Lane, VecDeque<Sent>>,
    /// Bytes on their way.
    pub(crate) bytes: usize,
    /// When the last byte leaves.
    free_at: Time,
    /// Nothing arrives from then on,
    pub(crate) blocked_since: Time,
    /// and before.
    pub(crate) blocked_until: Time,
    pub(crate) is_full: bool,
}

/// All links, and who cannot reach whom.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) links: BTreeMap<(usize, usize), Link>,
    sessions: u64,
    /// These and the others cannot reach each other until then.
    pub(crate) split: Option<(BTreeSet<usize>, Time)>,
}

impl Network {
    pub(crate) fn is_connected(&self, one: usize, other: usize) -> bool {
        self.links.contains_key(&(one, other))
    }

    pub(crate) fn is_split(&self, now: Time, one: usize, other: usize) -> bool {
        self.split.as_ref().is_some_and(|(part, until)| {
            now < *until && part.contains(&one) != part.contains(&other)
        })
    }

    pub(crate) fn connect(&mut self, one: usize, other: usize) {
        self.sessions += 1;
        for ends in [(one, other), (other, one)] {
            let link = Link {
                session: self.sessions,
                ..Link::default()
            };
            self.links.insert(ends, link);
        }
    }

    /// Breaks a connection; what was on its way is lost.
    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        self.links.remove(&(one, other));
        self.links.remove(&(other, one));
    }

    pub(crate) fn peers(&self, node: usize) -> Vec<usize> {
        let links = self.links.range((node, 0)..(node + 1, 0));
        links.map(|((_, other), _)| *other).collect()
    }

    /// Puts a message on its way; returns when it arrives and over which session, and whether the
    /// connection has just become full.
    pub(crate) fn send(
        &mut self,
        (now, plan, random): (Time, &Plan, &mut Random),
        ends: (usize, usize),
        lane: Lane,
        message: Sent,
    ) -> Option<(Time, u64, bool)> {
        let link = self.links.get_mut(&ends)?;
        let bytes = message.1.1.len() + 8;
        let micros = bytes as u64 * 1_000_000 / plan.rate;
        link.free_at = link.free_at.max(now) + Duration::from_micros(micros);
        let delay = plan.delay_us.start + random.below(plan.delay_us.end - plan.delay_us.start);
        let arrives = link.free_at + Duration::from_micros(delay);
        link.bytes += bytes;
        link.lanes.entry(lane).or_default().push_back(message);
        let fills = !link.is_full && link.bytes > HIGH_WATER_BYTES;
        link.is_full |= fills;
        Some((arrives, link.session, fills))
    }

    /// Takes the next message of a lane, or an answer from behind it where they overtake each
    /// other; says whether the connection takes more again.
    pub(crate) fn arrive(
        &mut self,
        (plan, random): (&Plan, &mut Random),
        ends: (usize, usize),
        lane: Lane,
    ) -> Option<(Sent, bool)> {
        let link = self.links.get_mut(&ends)?;
        let channel = link.lanes.get_mut(&lane)?;
        let data = FeedMessage::Hypercore(Message::Data(Data::default()));
        let data = Framed::Feed(0, data).message_type();
        let is_data = |message: &Sent| message.1.0 == data;
        let overtakers = match plan.reorders {
            true => channel.iter().take(16).take_while(|m| is_data(m)).count(),
            false => 0,
        };
        let at = match overtakers {
            0 => 0,
            many => random.index(many),
        };
        let message = channel.remove(at)?;
        link.bytes -= message.1.1.len() + 8;
        let empties = link.is_full && link.bytes < LOW_WATER_BYTES;
        link.is_full &= !empties;
        Some((message, empties))
    }
}
