//! Mistakes that a replicator could make. Tests make them on purpose, one at a time, to show that they
//! would be noticed; without the feature `test-switches` there is no way to.

/// Something that is left out or done in the wrong way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(feature = "test-switches"),
    allow(dead_code, unreachable_pub, reason = "made by tests only")
)]
pub enum Mistake {
    /// Whoever asks is answered, also one that may not have the feed.
    LimitForgotten,
    /// Requests of a peer are queued without end.
    QueueWithoutEnd,
    /// Nobody looks again at a peer that was silent and has a longer head.
    SilenceForgotten,
    /// A peer that could not prove its head is not asked again when it holds the blocks.
    RefusalForEver,
    /// What an answer carries beside what was asked for is stored, too.
    AnswerUnchecked,
    /// What was asked of a peer that went is not asked of anybody else.
    GoneWithPeer,
    /// The answer to a request of an earlier connection goes to the one that is open now.
    CancelledRead,
    /// Peers are not told of blocks that were given up.
    DropUntold,
    /// The proof of a conflict is kept and told to nobody.
    ProofUntold,
    /// A request that is declined stays in the window for ever.
    WindowLeak,
    /// A range that is wanted ends one block later.
    RangeOffByOne,
    /// The number of a request is used again while its answer may still come.
    NumberReused,
    /// Blocks are announced that have arrived and are not durable.
    AnnouncedEarly,
    /// Heads that were told by a digest are taken for ours, whatever it is.
    GroupUnchecked,
}

#[cfg(feature = "test-switches")]
thread_local! {
    static MADE: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Makes a mistake in this thread from now on, or no more.
#[cfg(feature = "test-switches")]
pub fn make(mistake: Option<Mistake>) {
    MADE.set(mistake);
}

/// Returns whether a mistake is made.
#[cfg(feature = "test-switches")]
pub(super) fn makes(mistake: Mistake) -> bool {
    MADE.get() == Some(mistake)
}

/// Returns whether a mistake is made: never.
#[cfg(not(feature = "test-switches"))]
pub(super) fn makes(_mistake: Mistake) -> bool {
    false
}
