//! From a directory's rows to the pages of its next snapshot: what did not change stays where it is.

use prost::Message as _;

use crate::entry::{Body, PageRef, Snapshot, SnapshotPage, SnapshotRow};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{
    SNAPSHOT_KEPT_MAX, SNAPSHOT_PAGE_BYTES, SNAPSHOT_PAGE_BYTES_MAX, SNAPSHOT_PAGES_MAX,
    SNAPSHOT_ROOT_BYTES_MAX, SNAPSHOT_ROWS_MAX,
};

/// A page of the next snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Slot {
    /// It stands in the feed already.
    Stays(PageRef),
    New(SnapshotPage),
}

/// A snapshot that is to be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextSnapshot {
    slots: Vec<Slot>,
    kept: Vec<u64>,
}

impl NextSnapshot {
    /// Returns the entries to append at block `first`, at once: new pages, and the root at the end.
    pub fn bodies(self, first: u64) -> Vec<Body> {
        let (mut bodies, mut pages) = (Vec::new(), Vec::with_capacity(self.slots.len()));
        for slot in self.slots {
            match slot {
                Slot::Stays(page) => pages.push(page),
                Slot::New(page) => {
                    let row = page.rows().first();
                    pages.extend(row.map(|row| PageRef {
                        first_label: row.text().clone(),
                        index: first + bodies.len() as u64,
                    }));
                    bodies.push(Body::SnapshotPage(page));
                }
            }
        }
        let root = Snapshot::new(pages, self.kept).expect("pages were counted and are in order");
        bodies.push(Body::Snapshot(root));
        bodies
    }
}

/// Cuts rows, which stand in order, into pages, as far as `before` does not have them; `None` when
/// they are too many for one snapshot. `kept` are blocks that say something else than paths.
///
/// The same rows after the same pages give the same snapshot. A page is never cut within a label.
pub fn cut_into_pages(
    rows: Vec<SnapshotRow>,
    before: &[(PageRef, SnapshotPage)],
    mut kept: Vec<u64>,
) -> Option<NextSnapshot> {
    kept.sort_unstable();
    kept.drain(..kept.len().saturating_sub(SNAPSHOT_KEPT_MAX));
    let slots = keep_and_cut(&rows, before);
    if fits(&slots) {
        return Some(NextSnapshot { slots, kept });
    }
    let mut aim = SNAPSHOT_PAGE_BYTES;
    while aim < SNAPSHOT_PAGE_BYTES_MAX {
        aim *= 2;
        let mut slots = Vec::new();
        cut(&rows, aim, &mut slots);
        if fits(&slots) {
            return Some(NextSnapshot { slots, kept });
        }
    }
    None
}

/// Returns whether a root can name these pages.
fn fits(slots: &[Slot]) -> bool {
    let bytes = slots.iter().map(|slot| match slot {
        Slot::Stays(page) => page.first_label.len(),
        Slot::New(page) => page.rows().first().map_or(0, |row| row.label().len()),
    });
    // Tags, lengths and the block of each take at most 16 B.
    let bytes: usize = bytes.map(|label| label + 16).sum();
    slots.len() <= SNAPSHOT_PAGES_MAX && bytes <= SNAPSHOT_ROOT_BYTES_MAX
}

fn keep_and_cut(rows: &[SnapshotRow], before: &[(PageRef, SnapshotPage)]) -> Vec<Slot> {
    let mut slots = Vec::new();
    // From where on rows wait to be cut: what lies in neighbouring pages that changed, together.
    let (mut waiting, mut at) = (0, 0);
    for (number, (page, old)) in before.iter().enumerate() {
        let end = match before.get(number + 1) {
            Some((next, _)) => {
                let next = next.first_label.as_str();
                at + rows[at..].partition_point(|row| row.label() < next)
            }
            None => rows.len(),
        };
        let waits = waiting < at && bytes_of(&rows[waiting..at]) < SNAPSHOT_PAGE_BYTES / 4;
        if rows[at..end] == *old.rows() && !waits {
            cut(&rows[waiting..at], SNAPSHOT_PAGE_BYTES, &mut slots);
            slots.push(Slot::Stays(page.clone()));
            waiting = end;
        }
        at = end;
    }
    cut(&rows[waiting..], SNAPSHOT_PAGE_BYTES, &mut slots);
    slots
}

/// Cuts rows into pages of about the same size, each near `aim`.
fn cut(rows: &[SnapshotRow], aim: usize, slots: &mut Vec<Slot>) {
    let total = bytes_of(rows);
    let aim = match total.div_ceil(aim) {
        0 => return,
        count => total.div_ceil(count),
    };
    let (mut page, mut bytes): (Vec<SnapshotRow>, usize) = (Vec::new(), 0);
    for row in rows {
        let ends_label = page.last().is_some_and(|last| last.label() != row.label());
        if ends_label && (bytes >= aim || page.len() >= SNAPSHOT_ROWS_MAX / 2) {
            let full = SnapshotPage::new(std::mem::take(&mut page));
            slots.push(Slot::New(full.expect("few rows in order")));
            bytes = 0;
        }
        bytes += encoded_bytes(row);
        page.push(row.clone());
    }
    let last = SnapshotPage::new(page).expect("few rows in order");
    slots.push(Slot::New(last));
}

fn bytes_of(rows: &[SnapshotRow]) -> usize {
    rows.iter().map(encoded_bytes).sum()
}

fn encoded_bytes(row: &SnapshotRow) -> usize {
    // With tag and length of the field it stands in.
    wire::snapshot_page::Row::from(row).encoded_len() + 3
}
