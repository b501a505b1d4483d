//! What peers say, handed to whom it concerns.

use bytes::Bytes;

use crate::Time;
use crate::crypto::FeedKey;
use crate::limits::REQUESTS_PER_PEER_MAX;
use crate::replicate::announce::KINLOG_EXTENSION;
use crate::replicate::contest::{CONFLICT_EXTENSION, HEAD_EXTENSION};
use crate::replicate::flow::Context;
use crate::replicate::{PeerId, ProtocolViolation, Replicator};
use crate::wire::hypercore::Message;
use crate::wire::kinlog::{FeedMessage, SetRequest, Watch};

impl Replicator {
    /// A message of the peer on the channel of feed `key`. On an error close the connection: the
    /// peer is forgotten here.
    pub fn handle_message(
        &mut self,
        now: Time,
        peer: PeerId,
        key: &FeedKey,
        message: Message,
    ) -> Result<(), ProtocolViolation> {
        self.now = now;
        let result = self.dispatch(peer, key, message);
        if result.is_err() {
            self.handle_peer_gone(now, peer);
        }
        result
    }

    fn dispatch(
        &mut self,
        peer: PeerId,
        key: &FeedKey,
        message: Message,
    ) -> Result<(), ProtocolViolation> {
        let Some(feed) = self.feeds.get_mut(key) else {
            return Ok(());
        };
        let Some(channel) = feed.channels.get_mut(&peer) else {
            return Ok(());
        };
        match message {
            Message::Synchronize(sync) => {
                channel.remote = Some(sync);
                feed.told_nobody = None;
                self.touch(key);
            }
            Message::Range(range) => {
                with_feed!(self, key, |feed, cx| {
                    feed.note_held(cx, peer, |channel| channel.handle_range(&range));
                });
                self.touch(key);
            }
            Message::Bitfield { start, words } => {
                with_feed!(self, key, |feed, cx| {
                    feed.note_held(cx, peer, |channel| channel.handle_bitfield(start, &words));
                });
                self.touch(key);
            }
            Message::Data(data) => {
                self.touch(key);
                return with_feed!(self, key, |feed, cx| feed.handle_data(cx, peer, data))
                    .unwrap_or(Ok(()));
            }
            Message::NoData(no_data) => {
                with_feed!(self, key, |feed, cx| feed
                    .handle_no_data(cx, peer, &no_data));
                self.touch(key);
            }
            Message::Request(request) => {
                let Some(found) = self.peers.get_mut(&peer) else {
                    return Ok(());
                };
                if request.proof.upgrade.is_some() {
                    channel.head_told = channel.head_told.max(feed.length);
                }
                let peer = (peer, found);
                return self.server.handle_request(peer, feed, request);
            }
            Message::Cancel(request) => {
                let Some(found) = self.peers.get_mut(&peer) else {
                    return Ok(());
                };
                self.server.handle_cancel(peer, found, key, request);
            }
            Message::Want(want) => {
                let is_news = feed.handle_want(peer, &want);
                if let Some(found) = self.peers.get_mut(&peer).filter(|_| is_news) {
                    return self.server.handle_want((peer, found), *key, want);
                }
            }
            Message::Unwant(want) => feed.handle_unwant(peer, &want),
            Message::Extension { name, payload } => {
                return self.handle_extension(peer, key, &name, payload);
            }
        }
        Ok(())
    }

    fn handle_extension(
        &mut self,
        peer: PeerId,
        key: &FeedKey,
        name: &[u8],
        payload: Bytes,
    ) -> Result<(), ProtocolViolation> {
        let known = match name {
            KINLOG_EXTENSION => {
                self.peer(peer).window = REQUESTS_PER_PEER_MAX;
                with_feed!(self, key, |feed, cx| feed.handle_kinlog(cx, peer)).map(Ok)
            }
            HEAD_EXTENSION => {
                with_feed!(self, key, |feed, cx| feed.handle_head(cx, peer, &payload)).map(Ok)
            }
            CONFLICT_EXTENSION => {
                with_feed!(self, key, |feed, cx| feed.handle_proof(cx, peer, payload))
            }
            _ => None,
        };
        known.unwrap_or(Ok(()))
    }

    /// What the peer said about feed `key` by `kinlog/feed/1`. On an error close the connection: the
    /// peer is forgotten here.
    pub fn handle_kinlog_message(
        &mut self,
        now: Time,
        peer: PeerId,
        key: &FeedKey,
        message: FeedMessage,
    ) -> Result<(), ProtocolViolation> {
        self.now = now;
        let result = match message {
            FeedMessage::Hypercore(message) => self.dispatch(peer, key, message),
            FeedMessage::AskSet(request) => self.handle_set_request(peer, key, request),
            FeedMessage::Set(answer) => {
                self.touch(key);
                with_feed!(self, key, |feed, cx| feed.handle_set(cx, peer, answer))
                    .unwrap_or(Ok(()))
            }
            FeedMessage::Held(held) => {
                with_feed!(self, key, |feed, cx| {
                    feed.note_held(cx, peer, |channel| channel.handle_held(&held));
                });
                self.touch(key);
                Ok(())
            }
            FeedMessage::Watch(watch) => self.handle_watch(peer, key, &watch),
        };
        if result.is_err() {
            self.handle_peer_gone(now, peer);
        }
        result
    }

    fn handle_watch(
        &mut self,
        peer: PeerId,
        key: &FeedKey,
        watch: &Watch,
    ) -> Result<(), ProtocolViolation> {
        let (Some(feed), Some(found)) = (self.feeds.get_mut(key), self.peers.get_mut(&peer)) else {
            return Ok(());
        };
        for want in feed.handle_watch(self.now, peer, watch) {
            self.server.handle_want((peer, found), *key, want)?;
        }
        Ok(())
    }

    fn handle_set_request(
        &mut self,
        peer: PeerId,
        key: &FeedKey,
        request: SetRequest,
    ) -> Result<(), ProtocolViolation> {
        let (Some(feed), Some(found)) = (self.feeds.get(key), self.peers.get_mut(&peer)) else {
            return Ok(());
        };
        if !feed.channels.contains_key(&peer) {
            return Ok(());
        }
        self.server.handle_set_request((peer, found), feed, request)
    }
}
