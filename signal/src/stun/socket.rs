//! The UDP socket of the responder.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinlog_feeds::Time;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tracing::debug;

use super::{Responder, StunCounts};
use crate::limits::{STUN_ERROR_PAUSE, STUN_REQUEST_BYTES_MAX};

/// A UDP socket on which binding requests are answered; clones share it.
#[derive(Clone, Debug)]
pub struct StunSocket(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    responder: Mutex<Responder>,
    start: Instant,
}

impl StunSocket {
    /// Binds `address`; with an unspecified IPv6 one, both families where the system does so.
    ///
    /// # Errors
    ///
    /// Returns the system's error, such as that the port is taken.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        Ok(StunSocket(Arc::new(Shared {
            socket,
            responder: Mutex::new(Responder::default()),
            start: Instant::now(),
        })))
    }

    /// Returns the address it is bound to.
    ///
    /// # Errors
    ///
    /// Returns the system's error.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.local_addr()
    }

    /// Returns what became of the datagrams so far.
    pub fn counts(&self) -> StunCounts {
        self.responder().counts()
    }

    /// Answers until the future is dropped.
    pub(crate) async fn answer(&self) {
        // One byte more than a request may have: what fills it is too long.
        let mut datagram = [0; STUN_REQUEST_BYTES_MAX + 1];
        loop {
            let (bytes, from) = match self.0.socket.recv_from(&mut datagram).await {
                Ok(received) => received,
                Err(error) => {
                    // Some systems report here that an earlier answer did not arrive.
                    debug!(%error, "no datagram");
                    tokio::time::sleep(STUN_ERROR_PAUSE).await;
                    continue;
                }
            };
            let now = Time::ZERO + self.0.start.elapsed();
            let datagram = datagram.get(..bytes).unwrap_or_default();
            let answer = self.responder().handle_datagram(now, from, datagram);
            if let Some(answer) = answer {
                // A full send buffer drops it, as any router may; who asked asks again.
                let _ = self.0.socket.try_send_to(&answer, from);
            }
        }
    }

    fn responder(&self) -> MutexGuard<'_, Responder> {
        self.0
            .responder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
