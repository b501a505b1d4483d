//! Mistakes made on purpose, one at a time: the simulation has to notice each.

use std::panic::catch_unwind;

use kinlog_feeds::replicate::mistake::{self, Mistake as Replicate};
use kinlog_feeds::store::Mistake as Store;
use kinlog_indexer::mistake::Mistake as IndexMistake;
use testkit::soak;

use crate::world::World;

/// A mistake of one of the crates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Injected {
    Replicate(Replicate),
    Store(Store),
    Index(IndexMistake),
}

/// Those that the first few seeds show: each ordinary run tries them all.
const SOON: [Injected; 5] = [
    Injected::Store(Store::StaleHeadBelieved),
    Injected::Store(Store::WrongLock),
    Injected::Index(IndexMistake::CheckpointApart),
    Injected::Replicate(Replicate::SilenceForgotten),
    Injected::Replicate(Replicate::GoneWithPeer),
];

/// The others: a soak tries them, too.
const LATER: [Injected; 19] = [
    Injected::Replicate(Replicate::QueueWithoutEnd),
    Injected::Replicate(Replicate::RefusalForEver),
    Injected::Store(Store::SkipSync),
    Injected::Store(Store::SkipVerification),
    Injected::Store(Store::PublishBeforeSync),
    Injected::Store(Store::BitmapOffByOne),
    Injected::Store(Store::ForgetConflict),
    Injected::Replicate(Replicate::LimitForgotten),
    Injected::Replicate(Replicate::CancelledRead),
    Injected::Replicate(Replicate::DropUntold),
    Injected::Replicate(Replicate::ProofUntold),
    Injected::Replicate(Replicate::WindowLeak),
    Injected::Replicate(Replicate::RangeOffByOne),
    Injected::Replicate(Replicate::NumberReused),
    Injected::Replicate(Replicate::AnnouncedEarly),
    Injected::Store(Store::CheckpointBeforeData),
    Injected::Store(Store::StaleIndexBelieved),
    Injected::Store(Store::ClearedRangeServed),
    Injected::Replicate(Replicate::AnswerUnchecked),
];

/// Seeds within which each has to be noticed.
const SEEDS: u64 = 300;

/// Returns the seed that notices a mistake, and what it says.
fn noticed(injected: Injected) -> Option<(u64, String)> {
    mistake::make(match injected {
        Injected::Replicate(mistake) => Some(mistake),
        _ => None,
    });
    kinlog_indexer::mistake::make(match injected {
        Injected::Index(mistake) => Some(mistake),
        _ => None,
    });
    let noticed = (1..=SEEDS).find_map(|seed| {
        let outcome = catch_unwind(|| World::new(seed, Some(injected)).run());
        let told = outcome.err()?;
        let words = told.downcast_ref::<String>().cloned();
        let words = words.or_else(|| told.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Some((seed, words.unwrap_or_default()))
    });
    mistake::make(None);
    kinlog_indexer::mistake::make(None);
    noticed
}

#[test]
fn mistakes_made_on_purpose_are_noticed() {
    let tried: Vec<Injected> = match soak::is_on() {
        true => LATER.into_iter().chain(SOON).collect(),
        false => SOON.to_vec(),
    };
    let mut missed = Vec::new();
    for injected in tried {
        match noticed(injected) {
            Some((seed, words)) => println!("{injected:?}: seed {seed}: {words}"),
            None => missed.push(injected),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
