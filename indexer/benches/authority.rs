//! Rows `index_removal_s` and `authority_2000_acts_ms`: a member is removed from a room of so many
//! messages, half of them behind the cut, while a reader looks on; 2,000 acts of a room whose
//! members hear of each other late are evaluated. `cargo bench -p kinlog-indexer --bench authority`
//! prints a JSON line for each; an argument names the number of messages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

#[path = "../tests/acts/mod.rs"]
mod acts;
#[path = "../tests/world/mod.rs"]
mod world;

use std::time::Instant;

use kinlog_indexer::authority::RoomActs;
use kinlog_indexer::entry::{Act, Body, Cut, Deed, Links, Parents, Remove, Role};
use kinlog_indexer::index::TreeHashes;
use kinlog_indexer::{Index, Text};
use testkit::process::Folder;
use world::{World, admit_as, message, room_feed};

const RUNS: usize = 5;

fn main() {
    let count = std::env::args().filter_map(|text| text.parse().ok()).next();
    let removal = removal_s(count.unwrap_or(100_000));
    println!("{{\"bench\":\"index_removal_s\",\"ours\":{removal:.4},\"unit\":\"s\"}}");
    let evaluation = evaluation_ms();
    println!("{{\"bench\":\"authority_2000_acts_ms\",\"ours\":{evaluation:.1},\"unit\":\"ms\"}}");
}

/// Seconds from the block of a removal to its last row, the slowest of five members.
fn removal_s(count: usize) -> f64 {
    let mut world = World::new(1, 1 + RUNS as u8);
    for agent in 1..=RUNS {
        let member = world.agents[agent].membership(&world.room, agent);
        let admit = admit_as(member, Role::Member);
        world.write(room_feed(0), 1, 2_000, Links::default(), admit);
    }
    for number in 0..count {
        let feed = room_feed(1 + number % RUNS);
        let text = message(&format!("soup {number} of the day"));
        let ms = 3_000 + number as u64;
        world.write(feed, 2 + number as u64, ms, Links::default(), text);
    }
    let folder = Folder::new("removal");
    let path = folder.join("index.db");
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    for batch in world.blocks().chunks(1_000) {
        index.ingest(batch).unwrap();
    }
    let mut slowest = 0.0f64;
    for agent in 1..=RUNS {
        let feed = room_feed(agent);
        let length = (count / RUNS / 2) as u64;
        let cut = Cut {
            feed,
            length,
            tree_hash: world.trees.tree_hash(&feed, length).unwrap(),
        };
        let remove = Deed::Remove(Remove {
            agent: world.agents[agent].id,
            cuts: vec![cut],
            reason: Text::default(),
        });
        let parents = Parents::default();
        let body = Body::Act(Box::new(Act {
            parents,
            deed: remove,
        }));
        let depth = 2 + (count + agent) as u64;
        let block = world.write(room_feed(0), depth, 9_000_000, Links::default(), body);
        let start = Instant::now();
        index.ingest(&[block]).unwrap();
        slowest = slowest.max(start.elapsed().as_secs_f64());
        let last = index.messages(&world.room, 50).unwrap();
        assert!(
            last.iter()
                .all(|row| row.feed != feed || row.index < length)
        );
    }
    slowest
}

/// Milliseconds of the median evaluation.
fn evaluation_ms() -> f64 {
    let script = acts::late_history(7, 2_000);
    let held: Vec<_> = script.acts.iter().map(acts::Done::held).collect();
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let acts = held.clone();
            let start = Instant::now();
            let mut room = RoomActs::new(acts::devices_of, 8_192);
            for act in acts {
                room.add(act);
            }
            assert!(room.authority().start.is_some());
            start.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
