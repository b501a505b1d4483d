//! What a store must hold after a crash: promises D1 to D3 and D6.

use kinlog_feeds::store::{Feed, OpenError, ReadError, Store, StoreError};
use testkit::disk::CrashDisk;

use crate::crash::workload::{FeedState, Workload, writer_of};
use crate::support::*;

/// What is asked of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Promise {
    /// All that was acknowledged, nothing that was never asked for.
    Kept,
    /// The drive lied: a valid shorter history or a typed error, never other bytes.
    NeverWrong,
}

/// Opens an image, asserts what was promised at `mark`, goes on writing, and opens it again.
///
/// Returns the operations of the first opening, so that the power can go during it.
pub(crate) fn check(
    workload: &Workload,
    mark: u64,
    image: &CrashDisk,
    promise: Promise,
    what: &str,
) -> usize {
    let store = match Store::open(image.as_disk(), workload.options.clone()) {
        Ok(store) => store,
        Err(OpenError::Store(StoreError::Damaged(_))) if promise == Promise::NeverWrong => {
            return image.operations();
        }
        Err(error) => panic!("{what}: {error:?}"),
    };
    let recovery = image.operations();
    assert_recovered_is_recovered(workload, image, &store, what);
    match promise {
        Promise::Kept => assert_kept(workload, mark, &store, what),
        Promise::NeverWrong => assert_never_wrong(workload, &store, what),
    }
    assert_goes_on(workload, image, store, promise, what);
    recovery
}

/// Opening once more changes not one byte, and finds nothing to drop.
fn assert_recovered_is_recovered(
    workload: &Workload,
    image: &CrashDisk,
    first: &Store,
    what: &str,
) {
    let again = image.fork();
    let store = Store::open(again.as_disk(), workload.options.clone()).unwrap();
    assert!(!again.was_changed(), "{what}: recovered twice");
    assert_eq!(store.open_report().tail_dropped, None, "{what}");
    assert_eq!(store.feeds().len(), first.feeds().len(), "{what}");
}

/// Each feed holds what it held at the mark, or what the operation after it was to give it.
fn assert_kept(workload: &Workload, mark: u64, store: &Store, what: &str) {
    let before = &workload.states[mark as usize];
    let after = workload.states.get(mark as usize + 1).unwrap_or(before);
    for key in before.keys().filter(|key| after.contains_key(key)) {
        assert!(store.feed(key).is_some(), "{what}: feed {key} is lost");
    }
    for feed in store.feeds() {
        let key = feed.key();
        let (old, new) = (before.get(&key), after.get(&key));
        assert!(old.or(new).is_some(), "{what}: feed {key} was dropped");
        assert_feed(&feed, old, new, what);
    }
}

fn assert_feed(feed: &Feed, old: Option<&FeedState>, new: Option<&FeedState>, what: &str) {
    let head = feed.head();
    let is_head = |state: &&FeedState| (state.fork, state.length) == (head.fork, head.length);
    let states = [old, new].into_iter().flatten();
    let length = head.length;
    let known = states.clone().find(is_head);
    match known {
        Some(state) => assert_eq!(
            (length > 0).then(|| head.tree_hash()),
            state.tree_hash,
            "{what}: another tree"
        ),
        // The feed was just added and nothing is in it.
        None => assert!(
            length == 0 && old.is_none(),
            "{what}: length {length} of feed {}",
            feed.key()
        ),
    }
    assert!(
        states
            .clone()
            .any(|state| state.is_stopped == feed.is_stopped()),
        "{what}: stopped {}",
        feed.is_stopped()
    );
    for index in 0..length {
        let found = feed.get(index).unwrap();
        assert_eq!(found.is_some(), feed.has(index), "{what}: block {index}");
        let mut allowed = states
            .clone()
            .filter(|state| state.length > index)
            .map(|state| &state.blocks[index as usize]);
        assert!(
            allowed.any(|allowed| *allowed == found),
            "{what}: block {index} of feed {}: {:?}",
            feed.key(),
            found.map(|value| value.len())
        );
    }
}

/// Every head was signed once, every block was written once; what is missing is said to be.
fn assert_never_wrong(workload: &Workload, store: &Store, what: &str) {
    for feed in store.feeds() {
        let (key, head) = (feed.key(), feed.head());
        if head.length > 0 {
            let tree_hash = workload.signed.get(&(key, head.fork, head.length));
            assert_eq!(tree_hash, Some(&head.tree_hash()), "{what}: another tree");
        }
        for index in 0..head.length {
            match feed.get(index) {
                Ok(Some(value)) => {
                    let ever = workload.ever.get(&(key, index));
                    let was_written = ever.is_some_and(|ever| ever.contains(&value));
                    assert!(was_written, "{what}: block {index}");
                }
                Ok(None) => assert!(!feed.has(index), "{what}: block {index}"),
                Err(ReadError::Damaged { .. }) => {}
                Err(error) => panic!("{what}: block {index}: {error:?}"),
            }
        }
    }
}

/// The next append extends the feed, no length that was acknowledged gets a second root, and what
/// was there stays.
fn assert_goes_on(
    workload: &Workload,
    image: &CrashDisk,
    store: Store,
    promise: Promise,
    what: &str,
) {
    let key = workload.own;
    let Some(own) = store.feed(&key) else { return };
    let length = own.head().length;
    let appended = own.append_batch(&writer_of(0), &[what.as_bytes().to_vec().into()]);
    if promise == Promise::NeverWrong && appended.is_err() {
        return;
    }
    assert_eq!(appended.unwrap().start, length, "{what}");
    let head = own.signed_head();
    drop((own, store));
    let store = Store::open(image.as_disk(), workload.options.clone()).unwrap();
    assert_eq!(store.open_report().tail_dropped, None, "{what}");
    let own = store.feed(&key).unwrap();
    assert_eq!(own.signed_head(), head, "{what}");
    let last = own.get(length).unwrap();
    assert_eq!(last.as_deref(), Some(what.as_bytes()), "{what}");
}

/// Opens an image to be read: not one operation of the disk, and what opening it to write finds.
pub(crate) fn assert_reading_changes_nothing(workload: &Workload, image: &CrashDisk, what: &str) {
    let options = || workload.options.clone();
    let reader = Store::open(image.as_disk(), options().read_only());
    let heads = |store: &Store| -> Vec<_> {
        let feeds = store.feeds().into_iter();
        feeds.map(|feed| (feed.key(), feed.signed_head())).collect()
    };
    let writer = Store::open(image.fork().as_disk(), options());
    match (&reader, writer) {
        (Ok(reader), Ok(writer)) => assert_eq!(heads(reader), heads(&writer), "{what}"),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(writer)) => {
            let created = writer.open_report().created;
            assert!(created, "{what}: there is a store: {error:?}");
        }
        (Ok(_), Err(error)) => panic!("{what}: {error:?}"),
    }
    drop(reader);
    assert_eq!(image.operations(), 0, "{what}: reading changed something");
}

/// Checks every node and signature of every feed, which is too slow to do for every image.
pub(crate) fn assert_verifies(workload: &Workload, image: &CrashDisk, what: &str) {
    let store = Store::open(image.as_disk(), workload.options.clone()).unwrap();
    for feed in store.feeds() {
        assert_eq!(feed.verify().unwrap().problems, vec![], "{what}");
        let held: Vec<u64> = feed.have().runs(0..feed.head().length).flatten().collect();
        for index in held.iter().step_by(7) {
            block_proof(&feed, *index);
        }
    }
}
