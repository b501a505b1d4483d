//! Protomux: many channels on one stream, as npm `protomux` 3.
//!
//! Both sides open a channel by protocol and id; they pair when both have. A message names the
//! sender's own number of the channel. Numbers are used again once both sides are done with them:
//! a side that closes a paired channel is, a side that closes before the remote answered waits
//! for the answer.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::encoding::{Reader, Writer};
use crate::limits::{CHANNEL_NAME_BYTES_MAX, CHANNELS_MAX, PENDING_BYTES_MAX};
use crate::wire::hypercore::{PROTOCOL, PROTOCOL_ALIAS};
use crate::wire::outbox::{Outbox, Place};
use crate::wire::{ChannelId, Event, SendError, WireError};

/// Types of messages on channel 0.
pub(super) mod control {
    pub(in crate::wire) const BATCH: u64 = 0;
    pub(in crate::wire) const OPEN: u64 = 1;
    pub(in crate::wire) const REJECT: u64 = 2;
    pub(in crate::wire) const CLOSE: u64 = 3;
}

/// What is counted for each message or open that is kept, beside its bytes.
const PENDING_ENTRY_BYTES: usize = 512;

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Name {
    protocol: String,
    id: Option<Bytes>,
}

impl Name {
    fn new(protocol: &str, id: Option<&[u8]>) -> Self {
        let protocol = if protocol == PROTOCOL_ALIAS {
            PROTOCOL
        } else {
            protocol
        };
        Name {
            protocol: protocol.to_owned(),
            id: id.map(Bytes::copy_from_slice),
        }
    }
}

#[derive(Debug)]
struct Channel {
    name: Name,
    /// Number by which this side names the channel.
    local: u64,
    /// Number by which the remote names it, once it has opened too.
    remote: Option<u64>,
}

/// What a number of this side stands for.
#[derive(Debug)]
enum LocalSlot {
    Free,
    Open(ChannelId),
    /// Closed before the remote answered our open; free once it does.
    Abandoned,
}

/// What a number of the remote stands for.
#[derive(Debug)]
enum RemoteSlot {
    Free,
    /// Opened by the remote, not by this side; its messages wait.
    Pending(Box<Pending>),
    Paired(ChannelId),
}

#[derive(Debug)]
struct Pending {
    name: Name,
    handshake: Bytes,
    messages: Vec<(u64, Bytes)>,
    bytes: usize,
}

/// The channels of one connection.
#[derive(Debug, Default)]
pub(super) struct Mux {
    next_id: u64,
    channels: BTreeMap<ChannelId, Channel>,
    by_name: BTreeMap<Name, ChannelId>,
    locals: Vec<LocalSlot>,
    remotes: Vec<RemoteSlot>,
    /// Own numbers whose open the remote has not answered, oldest first.
    unanswered: BTreeMap<Name, VecDeque<u64>>,
    pending_by_name: BTreeMap<Name, u64>,
    pending_bytes: usize,
    events: VecDeque<Event>,
}

impl Mux {
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns whether so much waits for channels to be opened that nothing more may be decoded.
    pub(super) fn is_paused(&self) -> bool {
        self.pending_bytes > PENDING_BYTES_MAX
    }

    pub(super) fn open(
        &mut self,
        outbox: &mut Outbox,
        protocol: &str,
        id: Option<&[u8]>,
        handshake: &[u8],
    ) -> Result<ChannelId, SendError> {
        let name = Name::new(protocol, id);
        if let Some(channel) = self.by_name.get(&name) {
            return Err(SendError::AlreadyOpen { channel: *channel });
        }
        if self.locals.len() >= CHANNELS_MAX && self.free_local().is_none() {
            return Err(SendError::TooManyChannels {
                limit: CHANNELS_MAX,
            });
        }
        let (channel, local) = self.take_local();
        let mut body = Vec::with_capacity(16 + name.protocol.len() + handshake.len());
        body.put_uint(local);
        body.put_buffer(name.protocol.as_bytes());
        body.put_buffer(name.id.as_deref().unwrap_or_default());
        body.put_raw(handshake);
        if let Err(error) = outbox.push(Place::Ahead, 0, control::OPEN, &body) {
            self.free(local);
            return Err(error);
        }
        self.by_name.insert(name.clone(), channel);
        match self.pending_by_name.remove(&name) {
            Some(remote) => {
                self.channels.insert(
                    channel,
                    Channel {
                        name,
                        local,
                        remote: Some(remote),
                    },
                );
                self.pair_pending(channel, remote);
            }
            None => {
                self.unanswered
                    .entry(name.clone())
                    .or_default()
                    .push_back(local);
                self.channels.insert(
                    channel,
                    Channel {
                        name,
                        local,
                        remote: None,
                    },
                );
            }
        }
        Ok(channel)
    }

    pub(super) fn reject_remote(
        &mut self,
        outbox: &mut Outbox,
        protocol: &str,
        id: Option<&[u8]>,
    ) -> Result<(), SendError> {
        match self.pending_by_name.get(&Name::new(protocol, id)) {
            Some(remote) => self.reject(outbox, *remote),
            None => Ok(()),
        }
    }

    pub(super) fn close(
        &mut self,
        outbox: &mut Outbox,
        channel: ChannelId,
    ) -> Result<(), SendError> {
        let Some(gone) = self.channels.remove(&channel) else {
            return Ok(());
        };
        self.by_name.remove(&gone.name);
        match gone.remote {
            Some(remote) => {
                self.set_remote(remote, RemoteSlot::Free);
                self.free(gone.local);
            }
            None => self.set_local(gone.local, LocalSlot::Abandoned),
        }
        outbox.push(Place::Last, 0, control::CLOSE, &uint(gone.local))
    }

    /// Returns the number by which messages of an open channel are addressed.
    pub(super) fn address(&self, channel: ChannelId) -> Result<u64, SendError> {
        let found = self
            .channels
            .get(&channel)
            .ok_or(SendError::NotOpen { channel })?;
        Ok(found.local)
    }

    /// Takes a message of the remote; what it leads to waits in [`poll_event`](Self::poll_event)
    /// or, for the common case, is returned at once.
    pub(super) fn handle_message(
        &mut self,
        outbox: &mut Outbox,
        remote: u64,
        message_type: u64,
        body: Bytes,
    ) -> Result<Option<Event>, WireError> {
        if remote == 0 {
            self.handle_control(outbox, message_type, &body)?;
            return Ok(self.poll_event());
        }
        match self.remotes.get_mut(slot(remote)) {
            // Of a channel that this side closed while the message was on its way, or never known.
            None | Some(RemoteSlot::Free) => Ok(None),
            Some(RemoteSlot::Paired(channel)) => Ok(Some(Event::Message {
                channel: *channel,
                message_type,
                body,
            })),
            Some(RemoteSlot::Pending(pending)) => {
                let bytes = PENDING_ENTRY_BYTES + body.len();
                // A copy, so that a small message does not keep a whole frame.
                pending
                    .messages
                    .push((message_type, Bytes::copy_from_slice(&body)));
                pending.bytes += bytes;
                self.pending_bytes += bytes;
                Ok(None)
            }
        }
    }

    fn handle_control(
        &mut self,
        outbox: &mut Outbox,
        message_type: u64,
        body: &Bytes,
    ) -> Result<(), WireError> {
        let mut reader = Reader::new(body);
        match message_type {
            control::BATCH => Err(WireError::NestedBatch),
            control::OPEN => {
                let remote = reader.uint()?;
                let protocol = reader.buffer("protocol name", CHANNEL_NAME_BYTES_MAX)?;
                let id = reader.buffer("channel id", CHANNEL_NAME_BYTES_MAX)?;
                let name = Name::new(
                    &String::from_utf8_lossy(protocol),
                    (!id.is_empty()).then_some(id),
                );
                self.handle_open(outbox, remote, name, body.slice(reader.position()..))
            }
            control::REJECT => self.handle_reject(reader.uint()?),
            control::CLOSE => self.handle_close(outbox, reader.uint()?),
            _ => Ok(()),
        }
    }

    fn handle_open(
        &mut self,
        outbox: &mut Outbox,
        remote: u64,
        name: Name,
        handshake: Bytes,
    ) -> Result<(), WireError> {
        let at = slot(remote);
        if at == self.remotes.len() {
            if at >= CHANNELS_MAX {
                return Err(WireError::TooManyChannels {
                    limit: CHANNELS_MAX,
                });
            }
            self.remotes.push(RemoteSlot::Free);
        }
        if remote == 0 || !matches!(self.remotes.get(at), Some(RemoteSlot::Free)) {
            return Err(WireError::InvalidOpen { id: remote });
        }
        if let Some(local) = self.take_unanswered(&name) {
            match self.locals.get(slot(local)) {
                Some(LocalSlot::Open(channel)) => {
                    let channel = *channel;
                    self.set_remote(remote, RemoteSlot::Paired(channel));
                    if let Some(found) = self.channels.get_mut(&channel) {
                        found.remote = Some(remote);
                    }
                    self.events.push_back(Event::Opened { channel, handshake });
                }
                // Our close is on its way: the remote forgets the channel when it arrives.
                _ => self.free(local),
            }
            return Ok(());
        }
        if self.by_name.contains_key(&name) || self.pending_by_name.contains_key(&name) {
            // A second channel of one name: this side never pairs it.
            return outbox
                .push(Place::Ahead, 0, control::REJECT, &uint(remote))
                .map_err(|_| WireError::InvalidOpen { id: remote });
        }
        let bytes = PENDING_ENTRY_BYTES + handshake.len();
        self.pending_bytes += bytes;
        self.pending_by_name.insert(name.clone(), remote);
        self.events.push_back(Event::RemoteOpen {
            protocol: name.protocol.clone(),
            id: name.id.clone(),
            handshake: handshake.clone(),
        });
        let handshake = Bytes::copy_from_slice(&handshake);
        let pending = Box::new(Pending {
            name,
            handshake,
            messages: Vec::new(),
            bytes,
        });
        self.set_remote(remote, RemoteSlot::Pending(pending));
        Ok(())
    }

    fn handle_reject(&mut self, local: u64) -> Result<(), WireError> {
        let invalid = WireError::InvalidReject { id: local };
        let name = self
            .unanswered
            .iter()
            .find(|(_, waiting)| waiting.contains(&local))
            .map(|(name, _)| name.clone())
            .ok_or(invalid)?;
        if let Some(waiting) = self.unanswered.get_mut(&name) {
            waiting.retain(|waits| *waits != local);
            if waiting.is_empty() {
                self.unanswered.remove(&name);
            }
        }
        if let Some(LocalSlot::Open(channel)) = self.locals.get(slot(local)) {
            let channel = *channel;
            self.channels.remove(&channel);
            self.by_name.remove(&name);
            self.events.push_back(Event::Rejected { channel });
        }
        self.free(local);
        Ok(())
    }

    fn handle_close(&mut self, outbox: &mut Outbox, remote: u64) -> Result<(), WireError> {
        match self.remotes.get(slot(remote)) {
            None | Some(RemoteSlot::Free) => Ok(()),
            Some(RemoteSlot::Pending(_)) => self
                .reject(outbox, remote) // frees the remote's number, which waits for an answer
                .map_err(|_| WireError::InvalidOpen { id: remote }),
            Some(RemoteSlot::Paired(channel)) => {
                let channel = *channel;
                self.set_remote(remote, RemoteSlot::Free);
                if let Some(gone) = self.channels.remove(&channel) {
                    self.by_name.remove(&gone.name);
                    self.free(gone.local);
                }
                self.events.push_back(Event::Closed { channel });
                Ok(())
            }
        }
    }

    fn reject(&mut self, outbox: &mut Outbox, remote: u64) -> Result<(), SendError> {
        if let Some(RemoteSlot::Pending(pending)) = self.remotes.get(slot(remote)) {
            self.pending_bytes -= pending.bytes;
            self.pending_by_name.remove(&pending.name);
            self.set_remote(remote, RemoteSlot::Free);
        }
        outbox.push(Place::Ahead, 0, control::REJECT, &uint(remote))
    }

    fn pair_pending(&mut self, channel: ChannelId, remote: u64) {
        let Some(waiting) = self.remotes.get_mut(slot(remote)) else {
            return;
        };
        if let RemoteSlot::Pending(pending) =
            std::mem::replace(waiting, RemoteSlot::Paired(channel))
        {
            self.pending_bytes -= pending.bytes;
            self.events.push_back(Event::Opened {
                channel,
                handshake: pending.handshake,
            });
            for (message_type, body) in pending.messages {
                self.events.push_back(Event::Message {
                    channel,
                    message_type,
                    body,
                });
            }
        }
    }

    fn take_unanswered(&mut self, name: &Name) -> Option<u64> {
        let waiting = self.unanswered.get_mut(name)?;
        let local = waiting.pop_front();
        if waiting.is_empty() {
            self.unanswered.remove(name);
        }
        local
    }

    fn free_local(&self) -> Option<usize> {
        self.locals
            .iter()
            .position(|slot| matches!(slot, LocalSlot::Free))
    }

    fn take_local(&mut self) -> (ChannelId, u64) {
        let channel = ChannelId(self.next_id);
        self.next_id += 1;
        let at = match self.free_local() {
            Some(at) => at,
            None => {
                self.locals.push(LocalSlot::Free);
                self.locals.len() - 1
            }
        };
        self.locals[at] = LocalSlot::Open(channel);
        (channel, at as u64 + 1)
    }

    fn free(&mut self, local: u64) {
        self.set_local(local, LocalSlot::Free);
    }

    fn set_local(&mut self, local: u64, state: LocalSlot) {
        if let Some(found) = self.locals.get_mut(slot(local)) {
            *found = state;
        }
    }

    fn set_remote(&mut self, remote: u64, state: RemoteSlot) {
        if let Some(found) = self.remotes.get_mut(slot(remote)) {
            *found = state;
        }
    }
}

/// Channel numbers start at 1; 0 gives a place that no vector has.
fn slot(number: u64) -> usize {
    usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .unwrap_or(usize::MAX)
}

fn uint(value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(9);
    out.put_uint(value);
    out
}
