//! Telling how pins come along, until they are complete or the caller is gone.

use std::sync::Arc;

use kinlog_feeds::FeedKey;
use tokio::time::{Instant, sleep_until};

use crate::api::{AnswerSender, Error, ErrorKind, FollowProgress, FollowStep, Reply, Selection};
use crate::core::Core;
use crate::limits::{GIVE_UP_AFTER, NOBODY_AFTER, PROGRESS_EVERY};
use crate::requests::Ended;
use crate::requests::follow::progress::{Look, counts, is_unlisted, keys, progress, tried};
use crate::state::{Pin, PinTarget};
use crate::tasks::Running;

/// One pin as it was told last.
struct Watched {
    pin: Pin,
    told: Option<FollowProgress>,
    /// When something moved last.
    moved: Instant,
    /// That nobody was found was told since.
    told_nobody: bool,
}

/// Answers with progress; with `ends` until all pins are complete.
pub(super) async fn watch(
    running: &Arc<Running>,
    pins: Vec<Pin>,
    ends: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let now = Instant::now();
    let watched = pins.into_iter();
    let mut watched: Vec<Watched> = watched
        .map(|pin| Watched {
            pin,
            told: None,
            moved: now,
            told_nobody: false,
        })
        .collect();
    let mut changes = running.core.changes();
    loop {
        changes.borrow_and_update();
        let look = Look::take(running.core.network().as_ref()).await;
        if let Some(reason) = &look.troubles.store {
            return Err(Error::general(format!("the store takes nothing more: {reason}")).into());
        }
        for one in &mut watched {
            one.tell(running, &look, ends, to).await?;
        }
        let is_complete = |one: &Watched| one.told.as_ref().is_some_and(|told| told.complete);
        if ends && watched.iter().all(is_complete) {
            return Ok(());
        }
        let soon = Instant::now() + PROGRESS_EVERY;
        let due = watched.iter().map(Watched::due).min();
        tokio::select! {
            // The agent is closed: there is nothing more to tell.
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = sleep_until(due.map_or(soon, |due| due.max(soon))) => {}
        }
        // A burst of changes is told once.
        sleep_until(soon).await;
    }
}

impl Watched {
    /// Returns when to look again though nothing changed: the node's own state moves unheard.
    fn due(&self) -> Instant {
        match &self.told {
            Some(told) if told.complete => Instant::now() + NOBODY_AFTER,
            _ => Instant::now() + 5 * PROGRESS_EVERY,
        }
    }

    async fn tell(
        &mut self,
        running: &Arc<Running>,
        look: &Look,
        ends: bool,
        to: &AnswerSender,
    ) -> Result<(), Ended> {
        let core = &running.core;
        let keys = keys(core, &self.pin);
        if let Some((key, _)) = keys
            .iter()
            .find(|(key, _)| core.store.feed(key).is_some_and(|feed| feed.is_stopped()))
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("feed {key} has two histories, both signed by its author"),
            )
            .hint("what was stored before stays; `kinlog feed conflicts` shows both")
            .into());
        }
        if ends && !self.pin.live {
            ask_further(core, look, &keys);
        }
        let mut now = progress(core, look, &self.pin);
        let moved = |told: &FollowProgress| {
            (told.step, told.have, told.length) != (now.step, now.have, now.length)
        };
        if self.told.as_ref().is_none_or(moved) {
            self.moved = Instant::now();
            self.told_nobody = false;
        }
        if ends && now.step == FollowStep::Directory && self.is_unlisted(running, look) {
            return Err(Error::not_found(now.message)
                .hint("the link stays followed in case it comes; `kinlog unfollow LINK` ends that")
                .into());
        }
        let waited = self.moved.elapsed();
        if waited >= NOBODY_AFTER && !now.complete {
            now.nobody = true;
            now.steps = tried(core, look, &self.pin);
        }
        let is_news = self.told.as_ref() != Some(&now);
        if is_news && !(now.nobody && self.told_nobody) {
            self.told_nobody = now.nobody;
            to.reply(Reply::Follow(now.clone())).await?;
        }
        let message = now.message.clone();
        let step = now.step;
        self.told = Some(now);
        if !ends {
            return Ok(());
        }
        if waited >= GIVE_UP_AFTER && step != FollowStep::Complete {
            return Err(Error::no_peers(message)
                .hint("the pin stays: `kinlog up` goes on with it")
                .into());
        }
        Ok(())
    }

    /// Returns whether the agent's directories are held whole and list nothing of the pin.
    fn is_unlisted(&self, running: &Arc<Running>, look: &Look) -> bool {
        let PinTarget::Path(agent, path) = &self.pin.target else {
            return false;
        };
        let core = &running.core;
        let known = core.knowledge(|knowledge| knowledge.agents.get(agent).cloned());
        known.is_some_and(|known| is_unlisted(core, look, &known, path.as_ref()))
    }
}

/// What is fetched once is as new as peers have it when it is complete: one head is asked for, and that
/// may have come before the author wrote more, or while nobody waited.
fn ask_further(core: &Core, look: &Look, keys: &[(FeedKey, Selection)]) {
    let Some(network) = core.network() else {
        return;
    };
    let open = keys
        .iter()
        .filter(|(_, selection)| !matches!(selection, Selection::Range(_)));
    for (key, selection) in open {
        let held = counts(core, key, selection);
        if held.have == held.want && look.is_behind(key, held.length) {
            network.ask_again(key);
        }
    }
}
