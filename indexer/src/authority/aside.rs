//! Acts that are held and have no part in what the others come to.

use std::collections::{HashMap, HashSet};

use kinlog_feeds::crypto::FeedKey;

use crate::authority::held::{HeldAct, What};
use crate::authority::verdict::{Void, VoidReason};
use crate::authority::{Refusal, Verdict};
use crate::entry::ActHash;
use crate::limits::ROOM_REFUSED_WHOLE_MAX;

/// A refused act: after [`ROOM_REFUSED_WHOLE_MAX`] nothing of it but its name, place and reason.
#[derive(Debug)]
struct Refused {
    act: HeldAct,
    depth: u32,
    refusal: Refusal,
}

/// Acts that are refused, out of line or beyond the limit, each with its depth.
#[derive(Debug, Default)]
pub(super) struct Aside {
    refused: HashMap<ActHash, Refused>,
    /// Acts of feeds that have another one in line.
    beside: HashMap<ActHash, (HeldAct, u32)>,
    /// Those of them that nobody judged: they go after another one of their own feed.
    unjudged: HashSet<ActHash>,
    beyond: HashMap<ActHash, (HeldAct, u32)>,
}

impl Aside {
    pub(super) fn len(&self) -> usize {
        self.refused.len() + self.beside.len() + self.beyond.len()
    }

    /// Returns how many are out of line.
    pub(super) fn beside(&self) -> usize {
        self.beside.len()
    }

    pub(super) fn holds(&self, hash: &ActHash) -> bool {
        self.refused.contains_key(hash)
            || self.beside.contains_key(hash)
            || self.beyond.contains_key(hash)
    }

    pub(super) fn depth(&self, hash: &ActHash) -> u32 {
        let refused = self.refused.get(hash).map(|refused| refused.depth);
        let others = || self.beside.get(hash).or_else(|| self.beyond.get(hash));
        let depth = refused.or_else(|| Some(others()?.1));
        depth.unwrap_or_default()
    }

    pub(super) fn refusal(&self, hash: &ActHash) -> Option<&Refusal> {
        Some(&self.refused.get(hash)?.refusal)
    }

    /// Returns the first parent that is refused.
    pub(super) fn refused_parent(&self, act: &HeldAct) -> Option<ActHash> {
        let mut parents = act.parents.iter();
        parents
            .find(|parent| self.refused.contains_key(*parent))
            .copied()
    }

    pub(super) fn has_parent_beyond(&self, act: &HeldAct) -> bool {
        let mut parents = act.parents.iter();
        parents.any(|parent| self.beyond.contains_key(parent))
    }

    /// Returns whether an act goes after one of its own feed that is out of line.
    pub(super) fn follows_beside(&self, act: &HeldAct) -> bool {
        let mut parents = act.parents.iter();
        parents.any(|parent| {
            let beside = self.beside.get(parent);
            beside.is_some_and(|(beside, _)| beside.feed == act.feed)
        })
    }

    pub(super) fn put_refused(&mut self, mut act: HeldAct, depth: u32, refusal: Refusal) {
        if self.refused.len() >= ROOM_REFUSED_WHOLE_MAX {
            act.what = What::Forgotten;
        }
        let hash = act.hash;
        let refused = Refused {
            act,
            depth,
            refusal,
        };
        self.refused.insert(hash, refused);
    }

    pub(super) fn put_beyond(&mut self, act: HeldAct, depth: u32) {
        self.beyond.insert(act.hash, (act, depth));
    }

    pub(super) fn put_beside(&mut self, act: HeldAct, depth: u32) {
        self.beside.insert(act.hash, (act, depth));
    }

    pub(super) fn put_unjudged(&mut self, act: HeldAct, depth: u32) {
        self.unjudged.insert(act.hash);
        self.put_beside(act, depth);
    }

    /// Returns what was out of line of all that an act reaches, and what was not judged because it
    /// goes after that: no more of it is here. Each stands behind what it names.
    pub(super) fn take_reached(&mut self, act: &HeldAct) -> Vec<(HeldAct, u32)> {
        let mut reached = Vec::new();
        let mut next = act.parents.clone();
        loop {
            let before = reached.len();
            while let Some(hash) = next.pop() {
                if let Some((act, depth)) = self.beside.remove(&hash) {
                    self.unjudged.remove(&hash);
                    next.extend(&act.parents);
                    reached.push((act, depth));
                }
            }
            if reached.len() == before {
                break;
            }
            // What becomes judgeable by that may go after more of other feeds.
            for (act, depth) in self.take_judgeable() {
                next.extend(&act.parents);
                reached.push((act, depth));
            }
        }
        reached.sort_unstable_by_key(|(act, depth)| (*depth, act.hash));
        reached
    }

    /// Returns what was not judged and does not go after anything that is out of line, by now.
    fn take_judgeable(&mut self) -> Vec<(HeldAct, u32)> {
        let mut unjudged: Vec<ActHash> = self.unjudged.iter().copied().collect();
        unjudged.sort_unstable_by_key(|hash| (self.depth(hash), *hash));
        let mut judgeable = Vec::new();
        for hash in unjudged {
            let beside = self.beside.get(&hash);
            if beside.is_some_and(|(act, _)| !self.follows_beside(act)) {
                self.unjudged.remove(&hash);
                judgeable.extend(self.beside.remove(&hash));
            }
        }
        judgeable
    }

    /// Takes out all that another choice, or another beginning, may bring into the graph.
    pub(super) fn take_all(&mut self) -> Vec<(HeldAct, u32)> {
        self.unjudged.clear();
        let whole =
            |_: &ActHash, refused: &mut Refused| !matches!(refused.act.what, What::Forgotten);
        let refused = self.refused.extract_if(whole);
        let refused = refused.map(|(_, refused)| (refused.act, refused.depth));
        let mut all: Vec<(HeldAct, u32)> = refused.collect();
        all.extend(self.beside.drain().map(|(_, act)| act));
        all.extend(self.beyond.drain().map(|(_, act)| act));
        all
    }

    /// Returns what became of each, and of those of the graph that are `out_of_line`.
    pub(super) fn verdicts<'a>(
        &'a self,
        out_of_line: impl Iterator<Item = (&'a HeldAct, u32)>,
    ) -> Vec<(&'a HeldAct, u32, Verdict)> {
        let mut verdicts = Vec::new();
        let mut feeds: HashMap<ActHash, FeedKey> = HashMap::new();
        let beside = self.beside.values().map(|(act, depth)| (act, *depth));
        for (act, depth) in beside.chain(out_of_line) {
            feeds.insert(act.hash, act.feed);
            verdicts.push((act, depth, skips()));
        }
        // What goes after it in its feed is out of line, whether it would be authorised or not.
        let mut refused: Vec<&Refused> = self.refused.values().collect();
        refused.sort_unstable_by_key(|refused| (refused.depth, refused.act.hash));
        for Refused {
            act,
            depth,
            refusal,
        } in refused
        {
            let mut parents = act.parents.iter();
            let verdict = if parents.any(|parent| feeds.get(parent) == Some(&act.feed)) {
                feeds.insert(act.hash, act.feed);
                skips()
            } else {
                Verdict::Refused(refusal.clone())
            };
            verdicts.push((act, *depth, verdict));
        }
        let beyond = self.beyond.values();
        verdicts.extend(beyond.map(|(act, depth)| (act, *depth, Verdict::Beyond)));
        verdicts
    }
}

fn skips() -> Verdict {
    Verdict::Void(Void {
        by: None,
        why: VoidReason::Skips,
        stands_on: false,
    })
}
