//! Which feeds both sides have named to each other by `kinlog/feed/1`, and by which numbers.
//!
//! Each side lists what it wants, and what it has of what the other one wants; a feed that both list is
//! agreed upon. What the other side lists and we do not know is kept, as we may come to know it.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::FeedKey;
use kinlog_feeds::encoding::DecodeError;
use kinlog_feeds::limits::{LISTED_MAX, LISTED_PER_MESSAGE_MAX};
use kinlog_feeds::wire::Role;
use kinlog_feeds::wire::kinlog::{Agreed, Capability, Message, Opening, capability, feature};

/// What this side can do.
const FEATURES: u64 = feature::SETS | feature::NUMBERS | feature::RUNS | feature::GROUPS;

#[derive(Debug)]
struct Ours {
    number: u64,
    wanted: bool,
}

#[derive(Debug)]
struct Theirs {
    capability: Capability,
    wanted: bool,
    /// The feed, when it is one that we know.
    key: Option<FeedKey>,
}

/// More feeds listed than a session may carry.
#[derive(Debug)]
pub(super) struct TooMany;

/// The listings of one session.
#[derive(Debug)]
pub(super) struct Listing {
    role: Role,
    hash: [u8; 64],
    agreed: Option<Agreed>,
    ours: BTreeMap<FeedKey, Ours>,
    /// What we listed, by our number.
    by_number: BTreeMap<u64, FeedKey>,
    next: u64,
    theirs: BTreeMap<u64, Theirs>,
    next_of_theirs: u64,
    /// Their number by what they listed.
    by_capability: BTreeMap<Capability, u64>,
    /// What the other side would list each known feed by, and the other way round.
    known: BTreeMap<FeedKey, Capability>,
    expected: BTreeMap<Capability, FeedKey>,
}

/// What we have to say after a change.
#[derive(Debug, Default)]
pub(super) struct News {
    listed: Vec<(FeedKey, bool)>,
    unlisted: Vec<u64>,
    wanted: Vec<u64>,
    unwanted: Vec<u64>,
}

impl Listing {
    pub(super) fn new(role: Role, hash: [u8; 64]) -> Self {
        Listing {
            role,
            hash,
            agreed: None,
            ours: BTreeMap::new(),
            by_number: BTreeMap::new(),
            next: 0,
            theirs: BTreeMap::new(),
            next_of_theirs: 0,
            by_capability: BTreeMap::new(),
            known: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// Returns what opens the channel.
    pub(super) fn opening() -> Vec<u8> {
        Opening::new(FEATURES).encode()
    }

    pub(super) fn handle_opening(&mut self, theirs: &[u8]) -> Result<(), DecodeError> {
        self.agreed = Opening::new(FEATURES).agree(&Opening::decode(theirs)?);
        Ok(())
    }

    /// Returns whether both sides have a feature.
    pub(super) fn has(&self, feature: u64) -> bool {
        self.agreed.is_some_and(|agreed| agreed.has(feature))
    }

    /// Says which feeds exist in this session.
    pub(super) fn set_known(&mut self, feeds: &BTreeSet<FeedKey>) {
        let gone: Vec<FeedKey> = self
            .known
            .keys()
            .filter(|key| !feeds.contains(key))
            .copied()
            .collect();
        for key in gone {
            if let Some(theirs) = self.theirs_of_mut(&key) {
                theirs.key = None;
            }
            if let Some(capability) = self.known.remove(&key) {
                self.expected.remove(&capability);
            }
        }
        let other = match self.role {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        };
        for key in feeds {
            if self.known.contains_key(key) {
                continue;
            }
            let capability = capability(other, key, &self.hash);
            self.known.insert(*key, capability);
            self.expected.insert(capability, *key);
            if let Some(theirs) = self.theirs_of_mut(key) {
                theirs.key = Some(*key);
            }
        }
    }

    /// Takes note of what the other side lists; returns the feeds of ours among it.
    pub(super) fn handle_list(
        &mut self,
        wanted: bool,
        listed: Vec<Capability>,
    ) -> Result<Vec<FeedKey>, TooMany> {
        let mut touched = Vec::new();
        for capability in listed {
            let number = self.next_of_theirs;
            self.next_of_theirs += 1;
            let key = self.expected.get(&capability).copied();
            touched.extend(key);
            if let Some(before) = self.by_capability.insert(capability, number) {
                self.theirs.remove(&before);
            }
            self.theirs.insert(
                number,
                Theirs {
                    capability,
                    wanted,
                    key,
                },
            );
            if self.theirs.len() > LISTED_MAX {
                return Err(TooMany);
            }
        }
        Ok(touched)
    }

    pub(super) fn handle_unlist(&mut self, numbers: &[u64]) -> Vec<FeedKey> {
        let mut touched = Vec::new();
        for number in numbers {
            if let Some(gone) = self.theirs.remove(number) {
                self.by_capability.remove(&gone.capability);
                touched.extend(gone.key);
            }
        }
        touched
    }

    pub(super) fn handle_wanted(&mut self, numbers: &[u64], wanted: bool) -> Vec<FeedKey> {
        let mut touched = Vec::new();
        for number in numbers {
            if let Some(theirs) = self.theirs.get_mut(number) {
                theirs.wanted = wanted;
                touched.extend(theirs.key);
            }
        }
        touched
    }

    /// Returns whether the other side lists the feed because it wants it.
    pub(super) fn is_wanted_there(&self, key: &FeedKey) -> bool {
        self.theirs_of(key).is_some_and(|theirs| theirs.wanted)
    }

    /// Returns the feeds that we list.
    pub(super) fn listed(&self) -> impl Iterator<Item = FeedKey> + '_ {
        self.ours.keys().copied()
    }

    /// Returns whether both sides list the feed.
    pub(super) fn is_agreed(&self, key: &FeedKey) -> bool {
        self.ours.contains_key(key) && self.theirs_of(key).is_some()
    }

    /// Returns our number of a feed that is agreed upon.
    pub(super) fn number(&self, key: &FeedKey) -> Option<u64> {
        self.theirs_of(key)?;
        self.ours.get(key).map(|ours| ours.number)
    }

    /// Returns the feed that is agreed upon under a number of theirs.
    pub(super) fn feed(&self, number: u64) -> Option<FeedKey> {
        let key = self.theirs.get(&number)?.key?;
        self.ours.contains_key(&key).then_some(key)
    }

    /// Returns their number of a feed that is agreed upon.
    pub(super) fn number_of_theirs(&self, key: &FeedKey) -> Option<u64> {
        self.ours.get(key)?;
        self.by_capability.get(self.known.get(key)?).copied()
    }

    /// Returns the feed that is agreed upon under a number of ours.
    pub(super) fn feed_of_ours(&self, number: u64) -> Option<FeedKey> {
        let key = self.by_number.get(&number)?;
        self.theirs_of(key).map(|_| *key)
    }

    /// Lists a feed or not, as wanted or not; what is to be said of it is added to `news`, at most once
    /// for each feed.
    pub(super) fn settle(&mut self, key: &FeedKey, listed: bool, wanted: bool, news: &mut News) {
        match self.ours.get_mut(key) {
            None if listed => news.listed.push((*key, wanted)),
            None => {}
            Some(ours) if !listed => {
                news.unlisted.push(ours.number);
                self.by_number.remove(&ours.number);
                self.ours.remove(key);
            }
            Some(ours) if ours.wanted != wanted => {
                ours.wanted = wanted;
                match wanted {
                    true => news.wanted.push(ours.number),
                    false => news.unwanted.push(ours.number),
                }
            }
            Some(_) => {}
        }
    }

    /// Numbers what is listed now and returns the messages that say it all.
    pub(super) fn tell(&mut self, news: News) -> Vec<Message> {
        let mut messages = Vec::new();
        for wanted in [true, false] {
            let of_kind = news.listed.iter().filter(|(_, kind)| *kind == wanted);
            let keys: Vec<FeedKey> = of_kind.map(|(key, _)| *key).collect();
            for keys in keys.chunks(LISTED_PER_MESSAGE_MAX) {
                for key in keys {
                    let number = self.next;
                    self.next += 1;
                    self.ours.insert(*key, Ours { number, wanted });
                    self.by_number.insert(number, *key);
                }
                let name = |key| capability(self.role, key, &self.hash);
                let feeds = keys.iter().map(name).collect();
                messages.push(Message::List { wanted, feeds });
            }
        }
        let mut say = |numbers: &[u64], message: fn(Vec<u64>) -> Message| {
            let chunks = numbers.chunks(LISTED_PER_MESSAGE_MAX);
            messages.extend(chunks.map(|numbers| message(numbers.to_vec())));
        };
        say(&news.unlisted, Message::Unlist);
        say(&news.wanted, Message::Want);
        say(&news.unwanted, Message::Unwant);
        messages
    }

    fn theirs_of(&self, key: &FeedKey) -> Option<&Theirs> {
        let number = self.by_capability.get(self.known.get(key)?)?;
        self.theirs.get(number)
    }

    fn theirs_of_mut(&mut self, key: &FeedKey) -> Option<&mut Theirs> {
        let number = self.by_capability.get(self.known.get(key)?)?;
        self.theirs.get_mut(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u8; 64] = [3; 64];

    fn pair() -> [Listing; 2] {
        let mut sides = [Role::Initiator, Role::Responder].map(|role| Listing::new(role, HASH));
        for side in &mut sides {
            side.handle_opening(&Listing::opening()).unwrap();
        }
        sides
    }

    fn key(number: u8) -> FeedKey {
        FeedKey([number; 32])
    }

    fn know(side: &mut Listing, keys: &[u8]) {
        side.set_known(&keys.iter().map(|number| key(*number)).collect());
    }

    fn list(side: &mut Listing, keys: &[u8], wanted: bool) -> Vec<Message> {
        let mut news = News::default();
        for number in keys {
            side.settle(&key(*number), true, wanted, &mut news);
        }
        side.tell(news)
    }

    fn hand_over(messages: Vec<Message>, to: &mut Listing) -> Vec<FeedKey> {
        let mut touched = Vec::new();
        for message in messages {
            touched.extend(match message {
                Message::List { wanted, feeds } => to.handle_list(wanted, feeds).unwrap(),
                Message::Unlist(numbers) => to.handle_unlist(&numbers),
                Message::Want(numbers) => to.handle_wanted(&numbers, true),
                Message::Unwant(numbers) => to.handle_wanted(&numbers, false),
                Message::Feed(..) | Message::Group(..) => Vec::new(),
            });
        }
        touched
    }

    #[test]
    fn a_feed_that_both_list_has_a_number_on_each_side() {
        let [mut one, mut other] = pair();
        know(&mut one, &[1, 2]);
        know(&mut other, &[2, 3]);
        let said = list(&mut one, &[1, 2], true);
        assert_eq!(hand_over(said, &mut other), [key(2)]);
        assert!(other.is_wanted_there(&key(2)) && !other.is_agreed(&key(2)));
        let said = list(&mut other, &[2], false);
        assert_eq!(hand_over(said, &mut one), [key(2)]);
        assert!(!one.is_wanted_there(&key(2)));
        assert_eq!(
            (one.number(&key(2)), other.number(&key(2))),
            (Some(1), Some(0))
        );
        assert_eq!(
            (one.number_of_theirs(&key(2)), one.feed_of_ours(1)),
            (Some(0), Some(key(2)))
        );
        assert_eq!(
            (one.number_of_theirs(&key(1)), one.feed_of_ours(0)),
            (None, None)
        );
        assert_eq!((one.feed(0), other.feed(1)), (Some(key(2)), Some(key(2))));
        assert_eq!(
            (other.feed(0), one.number(&key(1))),
            (None, None),
            "it does not know that one"
        );
    }

    #[test]
    fn what_was_listed_before_it_was_known_is_agreed_upon_later() {
        let [mut one, mut other] = pair();
        know(&mut one, &[1]);
        hand_over(list(&mut one, &[1], true), &mut other);
        know(&mut other, &[1]);
        assert!(other.is_wanted_there(&key(1)));
        hand_over(list(&mut other, &[1], false), &mut one);
        assert!(one.is_agreed(&key(1)) && other.is_agreed(&key(1)));
        know(&mut other, &[]);
        assert!(!other.is_agreed(&key(1)));
    }

    #[test]
    fn a_number_that_is_given_back_is_not_given_again() {
        let [mut one, mut other] = pair();
        know(&mut one, &[1]);
        know(&mut other, &[1]);
        hand_over(list(&mut one, &[1], true), &mut other);
        let mut news = News::default();
        one.settle(&key(1), false, false, &mut news);
        let said = one.tell(news);
        assert_eq!(said, [Message::Unlist(vec![0])]);
        assert_eq!(hand_over(said, &mut other), [key(1)]);
        hand_over(list(&mut one, &[1], true), &mut other);
        hand_over(list(&mut other, &[1], true), &mut one);
        assert_eq!(
            (one.number(&key(1)), other.feed(1)),
            (Some(1), Some(key(1)))
        );
    }

    #[test]
    fn somebody_who_does_not_know_the_key_can_neither_tell_nor_repeat_what_was_listed() {
        let [mut one, mut other] = pair();
        know(&mut one, &[1]);
        let said = list(&mut one, &[1], true);
        // Sent back as it came it is another side's name.
        assert!(hand_over(said.clone(), &mut one).is_empty());
        // In another session it is another's, too.
        let mut later = Listing::new(Role::Responder, [4; 64]);
        know(&mut later, &[1]);
        assert!(hand_over(said.clone(), &mut later).is_empty());
        know(&mut other, &[1]);
        assert_eq!(hand_over(said, &mut other), [key(1)]);
    }

    #[test]
    fn more_feeds_than_a_session_carries_are_refused() {
        let [mut one, _] = pair();
        let mut listed = 0usize;
        let mut number = 0u128;
        loop {
            let feeds = (0..LISTED_PER_MESSAGE_MAX).map(|_| {
                number += 1;
                number.to_le_bytes()
            });
            let feeds: Vec<Capability> = feeds.collect();
            listed += feeds.len();
            if one.handle_list(true, feeds).is_err() {
                break;
            }
        }
        assert_eq!(listed, LISTED_MAX + LISTED_PER_MESSAGE_MAX);
    }
}
