//! Mistakes that a store could make. Tests make them on purpose, one at a time, to show that they
//! would be noticed; without the feature `test-switches` there is no way to.

/// Something that is left out or done in the wrong order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(feature = "test-switches"),
    allow(dead_code, unreachable_pub, reason = "made by tests only")
)]
pub enum Mistake {
    /// A commit is acknowledged without the sync of its segment.
    SkipSync,
    /// The index is made durable before the log record that it stands at.
    CheckpointBeforeData,
    /// The index is believed to know everything: what stands behind its checkpoint is not replayed.
    StaleIndexBelieved,
    /// Blocks become visible before the sync that makes them durable.
    PublishBeforeSync,
    /// Everything stored or received is taken as it is.
    SkipVerification,
    /// The block behind those that a record brings is said to be held, too.
    BitmapOffByOne,
    /// The proof of a conflict stops the feed and is not written down.
    ForgetConflict,
    /// The folder is taken as by one who only reads.
    WrongLock,
    /// A head that somebody shows is believed to be the newest, however short.
    StaleHeadBelieved,
    /// What a cleared record gave up is held again after opening.
    ClearedRangeServed,
}
