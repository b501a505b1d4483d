//! Joining a room by a link.
//!
//! Whoever holds the link may answer, and answer falsely. So an answer is kept apart: its acts are
//! looked into in a log of their own, and only when the genesis that the room's id names opens, and
//! the acts that count let this device in, does the device write anything or take anything in.
//! Meanwhile others are asked, too; a false answer leads nowhere and is dropped with what it brought.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::{DeviceKey, PublicKey};
use kinlog_feeds::store::Role as FeedRole;
use kinlog_indexer::entry::{Body, Membership};
use kinlog_swarm::{Label, SessionInfo};

use crate::api::Error;
use crate::core::{Core, RoomLog, Steps};
use crate::keys::random;
use crate::knowledge::{Keyring, Standing};
use crate::limits::JOIN_ANSWERS_MAX;
use crate::links::Invite;
use crate::rooms::admit::refused;
use crate::rooms::{JoinAnswer, JoinError, JoinRequest, Refusal, RoomFeed, RoomId, RoomKeys};
use crate::state::{OpenJoin, StoredAnswer, StoredRoom};

/// Answers that are being looked into, by room and answering device: each with a log of its own.
pub(crate) type Checks = BTreeMap<(RoomId, DeviceKey), RoomLog>;

impl Core {
    /// Remembers a join, to be asked for at every meeting until a member answers.
    pub(crate) fn ask_to_join(&self, invite: &Invite) -> Result<(), Error> {
        for url in &invite.signal_urls {
            self.state.add_signal(url)?;
        }
        let invite = Invite {
            signal_urls: Vec::new(),
            ..invite.clone()
        };
        let join = OpenJoin {
            invite,
            entries_id: random()?,
            blobs_id: random()?,
        };
        self.guard.check()?;
        self.state.add_join(&join)?;
        self.relearn()?;
        self.replan()?;
        self.ask_again()
    }

    /// Asks for the joins that wait in every session that may help.
    pub(crate) fn ask_again(&self) -> Result<(), Error> {
        let Some(network) = self.network() else {
            return Ok(());
        };
        let joins = self.knowledge(|knowledge| knowledge.joins.clone());
        for join in joins {
            let key = join.invite.public_key().0;
            for session in network.sessions_about(Label::Invite, &key) {
                self.greet(&session)?;
            }
        }
        Ok(())
    }

    /// Returns our request to join by the invite that a session is about, if we ask by it.
    pub(crate) fn join_request(&self, session: &SessionInfo) -> Result<Option<Bytes>, Error> {
        let Some(join) = self.open_join(&PublicKey(session.key)) else {
            return Ok(None);
        };
        self.guard.sign(&self.store)?;
        let room = join.invite.room;
        let membership = self.membership(&room, &join.entries_id, &join.blobs_id)?;
        let request = JoinRequest::by_invite(room, membership, &join.invite.key_pair());
        Ok(Some(request.encode()))
    }

    /// Returns this device's membership in a room, with the feeds of these ids.
    pub(super) fn membership(
        &self,
        room: &RoomId,
        entries_id: &[u8; 16],
        blobs_id: &[u8; 16],
    ) -> Result<Membership, Error> {
        Ok(Membership::sign(
            room,
            self.agent,
            self.own_identity_set()?,
            self.keys.signing(),
            &self.keys.feed(entries_id),
            &self.keys.feed(blobs_id),
        ))
    }

    /// Takes an answer to a join; it is looked into before anything follows from it.
    pub(crate) fn answered(&self, session: &SessionInfo, answer: &[u8]) -> Result<(), Error> {
        if session.label == Label::Room {
            return self.sibling_answered(session, answer);
        }
        let Some(join) = self.open_join(&PublicKey(session.key)) else {
            return Ok(());
        };
        let Some(certificate) = session.remote_certificate else {
            return Err(Error::permission("answer to a join by nobody"));
        };
        let answer = JoinAnswer::decode(answer).map_err(refused)?;
        if *answer.room() != join.invite.room {
            return Err(refused(JoinError::OtherRoom));
        }
        let (room, wrap, keys, feeds) = match answer {
            JoinAnswer::Refused { room, why } => {
                self.knowledge(|knowledge| knowledge.refusals.insert(room, why));
                return Ok(());
            }
            JoinAnswer::Welcome {
                room,
                wrap,
                keys,
                feeds,
            } => (room, wrap, keys, feeds),
        };
        let entries = self.keys.feed_key(&join.entries_id);
        let keys = JoinAnswer::open_keys(&room, &wrap, &keys, (self.keys.dh(), &entries))
            .map_err(refused)?;
        let feeds = feeds.into_iter();
        let answer = StoredAnswer {
            room,
            device: certificate.device,
            keys,
            feeds: feeds
                .filter(|feed| self.may_join_room(&room, &feed.key))
                .collect(),
        };
        let known = self.knowledge(|knowledge| knowledge.answers.clone());
        if known.contains(&answer) {
            return self.check_joins();
        }
        let others: Vec<&StoredAnswer> = known
            .iter()
            .filter(|one| one.room == room && one.device != answer.device)
            .collect();
        if others.len() >= JOIN_ANSWERS_MAX {
            self.drop_answer(others[0])?;
        }
        self.state.put_join_answer(&answer)?;
        self.checks().remove(&(room, answer.device));
        self.knowledge(|knowledge| {
            knowledge.refusals.remove(&room);
            // In the order in which they came.
            knowledge
                .answers
                .retain(|one| (one.room, one.device) != (answer.room, answer.device));
            knowledge.answers.push(answer);
        });
        self.replan()?;
        self.check_joins()
    }

    /// Looks into the answers to joins, and takes the first that is true.
    pub(crate) fn check_joins(&self) -> Result<(), Error> {
        let answers = self.knowledge(|knowledge| knowledge.answers.clone());
        let mut steps = Steps::default();
        for answer in answers {
            let joins = self.knowledge(|knowledge| knowledge.joins.clone());
            let Some(join) = joins
                .into_iter()
                .find(|join| join.invite.room == answer.room)
            else {
                continue;
            };
            if let Some(standing) = self.check(&answer) {
                steps.take("join", self.complete_join(&join, answer, &standing));
            }
        }
        steps.end()
    }

    /// Returns what the acts behind an answer come to, if they let this device in.
    fn check(&self, answer: &StoredAnswer) -> Option<Standing> {
        let mut checks = self.checks();
        let log = checks
            .entry((answer.room, answer.device))
            .or_insert_with(|| RoomLog::new(answer.room));
        let keys = keyring(&answer.keys);
        let entries = answer.feeds.iter().filter(|feed| feed.is_entries);
        log.look(&self.store, entries.map(|feed| &feed.key), &keys);
        let standing = log.standing(&keys);
        if standing.newer_rules.is_some() {
            let why = Refusal::Newer;
            self.knowledge(|knowledge| knowledge.refusals.insert(answer.room, why));
        }
        let is_in =
            standing.history.is_some() && standing.has_device(&self.agent, &self.keys.device());
        is_in.then_some(standing)
    }

    /// Takes a true answer: from now on this device is in the room.
    fn complete_join(
        &self,
        join: &OpenJoin,
        answer: StoredAnswer,
        standing: &Standing,
    ) -> Result<(), Error> {
        let room = answer.room;
        let entries = self.feed_with_id(join.entries_id, None, true, false)?;
        let blobs = self.feed_with_id(join.blobs_id, None, false, false)?;
        let stored = StoredRoom {
            id: room,
            name: String::new(),
            entries_id: join.entries_id,
            blobs_id: join.blobs_id,
            direct: {
                let members: Vec<_> = standing.members.keys().copied().collect();
                self.direct_with(&standing.name, &members)
            },
        };
        let keys = &answer.keys;
        let epochs = standing.announced_keys(&room, &keys.secrets, &keys.act_keys);
        let of_members: BTreeSet<FeedKey> = standing
            .devices()
            .flat_map(|(_, _, device)| [device.entries, device.blobs])
            .collect();
        let own = [entries.key, blobs.key];
        let feeds: Vec<RoomFeed> = answer
            .feeds
            .into_iter()
            .filter(|feed| of_members.contains(&feed.key) && !own.contains(&feed.key))
            .collect();
        let others = self.knowledge(|knowledge| {
            knowledge.refusals.remove(&room);
            std::mem::take(&mut knowledge.answers)
        });
        let (ended, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|one| one.room == room);
        self.knowledge(|knowledge| knowledge.answers = others);
        self.checks().retain(|(id, _), _| *id != room);
        let known = self.begin_room(&stored, &entries, &blobs, &epochs, feeds)?;
        self.forget_unwanted(ended.iter().flat_map(|one| &one.feeds))?;
        if self.feed(&entries.key)?.head().length == 0 {
            self.write_in_room(&known, vec![Body::Profile(self.profile()?)])?;
        }
        Ok(())
    }

    /// Forgets an answer with everything that it brought.
    fn drop_answer(&self, answer: &StoredAnswer) -> Result<(), Error> {
        self.state
            .forget_join_answer(&answer.room, &answer.device)?;
        self.checks().remove(&(answer.room, answer.device));
        self.knowledge(|knowledge| knowledge.answers.retain(|one| one != answer));
        self.replan()?;
        self.forget_unwanted(answer.feeds.iter())
    }

    /// Takes those feeds of others out of the store that nothing asks for.
    pub(super) fn forget_unwanted<'a>(
        &self,
        feeds: impl IntoIterator<Item = &'a RoomFeed>,
    ) -> Result<(), Error> {
        for feed in feeds {
            let is_wanted = self.plan().interests.contains_key(&feed.key);
            let held = self.store.feed(&feed.key);
            if !is_wanted && held.is_some_and(|held| held.role() != FeedRole::Own) {
                self.store.drop_feed(&feed.key)?;
                self.stored(&feed.key)?;
            }
        }
        Ok(())
    }

    /// Gives up asking to be let into a room.
    pub(crate) fn give_up_join(&self, room: &RoomId) -> Result<(), Error> {
        self.state.forget_join(room)?;
        let (ended, others): (Vec<_>, Vec<_>) = self
            .knowledge(|knowledge| std::mem::take(&mut knowledge.answers))
            .into_iter()
            .partition(|one| one.room == *room);
        self.knowledge(|knowledge| knowledge.answers = others);
        self.checks().retain(|(id, _), _| id != room);
        self.relearn()?;
        self.replan()?;
        self.forget_unwanted(ended.iter().flat_map(|one| &one.feeds))
    }

    fn open_join(&self, invite: &PublicKey) -> Option<OpenJoin> {
        self.knowledge(|knowledge| {
            knowledge
                .joins
                .iter()
                .find(|join| join.invite.public_key() == *invite)
                .cloned()
        })
    }

    fn checks(&self) -> std::sync::MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keyring(keys: &RoomKeys) -> Keyring {
    let mut keyring = Keyring::default();
    for secret in &keys.secrets {
        keyring.add_secret(secret.clone());
    }
    for key in &keys.act_keys {
        keyring.add_act_key(key.clone());
    }
    keyring
}

#[cfg(test)]
mod tests {
    use kinlog_indexer::entry::History;
    use kinlog_indexer::seal::{EpochSecret, device_dh_public};

    use super::*;
    use crate::introduce;
    use crate::links::Link;
    use crate::rooms::admit::tests::session;
    use crate::rooms::{InviteTerms, RoomTerms};
    use crate::test_folder::TestFolder;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_answers_falsely_first_leads_nobody_into_a_false_room() {
        let folder = TestFolder::new();
        let (ada, bob) = (folder.agent("ada").await, folder.agent("bob").await);
        let (of_ada, of_bob) = (&ada.running().core, &bob.running().core);
        let terms = RoomTerms {
            name: "family",
            history: History::Full,
            direct: None,
        };
        let room = of_ada.create_room(&terms).unwrap();
        let Ok(Link::Join(invite)) = of_ada.invite(&room, &InviteTerms::OPEN).unwrap().parse()
        else {
            unreachable!("an invite is a link to join by");
        };
        of_bob.ask_to_join(&invite).unwrap();
        let join = of_bob.knowledge(|knowledge| knowledge.joins[0].clone());
        let entries = of_bob.keys.feed_key(&join.entries_id);

        // A thief of the link answers first: keys and a feed of its own, for the room of the link.
        let (thief, secret) = (DeviceKey([66; 32]), EpochSecret::new([7; 32]));
        let feed = RoomFeed {
            key: FeedKey([67; 32]),
            agent: kinlog_feeds::AgentId([68; 32]),
            device: thief,
            is_entries: true,
        };
        let keys = RoomKeys {
            secrets: vec![secret.clone()],
            act_keys: Vec::new(),
        };
        let x25519 = device_dh_public(of_bob.keys.dh());
        let random = ([1; 32], [2; 32], &[3; 24]);
        let to = (&x25519, &entries);
        let answer = JoinAnswer::welcome(invite.room, to, random, &keys, vec![feed.clone()]);
        let answer = answer.unwrap().encode();
        of_bob.answered(&session(&invite, thief), &answer).unwrap();

        let meet_key = (Label::Room, *secret.meet_key().expose());
        assert!(
            of_bob.plan().topics.contains(&meet_key),
            "it is looked into"
        );
        assert!(of_bob.knowledge(|knowledge| knowledge.rooms.is_empty()));
        assert!(of_bob.state.epochs().unwrap().is_empty());
        assert!(of_bob.store.feed(&entries).is_none(), "nothing is written");
        assert!(!of_bob.is_indexed_feed(&feed.key));

        // The join goes on with the next who answers.
        let _met = introduce(&ada, &bob).await.unwrap();
        let mut changes = of_bob.changes();
        let joined = async {
            // The join ends with the last of what the false answer brought.
            while of_bob.knowledge(|knowledge| knowledge.rooms.is_empty())
                || of_bob.store.feed(&feed.key).is_some()
            {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), joined)
            .await
            .expect("joined in time");
        let joined = of_bob.room(&room.id.to_string()).unwrap();
        assert_eq!(joined.name, "family");
        assert!(
            joined
                .standing
                .has_device(&of_bob.agent, &of_bob.keys.device())
        );
        let known = of_bob.state.epochs().unwrap();
        assert!(known.iter().all(|one| one.id != secret.epoch_id().0));
        assert!(!of_bob.plan().topics.contains(&meet_key));
        assert!(of_bob.knowledge(|knowledge| knowledge.answers.is_empty()));
        assert!(of_bob.state.join_answers().unwrap().is_empty());
    }
}
