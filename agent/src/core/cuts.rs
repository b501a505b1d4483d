//! What a revoked device said is accepted below the cut of whoever revoked it: its directories there, its
//! feeds up to where it, or another device, committed to them below the cut.
//!
//! What lies behind is neither fetched, read nor served. What of it came before the revocation was known
//! is given up.

use std::collections::BTreeSet;

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_feeds::store::Role;
use kinlog_indexer::Index;
use kinlog_indexer::index::IndexError;

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::Line;

impl Core {
    /// Ends the lines of revoked devices where they are vouched for.
    pub(super) fn end_lines(
        &self,
        index: &Index,
        agent: &AgentId,
        lines: &mut [Line],
    ) -> Result<(), IndexError> {
        let revoked: BTreeSet<DeviceKey> = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent).into_iter();
            let revoked = known.flat_map(|known| &known.identity.revoked);
            revoked.map(|one| one.device.key).collect()
        });
        for line in lines
            .iter_mut()
            .filter(|line| revoked.contains(&line.device))
        {
            let vouched = index.vouched_head(agent, &line.key)?;
            line.end_at(vouched.map_or(0, |head| head.length));
        }
        Ok(())
    }

    /// Reads nothing more of what an agent's revoked devices said behind their cuts. To be called
    /// whenever what is known of its devices changed; then plan anew, then [give
    /// up](Self::give_up_what_is_cut). Returns the feeds that are no path of theirs any more.
    pub(super) fn heed_cuts(&self, agent: &AgentId) -> Result<BTreeSet<FeedKey>, Error> {
        let revoked = || {
            self.knowledge(|knowledge| {
                let known = knowledge.agents.get(agent)?;
                let any = !known.identity.revoked.is_empty();
                any.then(|| known.lines.iter().map(|line| line.key).collect())
            })
        };
        let Some(before): Option<BTreeSet<FeedKey>> = revoked() else {
            return Ok(BTreeSet::new());
        };
        self.learn_agent(agent)?;
        let mut reads_behind = false;
        for (key, accepted) in self.cut_feeds(agent) {
            let indexed = self.index(|index| index.indexed(&key))?;
            reads_behind |= indexed.iter().any(|range| range.end > accepted);
        }
        if reads_behind {
            // What directories say below their cuts first: which paths there are, and where they end,
            // follows from it.
            self.rebuild_index()?;
            self.rebuild_index()?;
        }
        let after = revoked().unwrap_or_default();
        Ok(before.difference(&after).copied().collect())
    }

    /// Heeds the cuts of everybody's devices, as after a crash between learning of one and heeding it.
    pub(super) fn heed_all_cuts(&self) -> Result<(), Error> {
        let agents: Vec<AgentId> = self.knowledge(|knowledge| {
            let agents = knowledge.agents.iter();
            let cut = agents.filter(|(_, known)| !known.identity.revoked.is_empty());
            cut.map(|(agent, _)| *agent).collect()
        });
        for agent in &agents {
            self.heed_cuts(agent)?;
        }
        Ok(())
    }

    /// Takes what is behind the cuts out of the store, as far as it is known where they are, and feeds
    /// that only what is behind them listed, unless a pin names them.
    pub(super) fn give_up_what_is_cut(
        &self,
        agent: &AgentId,
        unlisted: BTreeSet<FeedKey>,
    ) -> Result<(), Error> {
        let plan = self.plan();
        for key in unlisted {
            let is_kept = plan.interests.contains_key(&key);
            let feed = self
                .store
                .feed(&key)
                .filter(|feed| feed.role() != Role::Own);
            if feed.is_some() && !is_kept {
                self.store.drop_feed(&key)?;
                self.stored_less(&key);
            }
        }
        for (key, accepted) in self.cut_feeds(agent) {
            let Some(feed) = self
                .store
                .feed(&key)
                .filter(|feed| feed.role() != Role::Own)
            else {
                continue;
            };
            let length = feed.head().length;
            let is_former = self.knowledge(|known| known.former.contains_key(&key));
            if is_former || accepted >= length {
                continue;
            }
            // A path is vouched for in a directory that may be on its way.
            let is_settled =
                self.is_cut_directory(agent, &key) || self.is_read_to_its_cut(agent, &key)?;
            if is_settled && feed.have().count_range(accepted..length) > 0 {
                feed.clear(accepted..length)?;
                self.stored_less(&key);
            }
        }
        Ok(())
    }

    fn stored_less(&self, key: &FeedKey) {
        if let Some(network) = self.network() {
            network.stored(key);
        }
    }

    fn is_cut_directory(&self, agent: &AgentId, key: &FeedKey) -> bool {
        self.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent);
            known.is_some_and(|known| known.accepted(key).is_some())
        })
    }

    /// Returns whether everything is read that the directory of a path says of it below its cut.
    fn is_read_to_its_cut(&self, agent: &AgentId, key: &FeedKey) -> Result<bool, Error> {
        let listed = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent)?;
            let public = known.lines.iter().find(|line| line.key == *key);
            let line = public.or_else(|| knowledge.private_line(key))?;
            let revoked = known.identity.revoked(&line.device)?;
            let directory = match public {
                Some(_) => revoked.device.directory,
                None => revoked.device.private_directory,
            };
            let accepted = known.accepted(&directory)?;
            Some((directory, line.path.clone(), accepted))
        });
        match listed {
            Some((directory, path, accepted)) => {
                Ok(accepted == 0 || self.has_read(agent, &directory, Some(&path), accepted)?)
            }
            None => Ok(false),
        }
    }

    /// Returns the feeds of an agent of which not everything is accepted, with how much is.
    fn cut_feeds(&self, agent: &AgentId) -> Vec<(FeedKey, u64)> {
        self.knowledge(|knowledge| {
            let Some(known) = knowledge.agents.get(agent) else {
                return Vec::new();
            };
            let revoked = known.identity.revoked.iter().map(|one| &one.device);
            let directories = revoked.flat_map(|one| [one.directory, one.private_directory]);
            let public = known.lines.iter().map(|line| line.key);
            let private = knowledge.private_lines.iter().map(|line| line.key);
            let keys = directories.chain(public).chain(private);
            keys.filter_map(|key| Some((key, knowledge.accepted(&key)?)))
                .collect()
        })
    }
}
