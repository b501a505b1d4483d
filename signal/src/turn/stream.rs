//! A client that comes by TCP.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::MESSAGE_BYTES_MAX;
use super::message::stream_message_bytes;
use super::queue::Queued;
use super::relay::Client;
use super::server::Shared;
use crate::limits::WRITE_WITHIN;

/// Runs until either side ends it; then its allocation ends, too.
pub(super) async fn run(shared: Arc<Shared>, client: Client, stream: TcpStream, queued: Queued) {
    // Small messages are not to wait for larger ones.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    tokio::select! {
        () = take(&shared, client, read) => {}
        () = give(queued, write) => {}
    }
}

/// Takes messages until there are none, something else comes, or the client has had no allocation for
/// too long: whoever vanished says nothing of it, and whoever sends a byte now and then is no client.
async fn take(shared: &Arc<Shared>, client: Client, mut read: OwnedReadHalf) {
    let mut bytes = BytesMut::new();
    let mut served_at = Instant::now();
    loop {
        loop {
            match stream_message_bytes(&bytes) {
                Ok(Some(whole)) if whole <= bytes.len() => {
                    let message = bytes.split_to(whole);
                    shared.handle_client(client, &message);
                }
                Ok(_) => break,
                Err(_) => return,
            }
        }
        bytes.reserve(MESSAGE_BYTES_MAX);
        loop {
            if shared.serves(&client) {
                served_at = Instant::now();
            }
            let until = served_at + shared.stream_idle;
            match timeout_at(until, read.read_buf(&mut bytes)).await {
                Ok(Ok(count)) if count > 0 => break,
                Ok(_) => return,
                Err(_) if shared.serves(&client) => {}
                Err(_) => return,
            }
        }
    }
}

async fn give(mut queued: Queued, mut write: OwnedWriteHalf) {
    while let Some(bytes) = queued.next().await {
        let written = timeout(WRITE_WITHIN, write.write_all(&bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        queued.written(&bytes);
    }
}
