//! Every operation of a workload refused, in every way: a typed error, a writer that stops, no sync
//! that is tried again, and nothing lost.
//!
//! A refused growth is the one exception: it stands before the record, and when it says that the
//! disk is full, the writer goes on once there is room.

use std::sync::Arc;

use kinlog_feeds::store::{
    AppendError, CreateError, Feed, MemoryDisk, OpenError, Options, ReadError, Store, StoreError,
};
use kinlog_feeds::{FeedKey, KeyPair};
use testkit::disk::{
    CrashDisk, CrashPolicy, Cuts, Fault, FaultDisk, Operation, OperationKind, TraceDisk,
};

use crate::support::*;

/// Operations of the workload, reads included.
const OPERATIONS_MIN: usize = 1_200;

const STEPS: u64 = 90;

pub(crate) fn options() -> Options {
    small().checkpoint_every(8 * 1024)
}

fn source() -> Feed {
    let store = open(&MemoryDisk::new());
    let writer = KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&store, &writer);
    source.append_batch(&writer, &blocks(0..STEPS)).unwrap();
    source
}

/// What was acknowledged before the first error.
#[derive(Default)]
struct Acknowledged {
    own: Option<FeedKey>,
    length: u64,
    following: Option<FeedKey>,
    held: Vec<u64>,
    /// Cleared for certain, and asked to be.
    cleared: Vec<u64>,
    clearing: Vec<u64>,
}

/// Everything that an operation of the store can say of a disk that refuses.
#[derive(Debug)]
enum Refused {
    Open(OpenError),
    Create(CreateError),
    Append(AppendError),
    Read(ReadError),
    Store(StoreError),
}

impl Refused {
    /// Returns the disk's fault; anything else would be a wrong name for it.
    fn store(&self) -> &StoreError {
        match self {
            Refused::Open(OpenError::Store(error))
            | Refused::Create(CreateError::Store(error))
            | Refused::Append(AppendError::Store(error))
            | Refused::Read(ReadError::Store(error))
            | Refused::Store(error) => error,
            other => panic!("not the disk's fault: {other:?}"),
        }
    }
}

/// Runs until the first error, which it returns with the store, if that was open.
fn run(
    disk: Arc<TraceDisk>,
    options: &Options,
    source: &Feed,
    done: &mut Acknowledged,
) -> Option<(Option<Store>, Refused)> {
    let store = match Store::open(disk.clone(), options.clone()) {
        Ok(store) => store,
        Err(error) => return Some((None, Refused::Open(error))),
    };
    if let Err(refused) = work(&store, source, done) {
        return Some((Some(store), refused));
    }
    drop(store);
    let store = match Store::open(disk, options.clone()) {
        Ok(store) => store,
        Err(error) => return Some((None, Refused::Open(error))),
    };
    let again = reopened(&store, done);
    again.err().map(|refused| (Some(store), refused))
}

fn work(store: &Store, source: &Feed, done: &mut Acknowledged) -> Result<(), Refused> {
    use kinlog_feeds::manifest::Manifest;
    use kinlog_feeds::store::{Kind, Role};
    let feed = store
        .create_feed(
            &Manifest::single(writer().public_key()),
            Role::Own,
            Kind::Kinlog,
        )
        .map_err(Refused::Create)?;
    done.own = Some(feed.key());
    let following = store
        .create_unknown(source.key(), Role::Followed, source.kind())
        .map_err(Refused::Create)?;
    done.following = Some(following.key());
    following
        .apply(&[upgrade_item(source, 0)])
        .map_err(Refused::Store)?;
    for step in 0..STEPS {
        let count = if step == 30 { 20 } else { 1 };
        let appended = feed
            .append_batch(&writer(), &blocks(done.length..done.length + count))
            .map_err(Refused::Append)?;
        done.length = appended.length;
        for index in (0..done.length).rev().take(4) {
            if !done.cleared.contains(&index) {
                let value = feed.get(index).map_err(Refused::Read)?;
                assert_eq!(value, Some(block(index)));
            }
        }
        let applied = following.apply(&[block_item(source, step)]);
        for applied in applied.map_err(Refused::Store)? {
            applied.unwrap();
        }
        done.held.push(step);
        let value = following.get(step / 2).map_err(Refused::Read)?;
        assert_eq!(value, Some(block(step / 2)));
        if step % 20 == 19 {
            let cleared = done.length / 2;
            done.clearing.push(cleared);
            feed.clear(cleared..cleared + 1).map_err(Refused::Store)?;
            done.cleared.push(cleared);
        }
    }
    let half = done.length / 2;
    done.clearing.extend(0..half);
    feed.clear(0..half).map_err(Refused::Store)?;
    done.cleared.extend(0..half);
    store.compact().map_err(Refused::Store)?;
    store.close().map_err(Refused::Store)
}

fn reopened(store: &Store, done: &mut Acknowledged) -> Result<(), Refused> {
    let feed = store.feed(&done.own.unwrap()).unwrap();
    let appended = feed
        .append_batch(&writer(), &blocks(done.length..done.length + 2))
        .map_err(Refused::Append)?;
    done.length = appended.length;
    store.close().map_err(Refused::Store)
}

/// Asserts that what was acknowledged is there and that the feed goes on.
fn check(disk: &CrashDisk, done: &Acknowledged, what: &str) {
    let store = Store::open(disk.as_disk(), options()).unwrap();
    if let Some(key) = &done.own {
        let feed = store.feed(key).unwrap();
        let length = feed.head().length;
        assert!(length >= done.length, "{what}: {length} of {}", done.length);
        for index in 0..length {
            match feed.get(index).unwrap() {
                Some(value) => {
                    assert_eq!(value, block(index), "{what}");
                    assert!(!done.cleared.contains(&index), "{what}: {index} came back");
                }
                None => assert!(done.clearing.contains(&index), "{what}: {index} is gone"),
            }
        }
        feed.append_batch(&writer(), &blocks(length..length + 1))
            .unwrap();
        assert_eq!(feed.head().length, length + 1, "{what}");
    }
    if let Some(key) = &done.following {
        let following = store.feed(key).unwrap();
        for index in &done.held {
            let value = following.get(*index).unwrap();
            assert_eq!(value, Some(block(*index)), "{what}");
        }
    }
}

/// Asserts that the writer has stopped, or that it need not have.
fn check_stopped(
    store: &Store,
    disk: &TraceDisk,
    refused: &Operation,
    at: usize,
    done: &mut Acknowledged,
    what: &str,
) {
    let Some(feed) = done.own.and_then(|key| store.feed(&key)) else {
        return;
    };
    // Nothing of what was refused is visible.
    let length = feed.head().length;
    assert!(length <= done.length, "{what}: more is visible: {length}");
    let last = done.length.saturating_sub(1);
    if done.length > 0 && !done.clearing.contains(&last) {
        assert_eq!(
            feed.get(last).unwrap(),
            Some(block(last)),
            "{what}: read on"
        );
    }
    let again = feed.append_batch(&writer(), &blocks(done.length..done.length + 1));
    let of_a_record = refused.file.starts_with("log-")
        && matches!(refused.kind, OperationKind::Write | OperationKind::Sync);
    match again {
        Err(AppendError::Store(StoreError::WriterStopped { .. } | StoreError::Closed)) => {
            let tried = disk.operations()[at + 1..]
                .iter()
                .filter(|operation| operation.kind.is_change() && operation.file != "lock")
                .filter(|operation| operation.file.starts_with("log-"))
                .cloned()
                .collect::<Vec<_>>();
            // A refused growth may be cut back to what it was before.
            let is_undo = |operation: &Operation| operation.kind == OperationKind::Cut;
            assert!(
                tried.iter().all(is_undo),
                "{what}: {tried:?} after {refused:?}"
            );
        }
        Ok(appended) => {
            assert!(!of_a_record, "{what}: the writer goes on after {refused:?}");
            done.length = appended.length;
        }
        Err(error) => panic!("{what}: {error:?} after {refused:?}"),
    }
}

/// Refuses each operation that is meant, once and for good, on stores that are opened like this.
pub(crate) fn refuse_every(fault: Fault, options: &Options, is_meant: fn(OperationKind) -> bool) {
    let source = source();
    let traced = |disk: &FaultDisk| Arc::new(TraceDisk::new(Arc::new(disk.clone())));
    let healthy = traced(&FaultDisk::new(CrashDisk::new().as_disk()));
    assert!(
        run(
            healthy.clone(),
            options,
            &source,
            &mut Acknowledged::default()
        )
        .is_none()
    );
    let operations = healthy.operations();
    assert!(
        operations.len() >= OPERATIONS_MIN,
        "the workload is long enough: {}",
        operations.len()
    );
    let mut refusals = 0;
    for (at, _) in operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| is_meant(operation.kind))
    {
        for persistent in [false, true] {
            let what = format!("{fault:?} at {at}, persistent {persistent}");
            let memory = CrashDisk::new();
            let faulty = FaultDisk::new(memory.as_disk());
            let disk = traced(&faulty);
            faulty.refuse(at as u64, fault, persistent);
            let mut done = Acknowledged::default();
            let ended = run(disk.clone(), options, &source, &mut done);
            assert!(faulty.fired(), "{what}");
            faulty.heal();
            let refused = disk.operations()[at].clone();
            assert!(refused.refused, "{what}");
            if let Some((store, error)) = &ended {
                error.store();
                if let Some(store) = store {
                    check_stopped(store, &disk, &refused, at, &mut done, &what);
                    let _ = store.close();
                }
            }
            drop(ended);
            // The process is started again; or the power goes, and what was not synced is lost.
            let mut cuts = Cuts::new(&memory);
            while cuts.advance() {}
            for policy in [CrashPolicy::KeepPending, CrashPolicy::DropPending] {
                check(&cuts.image(policy, 0), &done, &what);
            }
            refusals += 1;
        }
    }
    println!("{refusals} refusals by {fault:?}");
}

#[test]
fn every_operation_refused_with_eio_is_a_typed_error() {
    refuse_every(Fault::Io, &options(), |_| true);
}

#[test]
fn every_operation_refused_with_enospc_is_a_typed_error() {
    refuse_every(Fault::NoSpace, &options(), |_| true);
}

#[test]
fn every_operation_refused_with_eintr_is_a_typed_error() {
    refuse_every(Fault::Interrupted, &options(), |_| true);
}

#[test]
fn every_write_cut_short_is_a_typed_error() {
    refuse_every(Fault::ShortWrite, &options(), |kind| {
        matches!(kind, OperationKind::Write | OperationKind::Grow)
    });
}
