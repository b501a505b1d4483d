//! The session's feeds by tags and channels: what each side wants, and a channel of `hypercore/alpha` for
//! each that both have.

use std::collections::BTreeSet;

use kinlog_feeds::wire::ChannelId;
use kinlog_feeds::wire::hypercore::Handshake;
use kinlog_feeds::{DiscoveryKey, FeedKey};

use super::numbered::Naming;
use super::{FeedChannel, Known, Session, SessionEvent, session_tag};
use crate::limits::{TAGS_PER_MESSAGE_MAX, WANTED_TAGS_MAX};
use crate::session::SessionError;
use crate::session::message::{ChannelMessage, Tag};

pub(super) const FEED_PROTOCOL: &str = "hypercore/alpha";
const FEED_PROTOCOL_ALIAS: &str = "hypercore";

impl Session {
    /// Closes the channel of a feed until either side wants something of it again.
    pub(crate) fn close_idle(&mut self, key: &FeedKey) -> Result<(), SessionError> {
        let channel = self.by_feed.get(key).and_then(|id| self.channels.get(id));
        if channel.is_some_and(|channel| channel.open) {
            self.close_feed(key)?;
            self.idle.insert(*key);
        }
        Ok(())
    }

    /// Opens the channel of a feed again that was closed while nothing was asked for, if it is still one
    /// that this side wants.
    pub(crate) fn reopen(&mut self, key: &FeedKey) -> Result<(), SessionError> {
        if self.wants.contains(key) && self.idle.contains(key) {
            self.open_feed(*key, FEED_PROTOCOL)?;
        }
        Ok(())
    }

    pub(super) fn handle_want(&mut self, tags: Vec<Tag>) -> Result<(), SessionError> {
        if self.naming == Naming::Numbers {
            return Ok(());
        }
        for tag in tags {
            self.remote_wants.insert(tag);
            if self.remote_wants.len() > WANTED_TAGS_MAX {
                return Err(SessionError::TooManyWants {
                    limit: WANTED_TAGS_MAX,
                });
            }
            if let Some(key) = self.by_tag.get(&tag).copied() {
                self.open_feed(key, FEED_PROTOCOL)?;
            }
        }
        Ok(())
    }

    pub(super) fn handle_unwant(&mut self, tags: &[Tag]) -> Result<(), SessionError> {
        for tag in tags {
            self.remote_wants.remove(tag);
            let Some(key) = self.by_tag.get(tag).copied() else {
                continue;
            };
            if !self.wants.contains(&key) {
                self.close_feed(&key)?;
            }
        }
        Ok(())
    }

    pub(super) fn handle_remote_open(
        &mut self,
        protocol: &str,
        id: Option<&[u8]>,
        handshake: &[u8],
    ) -> Result<(), SessionError> {
        let is_feed = protocol == FEED_PROTOCOL || protocol == FEED_PROTOCOL_ALIAS;
        let key = id
            .filter(|_| is_feed && self.open && self.naming == Naming::Channels)
            .and_then(|id| <[u8; 32]>::try_from(id).ok())
            .and_then(|id| self.by_discovery.get(&DiscoveryKey(id)))
            .copied();
        match key {
            // Opening tells that we have it: only to those who prove that they know its key.
            Some(key) => {
                self.check_capability(&key, handshake)?;
                self.open_feed(key, protocol)
            }
            None => Ok(self.connection.reject_remote(protocol, id)?),
        }
    }

    pub(super) fn handle_feed_opened(
        &mut self,
        channel: ChannelId,
        handshake: &[u8],
    ) -> Result<Option<SessionEvent>, SessionError> {
        let Some(key) = self.channels.get(&channel).map(|feed| feed.key) else {
            return Ok(None);
        };
        self.check_capability(&key, handshake)?;
        if let Some(feed) = self.channels.get_mut(&channel) {
            feed.open = true;
        }
        self.events.push_back(SessionEvent::FeedOpened(key));
        self.settle_listing(&[key])?;
        Ok(None)
    }

    fn check_capability(&self, key: &FeedKey, handshake: &[u8]) -> Result<(), SessionError> {
        let Some(hash) = &self.handshake_hash else {
            return Err(SessionError::FeedCapability);
        };
        let shown = Handshake::decode(handshake)?;
        if !shown.proves(self.config.role.other().into(), key, hash) {
            return Err(SessionError::FeedCapability);
        }
        Ok(())
    }

    pub(super) fn handle_feed_gone(
        &mut self,
        channel: ChannelId,
        rejected: bool,
    ) -> Result<Option<SessionEvent>, SessionError> {
        let Some(feed) = self.channels.remove(&channel) else {
            return Ok(None);
        };
        let key = feed.key;
        self.by_feed.remove(&key);
        if feed.open && !rejected {
            self.idle.insert(key);
        }
        self.settle_listing(&[key])?;
        Ok(Some(SessionEvent::FeedClosed { key, rejected }))
    }

    pub(super) fn open_feed(&mut self, key: FeedKey, protocol: &str) -> Result<(), SessionError> {
        let Some(hash) = &self.handshake_hash else {
            return Ok(());
        };
        if self.by_feed.contains_key(&key) {
            return Ok(());
        }
        let handshake = Handshake::new(self.config.role.into(), &key, hash).encode();
        let id = key.discovery_key();
        let channel = self.connection.open(protocol, Some(&id.0), &handshake)?;
        self.by_feed.insert(key, channel);
        self.idle.remove(&key);
        self.channels
            .insert(channel, FeedChannel { key, open: false });
        Ok(())
    }

    pub(super) fn close_feed(&mut self, key: &FeedKey) -> Result<(), SessionError> {
        let Some(channel) = self.by_feed.remove(key) else {
            return Ok(());
        };
        self.connection.close(channel)?;
        if self.channels.remove(&channel).is_some_and(|feed| feed.open) {
            self.events.push_back(SessionEvent::FeedClosed {
                key: *key,
                rejected: false,
            });
        }
        self.settle_listing(&[*key])
    }

    /// Brings tags, channels and lookups in line with what is served and wanted now.
    pub(super) fn apply_feeds(&mut self) -> Result<(), SessionError> {
        let Some(hash) = self.handshake_hash else {
            return Ok(());
        };
        self.know_listed();
        match self.naming {
            Naming::Open => return Ok(()),
            Naming::Numbers => return self.settle_all_listed(),
            Naming::Channels => {
                if self.wants.len() > WANTED_TAGS_MAX {
                    self.wants = self.wants.iter().take(WANTED_TAGS_MAX).copied().collect();
                }
            }
        }
        let all: BTreeSet<FeedKey> = self.serves.union(&self.wants).copied().collect();
        let mut unwanted = Vec::new();
        for key in self.known.keys().copied().collect::<Vec<_>>() {
            let Some(known) = self.known.get_mut(&key) else {
                continue;
            };
            let still_wanted = self.wants.contains(&key);
            if known.wanted && !still_wanted {
                known.wanted = false;
                unwanted.push(known.tag);
            }
            let tag = known.tag;
            if !all.contains(&key) {
                self.known.remove(&key);
                self.idle.remove(&key);
                self.by_tag.remove(&tag);
                self.by_discovery.remove(&key.discovery_key());
                self.close_feed(&key)?;
            } else if !still_wanted && !self.remote_wants.contains(&tag) && !self.is_plain() {
                self.close_feed(&key)?;
            }
        }
        let mut wanted = Vec::new();
        for key in all {
            let known = self.known.entry(key).or_insert_with(|| Known {
                wanted: false,
                tag: session_tag(&hash, &key),
            });
            let tag = known.tag;
            if self.wants.contains(&key) && !known.wanted {
                known.wanted = true;
                wanted.push((key, tag));
            }
            self.by_tag.insert(tag, key);
            self.by_discovery.insert(key.discovery_key(), key);
            if self.remote_wants.contains(&tag) {
                self.open_feed(key, FEED_PROTOCOL)?;
            }
        }
        if self.is_plain() {
            for (key, _) in wanted {
                self.open_feed(key, FEED_PROTOCOL)?;
            }
            return Ok(());
        }
        for tags in unwanted.chunks(TAGS_PER_MESSAGE_MAX) {
            self.send_peer(ChannelMessage::Unwant(tags.to_vec()))?;
        }
        let wanted: Vec<Tag> = wanted.into_iter().map(|(_, tag)| tag).collect();
        for tags in wanted.chunks(TAGS_PER_MESSAGE_MAX) {
            self.send_peer(ChannelMessage::Want(tags.to_vec()))?;
        }
        Ok(())
    }
}
