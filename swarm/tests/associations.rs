//! Two nodes with a long way between them: real WebRTC, real sockets, a link in user space.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    PATIENCE, TestHost, TestNode, assert_same_blocks, blocks, config, own_feed, store,
};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::Want;
use kinlog_swarm::link::webrtc::{Negotiation, Progress, ToldAddresses, WebrtcSettings};
use kinlog_swarm::{Label, NodeEvent, SessionRole, SessionStatus};
use testkit::far::{Crossing, Quality};

const MS: Duration = Duration::from_millis(1);
const BLOCK_BYTES: usize = 65_536;

/// A long way, slow enough for a transfer to be under way for a while, in front of which much may wait:
/// what is lost there costs seconds.
fn far() -> Quality {
    Quality {
        queue_bytes: 8 * 1024 * 1024,
        ..Quality::of(40 * MS, 6_000_000)
    }
}

/// Two nodes and what is between them. The first one is reached across it alone, the other not at all.
struct Apart {
    crossing: Arc<Crossing>,
    nodes: [TestNode; 2],
}

fn settings(side: usize, crossing: &Arc<Crossing>) -> WebrtcSettings {
    let crossing = Arc::clone(crossing);
    let told = move |address: SocketAddr| match side {
        0 => crossing.stands_for(address).unwrap(),
        _ => (Ipv4Addr::LOCALHOST, 9).into(),
    };
    WebrtcSettings {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        told: Some(ToldAddresses::new(told)),
        ..WebrtcSettings::default()
    }
}

impl Apart {
    fn start(quality: Quality) -> Apart {
        let crossing = Arc::new(Crossing::start(quality, 1));
        let node = |side: usize| {
            let mut config = config(side as u8 + 1, &[]);
            let settings = settings(side, &crossing);
            (config.bind, config.told) = (settings.bind, settings.told);
            TestNode::with(config, store(side as u8 + 1), TestHost::default())
        };
        let nodes = [node(0), node(1)];
        Apart { crossing, nodes }
    }

    /// Joins the two by a data channel; the one with this number is the initiator.
    async fn meet(&self, key: FeedKey, initiator: usize) {
        let [here, there] = [0, 1].map(|side| settings(side, &self.crossing));
        let (mut one, offer) = Negotiation::offer(&here, 1).await.unwrap();
        let (mut other, answer) = Negotiation::answer(&there, &offer).await.unwrap();
        one.accept(&answer).await.unwrap();
        let (mut one_open, mut other_open) = (false, false);
        while !(one_open && other_open) {
            tokio::select! {
                progress = one.progress(), if !one_open => match progress.unwrap() {
                    Progress::Candidate(body) => other.add_candidate(&body).await.unwrap(),
                    Progress::Open => one_open = true,
                },
                progress = other.progress(), if !other_open => match progress.unwrap() {
                    Progress::Candidate(body) => one.add_candidate(&body).await.unwrap(),
                    Progress::Open => other_open = true,
                },
            }
        }
        let links = [
            one.into_link().await.unwrap(),
            other.into_link().await.unwrap(),
        ];
        for (side, link) in links.into_iter().enumerate() {
            let role = match side == initiator {
                true => SessionRole::Initiator,
                false => SessionRole::Responder,
            };
            let node = &self.nodes[side].node;
            node.attach(Arc::new(link), Label::Feed, key.0, role)
                .await
                .unwrap();
        }
    }

    /// Waits until the reader holds so many blocks.
    async fn held(&self, key: FeedKey, blocks: u64) {
        let feed = self.nodes[1].store.feed(&key).unwrap();
        let begun = Instant::now();
        while feed.info().blocks_held < blocks {
            assert!(begun.elapsed() < PATIENCE, "{:?}", feed.info());
            tokio::time::sleep(MS).await;
        }
    }

    async fn sessions(&self) -> [Vec<SessionStatus>; 2] {
        [
            self.nodes[0].status().await.sessions,
            self.nodes[1].status().await.sessions,
        ]
    }

    /// Waits until both sides count so many associations.
    async fn count(&self, associations: usize) {
        let begun = Instant::now();
        loop {
            let sessions = self.sessions().await;
            let is_so = |side: &Vec<SessionStatus>| {
                side.first()
                    .is_some_and(|one| one.associations == associations)
            };
            if sessions.iter().all(is_so) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "not {associations}: {sessions:#?}"
            );
            tokio::time::sleep(5 * MS).await;
        }
    }
}

/// Serves so many blocks from one side, to be fetched by the other.
fn offer_feed(apart: &mut Apart, author: usize, count: usize) -> FeedKey {
    let (feed, signer) = own_feed(&apart.nodes[author].store, 9);
    feed.append_batch(&signer, &blocks(1, count, BLOCK_BYTES))
        .unwrap();
    apart.nodes[author].serve(feed.key());
    apart.nodes[1 - author].follow(feed.key(), Want::All);
    feed.key()
}

/// Returns how many associations the reader saw at most while it fetched everything.
async fn fetch(apart: &mut Apart, reader: usize, key: FeedKey, count: u64) -> usize {
    let mut most = 0;
    let begun = Instant::now();
    loop {
        let status = apart.nodes[reader].status().await;
        if status.sessions.len() != 1 {
            panic!("not one peer: {:?}", apart.nodes.each_mut().map(why_closed));
        }
        most = most.max(status.sessions[0].associations);
        let feed = apart.nodes[reader].store.feed(&key).unwrap();
        if feed.info().blocks_held == count {
            break;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "{status:#?}");
        tokio::time::sleep(5 * MS).await;
    }
    assert_same_blocks(&apart.nodes[0].store, &apart.nodes[1].store, key, count);
    most
}

fn why_closed(node: &mut TestNode) -> Option<String> {
    let events = std::iter::from_fn(|| node.events.try_recv().ok());
    let mut reasons = events.filter_map(|event| match event {
        NodeEvent::SessionClosed { reason, .. } => Some(reason),
        _ => None,
    });
    reasons.next()
}

fn opened_and_closed(node: &mut TestNode) -> (usize, usize) {
    let (mut opened, mut closed) = (0, 0);
    while let Ok(event) = node.events.try_recv() {
        match event {
            NodeEvent::SessionOpened { .. } => opened += 1,
            NodeEvent::SessionClosed { .. } => closed += 1,
            _ => {}
        }
    }
    (opened, closed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_way_takes_four_associations_and_stays_one_peer() {
    for initiator in [0, 1] {
        let mut apart = Apart::start(far());
        let key = offer_feed(&mut apart, 0, 110);
        apart.meet(key, initiator).await;
        assert_eq!(fetch(&mut apart, 1, key, 110).await, 4);
        let sessions = apart.sessions().await;
        let carried = sessions[1][0].bytes_in;
        let content = 110 * BLOCK_BYTES as u64;
        assert!(carried >= content, "all associations are counted");
        assert!(
            carried <= content * 102 / 100,
            "{carried} bytes for {content}"
        );
        assert!(sessions[1][0].round_trip_ms.unwrap() >= 40);
        for node in &mut apart.nodes {
            assert_eq!(opened_and_closed(node), (1, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_that_breaks_in_the_middle_loses_nothing() {
    let mut apart = Apart::start(far());
    let key = offer_feed(&mut apart, 0, 160);
    apart.meet(key, 0).await;
    let first = apart.crossing.sockets();
    apart.count(4).await;
    let sockets = apart.crossing.sockets();
    let further = sockets.into_iter().find(|one| !first.contains(one));
    apart.crossing.cut(further.unwrap());
    fetch(&mut apart, 1, key, 160).await;
    let carried = apart.sessions().await[1][0].bytes_in;
    let content = 160 * BLOCK_BYTES as u64;
    // What was on its way when it broke goes again: one window.
    assert!(
        carried <= content * 102 / 100 + 1024 * 1024,
        "{carried} for {content}"
    );
    for node in &mut apart.nodes {
        assert_eq!(opened_and_closed(node), (1, 0));
    }
}

/// The reader's requests go by the first association in order, and by each of the others, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_while_the_first_association_stands_still() {
    let mut apart = Apart::start(far());
    let key = offer_feed(&mut apart, 0, 200);
    apart.meet(key, 0).await;
    let first = apart.crossing.sockets();
    apart.count(4).await;
    // Blocks that the first one still carries have come by then.
    apart.held(key, 110).await;
    for socket in first {
        apart.crossing.cut(socket);
    }
    fetch(&mut apart, 1, key, 200).await;
    for node in &mut apart.nodes {
        assert_eq!(opened_and_closed(node), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_cost_time_and_nothing_else() {
    let quality = Quality {
        loss_ppm: 10_000,
        ..Quality::of(20 * MS, 125_000_000)
    };
    let mut apart = Apart::start(quality);
    let key = offer_feed(&mut apart, 0, 60);
    apart.meet(key, 0).await;
    fetch(&mut apart, 1, key, 60).await;
    assert!(apart.crossing.lost() > 10);
    let carried = apart.sessions().await[1][0].bytes_in;
    let content = 60 * BLOCK_BYTES as u64;
    assert!(carried <= content * 102 / 100, "{carried} for {content}");
    for node in &mut apart.nodes {
        assert_eq!(opened_and_closed(node), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_may_have_much_to_carry_and_share_the_same_associations() {
    let mut apart = Apart::start(far());
    let down = offer_feed(&mut apart, 0, 70);
    let (feed, signer) = own_feed(&apart.nodes[1].store, 8);
    feed.append_batch(&signer, &blocks(2, 70, BLOCK_BYTES))
        .unwrap();
    apart.nodes[1].serve(feed.key());
    apart.nodes[0].follow(feed.key(), Want::All);
    apart.meet(down, 0).await;
    assert!(fetch(&mut apart, 1, down, 70).await <= 4);
    assert!(fetch(&mut apart, 0, feed.key(), 70).await <= 4);
    for node in &mut apart.nodes {
        assert_eq!(opened_and_closed(node), (1, 0));
    }
}
