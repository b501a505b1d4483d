//! A job that panics takes neither its thread nor what waits for it along.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{ApplyFailure, ApplyId, HeadState, NotAvailable, PeerId, ReadId};

use super::{Done, Job, NotKept};

/// Carries out a job. One that panics takes neither its thread nor what waits for it along: the job is
/// answered as one that the store refused.
pub(super) fn contained(job: Job, carry_out: impl Fn(Job) -> Done) -> Vec<Done> {
    let refused = Refused::of(&job);
    // What the store keeps behind locks it has whole at each step, or refuses from then on.
    match catch_unwind(AssertUnwindSafe(|| carry_out(job))) {
        Ok(done) => Vec::from([done]),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_default();
            tracing::error!(text, "store work panicked");
            Vec::from([refused.into_done(), Done::Panicked(text)])
        }
    }
}

/// What answers a job that cannot be carried out.
#[derive(Debug)]
enum Refused {
    Reads(u64, Vec<ReadId>),
    Applied(ApplyId, FeedKey, usize),
    Kept(PeerId, FeedKey),
    Reorganised(PeerId, FeedKey, HeadState),
    Contested(FeedKey),
}

impl Refused {
    fn of(job: &Job) -> Refused {
        match job {
            Job::Reads(job, reads) => {
                Refused::Reads(*job, reads.iter().map(|one| one.id).collect())
            }
            Job::ReadSet { job, id, .. } => Refused::Reads(*job, Vec::from([*id])),
            Job::Apply { id, feed, items } => Refused::Applied(*id, feed.key(), items.len()),
            Job::Keep { peer, feed, .. } => Refused::Kept(*peer, feed.key()),
            Job::Reorganise { peer, feed, .. } => {
                Refused::Reorganised(*peer, feed.key(), HeadState::from(&feed.info()))
            }
            Job::Contest { feed, .. } => Refused::Contested(feed.key()),
        }
    }

    fn into_done(self) -> Done {
        match self {
            Refused::Reads(job, ids) => {
                let missing = |id| (id, Err(NotAvailable::Missing));
                Done::Reads(job, ids.into_iter().map(missing).collect())
            }
            Refused::Applied(id, feed, count) => Done::Applied {
                id,
                feed,
                results: vec![Err(ApplyFailure::Store); count],
                conflict: None,
                failed: None,
            },
            Refused::Kept(peer, feed) => Done::Kept {
                peer,
                feed,
                result: Err(NotKept::Allowed),
            },
            Refused::Reorganised(peer, feed, head) => Done::Reorganised {
                peer,
                feed,
                head,
                result: Err(ApplyFailure::Store),
                conflict: None,
                failed: None,
            },
            Refused::Contested(feed) => Done::Contested {
                feed,
                result: Ok(None),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use kinlog_feeds::store::{Kind, MemoryDisk, Options, Role, Store};

    use std::sync::Arc;

    use super::super::carry_out;
    use super::*;

    #[test]
    fn a_job_that_panics_is_answered_as_refused_and_those_after_it_are_done() {
        let store = Store::open(Arc::new(MemoryDisk::new()), Options::new([1; 16])).unwrap();
        let feed = store
            .create_unknown(FeedKey([3; 32]), Role::Followed, Kind::Plain)
            .unwrap();
        let apply = || Job::Apply {
            id: ApplyId(7),
            feed: feed.clone(),
            items: Arc::default(),
        };
        let made = contained(apply(), |_| panic!("a bug"));
        let [Done::Applied { id, .. }, Done::Panicked(text)] = made.as_slice() else {
            panic!("{made:?}");
        };
        assert_eq!((*id, text.as_str()), (ApplyId(7), "a bug"));
        let made = contained(Job::Reads(5, Vec::new()), |_| panic!("{}", "another"));
        assert!(
            matches!(&made[..], [Done::Reads(5, _), Done::Panicked(text)] if text == "another")
        );
        let made = contained(apply(), carry_out);
        assert!(matches!(&made[..], [Done::Applied { id: ApplyId(7), .. }]));
    }
}
