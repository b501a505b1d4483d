//! A peer that speaks the wire by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::BytesMut;
use kinlog_feeds::crypto::{blake2b_256_keyed, namespace};
use kinlog_feeds::limits::PLAIN_FRAME_BYTES_MAX;
use kinlog_feeds::wire::hypercore::{Handshake, Message};
use kinlog_feeds::wire::{ChannelId, Config, Connection, Event, Role};
use kinlog_feeds::{FeedKey, Time};
use kinlog_swarm::link::Link;
use kinlog_swarm::link::memory::{self, MemoryLink};
use kinlog_swarm::{Label, Node, SessionRole};

use super::{PATIENCE, TestNode};

/// A peer that speaks the wire by itself, as initiator, and keeps all it was told.
pub(crate) struct Raw {
    pub(crate) link: MemoryLink,
    pub(crate) connection: Connection,
    pub(crate) events: Vec<Event>,
    pub(crate) closed: bool,
}

impl Raw {
    pub(crate) async fn attach(node: &TestNode, label: Label, key: [u8; 32]) -> Self {
        Raw::attach_to(&node.node, label, key).await
    }

    pub(crate) async fn attach_to(node: &Node, label: Label, key: [u8; 32]) -> Self {
        let (ours, theirs) = memory::pair();
        let role = SessionRole::Responder;
        node.attach(Arc::new(theirs), label, key, role)
            .await
            .unwrap();
        // Each is a process of its own: two with one static key would be one peer.
        static PEERS: AtomicU8 = AtomicU8::new(0);
        let seed = PEERS.fetch_add(1, Ordering::Relaxed);
        let mut config = Config::new(Role::Initiator, [seed; 32], [seed; 32], [seed; 24]);
        config.receive_frame_max = PLAIN_FRAME_BYTES_MAX;
        config.send_frame_max = PLAIN_FRAME_BYTES_MAX;
        let connection = Connection::new(Time::ZERO, config);
        Raw {
            link: ours,
            connection,
            events: Vec::new(),
            closed: false,
        }
    }

    /// Exchanges bytes until `done` holds of what was told so far, or the link ends.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&[Event]) -> bool) {
        let exchange = async {
            loop {
                while let Ok(Some(event)) = self.connection.poll_event() {
                    self.events.push(event);
                }
                while let Some(bytes) = self.connection.poll_transmit() {
                    for part in bytes.chunks(self.link.max_message()) {
                        if self.link.send(BytesMut::from(part)).await.is_err() {
                            self.closed = true;
                        }
                    }
                }
                if self.closed || done(&self.events) {
                    return;
                }
                match self.link.recv().await.unwrap() {
                    Some(bytes) => self.connection.handle_bytes(Time::ZERO, &bytes).unwrap(),
                    None => self.closed = true,
                }
            }
        };
        if tokio::time::timeout(PATIENCE, exchange).await.is_err() {
            panic!("nothing more after {:#?}", self.events);
        }
    }

    pub(crate) async fn handshake_hash(&mut self) -> [u8; 64] {
        let hash = |event: &Event| match event {
            Event::HandshakeComplete { hash, .. } => Some(*hash),
            _ => None,
        };
        self.until(|events| events.iter().any(|event| hash(event).is_some()))
            .await;
        self.events.iter().find_map(hash).unwrap()
    }

    /// Says hello as one who knows the topic's key; the layout is that of `docs/formats.md`.
    pub(crate) async fn hello(&mut self, label: Label, key: [u8; 32]) -> ChannelId {
        self.hello_with(label, key, 0).await
    }

    /// Says hello with these features.
    pub(crate) async fn hello_with(
        &mut self,
        label: Label,
        key: [u8; 32],
        features: u64,
    ) -> ChannelId {
        let hash = self.handshake_hash().await;
        let cap = blake2b_256_keyed(
            &hash,
            &[&namespace::SESSION_CAP.hash(), &[0], &[label.byte()], &key],
        );
        let mut hello = vec![1];
        hello.extend_from_slice(&features.to_le_bytes());
        hello.extend_from_slice(&[0xfe]);
        hello.extend_from_slice(&(256 * 1024_u32).to_le_bytes());
        hello.push(label.byte());
        hello.extend_from_slice(&cap);
        let channel = self.connection.open("kinlog/peer/1", None, &hello).unwrap();
        self.until(|events| {
            events
                .iter()
                .any(|event| matches!(event, Event::Opened { channel: c, .. } if *c == channel))
        })
        .await;
        channel
    }

    /// Asks for feeds by their tags: protobuf field 1 (want) with repeated field 1 (tag).
    pub(crate) async fn want(&mut self, channel: ChannelId, keys: &[FeedKey]) {
        let hash = self.handshake_hash().await;
        let mut tags = Vec::new();
        for key in keys {
            let tag = blake2b_256_keyed(&hash, &[&namespace::SESSION_TAG.hash(), &key.0]);
            tags.extend_from_slice(&[0x0a, 8]);
            tags.extend_from_slice(&tag[..8]);
        }
        let mut message = vec![0x0a, u8::try_from(tags.len()).unwrap()];
        message.extend_from_slice(&tags);
        self.connection.send(channel, 1, &message).unwrap();
    }

    pub(crate) async fn open_feed(&mut self, key: FeedKey) -> ChannelId {
        let hash = self.handshake_hash().await;
        let handshake = Handshake::new(Role::Initiator, &key, &hash).encode();
        let id = key.discovery_key();
        self.connection
            .open("hypercore/alpha", Some(&id.0), &handshake)
            .unwrap()
    }

    /// Waits until the node, having been asked for it, opens the feed, and opens it too.
    pub(crate) async fn accept_feed(&mut self, key: FeedKey) -> ChannelId {
        let id = key.discovery_key();
        let opens = |event: &Event| matches!(event, Event::RemoteOpen { id: Some(it), .. } if it[..] == id.0);
        self.until(|events| events.iter().any(opens)).await;
        self.open_feed(key).await
    }

    pub(crate) fn feed_messages(&self, on: ChannelId) -> Vec<Message> {
        let message = |event: &Event| match event {
            Event::Message {
                channel,
                message_type,
                body,
            } if *channel == on => Message::decode(*message_type, body).unwrap(),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    /// Everything the node said, decrypted.
    pub(crate) fn told(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for event in &self.events {
            match event {
                Event::HandshakeComplete { remote_static, .. } => {
                    all.extend_from_slice(remote_static)
                }
                Event::RemoteOpen {
                    protocol,
                    id,
                    handshake,
                } => {
                    all.extend_from_slice(protocol.as_bytes());
                    all.extend_from_slice(id.as_deref().unwrap_or_default());
                    all.extend_from_slice(handshake);
                }
                Event::Opened { handshake, .. } => all.extend_from_slice(handshake),
                Event::Message { body, .. } => all.extend_from_slice(body),
                _ => {}
            }
        }
        all
    }
}
