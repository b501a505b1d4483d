//! Who is there on the bus, what was missed, what is said when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::Time;

use crate::bus::frame::{BusSecret, Change, Frame, InstanceId, Message, Passed};
use crate::limits::{
    BUS_ALIVE_INTERVAL, BUS_ASK_INTERVAL, BUS_CHANGES_MAX, BUS_GONE_AFTER, BUS_INSTANCES_MAX,
    BUS_QUEUE_BYTES_MAX, BUS_TIME_WINDOW,
};
use crate::rules::{ByName, PassOn};

/// What may be changed of a bus; the defaults suit instances in one data centre and over the sea.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BusSettings {
    /// An instance with nothing to say says that it is there this often. Default
    /// [`BUS_ALIVE_INTERVAL`].
    pub alive_interval: Duration,
    /// An instance that said nothing for this long is gone with its clients. Default
    /// [`BUS_GONE_AFTER`].
    pub gone_after: Duration,
}

impl Default for BusSettings {
    fn default() -> Self {
        BusSettings {
            alive_interval: BUS_ALIVE_INTERVAL,
            gone_after: BUS_GONE_AFTER,
        }
    }
}

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// Every instance.
    Everybody,
    /// One.
    One(InstanceId),
}

/// A frame to publish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Whom it is for.
    pub to: Destination,
    /// Its bytes.
    pub frame: Bytes,
}

/// What another instance said, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BusEvent {
    /// Memberships with an instance changed.
    Changes {
        instance: InstanceId,
        changes: Vec<Change>,
    },
    /// All its memberships follow: those known before may be over.
    AllBegins { instance: InstanceId },
    /// Those that were not named since are over.
    AllEnds { instance: InstanceId },
    /// It is gone, and its clients with it.
    Gone { instance: InstanceId },
    /// A signal for one of our clients; [`Bus`] does not look into it.
    Signal(PassedSignal),
    /// Everybody is to be told all our memberships: call [`Bus::say_all`].
    AllWanted,
}

/// A signal that came over the bus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PassedSignal(pub(crate) Passed);

#[derive(Debug)]
struct Instance {
    /// Numbers of the last frames for everybody, and for us.
    number: u64,
    direct: u64,
    heard: Time,
    gone: bool,
    /// Between the first and the last part of all its memberships.
    telling: bool,
}

/// One instance's end of the bus.
///
/// After every `handle_*` call [`poll_event`](Self::poll_event) and
/// [`poll_outgoing`](Self::poll_outgoing) until `None`. While not connected nothing is sent, and what
/// is said is not kept: on connecting everything is said and asked again.
#[derive(Debug)]
pub struct Bus {
    own: InstanceId,
    secret: BusSecret,
    settings: BusSettings,
    connected: bool,
    number: u64,
    direct: u64,
    others: BTreeMap<InstanceId, Instance>,
    said: Time,
    asked: Option<Time>,
    told_all: Option<Time>,
    all_due: bool,
    ask_due: bool,
    outgoing: VecDeque<Outgoing>,
    outgoing_bytes: usize,
    events: VecDeque<BusEvent>,
    refused: ByName,
}

impl Bus {
    /// Returns the bus of a fresh instance; `own` is random.
    pub fn new(own: InstanceId, secret: BusSecret, settings: BusSettings) -> Self {
        Bus {
            own,
            secret,
            settings,
            connected: false,
            number: 0,
            direct: 0,
            others: BTreeMap::new(),
            said: Time::ZERO,
            asked: None,
            told_all: None,
            all_due: false,
            ask_due: false,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            events: VecDeque::new(),
            refused: ByName::new(&["instances", "length", "mac", "replayed", "time", "version"]),
        }
    }

    /// Takes note that frames go out and come in: everything is said and asked.
    pub fn handle_connected(&mut self, now: Time) {
        self.connected = true;
        (self.asked, self.told_all) = (None, None);
        (self.all_due, self.ask_due) = (true, true);
        self.said = now;
        self.settle(now);
    }

    /// Takes note that nothing goes out any more. Who was there stays until it is silent too long.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
        self.outgoing.clear();
        self.outgoing_bytes = 0;
    }

    /// Takes a frame that came in; `unix_ms` is our clock.
    pub fn handle_frame(&mut self, now: Time, unix_ms: u64, bytes: &[u8]) {
        let frame = match Frame::decode(bytes, &self.secret) {
            Ok(frame) => frame,
            Err(error) => return self.refused.add(error.name(), 1),
        };
        let for_us = frame.to.is_none_or(|to| to == self.own);
        if frame.from == self.own || !for_us {
            return;
        }
        let window = u64::try_from(BUS_TIME_WINDOW.as_millis()).unwrap_or(u64::MAX);
        if frame.unix_ms.abs_diff(unix_ms) > window {
            return self.refused.add("time", 1);
        }
        self.take(now, frame);
        self.settle(now);
    }

    fn take(&mut self, now: Time, frame: Frame) {
        let from = frame.from;
        let fresh = !self.others.contains_key(&from);
        if fresh && self.others.len() >= BUS_INSTANCES_MAX {
            return self.refused.add("instances", 1);
        }
        let instance = self.others.entry(from).or_insert(Instance {
            number: frame.number.saturating_sub(1),
            direct: 0,
            heard: now,
            gone: false,
            telling: false,
        });
        if fresh && frame.to.is_some() {
            // Its place in what it says to everybody is not known yet.
            instance.number = 0;
        }
        let last = match frame.to {
            None => &mut instance.number,
            Some(_) => &mut instance.direct,
        };
        if frame.number <= *last {
            return self.refused.add("replayed", 1);
        }
        let missed = frame.to.is_none() && frame.number > *last + 1;
        *last = frame.number;
        instance.heard = now;
        let back = std::mem::take(&mut instance.gone);
        if missed {
            instance.telling = false;
        }
        let instance_id = from;
        let begins = matches!(frame.message, Message::All { first: true, .. });
        if (fresh || back || missed) && !begins && frame.message != Message::Bye {
            self.ask_due = true;
        }
        match frame.message {
            Message::Alive => {}
            Message::Ask => self.all_due = true,
            Message::Changes(changes) => self.events.push_back(BusEvent::Changes {
                instance: instance_id,
                changes,
            }),
            Message::All {
                first,
                last,
                changes,
            } => {
                if first {
                    instance.telling = true;
                    let begins = BusEvent::AllBegins {
                        instance: instance_id,
                    };
                    self.events.push_back(begins);
                }
                let whole = instance.telling && last;
                instance.telling &= !last;
                self.events.push_back(BusEvent::Changes {
                    instance: instance_id,
                    changes,
                });
                if whole {
                    let ends = BusEvent::AllEnds {
                        instance: instance_id,
                    };
                    self.events.push_back(ends);
                }
            }
            Message::Bye => self.gone(instance_id),
            Message::Signal(passed) => {
                self.events
                    .push_back(BusEvent::Signal(PassedSignal(passed)));
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        let silent = self
            .others
            .iter()
            .filter(|(_, other)| !other.gone && other.heard + self.settings.gone_after <= now);
        for instance in silent.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.gone(instance);
        }
        // What it said may be said again until it is too old for that.
        let remembered = self.settings.gone_after + 3 * BUS_TIME_WINDOW;
        self.others
            .retain(|_, other| !other.gone || now < other.heard + remembered);
        self.settle(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self, now: Time) -> Time {
        now + self.settings.alive_interval.min(BUS_ASK_INTERVAL)
    }

    /// Returns what another instance said.
    pub fn poll_event(&mut self) -> Option<BusEvent> {
        self.events.pop_front()
    }

    /// Returns a frame to publish, and says with our clock when.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        let outgoing = self.outgoing.pop_front()?;
        self.outgoing_bytes -= outgoing.frame.len();
        Some(outgoing)
    }

    /// Says that we are there, or asks, when that is due; `unix_ms` is our clock.
    pub fn say_due(&mut self, now: Time, unix_ms: u64) {
        if !self.connected {
            return;
        }
        if self.ask_due && is_over(self.asked, BUS_ASK_INTERVAL, now) {
            self.ask_due = false;
            self.asked = Some(now);
            self.say(now, unix_ms, Message::Ask);
        }
        if self.said + self.settings.alive_interval <= now {
            self.say(now, unix_ms, Message::Alive);
        }
    }

    /// Says what changed with our clients.
    pub fn say_changes(&mut self, now: Time, unix_ms: u64, changes: Vec<Change>) {
        for part in changes.chunks(BUS_CHANGES_MAX) {
            self.say(now, unix_ms, Message::Changes(part.to_vec()));
        }
    }

    /// Says all memberships of our clients, after [`BusEvent::AllWanted`].
    pub fn say_all(&mut self, now: Time, unix_ms: u64, all: &[Change]) {
        let parts = all.chunks(BUS_CHANGES_MAX).collect::<Vec<_>>();
        let parts = if parts.is_empty() { vec![all] } else { parts };
        let count = parts.len();
        for (at, part) in parts.into_iter().enumerate() {
            let message = Message::All {
                first: at == 0,
                last: at + 1 == count,
                changes: part.to_vec(),
            };
            self.say(now, unix_ms, message);
        }
    }

    /// Says goodbye.
    pub fn say_bye(&mut self, now: Time, unix_ms: u64) {
        self.say(now, unix_ms, Message::Bye);
    }

    /// Passes a signal to a client of another instance.
    pub fn pass_on(&mut self, unix_ms: u64, pass: PassOn) {
        self.pass(unix_ms, pass.instance, pass.passed);
    }

    pub(crate) fn pass(&mut self, unix_ms: u64, to: InstanceId, passed: Passed) {
        self.direct += 1;
        let frame = Frame {
            to: Some(to),
            from: self.own,
            number: self.direct,
            unix_ms,
            message: Message::Signal(passed),
        };
        self.queue(Destination::One(to), &frame);
    }

    /// Returns the id of this instance.
    pub fn own(&self) -> InstanceId {
        self.own
    }

    /// Returns whether there is something to publish.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns whether frames go out.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Returns how many other instances are there.
    pub fn instances(&self) -> usize {
        self.others.values().filter(|other| !other.gone).count()
    }

    /// Returns how many frames were not believed, by reason.
    pub fn refused(&self) -> &ByName {
        &self.refused
    }

    fn say(&mut self, now: Time, unix_ms: u64, message: Message) {
        self.number += 1;
        self.said = now;
        let frame = Frame {
            to: None,
            from: self.own,
            number: self.number,
            unix_ms,
            message,
        };
        self.queue(Destination::Everybody, &frame);
    }

    /// A queue that is full is dropped: the gap in the numbers makes the others ask.
    fn queue(&mut self, to: Destination, frame: &Frame) {
        if !self.connected {
            return;
        }
        let frame = frame.encode(&self.secret);
        if self.outgoing_bytes + frame.len() > BUS_QUEUE_BYTES_MAX {
            self.outgoing.clear();
            self.outgoing_bytes = 0;
        }
        self.outgoing_bytes += frame.len();
        self.outgoing.push_back(Outgoing { to, frame });
    }

    fn gone(&mut self, instance: InstanceId) {
        if let Some(other) = self.others.get_mut(&instance) {
            other.gone = true;
            other.telling = false;
        }
        self.events.push_back(BusEvent::Gone { instance });
    }

    /// Wants to tell everybody all, at most once in a while.
    fn settle(&mut self, now: Time) {
        if self.connected && self.all_due && is_over(self.told_all, BUS_ASK_INTERVAL, now) {
            self.all_due = false;
            self.told_all = Some(now);
            self.events.push_back(BusEvent::AllWanted);
        }
    }
}

fn is_over(last: Option<Time>, wait: Duration, now: Time) -> bool {
    last.is_none_or(|last| last + wait <= now)
}
