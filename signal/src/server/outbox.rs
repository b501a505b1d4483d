//! What waits for one client, and its way into the socket.
//!
//! Whoever has something for a client writes it himself while nothing waits there: its task is not
//! woken for that. What the socket does not take waits, and the task writes it when the socket does.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use rustls::ServerConnection;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX, WRITE_FRAMES_MAX};
use crate::rules::CloseReason;
use crate::server::websocket::{HEAD_BYTES_MAX, head};

/// The outbox of one connection, shared by its task and whoever sends to it.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Tells the connection's task that it is to close, or to write what waits.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until the answer to the WebSocket request is written.
    socket: Option<Socket>,
    frames: VecDeque<Frame>,
    /// Of the first frame, its head included, that the socket took already.
    written: usize,
    bytes: usize,
    close: Option<CloseReason>,
    /// The socket took no more; its task waits until it does.
    stuck: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    payload: Bytes,
}

#[derive(Debug)]
struct Socket {
    write: OwnedWriteHalf,
    tls: Option<Box<ServerConnection>>,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

/// What became of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flushed {
    /// Nothing waits.
    All,
    /// The rest waits for the socket.
    Stuck,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox {
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Gives the outbox its socket; what waited until now goes with the next [`flush`](Self::flush).
    pub(super) fn attach(&self, write: OwnedWriteHalf, tls: Option<Box<ServerConnection>>) {
        self.lock().socket = Some(Socket { write, tls });
    }

    /// Lets a message wait; too much of that empties the outbox and marks it to be closed.
    ///
    /// Returns whether the message was taken: a connection about to close takes none, silently.
    pub(super) fn put(&self, payload: Bytes) -> Result<(), Full> {
        let mut state = self.lock();
        if state.close.is_some() {
            return Ok(());
        }
        if state.frames.len() >= OUTBOX_MESSAGES_MAX
            || state.bytes + payload.len() > OUTBOX_BYTES_MAX
        {
            // A frame that is half written has to be finished.
            let begun = usize::from(state.written > 0);
            state.frames.truncate(begun);
            state.close = Some(CloseReason::DoesNotRead);
            drop(state);
            self.changed.notify_one();
            return Err(Full);
        }
        state.push(OpCode::Data(Data::Binary), payload);
        Ok(())
    }

    /// Lets the answer to a ping wait, unless so much does that the client reads nothing anyhow.
    pub(super) fn pong(&self, payload: Bytes) {
        let mut state = self.lock();
        if state.close.is_none() && state.frames.len() < OUTBOX_MESSAGES_MAX {
            state.push(OpCode::Control(Control::Pong), payload);
        }
    }

    /// Marks the connection to be closed, and wakes its task; the first reason stands.
    pub(super) fn close(&self, reason: CloseReason) {
        self.lock().close.get_or_insert(reason);
        self.changed.notify_one();
    }

    /// Returns why the connection is to be closed, when it is.
    pub(super) fn must_close(&self) -> Option<CloseReason> {
        self.lock().close
    }

    /// Lets the last frame wait, a close, behind which nothing is written.
    pub(super) fn say_goodbye(&self, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        let mut state = self.lock();
        state.push(OpCode::Control(Control::Close), payload.into());
    }

    /// Says that nothing follows, where TLS has a word for it.
    pub(super) fn end(&self) {
        if let Some(tls) = self.lock().tls() {
            tls.send_close_notify();
        }
    }

    /// Writes what waits as far as the socket takes it, by whoever put it there. What remains is
    /// left to the connection's task, which is woken.
    pub(super) fn flush_from_elsewhere(&self) {
        let mut state = self.lock();
        if state.stuck || state.socket.is_none() {
            return;
        }
        if !matches!(state.flush(), Ok(Flushed::All)) {
            // An error shows itself to the task when it reads or writes.
            state.stuck = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Writes what waits as far as the socket takes it, by the connection's task.
    pub(super) fn flush(&self) -> io::Result<Flushed> {
        let mut state = self.lock();
        let flushed = state.flush();
        state.stuck = !matches!(flushed, Ok(Flushed::All));
        flushed
    }

    /// Opens TLS records and appends what was in them to `plain`; without TLS it does nothing.
    ///
    /// Returns whether TLS itself has something to say: it waits for the next [`flush`](Self::flush).
    pub(super) fn open_records(&self, received: &[u8], plain: &mut BytesMut) -> io::Result<bool> {
        let mut state = self.lock();
        let Some(tls) = state.tls() else {
            return Ok(false);
        };
        open_records(tls, received, plain)?;
        Ok(tls.wants_write())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, opcode: OpCode, payload: Bytes) {
        self.bytes += payload.len();
        self.frames.push_back(Frame { opcode, payload });
    }

    fn tls(&mut self) -> Option<&mut ServerConnection> {
        self.socket.as_mut()?.tls.as_deref_mut()
    }

    fn flush(&mut self) -> io::Result<Flushed> {
        let flushed = loop {
            let Some(socket) = &mut self.socket else {
                break Ok(Flushed::Stuck);
            };
            let written = match &mut socket.tls {
                None if self.frames.is_empty() => break Ok(Flushed::All),
                None => write_some(&self.frames, self.written, |slices| {
                    socket.write.try_write_vectored(slices)
                }),
                Some(tls) if tls.wants_write() => {
                    let sent = tls.write_tls(&mut TryWrite(&socket.write));
                    sent.map(|_| 0)
                }
                Some(_) if self.frames.is_empty() => break Ok(Flushed::All),
                Some(tls) => write_some(&self.frames, self.written, |slices| {
                    tls.writer().write_vectored(slices)
                }),
            };
            match written {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break Ok(Flushed::Stuck);
                }
                Err(error) => break Err(error),
            }
        };
        if self.frames.is_empty() {
            // A burst is not held in memory for the rest of a long and quiet connection.
            self.frames.shrink_to(1);
        }
        flushed
    }

    /// Takes out what was written.
    fn advance(&mut self, mut count: usize) {
        while let Some(frame) = self.frames.front() {
            let whole = head(frame.opcode, frame.payload.len()).1 + frame.payload.len();
            let left = whole - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            self.bytes -= frame.payload.len();
            self.frames.pop_front();
        }
    }
}

/// Writes the first frames at once, behind what was written of the first.
fn write_some(
    frames: &VecDeque<Frame>,
    written: usize,
    write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut heads = [([0; HEAD_BYTES_MAX], 0); WRITE_FRAMES_MAX];
    let count = frames.len().min(WRITE_FRAMES_MAX);
    for (place, frame) in heads.iter_mut().zip(frames) {
        *place = head(frame.opcode, frame.payload.len());
    }
    let mut slices = [IoSlice::new(&[]); 2 * WRITE_FRAMES_MAX];
    let parts = frames
        .iter()
        .zip(&heads)
        .flat_map(|(frame, (head, used))| [head.get(..*used).unwrap_or_default(), &frame.payload]);
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let mut slices = slices.get_mut(..2 * count).unwrap_or_default();
    IoSlice::advance_slices(&mut slices, written);
    write(slices)
}

/// Opens TLS records; see [`Outbox::open_records`].
fn open_records(
    tls: &mut ServerConnection,
    mut received: &[u8],
    plain: &mut BytesMut,
) -> io::Result<()> {
    loop {
        let before = received.len();
        if !received.is_empty() {
            tls.read_tls(&mut received)?;
        }
        let state = tls.process_new_packets();
        let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let count = state.plaintext_bytes_to_read();
        if count > 0 {
            let start = plain.len();
            plain.resize(start + count, 0);
            let room = plain.get_mut(start..).unwrap_or_default();
            io::Read::read_exact(&mut tls.reader(), room)?;
        }
        if received.is_empty() {
            return Ok(());
        }
        if received.len() == before {
            // The client said goodbye within TLS: nothing after that counts.
            return Ok(());
        }
    }
}

/// A socket as something to write to that may refuse.
struct TryWrite<'a>(&'a OwnedWriteHalf);

impl Write for TryWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
