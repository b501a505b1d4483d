//! The task of one connection: its socket to the rules, and its outbox when the socket is slow.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::limits::{READ_BYTES, WRITE_WITHIN};
use crate::rules::{CloseReason, ConnectionId};
use crate::server::hub::Hub;
use crate::server::outbox::{Flushed, Outbox};
use crate::server::upgrade::Opened;
use crate::server::websocket::{FrameError, Incoming, Reader};

/// WebSocket close codes (RFC 6455, 7.4.1).
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const POLICY_VIOLATION: u16 = 1008;
const TOO_BIG: u16 = 1009;

/// A client that is told goodbye gets this long to take it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why a connection ends.
enum End {
    /// The rules, or the outbox, want it.
    Closed(CloseReason),
    /// What came is no WebSocket.
    BadFrame(FrameError),
    /// The client said goodbye.
    Left,
    /// The socket failed or ended.
    Lost(Option<io::Error>),
}

/// Runs one connection until either side ends it.
pub(super) async fn run(hub: Arc<Hub>, id: ConnectionId, outbox: Arc<Outbox>, opened: Opened) {
    let is_tls = opened.tls.is_some();
    outbox.attach(opened.write, opened.tls);
    let mut reader = Reader::default();
    let early = reader.space(opened.early.len());
    early.extend_from_slice(&opened.early);
    let mut connection = Connection {
        hub,
        id,
        outbox,
        read: opened.read,
        is_tls,
        reader,
    };
    let end = connection.exchange().await;
    connection.hub.disconnect(id);
    let (code, reason) = match &end {
        End::Closed(CloseReason::ServerStops) => (GOING_AWAY, CloseReason::ServerStops.to_string()),
        End::Closed(reason) => (POLICY_VIOLATION, reason.to_string()),
        End::BadFrame(error @ FrameError::TooLong { .. }) => (TOO_BIG, error.to_string()),
        End::BadFrame(error) => (PROTOCOL_ERROR, error.to_string()),
        End::Left => (NORMAL, String::new()),
        End::Lost(error) => {
            debug!(connection = id.0, ?error, "connection lost");
            return;
        }
    };
    debug!(connection = id.0, code, %reason, "connection closed");
    // A courtesy that may fail: the socket is dropped either way.
    let _ = timeout(CLOSE_WITHIN, connection.goodbye(code, &reason)).await;
}

struct Connection {
    hub: Arc<Hub>,
    id: ConnectionId,
    outbox: Arc<Outbox>,
    read: OwnedReadHalf,
    is_tls: bool,
    reader: Reader,
}

impl Connection {
    /// Returns why the connection ends.
    async fn exchange(&mut self) -> End {
        let outbox = Arc::clone(&self.outbox);
        let mut changed = pin!(outbox.changed.notified());
        let (mut paused_until, mut write_until) = (None, None);
        // With TLS some of it may have been opened together with the request.
        let mut is_changed = match self.open_records(&[]) {
            Ok(_) => true,
            Err(error) => return End::Lost(Some(error)),
        };
        loop {
            while paused_until.is_none() {
                let pause = match self.reader.poll_incoming() {
                    Ok(Some(Incoming::Message(frame))) => self.hub.frame(self.id, frame),
                    Ok(Some(Incoming::Ping(payload))) => {
                        self.outbox.pong(payload);
                        is_changed = true;
                        self.hub.keep_alive(self.id)
                    }
                    Ok(Some(Incoming::Pong)) => self.hub.keep_alive(self.id),
                    Ok(Some(Incoming::Close)) => return End::Left,
                    Ok(None) => break,
                    Err(error) => return End::BadFrame(error),
                };
                paused_until = (!pause.is_zero()).then(|| Instant::now() + pause);
            }
            self.reader.release();
            if std::mem::take(&mut is_changed) {
                write_until = match self.outbox.flush() {
                    Ok(Flushed::All) => None,
                    Ok(Flushed::Stuck) => write_until.or(Some(Instant::now() + WRITE_WITHIN)),
                    Err(error) => return End::Lost(Some(error)),
                };
                if let Some(reason) = self.outbox.must_close() {
                    return End::Closed(reason);
                }
            }
            tokio::select! {
                biased;
                () = &mut changed => {
                    changed.set(outbox.changed.notified());
                    is_changed = true;
                }
                () = until(paused_until), if paused_until.is_some() => paused_until = None,
                () = until(write_until), if write_until.is_some() => {
                    return End::Closed(CloseReason::DoesNotRead);
                }
                // Whoever does not read is not read from.
                () = writable(&self.read), if write_until.is_some() => is_changed = true,
                () = readable(&self.read), if paused_until.is_none() && write_until.is_none() => {
                    match self.receive().await {
                        Ok(has_to_write) => is_changed = has_to_write,
                        Err(error) => return End::Lost(error),
                    }
                }
            }
        }
    }

    /// Takes what the socket has; returns whether TLS has something to say to that.
    async fn receive(&mut self) -> Result<bool, Option<io::Error>> {
        if !self.is_tls {
            read_now(&mut self.read, self.reader.space(READ_BYTES)).await?;
            return Ok(false);
        }
        let mut received = BytesMut::with_capacity(READ_BYTES);
        read_now(&mut self.read, &mut received).await?;
        self.open_records(&received).map_err(Some)
    }

    fn open_records(&mut self, received: &[u8]) -> io::Result<bool> {
        self.outbox.open_records(received, self.reader.space(0))
    }

    async fn goodbye(&mut self, code: u16, reason: &str) -> io::Result<()> {
        self.outbox.say_goodbye(code, reason);
        while self.outbox.flush()? == Flushed::Stuck {
            writable(&self.read).await;
        }
        self.outbox.end();
        self.outbox.flush().map(|_| ())
    }
}

/// Waits for the time; for ever when there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

// An error of the socket shows itself to the read or write that follows.

async fn readable(socket: &OwnedReadHalf) {
    poll_fn(|context| socket.as_ref().poll_read_ready(context).map(|_| ())).await;
}

async fn writable(socket: &OwnedReadHalf) {
    poll_fn(|context| socket.as_ref().poll_write_ready(context).map(|_| ())).await;
}

/// Reads what is there without waiting for it. An error of `None` is the end.
///
/// The buffer is made when there is something to read: a connection that waits has none.
async fn read_now(socket: &mut OwnedReadHalf, to: &mut BytesMut) -> Result<(), Option<io::Error>> {
    let mut read = pin!(socket.read_buf(to));
    match poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
        Poll::Ready(Ok(0)) => Err(None),
        Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        Poll::Ready(Err(error)) => Err(Some(error)),
    }
}
