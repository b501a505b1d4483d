//! TURN by TCP, for networks that let no UDP out (RFC 8656 sections 3.1 and 12.5).
//!
//! The stack speaks TURN by UDP alone. So it is given a UDP socket on loopback in the server's place,
//! and what it sends there goes to the server by TCP, framed as TURN frames it, and back. The way by
//! TCP is taken only when nothing else is open after [`TURN_TCP_HEAD_START`]: a tunnel through TCP
//! loses to every other way.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use kinlog_signal::ice::IceUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::runtime::ConnectionRuntime;
use crate::limits::{
    TURN_TCP_CLIENTS_MAX, TURN_TCP_CONNECT_WAIT_MAX, TURN_TCP_FRAMES_QUEUED_MAX,
    TURN_TCP_HEAD_START,
};

/// Largest datagram that UDP carries, and so the largest frame.
const DATAGRAM_BYTES_MAX: usize = 65_536;

const STUN_HEADER_BYTES: usize = 20;
const CHANNEL_DATA_HEADER_BYTES: usize = 4;

/// A socket in the place of a TURN server; gone when it is dropped.
#[derive(Debug)]
pub(super) struct TcpRelay {
    address: SocketAddr,
    task: AbortHandle,
}

impl TcpRelay {
    /// Stands for the server at `url`, as long as the connection of `runtime` has no other way.
    pub(super) async fn start(url: IceUrl, runtime: Arc<ConnectionRuntime>) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = socket.local_addr()?;
        let task = tokio::spawn(async move {
            if let Err(error) = pass_on(socket, url, &runtime).await {
                tracing::debug!(%error, "way to a TURN server by TCP closed");
            }
        });
        Ok(TcpRelay {
            address,
            task: task.abort_handle(),
        })
    }

    /// Returns the URL by which the stack reaches the server.
    pub(super) fn url(&self) -> String {
        format!("turn:{}?transport=udp", self.address)
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes datagrams on, each local sender over a connection of its own: to the server it is a client
/// of its own. Ends with the tasks of all of them when it is dropped.
async fn pass_on(
    socket: Arc<UdpSocket>,
    url: IceUrl,
    runtime: &ConnectionRuntime,
) -> io::Result<()> {
    let mut clients: BTreeMap<SocketAddr, mpsc::Sender<BytesMut>> = BTreeMap::new();
    let mut connections = JoinSet::new();
    let connect_at = Instant::now() + TURN_TCP_HEAD_START;
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (bytes, from) = socket.recv_from(&mut datagram).await?;
        let frame = BytesMut::from(datagram.get(..bytes).unwrap_or_default());
        if let Some(client) = clients.get(&from) {
            // A datagram for which there is no room is lost, as any may be.
            let _ = client.try_send(frame);
            continue;
        }
        if clients.len() >= TURN_TCP_CLIENTS_MAX {
            continue;
        }
        sleep_until(connect_at).await;
        if runtime.is_connected() {
            return Ok(());
        }
        let (frames, queued) = mpsc::channel(TURN_TCP_FRAMES_QUEUED_MAX);
        let _ = frames.try_send(frame);
        clients.insert(from, frames);
        let (socket, url) = (Arc::clone(&socket), url.clone());
        connections.spawn(async move {
            if let Err(error) = connect(socket, from, &url, queued).await {
                tracing::debug!(%error, %url, "TURN by TCP ended");
            }
        });
    }
}

/// One client's connection to the server, until either side ends it.
async fn connect(
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    url: &IceUrl,
    mut queued: mpsc::Receiver<BytesMut>,
) -> io::Result<()> {
    let address = format!("{}:{}", url.host(), url.port());
    let stream = timeout(TURN_TCP_CONNECT_WAIT_MAX, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let (incoming, mut outgoing) = stream.into_split();
    tokio::select! {
        result = write_frames(&mut outgoing, &mut queued) => result,
        result = read_frames(incoming, &socket, client) => result,
    }
}

async fn write_frames(
    outgoing: &mut OwnedWriteHalf,
    queued: &mut mpsc::Receiver<BytesMut>,
) -> io::Result<()> {
    while let Some(mut frame) = queued.recv().await {
        // On a stream, channel data is padded so that each frame begins at a multiple of four.
        frame.resize(frame.len().next_multiple_of(4), 0);
        outgoing.write_all(&frame).await?;
    }
    Ok(())
}

async fn read_frames(
    mut incoming: OwnedReadHalf,
    socket: &UdpSocket,
    client: SocketAddr,
) -> io::Result<()> {
    let mut read = BytesMut::new();
    while incoming.read_buf(&mut read).await? > 0 {
        while let Some(frame) = split_frame(&mut read)? {
            socket.send_to(&frame, client).await?;
        }
    }
    Ok(())
}

/// Takes the first whole frame off what was read: a STUN message or channel data.
fn split_frame(read: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(head) = read.first_chunk::<CHANNEL_DATA_HEADER_BYTES>() else {
        return Ok(None);
    };
    let [kind, _, high, low] = *head;
    let body = usize::from(u16::from_be_bytes([high, low]));
    let bytes = match kind >> 6 {
        0 => STUN_HEADER_BYTES + body,
        1 => CHANNEL_DATA_HEADER_BYTES + body,
        _ => {
            let what = "neither STUN nor channel data";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    };
    let padding = bytes.next_multiple_of(4) - bytes;
    if read.len() < bytes + padding {
        return Ok(None);
    }
    let frame = read.split_to(bytes);
    read.advance(padding);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_they_end_and_lose_their_padding() {
        let stun = [&[0, 1, 0, 4][..], &[7; 20]].concat();
        let data = [0x40, 0, 0, 5, 1, 2, 3, 4, 5];
        let stream = [&stun[..], &data, &[0; 3], &stun].concat();
        let expected = [stun.clone(), data.to_vec(), stun.clone()];
        for piece in 1..stream.len() {
            let mut read = BytesMut::new();
            let mut frames = Vec::new();
            for piece in stream.chunks(piece) {
                read.extend_from_slice(piece);
                while let Some(frame) = split_frame(&mut read).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_neither_stun_nor_channel_data_ends_the_connection() {
        assert!(split_frame(&mut BytesMut::from(&[0x80, 0, 0, 0][..])).is_err());
        assert!(split_frame(&mut BytesMut::from(&b"HTTP"[..])).is_ok());
    }
}
