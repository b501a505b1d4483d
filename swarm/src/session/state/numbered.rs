//! The session's part of `kinlog/feed/1`: feeds are agreed upon by lists, and spoken of by number.
//!
//! Where two met by a topic, an agreed feed has no channel of its own; in a plain session it keeps its
//! `hypercore/alpha` channel, and only what Hypercore has no words for goes by number.

use std::collections::BTreeSet;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::limits::LISTED_MAX;
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::{self, FeedMessage, GroupMessage, feature};

use super::{Session, SessionEvent};
use crate::session::SessionError;
use crate::session::associations::{Bulk, Copied};
use crate::session::listing::{Listing, News};

/// How feeds are agreed upon in a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Naming {
    /// It is not known yet whether the other side takes numbers.
    Open,
    /// By tags, and a channel for each feed.
    Channels,
    /// By number.
    Numbers,
}

impl Session {
    /// Opens the channel; the other side does the same, or rejects it.
    pub(super) fn open_listing(&mut self, hash: &[u8; 64]) -> Result<(), SessionError> {
        let opening = Listing::opening();
        let channel = self.connection.open(kinlog::PROTOCOL, None, &opening)?;
        let listing = Listing::new(self.config.role.into(), *hash);
        self.listing = Some((channel, listing));
        Ok(())
    }

    pub(super) fn handle_listing_opened(&mut self, opening: &[u8]) -> Result<(), SessionError> {
        let Some((_, listing)) = &mut self.listing else {
            return Ok(());
        };
        listing.handle_opening(opening)?;
        if self.naming == Naming::Open {
            self.naming = match listing.has(feature::NUMBERS) {
                true => Naming::Numbers,
                false => Naming::Channels,
            };
            if self.naming == Naming::Numbers && listing.has(feature::GROUPS) {
                self.events.push_back(SessionEvent::TakesGroups);
            }
            return self.apply_feeds();
        }
        let open: Vec<FeedKey> = self.by_feed.keys().copied().collect();
        self.know_listed();
        self.settle_listing(&open)
    }

    /// The other side has no such channel (any more).
    pub(super) fn handle_listing_gone(&mut self) -> Result<(), SessionError> {
        self.listing = None;
        match self.naming {
            Naming::Open => {
                self.naming = Naming::Channels;
                self.apply_feeds()
            }
            Naming::Channels => Ok(()),
            // Every feed would be gone.
            Naming::Numbers => Err(SessionError::NotKinlog),
        }
    }

    pub(super) fn handle_listing_message(
        &mut self,
        message_type: u64,
        body: &Bytes,
    ) -> Result<Option<SessionEvent>, SessionError> {
        let Some((_, listing)) = &mut self.listing else {
            return Ok(None);
        };
        let Some(message) = kinlog::Message::decode(message_type, body)? else {
            return Ok(None);
        };
        let touched = match message {
            kinlog::Message::List { wanted, feeds } => {
                let listed = listing.handle_list(wanted, feeds);
                listed.map_err(|_| SessionError::TooManyWants { limit: LISTED_MAX })?
            }
            kinlog::Message::Unlist(numbers) => listing.handle_unlist(&numbers),
            kinlog::Message::Want(numbers) => listing.handle_wanted(&numbers, true),
            kinlog::Message::Unwant(numbers) => listing.handle_wanted(&numbers, false),
            kinlog::Message::Group(numbers, message) => {
                return Ok(self.group_of(&numbers, message));
            }
            kinlog::Message::Feed(number, message) => {
                if is_bulk(&message) {
                    self.bulk_bytes += body.len() as u64;
                }
                let key = listing.feed(number);
                if is_request(&message) && !self.copies.handle_in_order() {
                    return Ok(None);
                }
                return Ok(key.and_then(|key| self.told_of(key, message)));
            }
        };
        self.settle_listing(&touched)?;
        Ok(None)
    }

    /// Returns what a message about several feeds comes to. A feed that is not agreed upon any more is left out.
    fn group_of(&self, numbers: &[u64], message: GroupMessage) -> Option<SessionEvent> {
        let (_, listing) = self.listing.as_ref()?;
        let feed = |number: &u64| match message {
            GroupMessage::Heads(_) => listing.feed(*number),
            GroupMessage::Differ => listing.feed_of_ours(*number),
        };
        let feeds: BTreeSet<FeedKey> = numbers.iter().filter_map(feed).collect();
        let is_said = self.naming == Naming::Numbers && !feeds.is_empty();
        is_said.then(|| SessionEvent::Group(feeds.into_iter().collect(), message))
    }

    /// Returns what a message about a feed comes to.
    fn told_of(&self, key: FeedKey, message: FeedMessage) -> Option<SessionEvent> {
        match message {
            FeedMessage::Hypercore(message) if self.naming == Naming::Numbers => {
                Some(SessionEvent::Feed(key, message))
            }
            FeedMessage::Hypercore(_) => None,
            message => Some(SessionEvent::Kinlog(key, message)),
        }
    }

    /// Says which feeds the other side may name.
    pub(super) fn know_listed(&mut self) {
        if let Some((_, listing)) = &mut self.listing {
            let all = self.serves.union(&self.wants).copied().collect();
            listing.set_known(&all);
        }
    }

    pub(super) fn settle_all_listed(&mut self) -> Result<(), SessionError> {
        let Some((_, listing)) = &self.listing else {
            return Ok(());
        };
        let mut touched: BTreeSet<FeedKey> = self.serves.union(&self.wants).copied().collect();
        touched.extend(listing.listed());
        let touched: Vec<FeedKey> = touched.into_iter().collect();
        self.settle_listing(&touched)
    }

    /// Brings what is listed in line with what is wanted, here and there, and tells what follows.
    pub(super) fn settle_listing(&mut self, keys: &[FeedKey]) -> Result<(), SessionError> {
        let Some((channel, listing)) = &mut self.listing else {
            return Ok(());
        };
        let by_number = match self.naming {
            Naming::Open => return Ok(()),
            Naming::Numbers => true,
            // Without sets there is nothing that numbers are good for.
            Naming::Channels if !listing.has(feature::SETS) => return Ok(()),
            Naming::Channels => false,
        };
        let mut news = News::default();
        for key in keys {
            let wanted = self.wants.contains(key);
            let listed = match by_number {
                true => wanted || (self.serves.contains(key) && listing.is_wanted_there(key)),
                false => {
                    let channel = self.by_feed.get(key);
                    let channel = channel.and_then(|channel| self.channels.get(channel));
                    channel.is_some_and(|channel| channel.open)
                }
            };
            listing.settle(key, listed, wanted, &mut news);
        }
        for message in listing.tell(news) {
            self.connection.send_kinlog(*channel, &message, true)?;
        }
        let sets = listing.has(feature::SETS);
        for key in keys {
            let is_agreed = listing.is_agreed(key);
            if is_agreed && self.agreed.insert(*key) {
                if sets {
                    self.events.push_back(SessionEvent::TakesSets(*key));
                }
                if by_number {
                    self.events.push_back(SessionEvent::FeedOpened(*key));
                }
            } else if !is_agreed && self.agreed.remove(key) && by_number {
                self.events.push_back(SessionEvent::FeedClosed {
                    key: *key,
                    rejected: false,
                });
            }
        }
        Ok(())
    }

    /// Says whether bulk data goes by further associations: [`poll_bulk`](Self::poll_bulk) tells it.
    pub(crate) fn set_diverts(&mut self, diverts: bool) {
        self.diverts = diverts;
    }

    /// Returns the next bulk message that goes by a further association.
    pub(crate) fn poll_bulk(&mut self) -> Option<Bulk> {
        self.diverted.pop_front()
    }

    /// Returns how many bytes of bulk data were sent and received since this was asked last.
    pub(crate) fn take_bulk_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bulk_bytes)
    }

    /// Sends a bulk message by the link, as no further association is left to carry it.
    pub(crate) fn send_bulk(&mut self, bulk: &Bulk) -> Result<(), SessionError> {
        let Some((channel, _)) = &self.listing else {
            return Ok(());
        };
        Ok(self.connection.send(*channel, bulk.kind, &bulk.body)?)
    }

    /// Takes a message that came by a further association: bulk data alone.
    pub(crate) fn handle_bulk(&mut self, bulk: &Bulk) -> Result<(), SessionError> {
        match kinlog::Message::decode(bulk.kind, &bulk.body)? {
            Some(kinlog::Message::Feed(_, message)) if is_bulk(&message) => {}
            _ => return Err(not_for_associations()),
        }
        if let Some(event) = self.handle_listing_message(bulk.kind, &bulk.body)? {
            self.events.push_back(event);
        }
        Ok(())
    }

    /// Says whether requests go by further associations, too: [`poll_copied`](Self::poll_copied) tells
    /// them.
    pub(crate) fn set_copies(&mut self, copies: bool) {
        self.copies_requests = copies;
    }

    /// Returns the next request that goes by further associations, too.
    pub(crate) fn poll_copied(&mut self) -> Option<Copied> {
        self.copied.pop_front()
    }

    /// Takes a request that came by a further association. What it is about may not be agreed upon yet
    /// here; it comes by the link behind that.
    pub(crate) fn handle_copy(&mut self, copied: &Copied) -> Result<(), SessionError> {
        let Copied { number, request } = copied;
        let Some(kinlog::Message::Feed(feed, message)) =
            kinlog::Message::decode(request.kind, &request.body)?
        else {
            return Err(not_for_associations());
        };
        if !is_request(&message) {
            return Err(not_for_associations());
        }
        let listing = self.listing.as_ref().map(|(_, listing)| listing);
        let key = listing.and_then(|listing| listing.feed(feed));
        if let Some(key) = key
            && self.copies.handle_copy(*number)
        {
            let event = self.told_of(key, message);
            self.events.extend(event);
        }
        Ok(())
    }

    /// Sends a message about several feeds, those of them that are agreed upon.
    pub(crate) fn send_group(
        &mut self,
        feeds: &[FeedKey],
        message: GroupMessage,
    ) -> Result<(), SessionError> {
        let Some((channel, listing)) = &self.listing else {
            return Ok(());
        };
        let number = |key: &FeedKey| match message {
            GroupMessage::Heads(_) => listing.number(key),
            GroupMessage::Differ => listing.number_of_theirs(key),
        };
        let numbers: BTreeSet<u64> = feeds.iter().filter_map(number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let message = kinlog::Message::Group(numbers.into_iter().collect(), message);
        Ok(self.connection.send_kinlog(*channel, &message, true)?)
    }

    /// Sends a message about a feed; nothing happens when the feed is gone.
    pub(crate) fn send_feed(
        &mut self,
        key: &FeedKey,
        message: FeedMessage,
        urgent: bool,
    ) -> Result<(), SessionError> {
        let by_number = self.naming == Naming::Numbers;
        let message = match message {
            FeedMessage::Hypercore(message) if !by_number => {
                let Some(channel) = self.by_feed.get(key) else {
                    return Ok(());
                };
                match urgent {
                    true => self.connection.send_message_ahead(*channel, &message)?,
                    false => self.connection.send_message(*channel, &message)?,
                }
                return Ok(());
            }
            message => message,
        };
        let Some((channel, listing)) = &self.listing else {
            return Ok(());
        };
        let Some(number) = listing.number(key) else {
            return Ok(());
        };
        let message = match message {
            FeedMessage::Hypercore(message) if listing.has(feature::RUNS) => {
                FeedMessage::shortest(message)
            }
            message => message,
        };
        let is_bulk = !urgent && by_number && is_bulk(&message);
        let is_request = is_request(&message);
        let message = kinlog::Message::Feed(number, message);
        if is_bulk {
            self.bulk_bytes += message.encoded_len() as u64;
            if self.diverts {
                self.diverted.push_back(encoded(&message));
                return Ok(());
            }
        }
        if is_request {
            if self.copies_requests {
                self.copied.push_back(Copied {
                    number: self.requests_sent,
                    request: encoded(&message),
                });
            }
            self.requests_sent += 1;
        }
        Ok(self.connection.send_kinlog(*channel, &message, urgent)?)
    }
}

fn encoded(message: &kinlog::Message) -> Bulk {
    let mut body = Vec::with_capacity(message.encoded_len());
    message.encode(&mut body);
    Bulk {
        kind: message.message_type(),
        body: body.into(),
    }
}

fn not_for_associations() -> SessionError {
    SessionError::Violation {
        reason: "sent something else than blocks and requests by a further association".to_owned(),
        ban: false,
    }
}

/// Returns whether a message asks for something that is answered: these are counted.
fn is_request(message: &FeedMessage) -> bool {
    matches!(
        message,
        FeedMessage::AskSet(_) | FeedMessage::Hypercore(Message::Request(_))
    )
}

/// Returns whether a message answers a request with blocks: what order these come in does not matter.
fn is_bulk(message: &FeedMessage) -> bool {
    match message {
        FeedMessage::Set(_) => true,
        FeedMessage::Hypercore(Message::Data(data)) => {
            data.request != 0 && data.proof.block.is_some()
        }
        _ => false,
    }
}
