//! UDP packets as they would travel a long way, between two sockets that each take the other for its
//! peer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Path, Quality};

/// Largest UDP packet.
const PACKET_BYTES_MAX: usize = 65_536;

/// Asked of the kernel for what waits to be taken: what is lost there, no seed decides. It may give less.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Packets on their way in one direction.
const PACKETS_MAX: usize = 65_536;

/// How often somebody who waits for packets looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

type Arriving = Reverse<(Duration, u64, Vec<u8>)>;

/// Where the ends are, as far as that is known.
type Ends = Mutex<[Option<SocketAddr>; 2]>;

/// Two sockets: what one end sends to the first leaves by the second for the other end, and back.
#[derive(Debug)]
pub struct DatagramRelay {
    facing: [SocketAddr; 2],
    ends: Arc<Ends>,
    is_over: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl DatagramRelay {
    /// Opens two sockets; who is behind each is told with [`set_end`](Self::set_end).
    pub fn start(quality: Quality, seed: u64) -> std::io::Result<Self> {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let sockets = [Arc::new(bind()?), Arc::new(bind()?)];
        let relay = DatagramRelay {
            facing: [sockets[0].local_addr()?, sockets[1].local_addr()?],
            ends: Arc::default(),
            is_over: Arc::default(),
            lost: Arc::default(),
        };
        for (from, to) in [(0, 1), (1, 0)] {
            let path = Path::new(quality, seed.wrapping_add(from as u64));
            let (taken, arriving) = sync_channel(PACKETS_MAX);
            let started = Instant::now();
            sockets[from].set_read_timeout(Some(LOOK))?;
            SockRef::from(&*sockets[from]).set_recv_buffer_size(BUFFER_BYTES)?;
            let socket = Arc::clone(&sockets[from]);
            let (is_over, lost) = (Arc::clone(&relay.is_over), Arc::clone(&relay.lost));
            thread::spawn(move || take(&socket, path, started, &taken, &is_over, &lost));
            let (socket, ends) = (Arc::clone(&sockets[to]), Arc::clone(&relay.ends));
            thread::spawn(move || deliver(&socket, (&ends, to), started, &arriving));
        }
        Ok(relay)
    }

    /// Says where the end with this number (0 or 1) is; before that nothing reaches it.
    pub fn set_end(&self, end: usize, address: SocketAddr) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends[end] = Some(address);
    }

    /// Returns the address that the end with this number talks to.
    pub fn facing(&self, end: usize) -> SocketAddr {
        self.facing[end]
    }

    /// Returns how many packets were lost so far, both ways.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for DatagramRelay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn take(
    socket: &UdpSocket,
    mut path: Path,
    started: Instant,
    taken: &SyncSender<(Duration, Vec<u8>)>,
    is_over: &AtomicBool,
    lost: &AtomicU64,
) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !is_over.load(Ordering::Relaxed) {
        // Nothing came within LOOK, or the other side is closed: both may change.
        let Ok((bytes, _)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let sent = path.send(started.elapsed(), bytes);
        let sent = sent.map(|arrives| taken.try_send((arrives, buffer[..bytes].to_vec())));
        if !matches!(sent, Some(Ok(()))) {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn deliver(
    socket: &UdpSocket,
    (ends, end): (&Ends, usize),
    started: Instant,
    arriving: &Receiver<(Duration, Vec<u8>)>,
) {
    let mut flying: BinaryHeap<Arriving> = BinaryHeap::new();
    let mut number = 0;
    loop {
        while let Some(Reverse((at, ..))) = flying.peek()
            && *at <= started.elapsed()
        {
            let target = ends.lock().unwrap_or_else(PoisonError::into_inner)[end];
            if let (Some(Reverse((_, _, packet))), Some(target)) = (flying.pop(), target) {
                // Nobody there is as good as a packet lost.
                let _ = socket.send_to(&packet, target);
            }
        }
        let wait = flying.peek().map_or(LOOK, |Reverse((at, ..))| {
            at.saturating_sub(started.elapsed())
        });
        match arriving.recv_timeout(wait) {
            Ok((at, packet)) => {
                number += 1;
                flying.push(Reverse((at, number, packet)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> [UdpSocket; 2] {
        let end = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            socket
        };
        [end(), end()]
    }

    fn relay(ends: &[UdpSocket; 2], quality: Quality) -> DatagramRelay {
        let relay = DatagramRelay::start(quality, 9).unwrap();
        for (number, end) in ends.iter().enumerate() {
            relay.set_end(number, end.local_addr().unwrap());
        }
        relay
    }

    #[test]
    fn a_packet_and_its_answer_take_a_round_trip_at_least() {
        let ends = ends();
        let round_trip = Duration::from_millis(30);
        let relay = relay(&ends, Quality::of(round_trip, 1_000_000));
        let begun = Instant::now();
        ends[0].send_to(b"ask", relay.facing(0)).unwrap();
        let mut buffer = [0; 16];
        let (bytes, from) = ends[1].recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..bytes], from), (&b"ask"[..], relay.facing(1)));
        ends[1].send_to(b"answer", from).unwrap();
        let (bytes, from) = ends[0].recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..bytes], from), (&b"answer"[..], relay.facing(0)));
        assert!(begun.elapsed() >= round_trip);
        assert_eq!(relay.lost(), 0);
    }

    #[test]
    fn the_seed_says_which_packets_are_lost() {
        let ends = ends();
        let lossy = Quality::of(Duration::from_millis(2), 10_000_000).losing(300_000);
        let relay = relay(&ends, lossy);
        let mut path = Path::new(lossy, 9);
        let expected: Vec<u8> = (0..100)
            .filter(|at| path.send(Duration::from_secs(u64::from(*at)), 1).is_some())
            .collect();
        for at in 0..100 {
            ends[0].send_to(&[at], relay.facing(0)).unwrap();
        }
        let mut arrived = Vec::new();
        let mut buffer = [0; 16];
        while arrived.len() < expected.len() {
            ends[1].recv_from(&mut buffer).unwrap();
            arrived.push(buffer[0]);
        }
        assert_eq!(arrived, expected);
        assert_eq!(relay.lost(), 100 - expected.len() as u64);
    }
}
