//! Following: proofs in any order, manifests learned late, bad ones refused.

use bytes::Bytes;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{
    Applied, ApplyError, Feed, Incoming, Kind, MemoryDisk, ProveError, Role, Store,
};
use kinlog_feeds::tree::ProofRequest;
use kinlog_feeds::{FeedKey, KeyPair};
use testkit::disk::{Fault, FaultDisk};
use testkit::random::Random;

use crate::support::*;

fn source(length: u64) -> (Store, Feed) {
    let store = open(&MemoryDisk::new());
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..length)).unwrap();
    (store, feed)
}

#[test]
fn blocks_arrive_in_any_order_and_are_served_on() {
    let (_source_store, source) = source(100);
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = follower(&store, &source);
    assert_eq!(feed.manifest(), None);
    let upgraded = feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    assert_eq!(
        upgraded,
        vec![Ok(Applied {
            block: None,
            upgraded_to: Some(100)
        })]
    );
    assert_eq!(feed.manifest(), source.manifest());

    let mut order: Vec<u64> = (0..100).collect();
    let mut random = Random::new(5);
    for at in (1..order.len()).rev() {
        order.swap(at, random.index(at + 1));
    }
    for group in order.chunks(7) {
        let items: Vec<_> = group
            .iter()
            .map(|index| block_item(&source, *index))
            .collect();
        for (result, index) in feed.apply(&items).unwrap().into_iter().zip(group) {
            assert_eq!(
                result,
                Ok(Applied {
                    block: Some(*index),
                    upgraded_to: None
                })
            );
            // What is said to be held can be served, with all its nodes.
            assert!(feed.has(*index));
            assert_eq!(block_proof(&feed, *index), block_proof(&source, *index));
        }
    }
    assert_holds(&feed, 100);
    let key = feed.key();
    drop((feed, store));
    let store = open(&disk);
    let feed = store.feed(&key).unwrap();
    assert_eq!(feed.manifest(), source.manifest());
    assert_holds(&feed, 100);
}

#[test]
fn proofs_of_one_call_build_on_each_other() {
    let (_source_store, source) = source(64);
    let store = open(&MemoryDisk::new());
    let feed = follower(&store, &source);
    let sibling = source.prove(&block_request(9, 0)).unwrap();
    let items = [
        Incoming {
            proof: sibling.clone(),
            manifest: None,
        },
        upgrade_item(&source, 0),
        Incoming {
            proof: sibling.clone(),
            manifest: None,
        },
        block_item(&source, 8),
        Incoming {
            proof: sibling.clone(),
            manifest: None,
        },
    ];
    let results = feed.apply(&items).unwrap();
    let key = feed.key();
    assert_eq!(results[0], Err(ApplyError::ManifestUnknown { feed: key }));
    assert_eq!(
        results[1],
        Ok(Applied {
            block: None,
            upgraded_to: Some(64)
        })
    );
    assert_eq!(results[2], Err(ApplyError::MissingAnchor { feed: key }));
    assert_eq!(
        results[3],
        Ok(Applied {
            block: Some(8),
            upgraded_to: None
        })
    );
    assert_eq!(
        results[4],
        Ok(Applied {
            block: Some(9),
            upgraded_to: None
        })
    );
    assert_eq!(feed.have().count(), 2);
    assert_eq!(feed.get(9).unwrap(), Some(block(9)));
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}

#[test]
fn a_longer_head_continues_the_one_held() {
    let (_source_store, source) = source(10);
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = follower(&store, &source);
    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    assert_eq!(
        feed.apply(&[upgrade_item(&source, 0)]).unwrap(),
        vec![Err(ApplyError::Stale { feed: feed.key() })]
    );
    source.append_batch(&writer(), &blocks(10..25)).unwrap();
    let results = feed
        .apply(&[upgrade_item(&source, 10), block_item(&source, 24)])
        .unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(feed.head(), source.head());
    drop(store);
    drop(feed);
    let store = open(&disk);
    let feed = store.feed(&source.key()).unwrap();
    assert_eq!(feed.signed_head(), source.signed_head());
    assert_eq!(feed.get(24).unwrap(), Some(block(24)));
}

#[test]
fn bad_proofs_are_refused_and_leave_nothing() {
    let (_source_store, source) = source(20);
    let store = open(&MemoryDisk::new());
    let feed = follower(&store, &source);
    let other = Manifest::single(KeyPair::from_seed(&[4; 32]).public_key());
    let mut wrong_manifest = upgrade_item(&source, 0);
    wrong_manifest.manifest = Some(Bytes::from(other.encode()));
    let mut wrong_signature = upgrade_item(&source, 0);
    let upgrade = wrong_signature.proof.upgrade.as_mut().unwrap();
    let mut signature = upgrade.signature.to_vec();
    signature[20] ^= 1;
    upgrade.signature = signature.into();
    for item in [wrong_manifest, wrong_signature] {
        let results = feed.apply(&[item]).unwrap();
        assert!(
            matches!(results[0], Err(ApplyError::BadData { .. })),
            "{results:?}"
        );
        assert_eq!((feed.head().length, feed.manifest()), (0, None));
    }

    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    let mut wrong_block = block_item(&source, 3);
    wrong_block.proof.block.as_mut().unwrap().value = block(4);
    let mut too_large = block_item(&source, 3);
    too_large.proof.block.as_mut().unwrap().value = vec![0; 1024 * 1024 + 1].into();
    let results = feed
        .apply(&[wrong_block, too_large, block_item(&source, 5)])
        .unwrap();
    assert!(
        matches!(results[0], Err(ApplyError::BadData { block: Some(3), .. })),
        "{results:?}"
    );
    assert!(
        matches!(results[1], Err(ApplyError::TooLarge { block: 3, .. })),
        "{results:?}"
    );
    assert_eq!(
        results[2],
        Ok(Applied {
            block: Some(5),
            upgraded_to: None
        })
    );
    assert_eq!(feed.get(3).unwrap(), None);
    assert_eq!(feed.have().count(), 1);
}

#[test]
fn another_signed_tree_is_a_conflict_and_changes_nothing() {
    let (_source_store, source) = source(10);
    let other_store = open(&MemoryDisk::new());
    let other = own_feed(&other_store, &writer());
    other.append_batch(&writer(), &blocks(100..112)).unwrap();
    let store = open(&MemoryDisk::new());
    let feed = follower(&store, &source);
    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    let results = feed.apply(&[upgrade_item(&other, 0)]);
    // The other tree starts from 0; a reader at 10 sees both heads when asked for 0..10 first.
    let upgrade = other.prove(&upgrade_request(0, 10)).unwrap();
    let again = feed
        .apply(&[Incoming {
            proof: upgrade,
            manifest: None,
        }])
        .unwrap();
    assert!(
        matches!(again[0], Err(ApplyError::Conflict { .. })),
        "{again:?}"
    );
    assert!(results.unwrap()[0].is_err());
    assert_eq!(feed.signed_head(), source.signed_head());
}

#[test]
fn a_signed_head_on_a_higher_fork_is_a_conflict_on_kinlog_feeds_only() {
    let manifest = Manifest::single(writer().public_key());
    let (_source_store, source) = source(10);
    let head = kinlog_feeds::tree::Head {
        fork: 1,
        ..source.head()
    };
    let verifier = kinlog_feeds::manifest::Verifier::new(source.key(), &manifest).unwrap();
    let signature = verifier.sign(&writer(), &head.tree_hash(), 10, 1).unwrap();
    let mut item = upgrade_item(&source, 0);
    item.proof.fork = 1;
    item.proof.upgrade.as_mut().unwrap().signature = signature;

    for kind in [Kind::Kinlog, Kind::Plain] {
        let store = open(&MemoryDisk::new());
        let feed = store
            .create_unknown(source.key(), Role::Followed, kind)
            .unwrap();
        let results = feed.apply(std::slice::from_ref(&item)).unwrap();
        match kind {
            Kind::Kinlog => {
                assert!(
                    matches!(results[0], Err(ApplyError::Conflict { .. })),
                    "{results:?}"
                );
                assert_eq!(feed.head().length, 0);
            }
            Kind::Plain => {
                assert_eq!(
                    results[0],
                    Ok(Applied {
                        block: None,
                        upgraded_to: Some(10)
                    })
                );
                assert_eq!(feed.head().fork, 1);
            }
        }
    }
    // A fork that the writer did not sign is its sender's lie.
    let store = open(&MemoryDisk::new());
    let feed = follower(&store, &source);
    let mut unsigned = upgrade_item(&source, 0);
    unsigned.proof.fork = 1;
    let results = feed.apply(&[unsigned]).unwrap();
    assert!(
        matches!(results[0], Err(ApplyError::BadData { .. })),
        "{results:?}"
    );
    assert!(!feed.is_stopped());
}

#[test]
fn requests_for_what_is_not_held_are_told_so() {
    let (_source_store, source) = source(16);
    let store = open(&MemoryDisk::new());
    let feed = follower(&store, &source);
    let empty = feed.prove(&ProofRequest::default()).unwrap_err();
    assert!(matches!(empty, ProveError::NotAvailable { .. }));
    feed.apply(&[upgrade_item(&source, 0), block_item(&source, 2)])
        .unwrap();
    let missing = feed.prove(&block_request(3, 1)).unwrap_err();
    assert!(matches!(missing, ProveError::BlockNotHeld { block: 3, .. }));
    let invalid = source.prove(&upgrade_request(0, 17)).unwrap_err();
    assert!(
        matches!(invalid, ProveError::InvalidRequest { .. }),
        "{invalid:?}"
    );
}

#[test]
fn creating_a_known_feed_gives_the_same_and_its_manifest() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let manifest = Manifest::single(writer().public_key());
    let unknown = store
        .create_unknown(manifest.key(), Role::Followed, Kind::Kinlog)
        .unwrap();
    assert_eq!(unknown.manifest(), None);
    let known = store
        .create_feed(&manifest, Role::Own, Kind::Kinlog)
        .unwrap();
    assert_eq!(unknown.manifest(), Some(manifest.clone()));
    assert_eq!((known.key(), known.role()), (unknown.key(), Role::Followed));
    assert_eq!(store.feeds().len(), 1);
    assert!(
        store
            .create_with_key(FeedKey([1; 32]), &manifest, Role::Own, Kind::Plain)
            .is_err()
    );
    drop((store, unknown, known));
    assert_eq!(open(&disk).feeds()[0].manifest(), Some(manifest));
}

#[test]
fn a_hypercore_10_feed_needs_no_manifest_from_the_peer() {
    let store = open(&MemoryDisk::new());
    let public_key = writer().public_key();
    let key = FeedKey(public_key.0);
    let manifest = Manifest::compat(public_key);
    let source = store
        .create_with_key(key, &manifest, Role::Own, Kind::Plain)
        .unwrap();
    source.append_batch(&writer(), &blocks(0..9)).unwrap();

    let disk = MemoryDisk::new();
    let follower_store = open(&disk);
    let feed = follower(&follower_store, &source);
    let without = |item: Incoming| Incoming {
        manifest: None,
        ..item
    };
    let results = feed
        .apply(&[without(upgrade_item(&source, 0)), block_item(&source, 3)])
        .unwrap();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    assert_eq!(feed.manifest(), Some(manifest));
    drop((feed, follower_store));
    let feed = open(&disk).feed(&key).unwrap();
    assert_eq!(feed.head().length, 9);
    assert_eq!(feed.get(3).unwrap(), Some(block(3)));
}

#[test]
fn a_head_without_the_manifest_it_needs_is_nobodys_fault() {
    let (_source_store, source) = source(5);
    let store = open(&MemoryDisk::new());
    let feed = follower(&store, &source);
    let proof = upgrade_item(&source, 0).proof;
    let manifest = None;
    let results = feed.apply(&[Incoming { proof, manifest }]).unwrap();
    assert!(matches!(
        results[0],
        Err(ApplyError::ManifestUnknown { .. })
    ));
    assert_eq!(feed.head().length, 0);
    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    assert_eq!(feed.head().length, 5);
}

#[test]
fn an_apply_of_many_bytes_is_several_records_and_one_that_fails_leaves_what_holds() {
    let source_store = open(&MemoryDisk::new());
    let source = own_feed(&source_store, &writer());
    let large = |index: u64| Bytes::from(vec![index as u8; 300 * 1024]);
    let values: Vec<Bytes> = (0..24).map(large).collect();
    source.append_batch(&writer(), &values).unwrap();
    let mut items = vec![upgrade_item(&source, 0)];
    items.extend((0..24).map(|index| block_item(&source, index)));

    let disk = FaultDisk::new(MemoryDisk::new().as_disk());
    let store = Store::open(disk.as_disk(), small()).unwrap();
    let following = follower(&store, &source);
    let results = following.apply(&items).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for (index, value) in (0..).zip(&values) {
        assert_eq!(following.get(index).unwrap().as_ref(), Some(value));
    }
    assert_eq!(following.verify().unwrap().problems, vec![]);

    // A full disk in the middle: what is held is held with its nodes, the rest can come again.
    let disk = FaultDisk::new(MemoryDisk::new().as_disk());
    let store = Store::open(disk.as_disk(), small()).unwrap();
    let following = follower(&store, &source);
    following.apply(&items[..4]).unwrap();
    disk.refuse_growth(Fault::NoSpace);
    assert!(following.apply(&items).is_err());
    disk.heal();
    for index in (0..24).filter(|index| following.has(*index)) {
        assert_eq!(following.get(index).unwrap(), Some(large(index)));
        block_proof(&following, index);
    }
    let results = following.apply(&items[1..]).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(following.info().blocks_held, 24);
    assert_eq!(following.verify().unwrap().problems, vec![]);
}
