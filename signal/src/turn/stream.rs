//! A client that comes by TCP.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::limits::{MESSAGE_BYTES_MAX, STREAM_IDLE};
use super::message::stream_message_bytes;
use super::relay::Client;
use super::server::Shared;
use crate::limits::WRITE_WITHIN;

/// Runs until either side ends it; then its allocation ends, too.
pub(super) async fn run(
    shared: Arc<Shared>,
    client: Client,
    stream: TcpStream,
    queued: mpsc::Receiver<Bytes>,
) {
    // Small messages are not to wait for larger ones.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    tokio::select! {
        () = take(&shared, client, read) => {}
        () = give(queued, write) => {}
    }
}

/// Takes messages until there are none, or something else comes.
async fn take(shared: &Arc<Shared>, client: Client, mut read: OwnedReadHalf) {
    let mut bytes = BytesMut::new();
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
        let more = read.read_buf(&mut bytes);
        // An allocation ends by itself; whoever has none is not waited for.
        let more = match shared.serves(&client) {
            true => more.await,
            false => match timeout(STREAM_IDLE, more).await {
                Ok(more) => more,
                Err(_) => return,
            },
        };
        if !more.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

async fn give(mut queued: mpsc::Receiver<Bytes>, mut write: OwnedWriteHalf) {
    while let Some(bytes) = queued.recv().await {
        let written = timeout(WRITE_WITHIN, write.write_all(&bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}
