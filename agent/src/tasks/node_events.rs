//! What the node tells: blocks to index, heads that moved, steps that found nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use kinlog_feeds::FeedKey;
use kinlog_swarm::NodeEvent;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::api::{Error, Selection};
use crate::core::{Core, Steps};
use crate::knowledge::Knowledge;
use crate::limits::VIOLATIONS_KEPT_MAX;
use crate::network::Network;
use crate::requests::blocking;

/// Works on a node's events until the node is gone.
pub(super) async fn watch(
    core: Arc<Core>,
    network: Weak<Network>,
    mut events: broadcast::Receiver<NodeEvent>,
) {
    loop {
        let mut news = News::default();
        match events.recv().await {
            Ok(event) => news.add(event, &network),
            Err(RecvError::Lagged(_)) => news.is_incomplete = true,
            Err(RecvError::Closed) => return,
        }
        // Whatever came meanwhile is worked on together.
        while let Ok(event) = events.try_recv() {
            news.add(event, &network);
        }
        let heard = blocking(&core, move |core| match core.hear(&news) {
            Err(_) if core.renew_damaged_index()? => Ok(()),
            heard => heard,
        });
        if let Err(error) = heard.await {
            tracing::warn!(%error, "what the node told is not worked on");
        }
    }
}

/// Events put together.
#[derive(Debug, Default)]
struct News {
    /// Feeds with new blocks.
    stored: BTreeSet<FeedKey>,
    /// Feeds with a longer head.
    upgraded: BTreeSet<FeedKey>,
    /// Own feeds whose head was shown to a peer, with its length.
    shown: BTreeMap<FeedKey, u64>,
    /// Events were lost: anything may have changed.
    is_incomplete: bool,
}

impl News {
    fn add(&mut self, event: NodeEvent, network: &Weak<Network>) {
        match event {
            NodeEvent::BlocksStored { key, .. } => {
                self.stored.insert(key);
            }
            NodeEvent::FeedUpgraded { key, .. } => {
                self.upgraded.insert(key);
            }
            NodeEvent::HeadShown { key, length } => {
                self.shown.insert(key, length);
            }
            NodeEvent::StepFailed { step } => {
                if let Some(network) = network.upgrade() {
                    network.note_step(step);
                }
            }
            NodeEvent::FeedConflict { key } => {
                tracing::warn!(%key, "two histories of a feed");
            }
            NodeEvent::StoreFailed { reason } => {
                tracing::error!(reason, "the store takes nothing more");
                if let Some(network) = network.upgrade() {
                    network.note(|troubles| troubles.store = Some(reason));
                }
            }
            NodeEvent::PeerViolation { session, reason } => {
                tracing::warn!(%session, reason, "a peer broke the protocol");
                if let Some(network) = network.upgrade() {
                    network.note(|troubles| {
                        troubles.violations.insert(session, reason);
                        if troubles.violations.len() > VIOLATIONS_KEPT_MAX {
                            troubles.violations.pop_first();
                        }
                    });
                }
            }
            _ => {}
        }
    }
}

impl Core {
    fn hear(&self, news: &News) -> Result<(), Error> {
        self.note_shown(&news.shown);
        let mut steps = Steps::default();
        if news.is_incomplete {
            steps.take("index", self.catch_up());
            steps.take("joins", self.check_joins());
            steps.take("plan", self.replan());
            steps.take("rooms of siblings", self.share_rooms());
            steps.take("settings", self.share_settings());
            return steps.end();
        }
        // A head of ours that came from a peer: others have it, and nothing more is signed.
        let from_peers = news.upgraded.iter().filter_map(|key| {
            let is_own = self.knowledge(|knowledge| knowledge.own.contains_key(key));
            let length = self.store.feed(key)?.head().length;
            is_own.then_some((*key, length))
        });
        let from_peers: BTreeMap<FeedKey, u64> = from_peers.collect();
        self.note_shown(&from_peers);
        let mut decides = !from_peers.is_empty();
        let answers = |knowledge: &mut Knowledge| {
            let named = knowledge.answers.iter().flat_map(|answer| &answer.feeds);
            let mut named = named.map(|feed| feed.key);
            named.any(|key| news.stored.contains(&key))
        };
        let asks = self.knowledge(answers);
        // One feed that is not taken in keeps no other from it: nobody tells of that again.
        for key in &news.stored {
            if self.is_indexed_feed(key) {
                steps.take("feed", self.catch_up_feed(key));
                decides = true;
            }
        }
        // Who watches a room need not wait for a new plan.
        if decides {
            self.changed();
        }
        if asks {
            steps.take("joins", self.check_joins());
        }
        // A range counted from the end moves with the head.
        let plan = self.plan();
        decides |= news.upgraded.iter().any(|key| {
            plan.asked.get(key).is_some_and(|asked| {
                let open = asked
                    .iter()
                    .any(|one| matches!(one.selection, Selection::From(_)));
                asked.len() > 1 || open
            }) || self.is_indexed_feed(key)
        });
        // How many blocks have so many bytes shows when their sizes are known.
        decides |= plan
            .bounded
            .keys()
            .any(|key| news.upgraded.contains(key) || news.stored.contains(key));
        match decides {
            true => drop(steps.take("plan", self.replan())),
            false => self.changed(),
        }
        steps.take("rooms of siblings", self.share_rooms());
        steps.take("settings", self.share_settings());
        steps.end()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kinlog_indexer::RoomId;

    use super::*;
    use crate::knowledge::KnownRoom;
    use crate::rooms::RoomFeed;
    use crate::test_folder::TestFolder;

    #[test]
    fn a_feed_that_is_not_taken_in_keeps_no_other_from_it() {
        let folder = TestFolder::new();
        let core = folder.core("Ada");
        let mut feeds = [(); 2].map(|()| core.new_feed(None, true, false).unwrap());
        feeds.sort_by_key(|feed| feed.key);
        let [bad, good] = &feeds;
        let feed = |key| RoomFeed {
            key,
            agent: core.agent,
            device: core.keys.device(),
            is_entries: true,
        };
        let room = KnownRoom {
            feeds: [(good.key, feed(good.key))].into(),
            ..KnownRoom::new(RoomId([5; 32]), "", good.key)
        };
        let id = room.id;
        core.knowledge(|known| known.rooms.insert(id, room));
        core.catch_up().unwrap();
        // The index was never told of this one, though it is believed to be.
        core.pretend_indexed(bad.key);
        core.knowledge(|known| {
            let room = known.rooms.get_mut(&id).expect("put there");
            room.feeds.insert(bad.key, feed(bad.key))
        });
        for own in &feeds {
            core.append(own, &[Bytes::from_static(b"\x09what")])
                .unwrap();
        }
        let news = News {
            stored: feeds.iter().map(|feed| feed.key).collect(),
            ..News::default()
        };
        assert!(core.hear(&news).is_err());
        assert!(
            core.index(|index| Ok(index.is_indexed(&good.key, 0)))
                .unwrap()
        );
    }
}
