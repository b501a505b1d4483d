//! Pairs drawn from a fixed mix of networks, far from each other over lines that lose packets: how many
//! connect, how soon, how many directly, and how soon what they write arrives (R187, R188, R189).

use std::time::Duration;

use testkit::far::Quality;
use testkit::namespaces::{Internet, Nat};
use testkit::random::{Random, usual_seed};
use testkit::soak;

use crate::world::{Met, Servers, TABLE, Task, or_left_out};

/// Each network's line to the internet: two of them, one after the other, make 40 ms there and back between
/// two hosts and lose 0.5 % of the packets.
fn line() -> Quality {
    Quality::of(Duration::from_millis(20), 12_500_000).losing(2_500)
}

/// Of 1,000 machines, how many are behind what. Who lets in by address alone counts as who lets in by
/// address and port, which is stricter.
const MIX: [(Nat, u64); 5] = [
    (Nat::Open, 175),
    (Nat::FullCone, 175),
    (Nat::Restricted, 500),
    (Nat::Symmetric, 100),
    (Nat::UdpBlocked, 50),
];

/// Written one after another once two have met.
const MESSAGES: usize = 20;

fn draw(random: &mut Random) -> Nat {
    let mut drawn = random.below(1_000);
    for (nat, share) in MIX {
        if drawn < share {
            return nat;
        }
        drawn -= share;
    }
    unreachable!("the shares are 1,000")
}

/// Returns the share of what holds, in percent.
fn percent(holds: usize, of: usize) -> f64 {
    100.0 * holds as f64 / of.max(1) as f64
}

#[test]
fn namespaces_pairs_of_a_fixed_mix_meet_far_from_each_other() {
    let seed = usual_seed(1);
    println!("KINLOG_SEED={seed}");
    let Some(internet) = or_left_out(Internet::far(line(), seed)) else {
        return;
    };
    let _servers = Servers::start(&internet);
    let mut random = Random::new(seed);
    let task = Task {
        messages: MESSAGES,
        ..Task::default()
    };
    let pairs = soak::choose(8, 300);
    println!("{TABLE}");
    let met: Vec<Met> = (0..pairs)
        .map(|_| {
            let (left, right) = (draw(&mut random), draw(&mut random));
            let met = Met::try_to(&internet, left, right, task);
            println!("{met}");
            met
        })
        .collect();
    let within = |limit| move |time: Duration| time <= Duration::from_secs(limit);
    let soon = met
        .iter()
        .filter(|met| met.connected().is_some_and(within(2)));
    let connected = percent(soon.count(), pairs);
    let direct = met.iter().filter(|met| met.is_relayed() == Some(false));
    let direct = percent(direct.count(), pairs);
    let arrived = met.iter().flat_map(Met::delivered);
    let arrived = arrived.filter(|time| within(5)(**time)).count();
    let delivered = percent(arrived, pairs * (1 + MESSAGES));
    println!("connected within 2 s: {connected:.1} %, directly: {direct:.1} %");
    println!("messages delivered within 5 s: {delivered:.1} %");
    let missed: Vec<_> = met.iter().filter(|met| met.seen.is_none()).collect();
    assert!(missed.is_empty(), "{} never met", missed.len());
    if soak::is_on() {
        assert!(connected > 90.0, "R187");
        assert!(delivered > 95.0, "R188");
        assert!(direct > 70.0, "R189");
    }
}
