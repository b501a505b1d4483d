//! Plain Hypercore over TCP: serving feeds to whoever knows their keys, pulling one from an address.

use std::net::SocketAddr;

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Kind, Role, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{NodeError, Request};
use crate::limits::TCP_CONNECT_WAIT_MAX;
use crate::link::tcp::TcpLink;
use crate::session::{SessionId, SessionRole};

/// A connection, with what its session may do.
#[derive(Debug)]
pub(super) struct PlainLink {
    pub(super) link: TcpLink,
    pub(super) role: SessionRole,
    pub(super) serves: Vec<FeedKey>,
    pub(super) wants: Vec<FeedKey>,
}

/// Accepts connections until the node stops.
pub(super) async fn serve(
    listener: TcpListener,
    feeds: Vec<FeedKey>,
    requests: mpsc::Sender<Request>,
) {
    loop {
        let stream = tokio::select! {
            () = requests.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let link = match TcpLink::new(stream) {
            Ok(link) => link,
            Err(error) => {
                tracing::debug!(%error, "connection lost at once");
                continue;
            }
        };
        let (serves, wants) = (feeds.clone(), Vec::new());
        let link = PlainLink {
            link,
            role: SessionRole::Responder,
            serves,
            wants,
        };
        match submit(link, &requests).await {
            Ok(_) => {}
            Err(NodeError::Stopped) => return,
            Err(error) => tracing::warn!(%error, "connection closed"),
        }
    }
}

/// Connects to `address` and asks for `keys`.
pub(super) async fn pull(
    address: SocketAddr,
    keys: Vec<FeedKey>,
    store: &Store,
    requests: &mpsc::Sender<Request>,
) -> Result<SessionId, NodeError> {
    let connect = |reason: String| NodeError::Connect {
        address: address.to_string(),
        reason,
    };
    let refused = |reason: String| NodeError::Store { reason };
    let stream = timeout(TCP_CONNECT_WAIT_MAX, TcpStream::connect(address))
        .await
        .map_err(|_| {
            connect(format!(
                "nobody answered in {} s",
                TCP_CONNECT_WAIT_MAX.as_secs()
            ))
        })?
        .map_err(|error| connect(error.to_string()))?;
    let link = TcpLink::new(stream).map_err(|error| connect(error.to_string()))?;
    let unknown = keys.iter().filter(|key| store.feed(key).is_none());
    let unknown: Vec<FeedKey> = unknown.copied().collect();
    if !unknown.is_empty() {
        let store = store.clone();
        let create = move || {
            let mut unknown = unknown.into_iter();
            unknown.try_for_each(|key| {
                let created = store.create_unknown(key, Role::Followed, Kind::Plain);
                created.map(drop)
            })
        };
        tokio::task::spawn_blocking(create)
            .await
            .map_err(|error| refused(error.to_string()))?
            .map_err(|error| refused(error.to_string()))?;
    }
    let (serves, wants) = (Vec::new(), keys);
    submit(
        PlainLink {
            link,
            role: SessionRole::Initiator,
            serves,
            wants,
        },
        requests,
    )
    .await
}

async fn submit(link: PlainLink, requests: &mpsc::Sender<Request>) -> Result<SessionId, NodeError> {
    let (reply, answer) = oneshot::channel();
    requests
        .send(Request::Plain { link, reply })
        .await
        .map_err(|_| NodeError::Stopped)?;
    answer.await.map_err(|_| NodeError::Stopped)?
}
