//! A directory put together, so that nobody has to read all of it for one path.
//!
//! Pages hold rows in the order of their labels, one page an entry; a root, one entry, names the
//! pages. A page that did not change is named again by the next root. Every entry behind a root
//! links to it by the tag of the directory itself, so the newest entry leads to the newest root.
//! What a root names is what all entries before it say.

use kinlog_feeds::limits::UINT_MAX;

use crate::Text;
use crate::clock::Clock;
use crate::entry::body::text;
use crate::entry::{BodyError, DirectoryLine, DirectoryRedirect, Head};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{LABEL_BYTES_MAX, SNAPSHOT_KEPT_MAX, SNAPSHOT_PAGES_MAX, SNAPSHOT_ROWS_MAX};

/// Where an entry of a directory stands in the timeline of its agent.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Stands {
    /// Depth.
    pub depth: u64,
    /// Date.
    pub clock: Clock,
    /// Block of the directory.
    pub index: u64,
}

/// One label of a directory, as all entries before the page make it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotRow {
    /// A feed under its label of now.
    Line {
        /// As a line would say it.
        line: Box<DirectoryLine>,
        /// Label of its first line, where the feed that it continues is found; `None` if the same.
        first_label: Option<Text<LABEL_BYTES_MAX>>,
        /// It is listed no more.
        is_retired: bool,
        /// The newest head that the device committed to.
        head: Option<Head>,
        /// Its first line.
        at: Stands,
    },
    /// Where the readers of a label go.
    Redirect {
        /// As its entry says it.
        redirect: DirectoryRedirect,
        /// The entry.
        at: Stands,
    },
}

impl SnapshotRow {
    /// Returns the label that the row stands under.
    pub fn label(&self) -> &str {
        self.text()
    }

    pub(crate) fn text(&self) -> &Text<LABEL_BYTES_MAX> {
        match self {
            SnapshotRow::Line { line, .. } => &line.label,
            SnapshotRow::Redirect { redirect, .. } => &redirect.from,
        }
    }
}

/// Some rows of a snapshot, in order of their labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SnapshotPage {
    rows: Vec<SnapshotRow>,
}

impl SnapshotPage {
    /// Takes at most [`SNAPSHOT_ROWS_MAX`] rows in order of their labels.
    pub fn new(rows: Vec<SnapshotRow>) -> Result<Self, BodyError> {
        if rows.len() > SNAPSHOT_ROWS_MAX {
            let (field, actual) = ("rows", rows.len() as u64);
            return Err(BodyError::Value { field, actual });
        }
        if !rows.is_sorted_by(|one, next| one.label() <= next.label()) {
            return Err(BodyError::Order { field: "rows" });
        }
        Ok(SnapshotPage { rows })
    }

    /// Returns the rows.
    pub fn rows(&self) -> &[SnapshotRow] {
        &self.rows
    }
}

/// Where a page stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageRef {
    /// Label of its first row.
    pub first_label: Text<LABEL_BYTES_MAX>,
    /// Block of the directory that it is.
    pub index: u64,
}

/// The root of a snapshot: its pages, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    pages: Vec<PageRef>,
    kept: Vec<u64>,
}

impl Snapshot {
    /// Takes at most [`SNAPSHOT_PAGES_MAX`] pages in order of their first labels, which differ, and
    /// at most [`SNAPSHOT_KEPT_MAX`] blocks that everybody reads, ascending.
    pub fn new(pages: Vec<PageRef>, kept: Vec<u64>) -> Result<Self, BodyError> {
        for (field, count, limit) in [
            ("pages", pages.len(), SNAPSHOT_PAGES_MAX),
            ("kept", kept.len(), SNAPSHOT_KEPT_MAX),
        ] {
            if count > limit {
                let actual = count as u64;
                return Err(BodyError::Value { field, actual });
            }
        }
        if !pages.is_sorted_by(|one, next| one.first_label < next.first_label) {
            return Err(BodyError::Order { field: "pages" });
        }
        if !kept.is_sorted_by(|one, next| one < next) {
            return Err(BodyError::Order { field: "kept" });
        }
        Ok(Snapshot { pages, kept })
    }

    /// Returns the blocks of the directory that say something else than paths and still count: the
    /// profile, claims about others.
    pub fn kept(&self) -> &[u64] {
        &self.kept
    }

    /// Returns the pages.
    pub fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    /// Returns the pages that can have labels which begin with `prefix`: the one where the prefix
    /// itself would stand, and those that begin with it.
    pub fn pages_of(&self, prefix: &str) -> &[PageRef] {
        let start = self.page_before(prefix);
        let length = self.pages[start..].partition_point(|page| {
            let first = page.first_label.as_str();
            first <= prefix || first.starts_with(prefix)
        });
        &self.pages[start..start + length]
    }

    /// Returns the page that would have `label`.
    pub fn page_of(&self, label: &str) -> Option<&PageRef> {
        let page = self.pages.get(self.page_before(label));
        page.filter(|page| page.first_label.as_str() <= label)
    }

    fn page_before(&self, label: &str) -> usize {
        let behind = self
            .pages
            .partition_point(|page| page.first_label.as_str() <= label);
        behind.saturating_sub(1)
    }
}

impl TryFrom<wire::SnapshotPage> for SnapshotPage {
    type Error = BodyError;

    fn try_from(body: wire::SnapshotPage) -> Result<Self, BodyError> {
        let rows = body.rows.into_iter().map(|row| {
            let at = stands(&row)?;
            match (row.line, row.redirect) {
                (Some(line), None) => Ok(SnapshotRow::Line {
                    line: Box::new(line.try_into()?),
                    first_label: match row.first_label.is_empty() {
                        true => None,
                        false => Some(text("first_label", row.first_label)?),
                    },
                    is_retired: row.retired,
                    head: row.head.map(Head::try_from).transpose()?,
                    at,
                }),
                (None, Some(redirect)) => {
                    let redirect = redirect.try_into()?;
                    Ok(SnapshotRow::Redirect { redirect, at })
                }
                _ => Err(BodyError::Missing { field: "row" }),
            }
        });
        SnapshotPage::new(rows.collect::<Result<_, _>>()?)
    }
}

fn stands(row: &wire::snapshot_page::Row) -> Result<Stands, BodyError> {
    let counter = u16::try_from(row.counter).map_err(|_| BodyError::Value {
        field: "counter",
        actual: u64::from(row.counter),
    })?;
    for (field, actual) in [("index", row.index), ("depth", row.depth), ("ms", row.ms)] {
        if actual > UINT_MAX {
            return Err(BodyError::Value { field, actual });
        }
    }
    Ok(Stands {
        depth: row.depth,
        clock: Clock {
            ms: row.ms,
            counter,
        },
        index: row.index,
    })
}

impl From<&SnapshotRow> for wire::snapshot_page::Row {
    fn from(row: &SnapshotRow) -> Self {
        let (SnapshotRow::Line { at, .. } | SnapshotRow::Redirect { at, .. }) = row;
        let place = wire::snapshot_page::Row {
            index: at.index,
            depth: at.depth,
            ms: at.clock.ms,
            counter: u32::from(at.clock.counter),
            ..wire::snapshot_page::Row::default()
        };
        match row {
            SnapshotRow::Line {
                line,
                first_label,
                is_retired,
                head,
                ..
            } => wire::snapshot_page::Row {
                line: Some((&**line).into()),
                retired: *is_retired,
                head: head.as_ref().map(Into::into),
                first_label: first_label
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                ..place
            },
            SnapshotRow::Redirect { redirect, .. } => wire::snapshot_page::Row {
                redirect: Some(redirect.into()),
                ..place
            },
        }
    }
}

impl From<&SnapshotPage> for wire::SnapshotPage {
    fn from(body: &SnapshotPage) -> Self {
        wire::SnapshotPage {
            rows: body.rows.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Snapshot> for Snapshot {
    type Error = BodyError;

    fn try_from(body: wire::Snapshot) -> Result<Self, BodyError> {
        let page = |page: wire::snapshot::Page| {
            Ok(PageRef {
                first_label: text("first_label", page.first_label)?,
                index: page.index,
            })
        };
        let pages = body.pages.into_iter().map(page);
        Snapshot::new(pages.collect::<Result<_, BodyError>>()?, body.kept)
    }
}

impl From<&Snapshot> for wire::Snapshot {
    fn from(body: &Snapshot) -> Self {
        let page = |page: &PageRef| wire::snapshot::Page {
            first_label: page.first_label.to_string(),
            index: page.index,
        };
        wire::Snapshot {
            pages: body.pages.iter().map(page).collect(),
            kept: body.kept.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(firsts: &[&str]) -> Snapshot {
        let pages = (0..).zip(firsts).map(|(index, first)| PageRef {
            first_label: (*first).try_into().expect("short"),
            index,
        });
        Snapshot::new(pages.collect(), Vec::new()).expect("in order")
    }

    #[test]
    fn a_prefix_is_in_the_pages_around_it_and_in_no_other() {
        let of = |firsts: &[&str], prefix: &str| {
            let snapshot = snapshot(firsts);
            let pages = snapshot.pages_of(prefix).iter();
            pages.map(|page| page.index).collect::<Vec<_>>()
        };
        let firsts = ["/a", "/c", "/m/1", "/m/5", "/z"];
        assert_eq!(of(&firsts, "/m"), [1, 2, 3]);
        assert_eq!(of(&firsts, "/m/5"), [3]);
        assert_eq!(of(&firsts, "/m/6"), [3]);
        assert_eq!(of(&firsts, "/b"), [0]);
        assert_eq!(of(&firsts, "/zz"), [4]);
        assert_eq!(of(&firsts, "/"), [0, 1, 2, 3, 4]);
        assert_eq!(of(&firsts, "/0"), Vec::<u64>::new());
        assert_eq!(of(&[], "/a"), Vec::<u64>::new());
        let page = |label| snapshot(&firsts).page_of(label).map(|page| page.index);
        assert_eq!(
            (page("/a"), page("/b"), page("/m/5")),
            (Some(0), Some(0), Some(3))
        );
        assert_eq!(page("/0"), None);
    }

    #[test]
    fn rows_and_pages_out_of_order_are_refused() {
        let redirect = |from: &str| {
            let redirect = DirectoryRedirect {
                from: from.try_into().expect("short"),
                to: "/x".try_into().expect("short"),
            };
            let at = Stands::default();
            SnapshotRow::Redirect { redirect, at }
        };
        assert!(SnapshotPage::new(vec![redirect("/a"), redirect("/b")]).is_ok());
        let refused = SnapshotPage::new(vec![redirect("/b"), redirect("/a")]);
        assert_eq!(refused, Err(BodyError::Order { field: "rows" }));
        let page = |first: &str| PageRef {
            first_label: first.try_into().expect("short"),
            index: 0,
        };
        for pages in [vec![page("/b"), page("/a")], vec![page("/a"), page("/a")]] {
            let refused = Snapshot::new(pages, Vec::new());
            assert_eq!(refused, Err(BodyError::Order { field: "pages" }));
        }
        let refused = Snapshot::new(vec![page("/a")], vec![3, 3]);
        assert_eq!(refused, Err(BodyError::Order { field: "kept" }));
    }
}
