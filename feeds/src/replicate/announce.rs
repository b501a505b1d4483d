//! What a feed tells its peers of itself: length, readiness, blocks held.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::limits::{BITFIELD_PAGE_BLOCKS, WANT_REGION_BLOCKS, WANT_REGIONS_MAX};
use crate::replicate::channel::Channel;
use crate::replicate::feed::Feed;
use crate::replicate::flow::Context;
use crate::replicate::shown::Shown;
use crate::replicate::{Output, PeerId};
use crate::wire::hypercore::{self, Message, Synchronize, Want};

/// Name of the extension message by which Kinlog knows its own: such a peer answers in the order of
/// asking and takes a wide window well. JavaScript peers ignore it.
pub(super) const KINLOG_EXTENSION: &[u8] = b"kinlog";
const KINLOG_EXTENSION_VERSION: &[u8] = &[1];
/// What telling of one run counts for.
const RUN_BYTES_COUNTED: usize = 32;

impl Feed {
    /// Tells every peer the state of this side, where it differs from what was told.
    pub(super) fn synchronize(&mut self, cx: &mut Context<'_>) {
        let downloading = self.is_downloading();
        let mut due = Vec::new();
        for (peer, channel) in &self.channels {
            let now = self.state_for(channel, downloading);
            if channel.pushing == 0 && is_news(channel, &now) {
                due.push((*peer, now));
            }
        }
        for (peer, state) in due {
            cx.outputs
                .push_back(self.send(peer, Message::Synchronize(state)));
            if let Some(channel) = self.channels.get_mut(&peer) {
                channel.told = Some(state);
            }
        }
        self.tell_heads(cx);
    }

    pub(super) fn state_for(&self, channel: &Channel, downloading: bool) -> Synchronize {
        let remote_length = match channel.remote {
            Some(remote) if remote.fork == self.fork => remote.length,
            Some(_) => 0,
            // With a group it was told that we know its length.
            None => channel.told.map_or(0, |told| told.remote_length),
        };
        Synchronize {
            fork: self.fork,
            length: match self.withheld || channel.shown.is_nothing() {
                true => 0,
                false => self.length,
            },
            remote_length,
            can_upgrade: true,
            uploading: true,
            downloading,
            has_manifest: self.manifest_known,
            allow_push: downloading && self.allows_pushes(),
        }
    }

    /// Opens the conversation with a peer: state, and the blocks held if they have no gap.
    pub(super) fn greet(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        // Where feeds go by number, both know.
        let is_known = |channel: &Channel| channel.is_kinlog;
        if !self.channels.get(&peer).is_some_and(is_known) {
            let name = Bytes::from_static(KINLOG_EXTENSION);
            let payload = Bytes::from_static(KINLOG_EXTENSION_VERSION);
            cx.outputs
                .push_back(self.send(peer, Message::Extension { name, payload }));
        }
        self.pass_on(cx);
        self.synchronize(cx);
        let contiguous = self.have.contiguous_length().min(self.length);
        let Some(channel) = self.channels.get(&peer).filter(|_| !self.withheld) else {
            return;
        };
        for run in channel.shown.within(0..contiguous) {
            cx.outputs.push_back(self.send(peer, held(run)));
        }
    }

    /// Shows a peer what it was not shown before.
    pub(super) fn show(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        self.synchronize(cx);
        let Some(channel) = self.channels.get(&peer).filter(|_| !self.withheld) else {
            return;
        };
        let runs = self.have.runs(0..self.length);
        for run in runs.flat_map(|run| channel.shown.within(run)) {
            cx.outputs.push_back(self.send(peer, held(run)));
        }
        self.pass_on(cx);
    }

    /// Shows peers what was withheld from them.
    pub(super) fn publish(&mut self, cx: &mut Context<'_>) {
        if !std::mem::take(&mut self.withheld) {
            return;
        }
        self.synchronize(cx);
        let runs: Vec<Range<u64>> = self.have.runs(0..self.length).collect();
        self.announce(cx, &runs);
    }

    /// Tells every peer of blocks that are newly held and that it does not hold itself.
    pub(super) fn announce(&self, cx: &mut Context<'_>, runs: &[Range<u64>]) {
        if runs.is_empty() || self.withheld {
            return;
        }
        // A feed without gaps is announced whole: it costs no more and mends what was missed.
        let whole = self.is_whole().then_some(0..self.length);
        let runs = whole.as_ref().map_or(runs, std::slice::from_ref);
        for (peer, channel) in &self.channels {
            // What a peer of another fork holds says nothing about ours.
            let is_of_ours = channel
                .remote
                .is_some_and(|remote| remote.fork == self.fork);
            let shown = runs
                .iter()
                .flat_map(|run| channel.shown.within(run.clone()));
            for run in shown {
                if channel.pushing > 0 {
                    continue;
                }
                let watched = channel.watched.as_ref();
                let watches = watched.is_some_and(|watched| watched.covers(cx.now, &run));
                if watches || !is_of_ours || !channel.remote_have.all_in(run.clone()) {
                    cx.outputs.push_back(self.send(*peer, held(run)));
                }
            }
        }
    }

    /// Notes which region a peer wants to know of; returns whether it is to be told, once: what is added
    /// later is announced.
    pub(super) fn handle_want(&mut self, peer: PeerId, want: &Want) -> bool {
        let Some(channel) = self.channels.get_mut(&peer).filter(|_| !self.withheld) else {
            return false;
        };
        if channel.shown.is_nothing() {
            return false;
        }
        let region = want.start / WANT_REGION_BLOCKS;
        let known = channel.remote_wants.len() >= WANT_REGIONS_MAX
            || (!want.any && !channel.remote_wants.insert(region));
        !known && self.length > 0
    }

    /// Returns what the answer to a want counts for, at most.
    pub(super) fn held_bytes(&self, want: &Want) -> usize {
        let blocks = match self.is_whole() || want.any {
            true => 0,
            false => self.wanted_end(want).saturating_sub(want.start),
        };
        RUN_BYTES_COUNTED + usize::try_from(blocks.div_ceil(8)).unwrap_or(usize::MAX)
    }

    fn wanted_end(&self, want: &Want) -> u64 {
        let length = want.length.min(WANT_REGION_BLOCKS);
        want.start.saturating_add(length).min(self.length)
    }

    /// Answers a want with the bits of the region as they are now.
    pub(super) fn tell_held(&self, outputs: &mut VecDeque<Output>, peer: PeerId, want: &Want) {
        let Some(channel) = self.channels.get(&peer).filter(|_| !self.withheld) else {
            return;
        };
        let (shown, end) = (&channel.shown, self.wanted_end(want));
        if self.is_whole() && *shown == Shown::All {
            outputs.push_back(self.send(peer, held(0..self.length)));
            return;
        }
        if want.any {
            let runs = self.have.runs(want.start.min(end)..end);
            let first = runs.flat_map(|run| shown.within(run)).next();
            if let Some(first) = first {
                outputs.push_back(self.send(peer, held(first.start..first.start + 1)));
            }
            return;
        }
        let mut start = want.start - want.start % BITFIELD_PAGE_BLOCKS;
        while start < end {
            let page = start..(start + BITFIELD_PAGE_BLOCKS).min(self.length);
            let blocks = page.end - page.start;
            let mut have = Bitfield::new();
            for run in self.have.runs(page).flat_map(|run| shown.within(run)) {
                have.set_range(run);
            }
            if have.count() > 0 {
                let words = have.words(start, blocks);
                outputs.push_back(self.send(peer, Message::Bitfield { start, words }));
            }
            start += BITFIELD_PAGE_BLOCKS;
        }
    }

    pub(super) fn handle_unwant(&mut self, peer: PeerId, want: &Want) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel
                .remote_wants
                .remove(&(want.start / WANT_REGION_BLOCKS));
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.length > 0 && self.have.contiguous_length() >= self.length
    }
}

/// Returns whether the peer has to be told: something it acts upon has changed.
fn is_news(channel: &Channel, now: &Synchronize) -> bool {
    let Some(told) = channel.told else {
        return true;
    };
    if (Synchronize {
        remote_length: now.remote_length,
        ..told
    }) != *now
    {
        return true;
    }
    // npm hypercore asks for an upgrade only once it knows that we know its length.
    told.remote_length != now.remote_length && now.length > now.remote_length
}

pub(super) fn held(run: Range<u64>) -> Message {
    let (start, length) = (run.start, run.end - run.start);
    Message::Range(hypercore::Range {
        drop: false,
        start,
        length,
    })
}
