//! A signal server and agents in this process, each in a home of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "tests stop where they fail; each test file uses a part of this"
)]

pub(crate) mod timed;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kinlog_agent::api::{
    Answer, Answers, Error, FeedInfo, Reply, Request, Selection, Status, Text,
};
use kinlog_agent::home::{Initialised, Phrase, init};
use kinlog_agent::{Agent, Introduction, NetworkConfig, OpenOptions, introduce};
use kinlog_signal::{Settings, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Far above what anything here takes; a test that waits this long has failed.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Pause between two looks at what nobody tells of.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A folder that goes away with the test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kinlog-agent-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What a killed process with our number left behind is nobody's.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the twins of all homes of the test are kept.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A signal server on loopback.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) url: String,
    _stop: oneshot::Sender<()>,
}

impl Signal {
    pub(crate) async fn start() -> Signal {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, Settings::default(), async move {
            let _ = stopped.await;
        }));
        Signal { url, _stop: stop }
    }
}

/// An agent in its home.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) name: &'static str,
    pub(crate) home: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) id: Initialised,
    pub(crate) agent: Agent,
}

impl Cast {
    pub(crate) async fn new(folder: &Folder, name: &'static str) -> Cast {
        Cast::with_options(folder, name, OpenOptions::new(folder.state())).await
    }

    pub(crate) async fn with_options(
        folder: &Folder,
        name: &'static str,
        options: OpenOptions,
    ) -> Cast {
        let state = options.state.clone();
        let home = folder.path().join(name);
        let id = init(&home, &folder.state(), name, &Phrase::generate().unwrap()).unwrap();
        let agent = Agent::open(&home, options).await.unwrap();
        Cast {
            name,
            state,
            home,
            id,
            agent,
        }
    }

    /// Another device of the agent whose phrase this is, with a home of its own.
    pub(crate) async fn device(folder: &Folder, name: &'static str, phrase: &Phrase) -> Cast {
        let home = folder.path().join(name);
        let state = folder.path().join(format!("{name}.state"));
        let id = init(&home, &state, name, phrase).unwrap();
        let agent = Agent::open(&home, OpenOptions::new(&state)).await.unwrap();
        Cast {
            name,
            state,
            home,
            id,
            agent,
        }
    }

    pub(crate) async fn online(folder: &Folder, name: &'static str, signal: &Signal) -> Cast {
        let cast = Cast::new(folder, name).await;
        cast.go_online(signal).await;
        cast
    }

    pub(crate) async fn go_online(&self, signal: &Signal) {
        let config = NetworkConfig {
            signal_urls: vec![signal.url.clone()],
            ..NetworkConfig::default()
        };
        self.agent.start_network(config).await.unwrap();
    }

    /// Stops cleanly and opens the same home again, without network.
    pub(crate) async fn reopen(self) -> Cast {
        self.agent.shutdown().await.unwrap();
        let agent = Agent::open(&self.home, OpenOptions::new(&self.state))
            .await
            .unwrap();
        Cast { agent, ..self }
    }

    pub(crate) async fn stop(self) {
        self.agent.shutdown().await.unwrap();
    }

    pub(crate) fn ask(&self, request: Request) -> Answers {
        self.agent.request(request, Bytes::new())
    }

    /// The only answer to a request.
    pub(crate) async fn reply(&self, request: Request) -> Result<Reply, Error> {
        soon(self.ask(request).last())
            .await
            .map(|answer| answer.reply)
    }

    pub(crate) async fn create(&self, path: &str) -> FeedInfo {
        let path = path.to_owned();
        match self
            .reply(Request::FeedCreate {
                path,
                plain: false,
                private: false,
                kind: None,
            })
            .await
            .unwrap()
        {
            Reply::Feed(feed) => feed,
            other => panic!("{other:?}"),
        }
    }

    /// Appends blocks and returns the feed's link.
    pub(crate) async fn append(&self, path: &str, blocks: &[Bytes]) -> String {
        let lengths = blocks.iter().map(|block| block.len() as u32).collect();
        let request = Request::FeedAppend {
            path: path.to_owned(),
            lengths,
        };
        let answers = self.agent.request(request, blocks.concat().into());
        match soon(answers.last()).await.unwrap().reply {
            Reply::Appended { link, .. } => link.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn read(
        &self,
        feed: &str,
        range: Option<&str>,
    ) -> Result<Vec<(u64, Bytes)>, Error> {
        self.read_within(feed, range, None).await
    }

    /// Reads, and asks peers for what is not held for some ms.
    pub(crate) async fn read_within(
        &self,
        feed: &str,
        range: Option<&str>,
        wait_ms: Option<u64>,
    ) -> Result<Vec<(u64, Bytes)>, Error> {
        let range = range.map(|range| Text(range.parse::<Selection>().unwrap()));
        let answers = self.ask(Request::FeedRead {
            feed: feed.to_owned(),
            range,
            bytes: None,
            wait_ms,
        });
        let answers = soon(answers.all()).await?;
        Ok(answers
            .into_iter()
            .map(|Answer { reply, payload }| match reply {
                Reply::Block { index, .. } => (index, payload),
                other => panic!("{other:?}"),
            })
            .collect())
    }

    /// Follows once and waits until all asked for is stored.
    pub(crate) async fn follow(&self, link: &str, range: Option<&str>) -> Result<(), Error> {
        let range = range.map(|range| Text(range.parse::<Selection>().unwrap()));
        let request = Request::Follow {
            link: link.to_owned(),
            range,
            once: true,
            options: Default::default(),
        };
        soon(self.ask(request).last()).await.map(|_| ())
    }

    pub(crate) async fn status(&self) -> Status {
        match self.reply(Request::Status).await.unwrap() {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Text of all messages of a room, oldest first.
    pub(crate) async fn messages(&self, room: &str) -> Vec<String> {
        let request = Request::Read {
            room: room.to_owned(),
            last: None,
            watch: false,
            mentions: false,
            presence: false,
        };
        let answers = soon(self.ask(request).all()).await.unwrap();
        answers
            .into_iter()
            .map(|answer| match answer.reply {
                Reply::Message(message) => format!("{}: {}", message.author_name, message.text),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Waits until a room holds a message.
    pub(crate) async fn wait_for_message(&self, room: &str, text: &str) {
        let request = Request::Read {
            room: room.to_owned(),
            last: None,
            watch: true,
            mentions: false,
            presence: false,
        };
        let mut answers = self.ask(request);
        let wait = async {
            while let Some(answer) = answers.next().await {
                if let Reply::Message(message) = answer.unwrap().reply
                    && message.text == text
                {
                    return;
                }
            }
            panic!("reading of {room} ended");
        };
        soon(wait).await;
    }

    pub(crate) async fn send(&self, room: &str, text: &str) {
        let request = Request::Send {
            room: room.to_owned(),
            text: text.to_owned(),
            reply_to: None,
        };
        self.reply(request).await.unwrap();
    }

    pub(crate) async fn invite(&self, room: &str) -> String {
        match self
            .reply(Request::RoomInvite {
                room: room.to_owned(),
                role: None,
                expires_in: None,
                uses: None,
            })
            .await
            .unwrap()
        {
            Reply::Invite { link, .. } => link,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn join(&self, link: &str) -> Result<Reply, Error> {
        self.reply(Request::RoomJoin {
            link: link.to_owned(),
            wait_seconds: None,
        })
        .await
    }

    pub(crate) async fn dump_hash(&self, rebuild: bool) -> (String, u64) {
        match self.reply(Request::Index { rebuild }).await.unwrap() {
            Reply::Index {
                dump_hash, entries, ..
            } => (dump_hash, entries),
            other => panic!("{other:?}"),
        }
    }

    /// Holds the index against one that is made anew from the blocks that are here. A block that comes
    /// in between makes another comparison.
    pub(crate) async fn rebuilds_to_the_same(&self) {
        let (before, after) = until(async || {
            let held = self.status().await.store.blocks;
            let before = self.reply(Request::Index { rebuild: false }).await.unwrap();
            let after = self.reply(Request::Index { rebuild: true }).await.unwrap();
            let is_read = matches!(&before, Reply::Index { behind: 0, .. });
            let is_at_rest = is_read && self.status().await.store.blocks == held;
            is_at_rest.then_some((before, after))
        })
        .await;
        assert_eq!(before, after, "{}: made anew it is the same", self.name);
    }
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work)
        .await
        .expect("done in time")
}

/// Asks again until it is so.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    };
    soon(asking).await
}

/// Asks again until it is so; `what` is told when it never is.
pub(crate) async fn until_so(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    };
    assert!(
        tokio::time::timeout(SOON, asking).await.is_ok(),
        "never so: {what}"
    );
}

/// Introduces everybody to everybody.
pub(crate) async fn meet(all: &[&Cast]) -> Vec<Introduction> {
    let mut met = Vec::new();
    for (number, one) in all.iter().enumerate() {
        for other in &all[number + 1..] {
            met.push(introduce(&one.agent, &other.agent).await.unwrap());
        }
    }
    met
}

/// Blocks that differ, `count` of `bytes` each.
pub(crate) fn blocks(count: usize, bytes: usize) -> Vec<Bytes> {
    let block = |number: usize| {
        let mut block = vec![number as u8; bytes];
        let stamp = (number as u64).to_le_bytes();
        block[..8.min(bytes)].copy_from_slice(&stamp[..8.min(bytes)]);
        Bytes::from(block)
    };
    (0..count).map(block).collect()
}
