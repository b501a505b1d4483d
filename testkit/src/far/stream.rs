//! A TCP connection as it would be over a long way: what comes in at one end goes out at the other when
//! the path says so.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Path, Quality};

/// Bytes taken at once: what a few packets carry, so that the delay of each is about right.
const PIECE_BYTES: usize = 16 * 1024;

/// What the kernel may hold of what waits for the path, which has a queue of its own: megabytes of it
/// would be most of the delay.
const BUFFER_BYTES: usize = 64 * 1024;

/// Pieces on their way: 64 MiB, more than any path here carries in a round trip.
const PIECES_MAX: usize = 4096;

/// Takes connections and carries each to `target`, both ways over paths of the same quality.
#[derive(Debug)]
pub struct StreamRelay {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl StreamRelay {
    /// Listens on a port of the loopback interface.
    pub fn start(target: SocketAddr, quality: Quality, seed: u64) -> std::io::Result<StreamRelay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Connections have it from their listener.
        SockRef::from(&listener).set_recv_buffer_size(BUFFER_BYTES)?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        thread::spawn(move || {
            for (number, near) in (0..).zip(listener.incoming()) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that cannot be made is one that is closed at once.
                let Ok(near) = near else { continue };
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let _ = carry(near, far, quality, seed.wrapping_add(2 * number));
            }
        });
        Ok(StreamRelay { address, is_over })
    }

    /// Returns where it takes connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StreamRelay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It looks at that when somebody connects; connections end with their ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(near: TcpStream, far: TcpStream, quality: Quality, seed: u64) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    SockRef::from(&far).set_recv_buffer_size(BUFFER_BYTES)?;
    one_way(
        near.try_clone()?,
        far.try_clone()?,
        Path::new(quality, seed),
    );
    one_way(far, near, Path::new(quality, seed.wrapping_add(1)));
    Ok(())
}

fn one_way(mut from: TcpStream, mut to: TcpStream, mut path: Path) {
    let started = Instant::now();
    let (pieces, arriving): (SyncSender<(Duration, Vec<u8>)>, _) = sync_channel(PIECES_MAX);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            // Whoever sends faster than the path is held up, as by a full send buffer.
            thread::sleep(path.room_in(started.elapsed(), bytes));
            let arrives = path.stream(started.elapsed(), bytes);
            if pieces.send((arrives, buffer[..bytes].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (arrives, bytes) in arriving {
            thread::sleep(arrives.saturating_sub(started.elapsed()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // One that is closed already needs no closing.
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    /// Answers each connection with what it says.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                thread::spawn(move || {
                    let mut other = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut other);
                });
            }
        });
        address
    }

    fn connect(quality: Quality) -> (TcpStream, StreamRelay) {
        let relay = StreamRelay::start(echo(), quality, 1).unwrap();
        let stream = TcpStream::connect(relay.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        (stream, relay)
    }

    #[test]
    fn an_answer_takes_a_round_trip_at_least() {
        let (mut stream, _relay) = connect(Quality::of(ROUND_TRIP, 10_000_000));
        for word in [b"one", b"two"] {
            let asked = Instant::now();
            stream.write_all(word).unwrap();
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, word);
            assert!(asked.elapsed() >= ROUND_TRIP, "{:?}", asked.elapsed());
        }
    }

    #[test]
    fn bytes_come_in_order_and_no_faster_than_the_path_carries_them() {
        let (mut stream, _relay) = connect(Quality::of(ROUND_TRIP, 4_000_000).losing(20_000));
        let said: Vec<u8> = (0..1_000_000u32).map(|at| (at >> 8) as u8).collect();
        let begun = Instant::now();
        let mut writer = stream.try_clone().unwrap();
        let all = said.clone();
        let writing = thread::spawn(move || writer.write_all(&all).unwrap());
        let mut heard = vec![0; said.len()];
        stream.read_exact(&mut heard).unwrap();
        writing.join().unwrap();
        assert!(heard == said, "bytes were changed");
        let least = Duration::from_millis(250) + ROUND_TRIP;
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_end_of_a_stream_is_carried_too() {
        let (mut stream, _relay) = connect(Quality::of(ROUND_TRIP, 1_000_000));
        stream.write_all(b"last").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"last");
    }
}
