//! The task that drives a client's core: socket, timer and events, nothing else.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use kinlog_feeds::{KeyPair, PublicKey, Time};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use crate::client::core::{Core, Output};
use crate::client::dial::{Socket, dial};
use crate::client::event::{ClientEvent, ClientStatus, SendError};
use crate::limits::{CLIENT_EVENTS_MAX, WRITE_WITHIN};
use crate::{SignalKind, SignalUrl, Topic};

/// How to reach one signal server.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The server.
    pub url: SignalUrl,
    /// TLS settings for `wss` instead of the web's usual roots, for servers with roots of their own.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl ClientConfig {
    /// Returns the settings that suit every public server.
    pub fn new(url: SignalUrl) -> Self {
        ClientConfig { url, tls: None }
    }
}

/// A client of one signal server; clones share its connection, the last one dropped closes it.
///
/// It dials when the first topic is joined, reconnects by itself and joins all topics again. No
/// method blocks.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

impl Client {
    /// Starts the client's task on the current tokio runtime.
    ///
    /// Events arrive in the receiver, at most `CLIENT_EVENTS_MAX` waiting; while it is full the
    /// client does not read its socket, so keep draining it.
    pub fn start(config: ClientConfig) -> (Client, mpsc::Receiver<ClientEvent>) {
        let seed = getrandom::u64().unwrap_or(0);
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(config.url.server_name(), seed)),
            changed: Notify::new(),
            start: Instant::now(),
            url: config.url.clone(),
        });
        let (events, receiver) = mpsc::channel(CLIENT_EVENTS_MAX);
        let driver = Driver {
            shared: Arc::clone(&shared),
            config,
            events,
            link: Link::Down,
        };
        tokio::spawn(driver.run());
        (
            Client {
                handle: Arc::new(Handle { shared }),
            },
            receiver,
        )
    }

    /// Returns the server's URL.
    pub fn url(&self) -> &SignalUrl {
        &self.handle.shared.url
    }

    /// Joins `topic` under `key` and stays in it, across reconnects, until [`leave`](Self::leave).
    pub fn join(&self, topic: Topic, key: KeyPair) {
        self.with_core(|core, now| core.join(now, topic, key));
    }

    /// Dials anew, at once: for when this machine's addresses have changed.
    pub fn redial(&self) {
        self.with_core(Core::redial);
    }

    /// Leaves `topic`.
    pub fn leave(&self, topic: &Topic) {
        self.with_core(|core, now| core.leave(now, topic));
    }

    /// Sends a signal to a peer of a joined topic.
    ///
    /// `Ok` means queued on an open connection. A peer that is gone is reported as
    /// [`ClientEvent::Refused`].
    pub fn send(
        &self,
        topic: Topic,
        to: PublicKey,
        kind: SignalKind,
        body: Bytes,
    ) -> Result<(), SendError> {
        self.with_core(|core, now| core.send(now, topic, to, kind, body))
    }

    /// Returns whether the server is connected and, if not, why and when it is tried again.
    pub fn status(&self) -> ClientStatus {
        let shared = &self.handle.shared;
        shared.core().status(shared.now())
    }

    fn with_core<T>(&self, change: impl FnOnce(&mut Core, Time) -> T) -> T {
        let shared = &self.handle.shared;
        let result = change(&mut shared.core(), shared.now());
        shared.changed.notify_one();
        result
    }
}

/// Stops the task when the last client is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.core().stop();
        self.shared.changed.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    changed: Notify,
    start: Instant,
    url: SignalUrl,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }
}

struct Driver {
    shared: Arc<Shared>,
    config: ClientConfig,
    events: mpsc::Sender<ClientEvent>,
    link: Link,
}

enum Link {
    Down,
    Dialling(BoxFuture<'static, Result<Socket, String>>),
    Up(Box<Socket>),
}

impl Driver {
    async fn run(mut self) {
        loop {
            if !self.drain().await {
                return;
            }
            let timeout = self.shared.core().poll_timeout();
            let timer = async {
                match timeout {
                    Some(at) => sleep_until(self.shared.start + at.since(Time::ZERO)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = timer => self.shared.core().handle_timeout(self.shared.now()),
                incoming = self.link.next() => self.handle(incoming),
            }
        }
    }

    /// Carries out what the core wants; returns false once it was stopped.
    async fn drain(&mut self) -> bool {
        loop {
            let output = self.shared.core().poll_output();
            match output {
                None => return !self.events.is_closed(),
                Some(Output::Dial) => {
                    let (url, tls) = (self.config.url.clone(), self.config.tls.clone());
                    self.link = Link::Dialling(async move { dial(&url, tls).await }.boxed());
                }
                Some(Output::Send(frame)) => self.send(frame).await,
                Some(Output::Close) => {
                    if let Link::Up(mut socket) = std::mem::replace(&mut self.link, Link::Down) {
                        // A courtesy that may fail: the socket is dropped either way.
                        let _ =
                            tokio::time::timeout(CLOSE_WITHIN, socket.as_mut().close(None)).await;
                    }
                    if self.shared.core().is_stopped() {
                        return false;
                    }
                }
                Some(Output::Event(event)) => {
                    if self.events.send(event).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    async fn send(&mut self, frame: Bytes) {
        let Link::Up(socket) = &mut self.link else {
            return;
        };
        let written = tokio::time::timeout(WRITE_WITHIN, socket.send(Message::Binary(frame))).await;
        let reason = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("connection lost: {error}"),
            Err(_) => format!("server took nothing for {} s", WRITE_WITHIN.as_secs()),
        };
        self.lose(reason);
    }

    fn handle(&mut self, incoming: Incoming) {
        let now = self.shared.now();
        match incoming {
            Incoming::Opened(socket) => {
                self.link = Link::Up(socket);
                self.shared.core().handle_opened(now);
            }
            Incoming::Frame(frame) => self.shared.core().handle_frame(now, frame),
            Incoming::Ignored => {}
            Incoming::Ended(reason) => self.lose(reason),
        }
    }

    fn lose(&mut self, reason: String) {
        self.link = Link::Down;
        self.shared.core().handle_closed(self.shared.now(), reason);
    }
}

/// A server that went away gets this long to take our goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

enum Incoming {
    Opened(Box<Socket>),
    Frame(Bytes),
    Ignored,
    Ended(String),
}

impl Link {
    /// Waits for what the link brings next; cancelling it loses nothing.
    async fn next(&mut self) -> Incoming {
        match self {
            Link::Down => std::future::pending().await,
            Link::Dialling(attempt) => match attempt.await {
                Ok(socket) => Incoming::Opened(Box::new(socket)),
                Err(reason) => Incoming::Ended(reason),
            },
            Link::Up(socket) => match socket.next().await {
                Some(Ok(Message::Binary(frame))) => Incoming::Frame(frame),
                Some(Ok(Message::Text(_))) => Incoming::Ended("server sent text".to_owned()),
                Some(Ok(Message::Close(None))) => Incoming::Ended("server closed".to_owned()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    let shown: String = frame.reason.chars().filter(|c| !c.is_control()).collect();
                    Incoming::Ended(format!("server closed: {shown}"))
                }
                Some(Ok(_)) => Incoming::Ignored,
                Some(Err(error)) => Incoming::Ended(format!("connection lost: {error}")),
                None => Incoming::Ended("connection lost".to_owned()),
            },
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("url", &self.config.url)
            .finish_non_exhaustive()
    }
}
