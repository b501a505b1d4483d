//! Mistakes that an index could make. Tests make them on purpose, one at a time, to show that they
//! would be noticed; without the feature `test-switches` there is no way to.

/// Something that is left out or done in the wrong way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(feature = "test-switches"),
    allow(dead_code, unreachable_pub, reason = "made by tests only")
)]
pub enum Mistake {
    /// The checkpoint is written in a transaction of its own, after that of the rows.
    CheckpointApart,
    /// A removal takes nothing back of what its target did at the same time.
    WeakRemoval,
    /// A revocation of a device takes nothing back of what it did at the same time.
    WeakRevocation,
    /// Acts of one rank and depth are decided in the order in which they came.
    TieByArrival,
    /// A device that was never one brings somebody in.
    StolenAddition,
    /// Both of two acts in one feed count that do not know each other.
    BothBranches,
    /// Whoever comes by an expired invite is let in.
    ExpiredInvite,
    /// Of concurrent admissions by one invite more count than it has uses.
    InviteWithoutEnd,
    /// Nothing is set aside when the last owner goes.
    NoOwner,
    /// What is behind a cut is shown.
    CutShown,
    /// Acts that a late key opens are not evaluated.
    LateKey,
    /// A link whose target comes later does not lift its entry above it.
    LinkForgotten,
    /// A cut is not compared with the tree when its last block comes.
    DisputeForgotten,
    /// Deletions are not judged again after somebody's role changed.
    DeletionForgotten,
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
pub(crate) fn makes(mistake: Mistake) -> bool {
    #[cfg(feature = "test-switches")]
    return MADE.get() == Some(mistake);
    #[cfg(not(feature = "test-switches"))]
    {
        let _ = mistake;
        false
    }
}
