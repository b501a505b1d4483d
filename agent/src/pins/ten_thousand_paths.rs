//! One prefix of a directory of 10,000 paths, followed over a session: round trips and bytes counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::KeyPair;
use kinlog_feeds::manifest::Manifest;
use kinlog_indexer::entry::{Body, ClaimScope, Content, DirectoryLine, FeedClaim};
use kinlog_swarm::link::memory::{MemoryLink, pair};
use kinlog_swarm::link::{Link, LinkError, LinkPath, LinkStats};
use kinlog_swarm::{Label, SessionRole};
use tokio::sync::Notify;

use crate::api::Selection;
use crate::core::{Core, Place};
use crate::state::{Pin, PinTarget};
use crate::test_folder::TestFolder;
use crate::{Agent, NetworkConfig};

const PATHS: u64 = 10_000;

/// Nothing was sent or received for so long: an answer is complete.
const QUIET: Duration = Duration::from_millis(400);

/// A link whose answers arrive together, once the side that gives them has no more to say: the next
/// question is asked a round trip later, as over a long way.
#[derive(Debug)]
struct FarLink {
    inner: MemoryLink,
    held: Mutex<Vec<BytesMut>>,
    last: Mutex<Instant>,
    is_over: AtomicBool,
    something: Notify,
}

impl FarLink {
    fn note(&self) {
        *self.last.lock().expect("no panic") = Instant::now();
    }

    /// Delivers answer after answer; `before` is called before each.
    async fn deliver(self: Arc<Self>, before: impl Fn() + Send + 'static) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.something.notified().await;
            loop {
                let since = self.last.lock().expect("no panic").elapsed();
                match QUIET.checked_sub(since) {
                    Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
                    _ => break,
                }
            }
            let answer = std::mem::take(&mut *self.held.lock().expect("no panic"));
            if answer.is_empty() {
                continue;
            }
            before();
            for message in answer {
                if self.inner.send(message).await.is_err() {
                    return;
                }
            }
            self.note();
        }
    }
}

#[async_trait]
impl Link for FarLink {
    async fn send(&self, message: BytesMut) -> Result<(), LinkError> {
        self.note();
        self.held.lock().expect("no panic").push(message);
        self.something.notify_one();
        Ok(())
    }

    async fn recv(&self) -> Result<Option<Bytes>, LinkError> {
        let received = self.inner.recv().await;
        self.note();
        received
    }

    fn max_message(&self) -> usize {
        self.inner.max_message()
    }

    fn stats(&self) -> LinkStats {
        self.inner.stats()
    }

    async fn path(&self) -> LinkPath {
        self.inner.path().await
    }

    async fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.something.notify_one();
        self.inner.close().await;
    }
}

fn line(core: &Core, number: u64) -> Body {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let pair = KeyPair::from_seed(&seed);
    let scope = ClaimScope::Agent(core.agent);
    Body::DirectoryLine(DirectoryLine {
        // In no order, as people name things.
        label: path(number).as_str().try_into().expect("short"),
        kind: "log".try_into().expect("short"),
        content: Content::Bytes,
        feed: Manifest::single(pair.public_key()).key(),
        feed_id: [number as u8; 16],
        claim: FeedClaim::sign(&pair, &scope, &core.agent, &core.keys.device()),
        continues: None,
    })
}

fn path(number: u64) -> String {
    format!("/places/{:04}/pictures-{number:05}", number * 7919 % 1000)
}

async fn agent(folder: &TestFolder, name: &str) -> (Agent, Arc<Core>) {
    let agent = folder.agent(name).await;
    let core = agent.running().core.clone();
    (agent, core)
}

/// Blocks known, and blocks held, of a feed.
fn size(core: &Core, key: &FeedKey) -> (u64, u64) {
    let feed = core.store.feed(key);
    feed.map_or((0, 0), |feed| (feed.info().length, feed.info().blocks_held))
}

async fn until(core: &Core, what: impl Fn(&Core) -> bool) {
    let mut changes = core.changes();
    let seen = async {
        while !what(core) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen)
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_prefix_costs_four_round_trips_and_128_kib() {
    let folder = TestFolder::new();
    let (ann, author) = agent(&folder, "ann").await;
    let directory = author.directory().unwrap();
    let lines: Vec<u64> = (0..PATHS).collect();
    let mut slowest = Duration::ZERO;
    // What came after the last snapshot is to be read, too: most of what there can be.
    let (first, tail) = lines.split_at(PATHS as usize - 150);
    for part in first.chunks(985).chain(tail.chunks(50)) {
        let bodies = part.iter().map(|number| line(&author, *number)).collect();
        let started = Instant::now();
        author
            .write_entries(&directory, Place::Public, bodies)
            .unwrap();
        slowest = slowest.max(started.elapsed());
    }
    let written = author.feed(&directory.key).unwrap().info();
    eprintln!("{written:?}; the slowest 985 lines took {slowest:?}");

    let (bob, reader) = agent(&folder, "bob").await;
    let prefix = path(0).rsplit_once('/').unwrap().0.to_owned();
    let pin = Pin {
        target: PinTarget::Path(author.agent, Some(prefix.parse().unwrap())),
        selection: Selection::All,
        live: true,
        tier: "gift".to_owned(),
        reason: "follow".to_owned(),
        depth: 0,
        is_local: false,
    };
    reader.state.put_pin(&pin).unwrap();
    reader.relearn().unwrap();
    reader.replan().unwrap();

    let (near, far) = pair();
    let far = Arc::new(FarLink {
        inner: far,
        held: Mutex::default(),
        last: Mutex::new(Instant::now()),
        is_over: AtomicBool::new(false),
        something: Notify::new(),
    });
    let (trips, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let deliver = far.clone().deliver({
        let (reader, key) = (reader.clone(), directory.key);
        let (trips, answers, before) = (trips.clone(), answers.clone(), Mutex::new((0, 0)));
        move || {
            answers.fetch_add(1, Ordering::Relaxed);
            // The answer before this one brought something of the directory.
            let now = size(&reader, &key);
            if std::mem::replace(&mut *before.lock().expect("no panic"), now) != now {
                trips.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    tokio::spawn(deliver);
    let near = Arc::new(near);
    for (agent, link, role) in [
        (&ann, far.clone() as Arc<dyn Link>, SessionRole::Responder),
        (&bob, near.clone() as Arc<dyn Link>, SessionRole::Initiator),
    ] {
        agent.start_network(NetworkConfig::default()).await.unwrap();
        let network = agent.running().core.network().unwrap();
        network
            .node
            .attach(link, Label::Agent, author.agent.0, role)
            .await
            .unwrap();
    }
    let found = |core: &Core| {
        core.knowledge(|known| {
            let known = known.agents.get(&author.agent);
            let lines = known.into_iter().flat_map(|known| &known.lines);
            let prefix = prefix.parse().unwrap();
            lines.filter(|line| line.is_covered_by(&prefix)).count()
        })
    };
    until(&reader, |core| found(core) == 10).await;
    let stats = near.stats();
    let bytes = stats.bytes_in + stats.bytes_out;
    // The last answer was not counted by one after it.
    let trips = trips.load(Ordering::Relaxed) + 1;
    let held = size(&reader, &directory.key);
    eprintln!(
        "{trips} round trips of {}, {bytes} B, {held:?}",
        answers.load(Ordering::Relaxed)
    );
    assert!(trips <= 4, "{trips} round trips");
    assert!(bytes <= 128 * 1024, "{bytes} B");
    assert!(held.0 > PATHS && held.1 < 300, "{held:?}");
    let name = reader.knowledge(|known| known.agents[&author.agent].name.clone());
    assert_eq!(name.as_deref(), Some("ann"));

    // What is new comes by itself, and costs a reader nothing of the other paths.
    let new: crate::links::FeedPath = format!("{prefix}/new").parse().unwrap();
    let started = Instant::now();
    author
        .create_path(&new, crate::core::NewPath::public(Content::Bytes))
        .unwrap();
    let created = started.elapsed();
    until(&reader, |core| found(core) == 11).await;
    eprintln!("created in {created:?}, seen after {:?}", started.elapsed());
    let stats = near.stats();
    let more = stats.bytes_in + stats.bytes_out - bytes;
    assert!(more < 16 * 1024, "{more} B for one path");
    far.close().await;
    ann.shutdown().await.unwrap();
    bob.shutdown().await.unwrap();
}
