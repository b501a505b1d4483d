//! What one seed is about: who takes part, what goes wrong, and what the hostile ones do.

use std::ops::Range;
use std::time::Duration;

use kinlog_feeds::replicate::{Interest, Want};
use testkit::random::Random;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The power of a node goes: one of the policies 1 to 7.
    Power,
    /// The same, and its drive had lied about the last syncs.
    LyingDrive,
    /// An operation of a disk is refused, once or for good.
    Refusal,
    /// A disk is full for a while.
    FullDisk,
    /// A connection breaks.
    Break,
    /// A link delivers nothing for a while.
    Clog,
    /// Some reach the others, but not the other way round, or neither.
    Partition,
    /// Somebody opens the store of a running node.
    SecondProcess,
    /// A node gives space back.
    Clear,
    /// A node wants something else.
    OtherWant,
    /// A node may not have a feed any more.
    Removal,
    /// A wall clock jumps by up to a day.
    ClockJump,
    /// The index of a node cannot be written once.
    IndexRefusal,
}

impl Fault {
    pub(crate) const ALL: [Fault; 13] = [
        Fault::Power,
        Fault::LyingDrive,
        Fault::Refusal,
        Fault::FullDisk,
        Fault::Break,
        Fault::Clog,
        Fault::Partition,
        Fault::SecondProcess,
        Fault::Clear,
        Fault::OtherWant,
        Fault::Removal,
        Fault::ClockJump,
        Fault::IndexRefusal,
    ];
}

/// What a hostile node does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trick {
    /// Changes fields of its answers.
    ChangeFields,
    /// Changes bits of what it sends, whatever it is.
    FlipBits,
    /// Answers nothing.
    Withhold,
    /// Asks for everything, again and again.
    Flood,
    /// Sends blocks that nobody asked for, and those asked for twice.
    Unasked,
    /// Shows heads that it had earlier.
    StaleHead,
    /// Says that it holds everything.
    ClaimAll,
    /// Shows what is no proof of a conflict.
    BogusConflict,
    /// Adds a block to a feed by a copy of its key.
    Fork,
    /// Talks nonsense.
    Nonsense,
}

impl Trick {
    pub(crate) const ALL: [Trick; 10] = [
        Trick::ChangeFields,
        Trick::FlipBits,
        Trick::Withhold,
        Trick::Flood,
        Trick::Unasked,
        Trick::StaleHead,
        Trick::ClaimAll,
        Trick::BogusConflict,
        Trick::Fork,
        Trick::Nonsense,
    ];
}

/// What one seed is about.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Writers come first, then the seeder, then those who follow.
    pub(crate) writers: usize,
    pub(crate) honest: usize,
    /// They come last.
    pub(crate) hostile: usize,
    /// Blocks that are appended in all.
    pub(crate) blocks: u64,
    /// How long things go wrong.
    pub(crate) trouble: Duration,
    /// Blocks are entries of a room, and every honest node has an index.
    pub(crate) has_index: bool,
    /// The indexes are files.
    pub(crate) index_on_disk: bool,
    pub(crate) delay_us: Range<u64>,
    /// Nodes speak `kinlog/feed/1`.
    pub(crate) speaks_kinlog: bool,
    /// They tell of feeds in groups, and what one says to another arrives in the order of saying, as it does
    /// in a session.
    pub(crate) groups: bool,
    /// Bytes a second of a link.
    pub(crate) rate: u64,
    /// Answers overtake each other, as those of JavaScript peers do.
    pub(crate) reorders: bool,
    /// What tells of a state comes twice.
    pub(crate) duplicates: bool,
    pub(crate) faults: Vec<Fault>,
    pub(crate) tricks: Vec<Trick>,
}

fn some<T: Copy>(random: &mut Random, all: &[T], percent: u64) -> Vec<T> {
    let mut some = all.to_vec();
    some.retain(|_| random.below(100) < percent);
    some
}

impl Plan {
    pub(crate) fn of(seed: u64, random: &mut Random) -> Plan {
        let hostile = [0, 1, 1, 2][random.index(4)];
        let honest = 2 + random.index(6 - hostile + 1);
        let writers = 1 + random.index((honest - 1).min(3));
        let has_index = seed.is_multiple_of(4);
        let delay = 1 << random.below(20);
        let mut tricks = some(random, &Trick::ALL, 40);
        if hostile == 0 {
            tricks.clear();
        }
        if has_index {
            tricks.retain(|trick| *trick != Trick::Fork);
        }
        let mut plan = Plan {
            seed,
            writers,
            honest,
            hostile,
            blocks: 50 + random.below(if has_index { 70 } else { 250 }),
            trouble: Duration::from_secs(20 + random.below(100)),
            has_index,
            index_on_disk: seed.is_multiple_of(12),
            delay_us: delay / 2..delay + 1,
            rate: 1 << (14 + random.below(12)),
            speaks_kinlog: random.below(3) > 0,
            groups: false,
            reorders: random.below(3) == 0,
            duplicates: random.below(3) == 0,
            faults: some(random, &Fault::ALL, 45),
            tricks,
        };
        plan.groups = plan.speaks_kinlog && seed % 4 == 3;
        plan
    }

    pub(crate) fn nodes(&self) -> usize {
        self.honest + self.hostile
    }

    pub(crate) fn seeder(&self) -> usize {
        self.writers
    }

    pub(crate) fn is_hostile(&self, node: usize) -> bool {
        node >= self.honest
    }

    /// Returns what a node wants of a feed that is not its own.
    pub(crate) fn interest(&self, node: usize, random: &mut Random) -> Interest {
        let everything = self.has_index || node == self.seeder() || self.is_hostile(node);
        let (from, count) = (random.below(60), 1 + random.below(60));
        let want = match random.below(6) {
            _ if everything => Want::All,
            0..3 => Want::All,
            3 => Want::Range(from..from + count),
            4 => Want::Ranges(vec![from..from + count / 2, from + count..from + 2 * count]),
            _ => Want::Last(count / 4),
        };
        Interest { want, live: true }
    }
}

/// Returns whether a block may be asked for by who wants this.
pub(crate) fn is_wanted(want: &Want, block: u64) -> bool {
    match want {
        Want::None => false,
        Want::All | Want::Last(_) => true,
        Want::Range(range) => range.contains(&block),
        Want::Ranges(ranges) => ranges.iter().any(|range| range.contains(&block)),
    }
}

/// Returns the blocks that who wants this has to hold of a feed of `length` blocks.
pub(crate) fn due(want: &Want, length: u64) -> Vec<u64> {
    let from = match want {
        Want::Last(count) => length.saturating_sub(*count),
        _ => 0,
    };
    (from..length)
        .filter(|block| is_wanted(want, *block))
        .collect()
}
