//! What the ladder holds back, and how far a meeting has come on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinlog_feeds::Time;
use serde::Serialize;

use super::path::{Introduction, State};
use super::{Introductions, MeetingKey, PeerPath, PeerState};
use crate::limits::{
    ATTEMPT_HEAD_START, INTRODUCED_AFTER, LADDER_HOLD_MAX, NOBODY_IN_TOPIC_AFTER, PEERS_HEAD_START,
};
use crate::node::ladder::{LadderStep, Tally};
use crate::session::SessionId;

/// What became of one step of one meeting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepState {
    /// There is nobody to ask.
    Nobody,
    /// It was asked and has not answered yet.
    Asking,
    /// It shows nobody.
    Nothing,
    /// It shows somebody, who waits for what earlier steps may lead to.
    Held,
    /// Whoever it shows is being connected to.
    Trying,
    /// Whoever it shows is connected already by another step.
    Known,
    /// Whoever it shows could not be reached.
    Failed,
    /// It has led to a session that is open.
    Connected,
}

impl StepState {
    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            StepState::Nobody => "nobody",
            StepState::Asking => "asking",
            StepState::Nothing => "nothing",
            StepState::Held => "held",
            StepState::Trying => "trying",
            StepState::Known => "known",
            StepState::Failed => "failed",
            StepState::Connected => "connected",
        }
    }
}

/// One step of one meeting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StepView {
    pub(crate) step: LadderStep,
    pub(crate) state: StepState,
    /// Peers that it shows now.
    pub(crate) shown: usize,
    /// From the beginning of the climb until it was asked.
    pub(crate) asked: Option<Duration>,
    /// From then until it had answered.
    pub(crate) took: Option<Duration>,
    /// From the beginning of the climb until it had led to a session.
    pub(crate) connected: Option<Duration>,
    pub(crate) tries: u64,
    pub(crate) successes: u64,
}

/// How far a meeting has come on the ladder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClimbView {
    pub(crate) state: PeerState,
    /// Why nobody is reached, where it is so.
    pub(crate) why: Option<String>,
    pub(crate) steps: Vec<StepView>,
}

/// Attempts of one meeting by one step: since when the newest is under way or about to be, and, of
/// those that run, whether any is with somebody whose static is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UnderWay {
    since: Time,
    unnamed: bool,
}

impl Introductions {
    /// These meetings are wanted, and these are the meeting points, each with its step.
    pub(crate) fn handle_wanted(
        &mut self,
        now: Time,
        wanted: &BTreeSet<MeetingKey>,
        points: BTreeMap<usize, LadderStep>,
    ) {
        self.ladder.handle_wanted(now, wanted, points);
    }

    /// The other side of a session is asked whom it has.
    pub(crate) fn handle_asked(&mut self, now: Time, meeting: &MeetingKey, session: SessionId) {
        self.ladder.handle_asked(now, meeting, session);
    }

    /// The other side of a session has said whom it has.
    pub(crate) fn handle_told(&mut self, now: Time, session: SessionId) {
        self.ladder.handle_told(now, session);
    }

    /// Returns what came of a step, over all meetings.
    pub(crate) fn tally(&self, step: LadderStep) -> Tally {
        self.ladder.tally(step)
    }

    /// Returns what is under way, by meeting and step.
    pub(super) fn under_way(&self) -> BTreeMap<(MeetingKey, LadderStep), UnderWay> {
        let mut all: BTreeMap<(MeetingKey, LadderStep), UnderWay> = BTreeMap::new();
        for (path, peer) in &self.peers {
            let runs = self.runs(peer);
            let since = match peer.state {
                _ if runs => peer.began.unwrap_or(peer.shown_at),
                State::Idle { try_at: Some(_) } if peer.is_new && peer.present => peer.shown_at,
                _ => continue,
            };
            let one = all.entry((peer.meeting, self.step_of(path))).or_default();
            one.since = one.since.max(since);
            one.unnamed |= runs && peer.identity.is_none();
        }
        all
    }

    /// Returns until when the first dial of a peer waits for earlier steps.
    pub(super) fn held_until(
        &self,
        path: &PeerPath,
        peer: &Introduction,
        under_way: &BTreeMap<(MeetingKey, LadderStep), UnderWay>,
    ) -> Option<Time> {
        if !peer.is_new {
            return None;
        }
        let step = self.step_of(path);
        let of_meeting = under_way
            .range((peer.meeting, LadderStep::Session)..=(peer.meeting, LadderStep::StoreForward));
        let attempts = of_meeting.filter_map(|((_, other), one)| match other.cmp(&step) {
            std::cmp::Ordering::Less => Some(one.since + ATTEMPT_HEAD_START),
            // What a connected peer shows may be whom a server shows under a name that tells nothing, and
            // who is being dialled there already.
            std::cmp::Ordering::Greater if step == LadderStep::Peers && one.unnamed => {
                Some(peer.shown_at + INTRODUCED_AFTER)
            }
            _ => None,
        });
        let asked = self.ladder.held_until(&peer.meeting, step);
        // Whoever comes to several places is shown by all of them within a moment.
        let listens = self.ladder.listens_before(&peer.meeting, step)
            || step > LadderStep::Peers && self.is_introduced(&peer.meeting);
        let moment = listens.then(|| peer.shown_at + PEERS_HEAD_START);
        let until = attempts.chain(asked).chain(moment).max()?;
        let most = match step {
            LadderStep::Peers => INTRODUCED_AFTER,
            _ => LADDER_HOLD_MAX,
        };
        Some(until.min(peer.shown_at + most))
    }

    /// Returns how far a meeting has come.
    pub(crate) fn climb(&self, now: Time, meeting: &MeetingKey) -> ClimbView {
        let under_way = self.under_way();
        let finding =
            LadderStep::FINDING.map(|step| self.step_view(now, meeting, step, &under_way));
        let state = self.meeting_state(now, meeting);
        let sessions = self.open.values().filter(|open| open.meeting == *meeting);
        let sessions = sessions.count();
        let session = StepView {
            shown: sessions,
            asked: Some(Duration::ZERO),
            took: Some(Duration::ZERO),
            ..StepView::new(
                LadderStep::Session,
                match sessions {
                    0 => StepState::Nothing,
                    _ => StepState::Connected,
                },
            )
        };
        let is_over = state == PeerState::StoreForward;
        let kept = StepView::new(
            LadderStep::StoreForward,
            match is_over {
                true => StepState::Trying,
                false => StepState::Nobody,
            },
        );
        let why = is_over.then(|| why(&finding));
        let steps = [session].into_iter().chain(finding).chain([kept]);
        ClimbView {
            state,
            why,
            steps: steps.collect(),
        }
    }

    /// Returns whether nobody more of a meeting is to be dialled, as there are enough sessions altogether.
    pub(super) fn is_enough(&self, meeting: &MeetingKey) -> bool {
        self.is_full_of_sessions && self.open.values().any(|open| open.meeting == *meeting)
    }

    /// Returns whether a connected peer introduces others of a meeting.
    fn is_introduced(&self, meeting: &MeetingKey) -> bool {
        let mut open = self.open.iter();
        open.any(|(session, open)| open.meeting == *meeting && self.trust.contains_key(session))
    }

    /// Returns whether an attempt runs with a peer that is not connected.
    fn runs(&self, peer: &Introduction) -> bool {
        match peer.state {
            State::Negotiating { .. } => true,
            State::Connected { session } => !self.open.contains_key(&session),
            State::Idle { .. } => false,
        }
    }

    fn meeting_state(&self, now: Time, meeting: &MeetingKey) -> PeerState {
        let open = self.open.values().filter(|open| open.meeting == *meeting);
        let sessions = open.map(|open| match open.relayed {
            true => PeerState::Relayed,
            false => PeerState::Connected,
        });
        let peers = self.peers.values().filter(|peer| peer.meeting == *meeting);
        let mut states: Vec<PeerState> = sessions.chain(peers.map(|peer| peer.told)).collect();
        // Somebody who waits for the first try is further than those who could not be reached.
        if states.contains(&PeerState::Discovering) {
            states.retain(|state| *state != PeerState::StoreForward);
        }
        let searched_for = self.ladder.since(meeting).map(|since| now.since(since));
        match states.into_iter().max() {
            Some(state) => state,
            None if searched_for.is_some_and(|it| it >= NOBODY_IN_TOPIC_AFTER) => {
                PeerState::StoreForward
            }
            None if searched_for.is_some() => PeerState::Discovering,
            None => PeerState::Disconnected,
        }
    }

    fn step_view(
        &self,
        now: Time,
        meeting: &MeetingKey,
        step: LadderStep,
        under_way: &BTreeMap<(MeetingKey, LadderStep), UnderWay>,
    ) -> StepView {
        let climbed = self.ladder.climbed(meeting, step);
        let (mut shown, mut held, mut trying, mut known) = (0, 0, 0, 0);
        for (path, peer) in &self.peers {
            if peer.meeting != *meeting || !peer.present || self.step_of(path) != step {
                continue;
            }
            shown += 1;
            let is_held = self.held_until(path, peer, under_way);
            match peer.told {
                PeerState::Connected | PeerState::Relayed => known += 1,
                PeerState::StoreForward => {}
                _ if is_held.is_some_and(|until| until > now) => held += 1,
                _ => trying += 1,
            }
        }
        let mut open = self.open.values();
        let state = if open.any(|it| it.meeting == *meeting && it.step == Some(step)) {
            StepState::Connected
        } else if trying > 0 {
            StepState::Trying
        } else if held > 0 {
            StepState::Held
        } else if known > 0 {
            StepState::Known
        } else if shown > 0 {
            StepState::Failed
        } else if climbed.asked.is_none() {
            StepState::Nobody
        } else if self.ladder.may_answer(now, meeting, step) {
            StepState::Asking
        } else {
            StepState::Nothing
        };
        let took = climbed.asked.zip(climbed.ended);
        StepView {
            shown,
            asked: climbed.asked,
            took: took.map(|(asked, ended)| ended.saturating_sub(asked)),
            connected: climbed.connected,
            tries: climbed.tries,
            successes: climbed.successes,
            ..StepView::new(step, state)
        }
    }
}

impl StepView {
    fn new(step: LadderStep, state: StepState) -> Self {
        StepView {
            step,
            state,
            shown: 0,
            asked: None,
            took: None,
            connected: None,
            tries: 0,
            successes: 0,
        }
    }
}

/// Says why nobody is reached, for people.
fn why(steps: &[StepView]) -> String {
    let shown: usize = steps.iter().map(|step| step.shown).sum();
    let asked: Vec<&str> = steps
        .iter()
        .filter(|step| step.asked.is_some())
        .map(|step| step.step.name())
        .collect();
    match (shown, asked.is_empty()) {
        (0, true) => {
            "there is nobody to ask: no peer, no meeting point, no signal server".to_owned()
        }
        (0, false) => format!("nobody is shown by: {}", asked.join(", ")),
        (1, _) => "1 peer is shown, and could not be reached".to_owned(),
        (shown, _) => format!("{shown} peers are shown, and none could be reached"),
    }
}
