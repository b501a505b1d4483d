//! A directory put together, so that nobody has to read all of it for one path.
//!
//! Pages hold rows in the order of their labels, one page an entry; a root, one entry, names the
//! pages. A page that did not change is named again by the next root. Every entry behind a root
//! links to it by the tag of the directory itself, so the newest entry leads to the newest root.

use crate::Text;
use crate::entry::body::text;
use crate::entry::{BodyError, DirectoryLine, DirectoryRedirect, Head};
use crate::generated::kinlog_entry_v0 as wire;
use crate::limits::{LABEL_BYTES_MAX, SNAPSHOT_PAGES_MAX, SNAPSHOT_ROWS_MAX};

/// One label of a directory, as all entries before the page make it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotRow {
    /// A feed under its label of now.
    Line {
        /// As a line would say it.
        line: Box<DirectoryLine>,
        /// It is listed no more.
        is_retired: bool,
        /// The newest head that the device committed to.
        head: Option<Head>,
    },
    /// Where the readers of a label go.
    Redirect(DirectoryRedirect),
}

impl SnapshotRow {
    /// Returns the label that the row stands under.
    pub fn label(&self) -> &str {
        match self {
            SnapshotRow::Line { line, .. } => &line.label,
            SnapshotRow::Redirect(redirect) => &redirect.from,
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
}

impl Snapshot {
    /// Takes at most [`SNAPSHOT_PAGES_MAX`] pages in order of their first labels.
    pub fn new(pages: Vec<PageRef>) -> Result<Self, BodyError> {
        if pages.len() > SNAPSHOT_PAGES_MAX {
            let (field, actual) = ("pages", pages.len() as u64);
            return Err(BodyError::Value { field, actual });
        }
        if !pages.is_sorted_by(|one, next| one.first_label.as_str() <= next.first_label.as_str()) {
            return Err(BodyError::Order { field: "pages" });
        }
        Ok(Snapshot { pages })
    }

    /// Returns the pages.
    pub fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    /// Returns the pages that can have labels which begin with `prefix`: from the one where the
    /// prefix itself would stand to the last that begins with it.
    pub fn pages_of(&self, prefix: &str) -> &[PageRef] {
        // A label equal to the prefix may stand at the end of the page before one that begins with it.
        let start = self
            .pages
            .partition_point(|page| page.first_label.as_str() < prefix)
            .saturating_sub(1);
        let length = self.pages[start..].partition_point(|page| {
            let first = page.first_label.as_str();
            first <= prefix || first.starts_with(prefix)
        });
        // The first page is taken even if all its labels are behind the prefix: it says so.
        &self.pages[start..start + length]
    }
}

impl TryFrom<wire::SnapshotPage> for SnapshotPage {
    type Error = BodyError;

    fn try_from(body: wire::SnapshotPage) -> Result<Self, BodyError> {
        let rows = body
            .rows
            .into_iter()
            .map(|row| match (row.line, row.redirect) {
                (Some(line), None) => Ok(SnapshotRow::Line {
                    line: Box::new(line.try_into()?),
                    is_retired: row.retired,
                    head: row.head.map(Head::try_from).transpose()?,
                }),
                (None, Some(redirect)) => Ok(SnapshotRow::Redirect(redirect.try_into()?)),
                _ => Err(BodyError::Missing { field: "row" }),
            });
        SnapshotPage::new(rows.collect::<Result<_, _>>()?)
    }
}

impl From<&SnapshotPage> for wire::SnapshotPage {
    fn from(body: &SnapshotPage) -> Self {
        let row = |row: &SnapshotRow| match row {
            SnapshotRow::Line {
                line,
                is_retired,
                head,
            } => wire::snapshot_page::Row {
                line: Some((&**line).into()),
                retired: *is_retired,
                head: head.as_ref().map(Into::into),
                redirect: None,
            },
            SnapshotRow::Redirect(redirect) => wire::snapshot_page::Row {
                redirect: Some(redirect.into()),
                ..wire::snapshot_page::Row::default()
            },
        };
        wire::SnapshotPage {
            rows: body.rows.iter().map(row).collect(),
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
        Snapshot::new(pages.collect::<Result<_, BodyError>>()?)
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
        Snapshot::new(pages.collect()).expect("in order")
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
        assert_eq!(of(&firsts, "/m/5"), [2, 3]);
        assert_eq!(of(&firsts, "/m/6"), [3]);
        assert_eq!(of(&firsts, "/b"), [0]);
        assert_eq!(of(&firsts, "/zz"), [4]);
        assert_eq!(of(&firsts, "/"), [0, 1, 2, 3, 4]);
        assert_eq!(of(&firsts, "/0"), Vec::<u64>::new());
        assert_eq!(of(&[], "/a"), Vec::<u64>::new());
    }

    #[test]
    fn rows_and_pages_out_of_order_are_refused() {
        let redirect = |from: &str| {
            SnapshotRow::Redirect(DirectoryRedirect {
                from: from.try_into().expect("short"),
                to: "/x".try_into().expect("short"),
            })
        };
        assert!(SnapshotPage::new(vec![redirect("/a"), redirect("/b")]).is_ok());
        let refused = SnapshotPage::new(vec![redirect("/b"), redirect("/a")]);
        assert_eq!(refused, Err(BodyError::Order { field: "rows" }));
        let page = |first: &str| PageRef {
            first_label: first.try_into().expect("short"),
            index: 0,
        };
        let refused = Snapshot::new(vec![page("/b"), page("/a")]);
        assert_eq!(refused, Err(BodyError::Order { field: "pages" }));
    }
}
