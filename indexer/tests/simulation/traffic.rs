//! What goes over the links: every message is looked at, as it is sent and as it arrives.

use std::ops::Range;
use std::time::Duration;

use kinlog_feeds::FeedKey;
use kinlog_feeds::limits::{
    IN_FLIGHT_BYTES_MAX, PUSH_BLOCKS_MAX, READS_PER_PEER_MAX, REQUESTS_QUEUED_MAX,
    UNAPPLIED_BYTES_MAX,
};
use kinlog_feeds::replicate::{FeedEvent, Output, PeerId};
use kinlog_feeds::wire::hypercore::{Message, NoDataReason, Request};
use kinlog_feeds::wire::kinlog::{FeedMessage, GroupMessage, Message as Framed, SetRequest};
use testkit::work::Work;

use crate::hostile;
use crate::network::{Encoded, Lane};
use crate::plan::is_wanted;
use crate::world::{
    Asked, BAN, Event, LINK_BYTES_MAX, SENT_BYTES_MAX, SET, UNREAD_BYTES_MAX, World,
};

impl World {
    pub(crate) fn arrive(&mut self, ends: (usize, usize), session: u64, lane: Lane) {
        let Some(link) = self.network.links.get(&ends) else {
            return;
        };
        if link.session != session {
            return;
        }
        if self.now < link.blocked_until {
            // In steps: it may be mended earlier.
            let until = link
                .blocked_until
                .min(self.now + Duration::from_millis(500));
            let again = Event::Arrive {
                ends,
                session,
                lane,
            };
            self.at(until, again);
            return;
        }
        let chance = (&self.plan, &mut self.random);
        let Some(((key, message), empties)) = self.network.arrive(chance, ends, lane) else {
            return;
        };
        let (from, to) = ends;
        if empties && let Some(running) = &mut self.nodes[from].running {
            let peer = PeerId(to as u64);
            running.replicator.handle_writable(self.now, peer, true);
            self.drain(from);
        }
        if let Some(running) = &mut self.nodes[to].running {
            if running.held_back.is_empty() && running.replicator.accepts_data() {
                self.take(to, from, key, message);
            } else {
                running.held_back.push_back((from, key, message));
            }
        }
    }

    /// A message reaches the replicator.
    pub(crate) fn take(&mut self, node: usize, from: usize, key: FeedKey, (kind, body): Encoded) {
        self.outcome.messages += 1;
        self.trace.update(&[node as u8, from as u8, kind as u8]);
        self.trace.update(&body);
        let message = match Framed::decode(kind, &body) {
            Ok(Some(Framed::Feed(_, message))) => message,
            Ok(Some(Framed::Group(numbers, message))) => {
                self.take_group(node, from, &numbers, &message);
                return;
            }
            _ => {
                assert!(self.plan.is_hostile(from), "node {from} sends what is none");
                self.ban(node, from);
                return;
            }
        };
        if !self.plan.is_hostile(node) {
            self.note_taken(node, from, key, &message);
        }
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let peer = PeerId(from as u64);
        let replicator = &mut running.replicator;
        let taken = match message {
            FeedMessage::Hypercore(message) => {
                replicator.handle_message(self.now, peer, &key, message)
            }
            message => replicator.handle_kinlog_message(self.now, peer, &key, message),
        };
        if let Err(reason) = taken {
            self.cut(node, from, &reason.to_string(), true);
        }
        self.drain(node);
    }

    /// The same, of a message about several feeds.
    fn take_group(&mut self, node: usize, from: usize, numbers: &[u64], message: &GroupMessage) {
        if let Some(running) = &mut self.nodes[node].running {
            let named = |number: &u64| self.truth.books.keys().nth(*number as usize);
            let feeds: Vec<FeedKey> = numbers.iter().filter_map(named).copied().collect();
            let (replicator, peer) = (&mut running.replicator, PeerId(from as u64));
            replicator.handle_group_message(self.now, peer, &feeds, message);
        }
        self.drain(node);
    }

    fn send_group(&mut self, ends: (usize, usize), feeds: &[FeedKey], message: GroupMessage) {
        if !self.plan.is_hostile(ends.0) && matches!(message, GroupMessage::Heads(_)) {
            for key in feeds {
                self.check_announced(ends.0, key);
            }
        }
        let keys = self.truth.books.keys();
        let numbers = (0..).zip(keys).filter(|(_, key)| feeds.contains(key));
        let framed = Framed::Group(numbers.map(|(number, _)| number).collect(), message);
        let mut body = Vec::new();
        framed.encode(&mut body);
        if let Some(key) = feeds.first() {
            self.transmit(ends, *key, (framed.message_type(), body.into()));
        }
    }

    /// A feed of which a node tells with others: it has to hold all of it.
    fn check_announced(&self, node: usize, key: &FeedKey) {
        let feed = &self.nodes[node].running.as_ref().unwrap().feeds[key];
        let is_whole = feed.have().all_in(0..feed.head().length);
        assert!(
            is_whole,
            "announced: node {node} does not hold all of {key}"
        );
    }

    pub(crate) fn note_taken(
        &mut self,
        node: usize,
        from: usize,
        key: FeedKey,
        message: &FeedMessage,
    ) {
        let answered = match message {
            FeedMessage::Hypercore(Message::Request(Request { id, .. })) => {
                self.to_answer.insert((from, node, key, *id));
                return;
            }
            FeedMessage::AskSet(SetRequest { id, .. }) => {
                self.to_answer.insert((from, node, key, SET | *id));
                return;
            }
            FeedMessage::Hypercore(Message::Synchronize(told)) => {
                match told.allow_push {
                    true => self.takes_pushes.insert((from, node, key)),
                    false => self.takes_pushes.remove(&(from, node, key)),
                };
                return;
            }
            FeedMessage::Hypercore(Message::Data(data)) => data.request,
            FeedMessage::Set(answer) => SET | answer.id,
            _ => return,
        };
        if !self.plan.is_hostile(from) {
            assert!(
                self.asked.remove(&(node, from, key, answered)),
                "unasked: {from} sends {node} what it did not ask for"
            );
        }
    }

    /// Ends a connection with a peer that broke the protocol.
    pub(crate) fn cut(&mut self, node: usize, peer: usize, reason: &str, ban: bool) {
        if !self.plan.is_hostile(node) {
            assert!(
                self.plan.is_hostile(peer),
                "blamed: node {node} cuts the honest {peer}: {reason}"
            );
        }
        if ban {
            self.ban(node, peer);
        }
        self.disconnect(node, peer);
    }

    pub(crate) fn ban(&mut self, node: usize, peer: usize) {
        self.outcome.bans += 1;
        self.nodes[node].bans.insert(peer, self.now + BAN);
        self.disconnect(node, peer);
    }

    /// Carries out what a replicator wants.
    pub(crate) fn drain(&mut self, node: usize) {
        loop {
            let Some(running) = &mut self.nodes[node].running else {
                return;
            };
            let Some(output) = running.replicator.poll_output() else {
                break;
            };
            match Work::of(output) {
                Ok(work) => running.work.push_back(work),
                Err(Output::Send {
                    peer, key, message, ..
                }) => {
                    let message = FeedMessage::Hypercore(message);
                    self.send(node, peer.0 as usize, key, message);
                }
                Err(Output::SendKinlog {
                    peer, key, message, ..
                }) => {
                    self.send(node, peer.0 as usize, key, message);
                }
                Err(Output::SendGroup {
                    peer,
                    feeds,
                    message,
                }) => {
                    self.send_group((node, peer.0 as usize), &feeds, message);
                }
                Err(Output::Violation { peer, reason, ban }) => {
                    self.cut(node, peer.0 as usize, &reason.to_string(), ban);
                }
                Err(Output::Event { event, .. }) => self.note_event(node, &event),
                Err(_) => {}
            }
        }
        let life = self.nodes[node].life;
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let mut due = Vec::new();
        if !running.is_working && !running.work.is_empty() {
            running.is_working = true;
            let takes = Duration::from_micros(20 + self.random.below(2_000));
            due.push((self.now + takes, Event::Work { node, life }));
        }
        if let Some(at) = running.replicator.poll_timeout()
            && running.ticks_at.is_none_or(|known| at < known)
        {
            running.ticks_at = Some(at);
            due.push((at, Event::Tick { node, life }));
        }
        let load = running.replicator.load();
        for (at, event) in due {
            self.at(at, event);
        }
        if node < self.plan.honest {
            let peers = self.nodes.len();
            let fits = load.requests_of_one_peer <= REQUESTS_QUEUED_MAX
                && load.reads <= peers * READS_PER_PEER_MAX
                && load.in_flight_bytes <= 2 * IN_FLIGHT_BYTES_MAX
                && load.unapplied_bytes <= 4 * UNAPPLIED_BYTES_MAX;
            assert!(fits, "unbounded: node {node} holds {load:?}");
        }
    }

    pub(crate) fn note_event(&mut self, node: usize, event: &FeedEvent) {
        match event {
            FeedEvent::Conflict => self.outcome.conflicts += 1,
            FeedEvent::StoreFailed => self.restart_soon(node),
            _ => {}
        }
    }

    pub(crate) fn send(&mut self, node: usize, to: usize, key: FeedKey, message: FeedMessage) {
        let ends = (node, to);
        if !self.network.is_connected(node, to) {
            return;
        }
        if self.plan.is_hostile(node) {
            for encoded in hostile::tamper(&self.plan.tricks, &mut self.random, message) {
                self.transmit(ends, key, encoded);
            }
            return;
        }
        self.check_sent(node, to, key, &message);
        let is_state = matches!(
            message,
            FeedMessage::Hypercore(Message::Synchronize(_) | Message::Range(_))
        );
        let encoded = hostile::encode(message);
        if self.plan.duplicates && is_state && self.random.below(4) == 0 {
            self.transmit(ends, key, encoded.clone());
        }
        self.transmit(ends, key, encoded);
        let bytes = self.network.links.get(&ends).map_or(0, |link| link.bytes);
        let limit = match self.plan.is_hostile(to) {
            true => UNREAD_BYTES_MAX,
            false => LINK_BYTES_MAX,
        };
        assert!(
            bytes <= limit,
            "unbounded: {bytes} bytes wait for node {to} at node {node}"
        );
    }

    pub(crate) fn transmit(&mut self, ends: (usize, usize), key: FeedKey, message: Encoded) {
        let waits = self.network.links.get(&ends).map_or(0, |link| link.bytes);
        if self.plan.is_hostile(ends.0) && waits > SENT_BYTES_MAX {
            return; // the receiver takes no more, whatever the sender does
        }
        let lane = (!self.plan.groups).then_some(key);
        let chance = (self.now, &self.plan, &mut self.random);
        let sent = self.network.send(chance, ends, lane, (key, message));
        let Some((at, session, fills)) = sent else {
            return;
        };
        let arrives = Event::Arrive {
            ends,
            session,
            lane,
        };
        self.at(at, arrives);
        if fills && let Some(running) = &mut self.nodes[ends.0].running {
            let peer = PeerId(ends.1 as u64);
            running.replicator.handle_writable(self.now, peer, false);
        }
    }

    /// Looks at what an honest node is about to send.
    pub(crate) fn check_sent(
        &mut self,
        node: usize,
        to: usize,
        key: FeedKey,
        message: &FeedMessage,
    ) {
        let message = match message {
            FeedMessage::Hypercore(message) => message,
            FeedMessage::AskSet(request) => {
                let want = &self.nodes[node].interests[&key].want;
                let mut blocks = request.set.blocks();
                let unwanted = blocks.find(|block| !is_wanted(want, *block));
                assert_eq!(unwanted, None, "unwanted: node {node} asks for it of {key}");
                if !self.plan.is_hostile(to) {
                    self.asked.insert((node, to, key, SET | request.id));
                }
                return;
            }
            FeedMessage::Set(answer) => {
                self.answered((to, node, key, SET | answer.id));
                if !answer.values.is_empty() {
                    self.check_shown(node, to, key);
                }
                return;
            }
            FeedMessage::Watch(_) => return,
            FeedMessage::Held(held) => {
                let running = self.nodes[node].running.as_ref().unwrap();
                let have = running.feeds[&key].have();
                let lacks = held.runs.iter().find(|run| !have.all_in((*run).clone()));
                assert_eq!(
                    lacks, None,
                    "announced: node {node} does not hold it of {key}"
                );
                return;
            }
        };
        match message {
            Message::Request(request) => {
                if let Some(block) = request.proof.block {
                    let want = &self.nodes[node].interests[&key].want;
                    assert!(
                        is_wanted(want, block.index),
                        "unwanted: node {node} asks for block {} of {key}",
                        block.index
                    );
                }
                if !self.plan.is_hostile(to) {
                    self.asked.insert((node, to, key, request.id));
                }
            }
            Message::Data(data) => {
                let pushed = data.proof.block.as_ref().filter(|_| data.request == 0);
                let is_push =
                    pushed.is_some_and(|block| self.to_push.remove(&(to, node, key, block.index)));
                if !is_push {
                    self.answered((to, node, key, data.request));
                }
                self.check_shown(node, to, key);
            }
            Message::NoData(no_data) => {
                if no_data.reason != Some(NoDataReason::InvalidRequest) {
                    self.answered((to, node, key, no_data.request));
                }
                self.asked.remove(&(to, node, key, no_data.request));
            }
            Message::Range(range) if !range.drop => {
                let running = self.nodes[node].running.as_ref().unwrap();
                let feed = &running.feeds[&key];
                let end = range.start + range.length;
                let have = feed.have();
                assert!(
                    have.all_in(range.start..end) && end <= feed.head().length,
                    "announced: node {node} does not hold all of {}..{end} of {key}",
                    range.start
                );
                if !running.has_failed {
                    for block in [range.start, end - 1] {
                        let value = running.faults.paused(|| feed.get(block)).unwrap();
                        let value = value.unwrap_or_else(|| {
                            panic!("announced: node {node} cannot serve block {block} of {key}")
                        });
                        self.truth.check_block(node, &key, block, &value);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn check_shown(&self, node: usize, to: usize, key: FeedKey) {
        let refused = self.nodes[node].refused.get(&to);
        assert!(
            !refused.is_some_and(|refused| refused.contains(&key)),
            "shown: node {node} answers {to}, who may not have {key}"
        );
    }

    /// A node has appended blocks and sends them to those who take them unasked.
    pub(crate) fn note_appended(&mut self, node: usize, key: FeedKey, new: Range<u64>) {
        if new.end - new.start > PUSH_BLOCKS_MAX {
            return;
        }
        let takers = self.takes_pushes.iter();
        for (peer, ..) in takers.filter(|(_, of, about)| (*of, *about) == (node, key)) {
            let pushes = new.clone().map(|block| (*peer, node, key, block));
            self.to_push.extend(pushes);
        }
    }

    /// An honest node answers a request.
    pub(crate) fn answered(&mut self, asked: Asked) {
        let (asker, node, key, _) = asked;
        // A hostile one may use a number for many requests at once.
        let was_asked = match self.plan.is_hostile(asker) {
            true => self.to_answer.contains(&asked),
            false => self.to_answer.remove(&asked),
        };
        assert!(
            was_asked,
            "unasked: node {node} answers {asker} about {key}"
        );
    }
}
