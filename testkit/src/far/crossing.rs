//! A long way in front of one machine: whoever talks to it does so through sockets that stand for those it
//! has, and all of them share one link.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// A packet, and how it leaves.
struct Packet {
    bytes: Vec<u8>,
    by: Arc<UdpSocket>,
    to: SocketAddr,
}

/// One direction of the link, shared by all that crosses it.
struct Direction {
    path: Mutex<Path>,
    taken: SyncSender<(Duration, Packet)>,
}

struct Shared {
    directions: [Direction; 2],
    started: Instant,
    is_over: AtomicBool,
    lost: AtomicU64,
}

impl Shared {
    fn carry(&self, direction: usize, packet: Packet) {
        let Direction { path, taken } = &self.directions[direction];
        let arrives = lock(path).send(self.started.elapsed(), packet.bytes.len());
        let sent = match arrives {
            Some(arrives) => taken.try_send((arrives, packet)),
            None => Err(TrySendError::Full((Duration::ZERO, packet))),
        };
        if sent.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// The sockets that stand for those of one machine, and the link behind them.
pub struct Crossing {
    shared: Arc<Shared>,
    stand_ins: Mutex<BTreeMap<SocketAddr, StandIn>>,
}

struct StandIn {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Crossing {
    /// Returns a link that nothing crosses yet.
    pub fn start(quality: Quality, seed: u64) -> Crossing {
        let started = Instant::now();
        let direction = |number: u64| {
            let (taken, arriving) = sync_channel(PACKETS_MAX);
            thread::spawn(move || deliver(started, &arriving));
            let path = Mutex::new(Path::new(quality, seed.wrapping_add(number)));
            Direction { path, taken }
        };
        let shared = Shared {
            directions: [direction(0), direction(1)],
            started,
            is_over: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        };
        Crossing {
            shared: Arc::new(shared),
            stand_ins: Mutex::default(),
        }
    }

    /// Returns the address by which a socket of the machine is reached across the link.
    pub fn stands_for(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let mut stand_ins = lock(&self.stand_ins);
        if let Some(there) = stand_ins.get(&address) {
            return Ok(there.address);
        }
        let outer = Arc::new(socket(address)?);
        let stand_in = StandIn {
            address: outer.local_addr()?,
            is_cut: Arc::default(),
        };
        let told = stand_in.address;
        let (shared, is_cut) = (Arc::clone(&self.shared), Arc::clone(&stand_in.is_cut));
        thread::spawn(move || inwards(&shared, &outer, address, &is_cut));
        stand_ins.insert(address, stand_in);
        Ok(told)
    }

    /// Returns the sockets of the machine that others were told of, in the order of their addresses.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        lock(&self.stand_ins).keys().copied().collect()
    }

    /// Lets nothing through any more that goes to a socket of the machine.
    pub fn cut(&self, address: SocketAddr) {
        if let Some(there) = lock(&self.stand_ins).get(&address) {
            there.is_cut.store(true, Ordering::Relaxed);
        }
    }

    /// Returns how many packets were lost so far, both ways.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

/// Takes what comes for one socket of the machine; each sender has a socket of its own on the other side,
/// so that answers find their way back.
fn inwards(shared: &Arc<Shared>, outer: &Arc<UdpSocket>, machine: SocketAddr, is_cut: &AtomicBool) {
    let mut senders: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !shared.is_over() {
        // Nothing came within LOOK, or somebody is gone: both may change.
        let Ok((bytes, from)) = outer.recv_from(&mut buffer) else {
            continue;
        };
        if is_cut.load(Ordering::Relaxed) {
            continue;
        }
        let inner = match senders.entry(from) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                // Without another socket the packet is lost.
                let Ok(inner) = socket(machine) else { continue };
                let inner = Arc::new(inner);
                let (by, shared, outer) =
                    (Arc::clone(&inner), Arc::clone(shared), Arc::clone(outer));
                thread::spawn(move || outwards(&shared, &by, &outer, from));
                place.insert(inner)
            }
        };
        let packet = Packet {
            bytes: buffer[..bytes].to_vec(),
            by: Arc::clone(inner),
            to: machine,
        };
        shared.carry(0, packet);
    }
}

fn outwards(shared: &Shared, inner: &UdpSocket, outer: &Arc<UdpSocket>, to: SocketAddr) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !shared.is_over() {
        let Ok((bytes, _)) = inner.recv_from(&mut buffer) else {
            continue;
        };
        let packet = Packet {
            bytes: buffer[..bytes].to_vec(),
            by: Arc::clone(outer),
            to,
        };
        shared.carry(1, packet);
    }
}

fn deliver(started: Instant, arriving: &Receiver<(Duration, Packet)>) {
    let mut flying: BinaryHeap<Reverse<(Duration, u64)>> = BinaryHeap::new();
    let mut packets: BTreeMap<u64, Packet> = BTreeMap::new();
    let mut number = 0;
    loop {
        while let Some(Reverse((at, next))) = flying.peek().copied()
            && at <= started.elapsed()
        {
            flying.pop();
            if let Some(packet) = packets.remove(&next) {
                // Nobody there is as good as a packet lost.
                let _ = packet.by.send_to(&packet.bytes, packet.to);
            }
        }
        let wait = flying.peek().map_or(LOOK, |Reverse((at, _))| {
            at.saturating_sub(started.elapsed())
        });
        match arriving.recv_timeout(wait) {
            Ok((at, packet)) => {
                number += 1;
                flying.push(Reverse((at, number)));
                packets.insert(number, packet);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Returns a socket beside those of a machine: of the loopback interface, if that is where they are.
fn socket(machine: SocketAddr) -> std::io::Result<UdpSocket> {
    let address = match machine.ip().is_loopback() {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::UNSPECIFIED,
    };
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_read_timeout(Some(LOOK))?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES)?;
    Ok(socket)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Crossing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crossing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).unwrap();
        socket
    }

    #[test]
    fn an_answer_finds_its_way_back_after_a_round_trip() {
        let (machine, others) = (end(), [end(), end()]);
        let round_trip = Duration::from_millis(30);
        let crossing = Crossing::start(Quality::of(round_trip, 10_000_000), 1);
        let here = machine.local_addr().unwrap();
        let told = crossing.stands_for(here).unwrap();
        assert_eq!(crossing.stands_for(here).unwrap(), told);
        for (other, word) in others.iter().zip([b"one", b"two"]) {
            let begun = Instant::now();
            other.send_to(word, told).unwrap();
            let mut buffer = [0; 16];
            let (bytes, from) = machine.recv_from(&mut buffer).unwrap();
            machine.send_to(&buffer[..bytes], from).unwrap();
            let (bytes, from) = other.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..bytes], from), (&word[..], told));
            assert!(begun.elapsed() >= round_trip);
        }
        assert_eq!(crossing.lost(), 0);
    }

    #[test]
    fn sockets_share_the_rate_of_the_link() {
        let machines = [end(), end()];
        let crossing = Crossing::start(Quality::of(Duration::from_millis(200), 1_000_000), 1);
        let other = end();
        let begun = Instant::now();
        for machine in &machines {
            let told = crossing.stands_for(machine.local_addr().unwrap()).unwrap();
            for _ in 0..50 {
                other.send_to(&[0; 1_000], told).unwrap();
            }
        }
        for machine in &machines {
            for _ in 0..50 {
                machine.recv_from(&mut [0; 1_000]).unwrap();
            }
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(200),
            "100 kB and the delay"
        );
    }

    #[test]
    fn one_socket_is_cut_off_and_the_other_goes_on() {
        let machines = [end(), end()];
        let crossing = Crossing::start(Quality::of(Duration::from_millis(2), 10_000_000), 1);
        let addresses = machines.each_ref().map(|it| it.local_addr().unwrap());
        let told = addresses.map(|address| crossing.stands_for(address).unwrap());
        crossing.cut(addresses[0]);
        let other = end();
        other.send_to(b"lost", told[0]).unwrap();
        other.send_to(b"there", told[1]).unwrap();
        machines[1].recv_from(&mut [0; 16]).unwrap();
        machines[0].set_nonblocking(true).unwrap();
        assert!(machines[0].recv_from(&mut [0; 16]).is_err());
    }
}
