//! The task of one connection: its outbox to its socket, its socket to the rules.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::limits::WRITE_WITHIN;
use crate::rules::{CloseReason, ConnectionId};
use crate::server::hub::Hub;

/// WebSocket close codes (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;

/// A client that is told goodbye gets this long to take it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Runs one connection until either side ends it.
pub(super) async fn run(hub: Arc<Hub>, id: ConnectionId, changed: Arc<Notify>, socket: WebSocket) {
    let mut connection = Connection {
        hub,
        id,
        changed,
        socket,
    };
    let reason = connection.exchange().await;
    connection.hub.disconnect(id);
    match reason {
        Some(reason) => {
            debug!(connection = id.0, %reason, "connection closed");
            let goodbye = connection.goodbye(reason);
            // A courtesy that may fail: the socket is dropped either way.
            let _ = timeout(CLOSE_WITHIN, goodbye).await;
        }
        None => debug!(connection = id.0, "connection lost"),
    }
}

struct Connection {
    hub: Arc<Hub>,
    id: ConnectionId,
    changed: Arc<Notify>,
    socket: WebSocket,
}

impl Connection {
    /// Returns why we close, or `None` when the client ended it.
    async fn exchange(&mut self) -> Option<CloseReason> {
        let mut paused_until = Instant::now();
        loop {
            let taken = self.hub.take(self.id);
            if let Err(reason) = self.write(taken.frames).await {
                return reason;
            }
            if taken.close.is_some() {
                return taken.close;
            }
            let paused = paused_until > Instant::now();
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(paused_until), if paused => {}
                incoming = self.socket.recv(), if !paused => match incoming {
                    Some(Ok(Message::Binary(frame))) => {
                        paused_until = Instant::now() + self.hub.frame(self.id, frame);
                    }
                    // Text and WebSocket's own pings are frames that decode to nothing: they cost
                    // tokens, and text is an offence.
                    Some(Ok(Message::Text(text))) => {
                        paused_until = Instant::now() + self.hub.frame(self.id, text.into());
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                        paused_until = Instant::now() + self.hub.keep_alive(self.id);
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                },
            }
        }
    }

    /// Writes all frames, unless the client reads too slowly or the outbox overflows meanwhile.
    async fn write(&mut self, frames: VecDeque<Bytes>) -> Result<(), Option<CloseReason>> {
        if frames.is_empty() {
            return Ok(());
        }
        let socket = &mut self.socket;
        let write = timeout(WRITE_WITHIN, async {
            for frame in frames {
                socket.feed(Message::Binary(frame)).await?;
            }
            socket.flush().await
        });
        tokio::pin!(write);
        loop {
            tokio::select! {
                written = &mut write => return match written {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(None),
                    Err(_) => Err(Some(CloseReason::DoesNotRead)),
                },
                () = self.changed.notified() => {
                    if let Some(reason) = self.hub.must_drop(self.id) {
                        return Err(Some(reason));
                    }
                }
            }
        }
    }

    async fn goodbye(&mut self, reason: CloseReason) -> Result<(), axum::Error> {
        let code = match reason {
            CloseReason::ServerStops => GOING_AWAY,
            _ => POLICY_VIOLATION,
        };
        let frame = CloseFrame {
            code,
            reason: reason.to_string().into(),
        };
        self.socket.send(Message::Close(Some(frame))).await
    }
}
