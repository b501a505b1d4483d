//! Tokio for the WebRTC stack, with large UDP socket buffers and short waits while connecting.
//!
//! With the kernel's default buffers a bulk transfer loses packets inside the machine and stalls
//! for the second that SCTP waits before it sends again: 16-22 MB/s instead of 400.
//!
//! The stack's driver sends what an *event* of its core caused (the first SCTP packet after DTLS
//! is up, the opening of the channel) only when it wakes for another reason, which is a timer of
//! 200 ms. While a connection comes up its timers therefore end after [`CONNECTING_TIMER_MAX`]: the
//! driver then only looks round earlier, and a channel opens in 40 ms instead of 430.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

use crate::limits::{CONNECTING_TIMER_MAX, UDP_SOCKET_BUFFER_BYTES};

/// Tokio with large buffers on UDP sockets, for one connection.
#[derive(Debug)]
pub(super) struct ConnectionRuntime {
    connected: AtomicBool,
    socket_buffer_bytes: usize,
}

impl ConnectionRuntime {
    /// Asks the kernel for so much each way, [`UDP_SOCKET_BUFFER_BYTES`] unless told.
    pub(super) fn new(socket_buffer_bytes: Option<usize>) -> Self {
        ConnectionRuntime {
            connected: AtomicBool::new(false),
            socket_buffer_bytes: socket_buffer_bytes.unwrap_or(UDP_SOCKET_BUFFER_BYTES),
        }
    }

    /// The connection is up: timers take their time from now on.
    pub(super) fn set_connected(&self) {
        self.connected.store(true, Relaxed);
    }

    /// Returns whether the connection is up.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for ConnectionRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(&self, size: usize, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(size, future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        // The kernel clamps what it does not allow; a smaller buffer is slower, not wrong.
        let _ = options.set_recv_buffer_size(self.socket_buffer_bytes);
        let _ = options.set_send_buffer_size(self.socket_buffer_bytes);
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let connected = self.connected.load(Relaxed);
        TokioRuntime.sleep(if connected {
            duration
        } else {
            duration.min(CONNECTING_TIMER_MAX)
        })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "tokio with large socket buffers"
    }
}
