//! A link over TCP, as JavaScript Hypercore replicates: the plain byte stream.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

use crate::limits::{TCP_READ_BYTES_MAX, TCP_WRITE_BYTES_MAX};
use crate::link::{Counters, Link, LinkError, LinkPath, LinkStats, Transport};

/// One end of a TCP connection.
#[derive(Debug)]
pub struct TcpLink {
    reader: Mutex<Reader>,
    writer: Mutex<OwnedWriteHalf>,
    remote: Option<SocketAddr>,
    counters: Counters,
}

#[derive(Debug)]
struct Reader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl TcpLink {
    /// Takes a connected stream; small messages leave at once (`TCP_NODELAY`).
    pub fn new(stream: TcpStream) -> Result<Self, LinkError> {
        stream.set_nodelay(true)?;
        let remote = stream.peer_addr().ok();
        let (reader, writer) = stream.into_split();
        Ok(TcpLink {
            reader: Mutex::new(Reader {
                half: reader,
                buffer: BytesMut::new(),
            }),
            writer: Mutex::new(writer),
            remote,
            counters: Counters::default(),
        })
    }
}

#[async_trait]
impl Link for TcpLink {
    async fn send(&self, message: BytesMut) -> Result<(), LinkError> {
        self.writer.lock().await.write_all(&message).await?;
        self.counters.count_out(message.len());
        Ok(())
    }

    async fn recv(&self) -> Result<Option<Bytes>, LinkError> {
        let mut reader = self.reader.lock().await;
        let Reader { half, buffer } = &mut *reader;
        buffer.reserve(TCP_READ_BYTES_MAX);
        let bytes = half.read_buf(buffer).await?;
        if bytes == 0 {
            return Ok(None);
        }
        self.counters.count_in(bytes);
        Ok(Some(buffer.split().freeze()))
    }

    fn max_message(&self) -> usize {
        TCP_WRITE_BYTES_MAX
    }

    fn stats(&self) -> LinkStats {
        self.counters.stats()
    }

    async fn path(&self) -> LinkPath {
        LinkPath {
            transport: Transport::Tcp,
            ice: None,
            remote: self.remote,
        }
    }

    async fn close(&self) {
        // The other side sees the end of the stream; a failure here means it is gone already.
        let _ = self.writer.lock().await.shutdown().await;
    }
}
