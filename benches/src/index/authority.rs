//! What the acts of a room cost.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use kinlog_indexer::authority::RoomActs;
use kinlog_indexer::limits::ROOM_ACTS_MAX;

use crate::acts::{Done, devices_of, late_history};
use crate::row::{Effort, Measured, Row};

const ACTS: usize = 2_000;

pub(crate) const AUTHORITY: Row = Row {
    name: "authority_2000_ms",
    unit: "ms",
    definition: "evaluating 2,000 acts of a room, from nothing: 8 agents who hear of each other up to \
        12 acts late change roles, make and revoke invites and announce epochs; who may do what, \
        what is void, who is a member (less is better). Signatures were verified when they came.",
    measure,
    once: None,
};

fn measure(effort: &Effort) -> Result<Measured> {
    let script = late_history(7, ACTS);
    ensure!(script.acts.len() == ACTS);
    let held: Vec<_> = script.acts.iter().map(Done::held).collect();
    Measured::alternate(
        effort,
        || {
            let acts = held.clone();
            let start = Instant::now();
            let mut room = RoomActs::new(devices_of, ROOM_ACTS_MAX);
            for act in acts {
                room.add(act);
            }
            ensure!(black_box(room.authority()).start.is_some());
            Ok(1_000.0 * start.elapsed().as_secs_f64())
        },
        Vec::new(),
        None,
    )
}
