//! A table of every pair of kinds of router.

use testkit::namespaces::{Internet, Nat, SERVER};

use crate::world::{Met, Servers, TABLE, Task, or_left_out};

#[test]
fn namespaces_every_pair_of_nats_connects_directly_where_it_can_and_by_turn_elsewhere() {
    let Some(internet) = or_left_out(Internet::new()) else {
        return;
    };
    let _servers = Servers::start(&internet);
    let mut wrong = Vec::new();
    println!("{TABLE}");
    for (at, left) in Nat::ALL.into_iter().enumerate() {
        for right in Nat::ALL.into_iter().skip(at) {
            let met = Met::try_to(&internet, left, right, Task::default());
            println!("{met}");
            if met.is_relayed() != Some(met.needs_relay()) {
                wrong.push(met.to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn namespaces_nodes_that_use_relays_alone_show_no_address_of_their_own() {
    let Some(internet) = or_left_out(Internet::new()) else {
        return;
    };
    let _servers = Servers::start(&internet);
    let task = Task {
        relay_only: true,
        ..Task::default()
    };
    let met = Met::try_to(&internet, Nat::Open, Nat::Open, task);
    let (author, reader) = met.seen.expect("open networks reach the TURN server");
    for seen in [author, reader] {
        for end in [seen.path.local, seen.path.remote] {
            assert_eq!(end.address.unwrap().ip(), SERVER, "{:?}", seen.path);
        }
    }
}
