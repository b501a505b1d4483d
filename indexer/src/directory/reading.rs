//! Which blocks of a directory a reader of some labels needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::entry::{PageRef, Snapshot};
use crate::limits::{LABELS_LED_TO_MAX, SNAPSHOT_EVERY};

/// What a reader holds of a directory's snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// The newest entry held.
    pub newest: Option<u64>,
    /// Block of the root that it names, or is.
    pub root: Option<u64>,
    /// The root, when it is held.
    pub snapshot: Option<&'a Snapshot>,
}

/// The labels of an agent that a reader is after.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Each with what lies below it; an empty one is everything.
    prefixes: BTreeSet<String>,
    /// Single ones that they lead to.
    labels: BTreeSet<String>,
}

impl Wanted {
    /// Returns what a reader of `prefixes` is after, given which labels lead to which, as far as it
    /// knows: at most [`LABELS_LED_TO_MAX`] outside the prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = String>, leads: &[(String, String)]) -> Wanted {
        let prefixes = prefixes.into_iter().collect();
        let mut wanted = Wanted {
            prefixes,
            labels: BTreeSet::new(),
        };
        if wanted.covers("") {
            return wanted;
        }
        let mut from: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (label, to) in leads {
            from.entry(label).or_default().push(to);
        }
        let covered = from.keys().filter(|label| wanted.covers(label));
        let mut fresh: Vec<&str> = covered.copied().collect();
        while let Some(label) = fresh.pop() {
            for to in from.get(label).into_iter().flatten() {
                if wanted.labels.len() < LABELS_LED_TO_MAX && !wanted.covers(to) {
                    wanted.labels.insert((*to).to_owned());
                    fresh.push(to);
                }
            }
        }
        wanted
    }

    /// Returns whether a label is wanted.
    pub fn covers(&self, label: &str) -> bool {
        let below = |prefix: &String| {
            let rest = label.strip_prefix(prefix.as_str());
            prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.labels.contains(label) || self.prefixes.iter().any(below)
    }

    /// Returns the blocks to hold of a directory of `length` blocks, given what of it is held; more
    /// follow when these are there. A range may reach beyond the end: the next entries.
    ///
    /// The newest entry names the root; then come the root with everything after it, then the pages
    /// with the labels. Without a snapshot it is all entries.
    pub fn blocks(&self, held: &Held<'_>, length: u64) -> Vec<Range<u64>> {
        let mut blocks = Vec::new();
        let head = length.saturating_sub(1)..length;
        let Some(newest) = held.newest else {
            blocks.push(head);
            blocks.retain(|range| !range.is_empty());
            return blocks;
        };
        let first = held.root.unwrap_or(0);
        // Before so many entries no pages stand that nobody here asked for.
        blocks.push(first..(newest + 1).max(first + 1 + SNAPSHOT_EVERY));
        blocks.push(head);
        if let Some(snapshot) = held.snapshot {
            let pages = self.pages(snapshot).into_iter();
            blocks.extend(
                pages
                    .chain(snapshot.kept().iter().copied())
                    .map(|at| at..at + 1),
            );
        }
        blocks.retain(|range| !range.is_empty());
        blocks
    }

    fn pages(&self, snapshot: &Snapshot) -> BTreeSet<u64> {
        let below = self.prefixes.iter();
        let below = below.flat_map(|prefix| snapshot.pages_of(prefix));
        let single = self.labels.iter();
        let single = single.filter_map(|label| snapshot.page_of(label));
        let index = |page: &PageRef| page.index;
        below.chain(single).map(index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(prefixes: &[&str], leads: &[(&str, &str)]) -> Wanted {
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned());
        let leads: Vec<(String, String)> = leads
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect();
        Wanted::new(prefixes, &leads)
    }

    #[test]
    fn labels_lead_on_as_far_as_they_go_and_no_further() {
        let leads = [("/a/x", "/b"), ("/b", "/c"), ("/c", "/b"), ("/z", "/y")];
        let wanted = wanted(&["/a"], &leads);
        for (label, is_wanted) in [
            ("/a", true),
            ("/a/x/y", true),
            ("/ab", false),
            ("/b", true),
            ("/b/below", false),
            ("/c", true),
            ("/y", false),
        ] {
            assert_eq!(wanted.covers(label), is_wanted, "{label}");
        }
    }

    #[test]
    fn a_reader_asks_for_the_head_then_the_root_and_its_tail_then_its_pages() {
        let wanted = wanted(&["/m"], &[]);
        let blocks = |held: Held<'_>| {
            let blocks = wanted.blocks(&held, 900);
            let pair = |range: &Range<u64>| (range.start, range.end);
            blocks.iter().map(pair).collect::<Vec<_>>()
        };
        let mut held = Held::default();
        assert_eq!(blocks(held), [(899, 900)]);
        held.newest = Some(899);
        assert_eq!(blocks(held), [(0, 900), (899, 900)]);
        held.root = Some(700);
        assert_eq!(blocks(held), [(700, 957), (899, 900)]);
        let page = |label: &str, index| PageRef {
            first_label: label.try_into().expect("short"),
            index,
        };
        let pages = vec![page("/a", 690), page("/k", 500), page("/n", 691)];
        let root = Snapshot::new(pages, vec![0]).expect("in order");
        held.snapshot = Some(&root);
        assert_eq!(blocks(held), [(700, 957), (899, 900), (500, 501), (0, 1)]);
        assert_eq!(wanted.blocks(&Held::default(), 0), []);
    }
}
