//! Who holds what of a feed: Kinlog peers are asked to tell, for a while, and say so when it changes.
//!
//! What a peer tells is what it holds durably, by the same messages as ever (`Range`, `Held`); the
//! watch makes it say so of blocks too that we have ourselves. A watch that its asker neither renews
//! nor drops ends.

use std::ops::Range;
use std::time::Duration;

use crate::Time;
use crate::limits::{
    HELD_RUNS_MAX, WANT_REGION_BLOCKS, WANT_REGIONS_MAX, WATCH_TIME, WATCH_TIME_MAX,
};
use crate::replicate::channel::Channel;
use crate::replicate::feed::Feed;
use crate::replicate::flow::Context;
use crate::replicate::{FeedEvent, Output, PeerId};
use crate::wire::hypercore::Want;
use crate::wire::kinlog::{FeedMessage, Watch};

/// What one peer said that it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Who.
    pub peer: PeerId,
    /// The runs, ascending; the first [`HELD_RUNS_MAX`](crate::limits::HELD_RUNS_MAX) of them.
    pub held: Vec<Range<u64>>,
}

/// Blocks whose holders are to be known.
#[derive(Clone, Debug)]
pub(super) struct Watching {
    blocks: Range<u64>,
    renew_at: Time,
}

/// Blocks of which a peer wants to know whether they are held here.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    blocks: Range<u64>,
    until: Time,
}

impl Watched {
    /// Returns whether the peer is to be told of these blocks.
    pub(super) fn covers(&self, now: Time, run: &Range<u64>) -> bool {
        now < self.until && run.start < self.blocks.end && self.blocks.start < run.end
    }
}

impl Feed {
    /// Asks all peers who holds these blocks, from now on, or no longer.
    pub(super) fn set_watch(&mut self, cx: &mut Context<'_>, blocks: Option<Range<u64>>) {
        let before = self.watch.take();
        self.watch = blocks.map(|blocks| Watching {
            blocks,
            renew_at: cx.now + WATCH_TIME / 2,
        });
        match (&self.watch, before) {
            (Some(_), _) => self.tell_watch(cx),
            (None, Some(before)) => self.say_watch(cx, &before.blocks, Duration::ZERO),
            (None, None) => {}
        }
    }

    /// Asks a peer that has just come.
    pub(super) fn watch_peer(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        if let Some(watch) = &self.watch {
            cx.outputs
                .push_back(self.send_watch(peer, &watch.blocks, WATCH_TIME));
        }
    }

    /// Asks again before a watch ends; returns whether there is one.
    pub(super) fn renew_watch(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        if cx.now >= watch.renew_at {
            watch.renew_at = cx.now + WATCH_TIME / 2;
            self.tell_watch(cx);
        }
        true
    }

    fn tell_watch(&self, cx: &mut Context<'_>) {
        if let Some(watch) = &self.watch {
            self.say_watch(cx, &watch.blocks, WATCH_TIME);
        }
    }

    fn say_watch(&self, cx: &mut Context<'_>, blocks: &Range<u64>, time: Duration) {
        for (peer, channel) in &self.channels {
            if channel.takes_sets {
                cx.outputs.push_back(self.send_watch(*peer, blocks, time));
            }
        }
    }

    fn send_watch(&self, peer: PeerId, blocks: &Range<u64>, time: Duration) -> Output {
        let watch = Watch {
            blocks: blocks.clone(),
            seconds: time.as_secs(),
        };
        Output::SendKinlog {
            peer,
            key: self.key,
            message: FeedMessage::Watch(watch),
            urgent: true,
        }
    }

    /// A peer wants to know what is held. Returns what is to be answered: nothing when it only says so
    /// again.
    pub(super) fn handle_watch(&mut self, now: Time, peer: PeerId, watch: &Watch) -> Vec<Want> {
        let (length, withheld) = (self.length, self.withheld);
        let Some(channel) = self.channels.get_mut(&peer) else {
            return Vec::new();
        };
        let time = Duration::from_secs(watch.seconds).min(WATCH_TIME_MAX);
        let before = channel.watched.take();
        if time.is_zero() || watch.blocks.is_empty() {
            return Vec::new();
        }
        let goes_on =
            before.is_some_and(|before| now < before.until && before.blocks == watch.blocks);
        channel.watched = Some(Watched {
            blocks: watch.blocks.clone(),
            until: now + time,
        });
        if goes_on || withheld || channel.shown.is_nothing() {
            return Vec::new();
        }
        let end = watch.blocks.end.min(length);
        let mut wants = Vec::new();
        let mut start = watch.blocks.start;
        while start < end && wants.len() < WANT_REGIONS_MAX {
            wants.push(Want {
                start,
                length: WANT_REGION_BLOCKS.min(end - start),
                any: false,
            });
            start += WANT_REGION_BLOCKS;
        }
        wants
    }

    /// Takes note of what a peer tells of its blocks, and tells when that changes who holds what.
    pub(super) fn note_held(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        take: impl FnOnce(&mut Channel),
    ) {
        let (length, watched) = (self.length, self.watch.as_ref().map(|it| it.blocks.clone()));
        let Some(channel) = self.channels.get_mut(&peer) else {
            return;
        };
        let held = |channel: &Channel| -> Option<Vec<Range<u64>>> {
            let blocks = watched.clone()?;
            Some(channel.remote_have.runs(blocks).collect())
        };
        let before = held(channel);
        channel.take_held(length, take);
        self.told_nobody = None;
        if held(channel) != before {
            cx.outputs.push_back(self.event(FeedEvent::HoldersChanged));
        }
    }

    /// Returns what each peer said to hold of these blocks.
    pub(super) fn holders(&self, blocks: &Range<u64>) -> Vec<Holder> {
        let ours = |channel: &&Channel| channel.remote.is_some_and(|it| it.fork == self.fork);
        let all = self.channels.iter().filter(|(_, channel)| ours(channel));
        let holders = all.map(|(peer, channel)| Holder {
            peer: *peer,
            held: channel
                .remote_have
                .runs(blocks.clone())
                .take(HELD_RUNS_MAX)
                .collect(),
        });
        holders.filter(|holder| !holder.held.is_empty()).collect()
    }
}
