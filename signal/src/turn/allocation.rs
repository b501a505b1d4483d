//! One client's allocation: its relayed address, who may send to it, its channels, its share.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use kinlog_feeds::Time;
use rtc_stun::message::TransactionId;

use super::limits::{CHANNEL_LIFETIME, PERMISSION_LIFETIME, TurnLimits};
use super::message::{BAD_REQUEST, CHANNEL_QUOTA, PERMISSION_QUOTA, Refusal};
use super::relay::RelayId;
use crate::rules::{AddressKey, Bucket};

/// An allocation; times are those after which something is over.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) relay: RelayId,
    /// Username of the last request; its name never changes.
    pub(super) username: String,
    pub(super) name: String,
    pub(super) address: AddressKey,
    pub(super) until: Time,
    /// No refresh goes beyond this.
    pub(super) until_max: Time,
    /// The request that made it, and its answer: it may come twice.
    pub(super) made_by: (TransactionId, Bytes),
    pub(super) bucket: Bucket,
    permissions: BTreeMap<IpAddr, Time>,
    channels: BTreeMap<u16, (SocketAddr, Time)>,
    numbers: BTreeMap<SocketAddr, u16>,
}

/// What is known of an allocation when it is made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) relay: RelayId,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) address: AddressKey,
    pub(super) until: Time,
    pub(super) made_by: (TransactionId, Bytes),
}

impl Allocation {
    pub(super) fn new(now: Time, limits: &TurnLimits, made: Made) -> Allocation {
        Allocation {
            relay: made.relay,
            username: made.username,
            name: made.name,
            address: made.address,
            until: made.until,
            until_max: now + limits.lifetime_total,
            made_by: made.made_by,
            bucket: Bucket::new(limits.allocation_rate, now),
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// Lets peers at these addresses send; all of them or none.
    pub(super) fn permit(
        &mut self,
        now: Time,
        limits: &TurnLimits,
        peers: &[IpAddr],
    ) -> Result<(), Refusal> {
        self.sweep(now);
        let new = peers
            .iter()
            .filter(|peer| !self.permissions.contains_key(peer));
        if self.permissions.len() + new.count() > limits.permissions {
            return Err(PERMISSION_QUOTA);
        }
        let until = now + PERMISSION_LIFETIME;
        self.permissions
            .extend(peers.iter().map(|peer| (*peer, until)));
        Ok(())
    }

    /// Binds a channel to a peer, and lets the peer send.
    pub(super) fn bind(
        &mut self,
        now: Time,
        limits: &TurnLimits,
        channel: u16,
        peer: SocketAddr,
    ) -> Result<(), Refusal> {
        self.sweep(now);
        match (self.channels.get(&channel), self.numbers.get(&peer)) {
            (None, None) if self.channels.len() >= limits.channels => return Err(CHANNEL_QUOTA),
            (None, None) => {}
            (Some((bound, _)), _) if *bound == peer => {}
            _ => return Err(BAD_REQUEST),
        }
        self.permit(now, limits, &[peer.ip()])?;
        self.channels
            .insert(channel, (peer, now + CHANNEL_LIFETIME));
        self.numbers.insert(peer, channel);
        Ok(())
    }

    pub(super) fn permits(&self, now: Time, peer: IpAddr) -> bool {
        self.permissions
            .get(&peer)
            .is_some_and(|until| now < *until)
    }

    /// Returns the peer at the other end of a channel.
    pub(super) fn peer_of(&self, now: Time, channel: u16) -> Option<SocketAddr> {
        let (peer, until) = self.channels.get(&channel)?;
        (now < *until).then_some(*peer)
    }

    /// Returns the channel to a peer.
    pub(super) fn channel_of(&self, now: Time, peer: SocketAddr) -> Option<u16> {
        let channel = *self.numbers.get(&peer)?;
        self.peer_of(now, channel).map(|_| channel)
    }

    pub(super) fn sweep(&mut self, now: Time) {
        self.permissions.retain(|_, until| now < *until);
        self.channels.retain(|_, (_, until)| now < *until);
        let channels = &self.channels;
        self.numbers
            .retain(|_, channel| channels.contains_key(channel));
    }
}
