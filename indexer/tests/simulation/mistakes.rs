//! Mistakes made on purpose, one at a time: the simulation has to notice each.

use std::ops::Range;
use std::panic::catch_unwind;

use bytes::Bytes;
use kinlog_feeds::limits::PUSH_BLOCKS_MAX;
use kinlog_feeds::replicate::mistake::{self, Mistake as Replicate};
use kinlog_feeds::store::Mistake as Store;
use kinlog_feeds::tree::{BlockProof, Proof};
use kinlog_feeds::wire::hypercore::{Data, Message, Synchronize};
use kinlog_feeds::wire::kinlog::FeedMessage;
use kinlog_indexer::mistake::Mistake as IndexMistake;
use testkit::random::Random;
use testkit::soak;

use crate::plan::Plan;
use crate::rooms;
use crate::world::World;

/// A mistake of one of the crates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Injected {
    Replicate(Replicate),
    Store(Store),
    Index(IndexMistake),
}

/// Those that the first few seeds show: each ordinary run tries them all.
const SOON: [Injected; 6] = [
    Injected::Store(Store::StaleHeadBelieved),
    Injected::Store(Store::WrongLock),
    Injected::Index(IndexMistake::CheckpointApart),
    Injected::Replicate(Replicate::SilenceForgotten),
    Injected::Replicate(Replicate::GoneWithPeer),
    Injected::Replicate(Replicate::GroupUnchecked),
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

/// Blocks may be sent unasked to who said so when they were appended, once each, and to nobody else.
#[test]
fn a_block_that_is_sent_unasked_is_noticed_unless_the_peer_takes_such() {
    let notices = |says: Option<bool>, appended: Range<u64>, sent: &[u64]| {
        let sent = sent.to_vec();
        let send = move || {
            let of_one_hostile = |seed: &u64| Plan::of(*seed, &mut Random::new(*seed)).hostile > 0;
            let seed = (1..).find(of_one_hostile).unwrap();
            let mut world = World::new(seed, None);
            let (writer, peer, key) = (0, world.plan.honest, rooms::room_feed(0));
            let told = says.map(|allow_push| Synchronize {
                allow_push,
                ..Synchronize::default()
            });
            if let Some(told) = told {
                let told = FeedMessage::Hypercore(Message::Synchronize(told));
                world.note_taken(writer, peer, key, &told);
            }
            world.note_appended(writer, key, appended.clone());
            for index in sent.clone() {
                let block = BlockProof {
                    index,
                    value: Bytes::new(),
                    nodes: Vec::new(),
                };
                let proof = Proof {
                    block: Some(block),
                    ..Proof::default()
                };
                let data = Data {
                    proof,
                    ..Data::default()
                };
                let data = FeedMessage::Hypercore(Message::Data(data));
                world.check_sent(writer, peer, key, &data);
            }
        };
        catch_unwind(send).is_err()
    };
    assert!(!notices(Some(true), 3..5, &[3, 4]));
    assert!(notices(None, 3..5, &[3]));
    assert!(notices(Some(false), 3..5, &[3]));
    assert!(notices(Some(true), 3..5, &[2]));
    assert!(notices(Some(true), 3..5, &[3, 3]));
    assert!(notices(Some(true), 3..4 + PUSH_BLOCKS_MAX, &[3]));
}
