//! Looking after a store that does not open, or not all of it: no agent runs meanwhile.

use std::path::Path;
use std::sync::Arc;

use kinlog_feeds::store::{
    FileDisk, Gap, OpenError, Options, RepairError, RepairedFeed, Store, repair_folder, survey,
};

use crate::api::{Error, ErrorKind, RepairedFeedInfo, Reply, Selection, Text};
use crate::failure::chain;
use crate::home::{Layout, lock_home};
use crate::keys::random;

/// Reads the whole log of the store of a home, which may be too damaged to be opened.
///
/// # Errors
/// `Permission` when the home is in use.
pub fn survey_store(home: &Path) -> Result<Reply, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let _lock = lock_home(&layout)?;
    let gaps = survey(disk(&layout)?).map_err(|error| failed(&layout, &error))?;
    Ok(Reply::StoreChecked {
        feeds: 0,
        blocks_checked: 0,
        nodes_checked: 0,
        problem_count: gaps.len() as u64,
        problems: Vec::new(),
        gaps: gaps.iter().map(Gap::to_string).collect(),
    })
}

/// Repairs the store of a home if it does not hold; the old one is kept beside it.
///
/// # Errors
/// `Permission` when the home is in use, `Verification` when nothing can be told from noise.
pub fn repair_store(home: &Path) -> Result<Reply, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let _lock = lock_home(&layout)?;
    let folder = layout.store();
    if is_sound(&layout)? {
        return Ok(Reply::StoreRepaired {
            folder,
            sound: true,
            damaged: None,
            feeds: Vec::new(),
            gaps: Vec::new(),
            records_left: 0,
            feeds_without_name: 0,
        });
    }
    let done =
        repair_folder(&folder, Options::new(random()?)).map_err(|error| failed(&layout, &error))?;
    let report = done.report;
    Ok(Reply::StoreRepaired {
        folder,
        sound: false,
        damaged: Some(done.damaged),
        feeds: report.feeds.iter().map(feed_info).collect(),
        gaps: report.gaps.iter().map(Gap::to_string).collect(),
        records_left: report.records_left,
        feeds_without_name: report.feeds_without_name,
    })
}

/// Returns whether the store opens, which also renews its index, and all of it holds.
fn is_sound(layout: &Layout) -> Result<bool, Error> {
    let store = match Store::open(disk(layout)?, Options::new(random()?)) {
        Ok(store) => store,
        Err(OpenError::Store(kinlog_feeds::store::StoreError::Damaged(_))) => return Ok(false),
        Err(error) => return Err(crate::failure::store_open(&layout.store(), error)),
    };
    for feed in store.feeds() {
        if feed.verify()?.problem_count > 0 {
            return Ok(false);
        }
    }
    store.close()?;
    drop(store);
    let gaps = survey(disk(layout)?).map_err(|error| failed(layout, &error))?;
    Ok(gaps.is_empty())
}

fn disk(layout: &Layout) -> Result<Arc<FileDisk>, Error> {
    let folder = layout.store();
    let disk = FileDisk::new(&folder)
        .map_err(|error| Error::general(format!("{}: {error}", folder.display())))?;
    Ok(Arc::new(disk))
}

fn failed(layout: &Layout, error: &RepairError) -> Error {
    let message = format!("store {}: {}", layout.store().display(), chain(error));
    match error {
        RepairError::NoStore => Error::verification(message)
            .hint("keep the folder; follow the same links again from a new --home"),
        RepairError::Open(OpenError::Locked { .. }) => Error::permission(message),
        _ => Error::new(ErrorKind::General, message),
    }
}

fn feed_info(feed: &RepairedFeed) -> RepairedFeedInfo {
    let lost = feed.lost.iter().cloned().map(Selection::Range);
    RepairedFeedInfo {
        key: feed.key.into(),
        length: feed.length,
        length_seen: feed.length_seen,
        blocks_held: feed.blocks_held,
        blocks_lost: feed.blocks_lost(),
        lost: lost.map(Text).collect(),
        unconfirmed: feed.is_unconfirmed,
    }
}
