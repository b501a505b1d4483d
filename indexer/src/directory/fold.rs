//! A directory's entries put together, one after the other in the order of its feed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use kinlog_feeds::crypto::FeedKey;

use crate::Text;
use crate::entry::{
    Body, DirectoryLine, DirectoryRedirect, Head, PageRef, SnapshotPage, SnapshotRow, Stands,
};
use crate::limits::{LABEL_BYTES_MAX, SNAPSHOT_LABEL_ROWS_MAX};

/// A label of a directory.
type Label = Text<LABEL_BYTES_MAX>;

/// A feed that a directory lists, or listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The feed's first line, under its label of now.
    pub line: DirectoryLine,
    /// Label of the first line.
    pub first_label: Label,
    /// It is listed no more.
    pub is_retired: bool,
    /// Where its first line stands.
    pub at: Stands,
}

/// What the entries of one directory make, as far as they are known.
///
/// The first line of a feed fixes its kind, content and id; what comes later changes the label and
/// ends it. Renames and retirements count for feeds of this directory alone, so that a directory
/// says the same whatever is known of others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Directory {
    lines: BTreeMap<FeedKey, Listed>,
    /// The lines by their label.
    labels: BTreeSet<(Label, FeedKey)>,
    redirects: BTreeMap<Label, (Label, Stands)>,
}

impl Directory {
    /// Takes the next entry in; what says nothing of paths changes nothing, nor does a line that
    /// `holds` does not find signed by its feed.
    pub fn take(&mut self, at: Stands, body: Body, holds: &mut dyn FnMut(&DirectoryLine) -> bool) {
        match body {
            Body::DirectoryLine(line) if holds(&line) => self.list(at, line),
            Body::DirectoryRename(rename) => {
                if let Some(listed) = self.lines.get_mut(&rename.feed) {
                    let before = std::mem::replace(&mut listed.line.label, rename.label.clone());
                    self.labels.remove(&(before, rename.feed));
                    self.labels.insert((rename.label, rename.feed));
                }
            }
            Body::DirectoryRetire(retire) => {
                if let Some(listed) = self.lines.get_mut(&retire.feed) {
                    listed.is_retired = true;
                }
            }
            Body::DirectoryRedirect(redirect) => {
                self.redirects.insert(redirect.from, (redirect.to, at));
            }
            _ => {}
        }
    }

    /// Takes page `number` of a snapshot in: what it says stands for everything that was known of the
    /// labels from its first to that of the next page.
    pub fn take_page(
        &mut self,
        pages: &[PageRef],
        number: usize,
        page: &SnapshotPage,
        holds: &mut dyn FnMut(&DirectoryLine) -> bool,
    ) {
        self.forget(&labels_of(pages, number));
        for row in page.rows() {
            match row {
                SnapshotRow::Line {
                    line,
                    first_label,
                    is_retired,
                    at,
                    ..
                } if holds(line) => {
                    let listed = Listed {
                        line: (**line).clone(),
                        first_label: first_label.as_ref().unwrap_or(&line.label).clone(),
                        is_retired: *is_retired,
                        at: *at,
                    };
                    self.put(listed);
                }
                SnapshotRow::Line { .. } => {}
                SnapshotRow::Redirect { redirect, at } => {
                    let (from, to) = (redirect.from.clone(), redirect.to.clone());
                    self.redirects.insert(from, (to, *at));
                }
            }
        }
    }

    /// Returns the feeds, in the order of their keys.
    pub fn lines(&self) -> impl Iterator<Item = (&FeedKey, &Listed)> {
        self.lines.iter()
    }

    /// Returns a feed that it lists, or listed.
    pub fn line(&self, feed: &FeedKey) -> Option<&Listed> {
        self.lines.get(feed)
    }

    /// Returns where labels lead: from, to, and where that was said.
    pub fn redirects(&self) -> impl Iterator<Item = (&str, &str, &Stands)> {
        let redirects = self.redirects.iter();
        redirects.map(|(from, (to, at))| (from.as_str(), to.as_str(), at))
    }

    /// Returns what a snapshot says of it, in the order of the labels, with the heads that the device
    /// committed to.
    pub fn rows(&self, heads: &BTreeMap<FeedKey, Head>) -> Vec<SnapshotRow> {
        let mut rows = Vec::with_capacity(self.lines.len() + self.redirects.len());
        let mut redirects = self.redirects.iter().peekable();
        let redirect = |(from, (to, at)): (&Label, &(Label, Stands))| SnapshotRow::Redirect {
            redirect: DirectoryRedirect {
                from: from.clone(),
                to: to.clone(),
            },
            at: *at,
        };
        let mut labels = self.labels.iter().peekable();
        while let Some((label, _)) = labels.peek() {
            let label = label.clone();
            while let Some(one) = redirects.next_if(|(from, _)| **from < label) {
                rows.push(redirect(one));
            }
            let mut same: Vec<&Listed> = Vec::new();
            while let Some((_, feed)) = labels.next_if(|(next, _)| *next == label) {
                same.extend(self.lines.get(feed));
            }
            if same.len() > SNAPSHOT_LABEL_ROWS_MAX {
                same.sort_by_key(|one| (one.is_retired, std::cmp::Reverse(one.at)));
                same.truncate(SNAPSHOT_LABEL_ROWS_MAX);
            }
            same.sort_by_key(|one| one.at);
            rows.extend(same.into_iter().map(|one| {
                SnapshotRow::Line {
                    first_label: (one.line.continues.is_some()
                        && one.first_label != one.line.label)
                        .then(|| one.first_label.clone()),
                    is_retired: one.is_retired,
                    head: heads.get(&one.line.feed).copied(),
                    at: one.at,
                    line: Box::new(one.line.clone()),
                }
            }));
        }
        rows.extend(redirects.map(redirect));
        rows
    }

    fn list(&mut self, at: Stands, line: DirectoryLine) {
        match self.lines.get_mut(&line.feed) {
            Some(known) => {
                let before = std::mem::replace(&mut known.line.label, line.label.clone());
                self.labels.remove(&(before, line.feed));
                self.labels.insert((line.label, line.feed));
            }
            None => self.put(Listed {
                first_label: line.label.clone(),
                is_retired: false,
                at,
                line,
            }),
        }
    }

    fn put(&mut self, listed: Listed) {
        let (feed, label) = (listed.line.feed, listed.line.label.clone());
        if let Some(before) = self.lines.insert(feed, listed) {
            self.labels.remove(&(before.line.label, feed));
        }
        self.labels.insert((label, feed));
    }

    fn forget(&mut self, (first, end): &(Bound<Label>, Bound<Label>)) {
        let least = FeedKey([0; 32]);
        let bound = |bound: &Bound<Label>| match bound {
            Bound::Included(label) => Bound::Included((label.clone(), least)),
            Bound::Excluded(label) => Bound::Excluded((label.clone(), least)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let gone = self.labels.range((bound(first), bound(end)));
        for (label, feed) in gone.cloned().collect::<Vec<_>>() {
            self.lines.remove(&feed);
            self.labels.remove(&(label, feed));
        }
        let gone = self.redirects.range((first.clone(), end.clone()));
        for from in gone.map(|(from, _)| from.clone()).collect::<Vec<_>>() {
            self.redirects.remove(&from);
        }
    }
}

/// Returns the labels that a page of a snapshot answers for.
fn labels_of(pages: &[PageRef], number: usize) -> (Bound<Label>, Bound<Label>) {
    let first = match number {
        0 => Bound::Unbounded,
        _ => pages.get(number).map_or(Bound::Unbounded, |page| {
            Bound::Included(page.first_label.clone())
        }),
    };
    let end = pages.get(number + 1).map_or(Bound::Unbounded, |next| {
        Bound::Excluded(next.first_label.clone())
    });
    (first, end)
}

/// Why a page of a snapshot is not what its root says.
///
/// The directory's device wrote both, so this says nothing about the peer that they came from.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PageFault {
    /// The root names a block behind itself.
    #[error("snapshot {root} names block {index} as a page, which stands behind it")]
    NotBefore {
        /// Block of the root.
        root: u64,
        /// Block that it names.
        index: u64,
    },
    /// The block is no page, or one whose rows stand out of order.
    #[error("block {index}, which a snapshot names as a page, is none in order")]
    NotAPage {
        /// The block.
        index: u64,
    },
    /// Its first label is another than the root says.
    #[error("page at block {index} begins with {actual:?}, its snapshot says {expected:?}")]
    OtherFirst {
        /// The block.
        index: u64,
        /// What the root says.
        expected: String,
        /// What it begins with; empty for a page without rows.
        actual: String,
    },
    /// It has labels that are the next page's.
    #[error("page at block {index} reaches to {actual:?}, and the next begins with {end:?}")]
    PastEnd {
        /// The block.
        index: u64,
        /// First label of the next page.
        end: String,
        /// Its own last one.
        actual: String,
    },
}

/// Returns what is wrong with page `number` of a snapshot at block `root`; `None` for nothing.
pub fn page_fault(
    root: u64,
    pages: &[PageRef],
    number: usize,
    page: Option<&SnapshotPage>,
) -> Option<PageFault> {
    let named = pages.get(number)?;
    let index = named.index;
    if index >= root {
        return Some(PageFault::NotBefore { root, index });
    }
    let Some(page) = page else {
        return Some(PageFault::NotAPage { index });
    };
    let first = page.rows().first().map_or("", SnapshotRow::label);
    if first != named.first_label.as_str() || page.rows().is_empty() {
        return Some(PageFault::OtherFirst {
            index,
            expected: named.first_label.to_string(),
            actual: first.to_owned(),
        });
    }
    let last = page.rows().last().map_or("", SnapshotRow::label);
    let next = pages.get(number + 1)?;
    (last >= next.first_label.as_str()).then(|| PageFault::PastEnd {
        index,
        end: next.first_label.to_string(),
        actual: last.to_owned(),
    })
}
