//! Every target over its corpus, and over some mutations of it.
#![allow(clippy::panic)] // A test fails by panicking.

use kinlog_fuzz::{TARGETS, Target, corpus, mutate, target};
use testkit::random::{self, Random};
use testkit::soak;

/// Mutations in a soak run, for each that the ordinary tests try.
const SOAK_TIMES: u64 = 200;

fn replay(name: &str) {
    let target = target(name).expect("the target is listed");
    let corpus = corpus(target);
    assert!(
        !corpus.is_empty(),
        "cargo run -p kinlog-fuzz -- --write-seeds {name}"
    );
    for (file, bytes) in &corpus {
        println!("{name}/{file}");
        (target.run)(bytes);
    }
    let seeds = (target.seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        assert!((target.run)(seed), "{name}: seed {number} is understood");
    }
    let corpus = corpus.into_iter().map(|(_, bytes)| bytes);
    let inputs: Vec<Vec<u8>> = seeds.into_iter().chain(corpus).collect();
    let seed = random::seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let cases = soak::choose(target.cases, target.cases * SOAK_TIMES);
    let understood = (0..cases)
        .filter(|_| (target.run)(&mutate(&inputs, &mut random)))
        .count();
    println!("{name}: {understood} of {cases} mutations were understood");
}

macro_rules! targets {
    ($($name:ident)*) => {
        mod fuzz {
            $(#[test]
            fn $name() {
                super::replay(stringify!($name));
            })*
        }

        #[test]
        fn every_target_is_replayed() {
            let listed: Vec<&str> = TARGETS.iter().map(|Target { name, .. }| *name).collect();
            assert_eq!(listed, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    record_header
    record_body
    segment_header
    store_log
    store_index
    store_repair
    bitfield
    bundle
    bundle_import
    manifest
    multisig
    proof
    conflict_proof
    kinlog_message
    set_proof
    peer_message
    wire_message
    wire_connection
    frame_sequence
    key_text
    link
    invite
    pair_text
    short_description
    seed_grant
    grant_link
    sign_in_code
    sign_in_record
    join_request
    join_answer
    room_message
    link_code
    link_request
    link_answer
    selection
    entry
    identity_set
    client_message
    server_message
    stun_request
    envelope
    sealed_secret
    backup_file
    backup_parts
}
