//! Feeds of which both sides hold the same, told in groups: one digest of their heads, instead of state, blocks
//! and head of each.
//!
//! Two that meet again with thousands of feeds mostly hold what they held. A group whose digest is not that of
//! the other side's heads is answered "they differ", and its feeds are told one by one after all.

use std::collections::BTreeMap;

use crate::Time;
use crate::crypto::{FeedKey, Hash};
use crate::limits::GROUP_FEEDS_MAX;
use crate::replicate::feed::Feed;
use crate::replicate::flow::Context;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::shown::Shown;
use crate::replicate::{Output, PeerId, Replicator};
use crate::wire::hypercore::Synchronize;
use crate::wire::kinlog::{GroupHeads, GroupMessage, heads_digest};

/// How far a peer was told of a feed by the digest of a group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Grouped {
    /// Not at all.
    #[default]
    No,
    /// By a digest: it may answer that it differs.
    Told,
    /// One side said that its heads differ: the peer is told of this feed alone, also where it is still to be
    /// told, as what was answered may have been said before the channel opened anew.
    Differs,
}

impl Replicator {
    /// The peer takes heads of several feeds at once. Comes before the channels of its feeds open.
    pub fn handle_groups_open(&mut self, now: Time, peer: PeerId) {
        self.now = now;
        self.peer(peer).takes_groups = true;
    }

    /// What the peer said about several feeds at once, those of them whose channel is open here, in the order
    /// of their keys.
    pub fn handle_group_message(
        &mut self,
        now: Time,
        peer: PeerId,
        feeds: &[FeedKey],
        message: &GroupMessage,
    ) {
        self.now = now;
        match message {
            GroupMessage::Heads(heads) if self.holds(peer, feeds, heads.digest) => {
                for key in feeds {
                    let is_news = self.with(key, |feed, cx| feed.handle_same(cx, peer, heads));
                    if is_news == Some(true) {
                        self.touch(key);
                    }
                }
            }
            GroupMessage::Heads(_) => {
                let told = self.feeds_not_answered(peer, feeds);
                if !told.is_empty() {
                    self.outputs.push_back(Output::SendGroup {
                        peer,
                        feeds: told,
                        message: GroupMessage::Differ,
                    });
                }
                self.tell_alone(peer, feeds);
            }
            GroupMessage::Differ => self.tell_alone(peer, feeds),
        }
    }

    /// Returns the feeds of which the peer was not answered yet that they differ: each is once.
    fn feeds_not_answered(&mut self, peer: PeerId, feeds: &[FeedKey]) -> Vec<FeedKey> {
        let mut is_new = |key: &&FeedKey| {
            let feed = self.feeds.get_mut(key);
            let channel = feed.and_then(|feed| feed.channels.get_mut(&peer));
            channel.is_some_and(|channel| !std::mem::replace(&mut channel.differs_said, true))
        };
        feeds.iter().filter(|key| is_new(key)).copied().collect()
    }

    /// Returns whether these heads are ours, and the peer may know.
    fn holds(&self, peer: PeerId, feeds: &[FeedKey], digest: Hash) -> bool {
        let head = |key: &FeedKey| {
            let feed = self.feeds.get(key)?;
            let shown = &feed.channels.get(&peer)?.shown;
            let may_know = !feed.withheld && !feed.stopped && !shown.is_nothing();
            may_know.then_some((feed.fork, feed.length, feed.tree_hash))
        };
        let heads: Option<Vec<_>> = feeds.iter().map(head).collect();
        heads.is_some_and(|heads| heads_digest(heads) == digest || makes(Mistake::GroupUnchecked))
    }

    /// Tells peers of the feeds whose channel opened since the last drain.
    pub(super) fn greet(&mut self) {
        for peer in std::mem::take(&mut self.greeted) {
            let Some(known) = self.peers.get_mut(&peer) else {
                continue;
            };
            let mut alike: BTreeMap<_, Vec<FeedKey>> = BTreeMap::new();
            let mut alone = Vec::new();
            for key in std::mem::take(&mut known.greetings) {
                let state = self.feeds.get(&key).and_then(|feed| feed.in_group(peer));
                match state {
                    Some(told) => {
                        let kind = (told.downloading, told.has_manifest, told.allow_push);
                        alike.entry(kind).or_default().push(key);
                    }
                    None => alone.push(key),
                }
            }
            for ((downloading, has_manifest, allows_pushes), feeds) in alike {
                for feeds in feeds.chunks(GROUP_FEEDS_MAX) {
                    if feeds.len() < self.group_feeds_min {
                        alone.extend(feeds);
                        continue;
                    }
                    let head = |key| {
                        self.feeds
                            .get(key)
                            .map(|it: &Feed| (it.fork, it.length, it.tree_hash))
                    };
                    let heads = GroupHeads {
                        downloading,
                        has_manifest,
                        allows_pushes,
                        digest: heads_digest(feeds.iter().filter_map(head)),
                    };
                    for key in feeds {
                        self.with(key, |feed, _| feed.note_grouped(peer));
                    }
                    self.outputs.push_back(Output::SendGroup {
                        peer,
                        feeds: feeds.to_vec(),
                        message: GroupMessage::Heads(heads),
                    });
                }
            }
            for key in alone {
                self.with(&key, |feed, cx| feed.greet(cx, peer));
            }
        }
    }

    fn tell_alone(&mut self, peer: PeerId, feeds: &[FeedKey]) {
        for key in feeds {
            self.with(key, |feed, cx| feed.handle_differs(cx, peer));
        }
    }

    fn with<T>(
        &mut self,
        key: &FeedKey,
        then: impl FnOnce(&mut Feed, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let mut cx = Context {
            now: self.now,
            peers: &mut self.peers,
            flow: &mut self.flow,
            outputs: &mut self.outputs,
        };
        self.feeds.get_mut(key).map(|feed| then(feed, &mut cx))
    }
}

impl Feed {
    /// Returns the state to tell a peer, if it is told with a group: all blocks are held and shown, nothing was
    /// said of the feed yet, and nothing else was heard.
    fn in_group(&self, peer: PeerId) -> Option<Synchronize> {
        let channel = self.channels.get(&peer)?;
        let whole = self.is_whole() && channel.shown == Shown::All;
        let may_tell = whole && !self.withheld && !self.stopped;
        let is_untold =
            channel.told.is_none() && channel.pushing == 0 && channel.grouped == Grouped::No;
        let heard_alike =
            |remote: Synchronize| remote.fork == self.fork && remote.length == self.length;
        let is_alike = channel.remote.is_none_or(heard_alike);
        let state = self.state_for(channel, self.is_downloading());
        (may_tell && is_untold && is_alike).then_some(Synchronize {
            remote_length: self.length,
            ..state
        })
    }

    /// The peer is being told of this feed with a group.
    fn note_grouped(&mut self, peer: PeerId) {
        let (told, length) = (self.in_group(peer), self.length);
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.told = told;
            channel.head_told = length;
            channel.grouped = Grouped::Told;
        }
    }

    /// The peer has our head and all blocks below it; returns whether that is news. What it said of itself
    /// before was of an earlier channel.
    fn handle_same(&mut self, cx: &mut Context<'_>, peer: PeerId, heads: &GroupHeads) -> bool {
        let (fork, length) = (self.fork, self.length);
        let Some(channel) = self.channels.get_mut(&peer) else {
            return false;
        };
        let said = Synchronize {
            fork,
            length,
            remote_length: length,
            can_upgrade: true,
            uploading: true,
            downloading: heads.downloading,
            has_manifest: heads.has_manifest,
            allow_push: heads.allows_pushes,
        };
        let knows_blocks = channel.remote_have.all_in(0..length);
        if channel.remote.replace(said) == Some(said) && knows_blocks {
            return false;
        }
        channel.head_told = length;
        self.note_held(cx, peer, |channel| channel.remote_have.set_range(0..length));
        true
    }

    /// What was said by a digest, here or there, tells nothing: the peer is told of this feed by itself, now if it
    /// was told with a group.
    fn handle_differs(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let Some(channel) = self.channels.get_mut(&peer) else {
            return;
        };
        if std::mem::replace(&mut channel.grouped, Grouped::Differs) == Grouped::Told {
            channel.told = None;
            channel.head_told = 0;
            self.greet(cx, peer);
        }
    }
}
