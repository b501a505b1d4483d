//! A machine that gets another address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kinlog_feeds::FeedKey;
use kinlog_swarm::Label;
use testkit::namespaces::{Internet, Nat, Side};
use tokio::sync::Barrier;

use crate::support::{TestHost, TestNode, store};
use crate::world::{Servers, feed_key, node_config, or_left_out, runtime};

/// How long a session may be away when an address changes: a second until that is noticed, then what any
/// pair takes that meets. Silence alone would be taken for the end after ten.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// A node that opens a session, is told that its address has changed, and opens another.
fn moving(seed: u8, key: FeedKey, both: Arc<Barrier>) -> Duration {
    let work = async move {
        let mut node = TestNode::with(node_config(seed), store(seed), TestHost::default());
        node.node.join(Label::Feed, key.0);
        node.opened().await;
        both.wait().await;
        // The address changes here.
        both.wait().await;
        let changed = Instant::now();
        node.opened().await;
        let back = changed.elapsed();
        both.wait().await;
        node.node.shutdown().await;
        back
    };
    runtime().block_on(work)
}

#[test]
fn namespaces_session_is_back_soon_after_an_address_has_changed() {
    let Some(internet) = or_left_out(Internet::new()) else {
        return;
    };
    let _servers = Servers::start(&internet);
    internet.set_nat(Side::Left, Nat::Restricted);
    internet.set_nat(Side::Right, Nat::Restricted);
    let key = feed_key();
    let all = Arc::new(Barrier::new(3));
    let (one, other) = (Arc::clone(&all), Arc::clone(&all));
    let mover = internet.on_host(Side::Left, move || moving(1, key, one));
    let stayer = internet.on_host(Side::Right, move || moving(2, key, other));
    let back = runtime().block_on(async {
        all.wait().await;
        internet.change_address(Side::Left, 3);
        all.wait().await;
        all.wait().await;
        [mover.join().unwrap(), stayer.join().unwrap()]
    });
    println!("back after {back:?}");
    assert!(back.iter().all(|back| *back < BACK_WITHIN), "{back:?}");
}
