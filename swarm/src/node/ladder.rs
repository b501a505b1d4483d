//! In which order ways to a peer are tried, and what came of each: the ladder, sans-IO (R148..R153).
//!
//! Every step is asked at once, as asking costs little: connected peers, the local network, places where
//! somebody was met before, those of coordinators, signal servers. What is *used* goes by the order: while an
//! earlier step may still answer, what a later one shows is not dialled. Each step is waited for
//! a short time only, so that nothing on the ladder keeps anybody from being reached.
//!
//! A climb is about one meeting that is wanted. It begins when the meeting is wanted, and anew when the last
//! session of the meeting is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinlog_feeds::Time;
use serde::Serialize;

use super::introductions::MeetingKey;
use crate::limits::{COORDINATORS_HEAD_START, PEERS_HEAD_START, ROUTES_HEAD_START};
use crate::session::SessionId;

/// A step of the ladder, in the order in which they are used.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LadderStep {
    /// A session that is open already.
    Session,
    /// Connected peers of the same meeting say whom they have.
    Peers,
    /// Meeting points of the local network, and the own one.
    Lan,
    /// Meeting points where somebody was met before.
    Routes,
    /// Meeting points of peers that introduced or relayed before, and of seeders.
    Coordinators,
    /// Signal servers, last.
    Signal,
    /// Nobody is reached: what is written waits here and with whoever keeps the feeds.
    StoreForward,
}

impl LadderStep {
    /// Steps that find somebody who is not connected yet, in their order.
    pub const FINDING: [LadderStep; 5] = [
        LadderStep::Peers,
        LadderStep::Lan,
        LadderStep::Routes,
        LadderStep::Coordinators,
        LadderStep::Signal,
    ];

    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            LadderStep::Session => "session",
            LadderStep::Peers => "peers",
            LadderStep::Lan => "lan",
            LadderStep::Routes => "routes",
            LadderStep::Coordinators => "coordinators",
            LadderStep::Signal => "signal",
            LadderStep::StoreForward => "store_forward",
        }
    }

    /// Returns how long later steps wait for its answer.
    const fn head_start(self) -> Duration {
        match self {
            LadderStep::Peers => PEERS_HEAD_START,
            LadderStep::Lan | LadderStep::Routes => ROUTES_HEAD_START,
            LadderStep::Coordinators => COORDINATORS_HEAD_START,
            LadderStep::Session | LadderStep::Signal | LadderStep::StoreForward => Duration::ZERO,
        }
    }
}

/// What came of the tries of one step, over all meetings since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    /// Attempts to connect to somebody whom the step showed.
    pub(crate) tries: u64,
    /// Those that led to a session.
    pub(crate) successes: u64,
    /// From attempt to session, of all successes together and of the last one.
    pub(crate) took: Duration,
    pub(crate) took_last: Duration,
}

/// One step of one climb. Times are from the beginning of the climb.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Climbed {
    /// It was asked then.
    pub(crate) asked: Option<Duration>,
    /// It has answered since then, or was given up.
    pub(crate) ended: Option<Duration>,
    /// The first session by it opened then.
    pub(crate) connected: Option<Duration>,
    pub(crate) tries: u64,
    pub(crate) successes: u64,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Asked {
    /// A meeting point, by its position.
    Point(usize),
    /// The other side of a session.
    Peer(SessionId),
}

#[derive(Debug)]
struct Climb {
    since: Time,
    /// Meeting points that have answered, and tell of whoever comes.
    listening: BTreeSet<usize>,
    /// Who has not answered yet, by which step it is asked, and since when.
    unanswered: BTreeMap<Asked, (LadderStep, Time)>,
    steps: BTreeMap<LadderStep, Climbed>,
}

/// All climbs, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    points: BTreeMap<usize, LadderStep>,
    climbs: BTreeMap<MeetingKey, Climb>,
    tallies: BTreeMap<LadderStep, Tally>,
}

impl Ladder {
    /// These meetings are wanted, and no others, and these are the meeting points with the step that each
    /// belongs to.
    pub(crate) fn handle_wanted(
        &mut self,
        now: Time,
        wanted: &BTreeSet<MeetingKey>,
        points: BTreeMap<usize, LadderStep>,
    ) {
        self.climbs.retain(|meeting, _| wanted.contains(meeting));
        let added: Vec<(usize, LadderStep)> = points
            .iter()
            .filter(|(position, _)| !self.points.contains_key(position))
            .map(|(position, step)| (*position, *step))
            .collect();
        let gone: Vec<usize> = self.points.keys().copied().collect();
        for position in gone.into_iter().filter(|it| !points.contains_key(it)) {
            self.handle_point_lost(now, position);
        }
        self.points = points;
        for climb in self.climbs.values_mut() {
            for (position, step) in &added {
                climb.ask(now, Asked::Point(*position), *step);
            }
        }
        for meeting in wanted {
            if !self.climbs.contains_key(meeting) {
                let climb = Climb::begin(now, &self.points);
                self.climbs.insert(*meeting, climb);
            }
        }
    }

    /// A meeting has no session any more: it is climbed from below.
    pub(crate) fn handle_alone(&mut self, now: Time, meeting: &MeetingKey) {
        if let Some(climb) = self.climbs.get_mut(meeting) {
            let before = std::mem::replace(climb, Climb::begin(now, &self.points));
            for (step, one) in before.steps {
                let kept = climb.steps.entry(step).or_default();
                (kept.tries, kept.successes) = (one.tries, one.successes);
            }
            // Those that are connected show what they know already; whoever is not reached answers
            // when it is.
            for position in &before.listening {
                climb.answer(now, Asked::Point(*position));
            }
            climb.listening = before.listening;
        }
    }

    /// A meeting point told who is in the topic of a meeting.
    pub(crate) fn handle_entered(&mut self, now: Time, position: usize, meeting: &MeetingKey) {
        if let Some(climb) = self.climbs.get_mut(meeting) {
            climb.answer(now, Asked::Point(position));
            climb.listening.insert(position);
        }
    }

    /// A meeting point is not reached, or is left: nobody waits for it.
    pub(crate) fn handle_point_lost(&mut self, now: Time, position: usize) {
        for climb in self.climbs.values_mut() {
            climb.answer(now, Asked::Point(position));
            climb.listening.remove(&position);
        }
    }

    /// A connected peer is asked whom it has.
    pub(crate) fn handle_asked(&mut self, now: Time, meeting: &MeetingKey, session: SessionId) {
        if let Some(climb) = self.climbs.get_mut(meeting) {
            climb.ask(now, Asked::Peer(session), LadderStep::Peers);
        }
    }

    /// A connected peer has said whom it has, or its session is gone.
    pub(crate) fn handle_told(&mut self, now: Time, session: SessionId) {
        for climb in self.climbs.values_mut() {
            climb.answer(now, Asked::Peer(session));
        }
    }

    /// An attempt to connect to somebody whom this step shows begins.
    pub(crate) fn handle_try(&mut self, meeting: &MeetingKey, step: LadderStep) {
        self.tallies.entry(step).or_default().tries += 1;
        if let Some(climb) = self.climbs.get_mut(meeting) {
            climb.steps.entry(step).or_default().tries += 1;
        }
    }

    /// A session opened with somebody whom this step showed, so long after the attempt began.
    pub(crate) fn handle_success(
        &mut self,
        now: Time,
        meeting: &MeetingKey,
        step: LadderStep,
        took: Duration,
    ) {
        let tally = self.tallies.entry(step).or_default();
        tally.successes += 1;
        tally.took += took;
        tally.took_last = took;
        if let Some(climb) = self.climbs.get_mut(meeting) {
            let after = now.since(climb.since);
            let one = climb.steps.entry(step).or_default();
            one.successes += 1;
            one.connected.get_or_insert(after);
        }
    }

    /// Returns until when what `step` shows of a meeting waits for earlier steps, if any of them may answer
    /// yet.
    pub(crate) fn held_until(&self, meeting: &MeetingKey, step: LadderStep) -> Option<Time> {
        let climb = self.climbs.get(meeting)?;
        let earlier = climb.unanswered.values().filter(|(one, _)| *one < step);
        earlier.map(|(one, at)| *at + one.head_start()).max()
    }

    /// Returns whether meeting points of a step before `step` would show whoever comes to them.
    pub(crate) fn listens_before(&self, meeting: &MeetingKey, step: LadderStep) -> bool {
        let Some(climb) = self.climbs.get(meeting) else {
            return false;
        };
        let mut points = climb.listening.iter();
        points.any(|position| self.points.get(position).is_some_and(|one| *one < step))
    }

    /// Returns the step that a meeting point belongs to.
    pub(crate) fn step_of(&self, position: usize) -> LadderStep {
        // The own one is not among them: nobody asks it, others come to it.
        let step = self.points.get(&position);
        step.copied().unwrap_or(LadderStep::Lan)
    }

    /// Returns whether a step may show more of a meeting at once: somebody is asked and was not given up.
    pub(crate) fn may_answer(&self, now: Time, meeting: &MeetingKey, step: LadderStep) -> bool {
        let Some(climb) = self.climbs.get(meeting) else {
            return false;
        };
        let mut asked = climb.unanswered.values();
        asked.any(|(one, at)| *one == step && now < *at + one.head_start().max(PEERS_HEAD_START))
    }

    /// Returns when the climb of a meeting began, if it is wanted.
    pub(crate) fn since(&self, meeting: &MeetingKey) -> Option<Time> {
        self.climbs.get(meeting).map(|climb| climb.since)
    }

    /// Returns what came of one step for a meeting.
    pub(crate) fn climbed(&self, meeting: &MeetingKey, step: LadderStep) -> Climbed {
        let climb = self.climbs.get(meeting);
        let one = climb.and_then(|climb| climb.steps.get(&step));
        one.copied().unwrap_or_default()
    }

    /// Returns what came of each step, over all meetings.
    pub(crate) fn tally(&self, step: LadderStep) -> Tally {
        self.tallies.get(&step).copied().unwrap_or_default()
    }
}

impl Climb {
    /// Begins with everybody that can be asked at once.
    fn begin(now: Time, points: &BTreeMap<usize, LadderStep>) -> Self {
        let mut climb = Climb {
            since: now,
            listening: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            steps: BTreeMap::new(),
        };
        for (position, step) in points {
            climb.ask(now, Asked::Point(*position), *step);
        }
        climb
    }

    fn ask(&mut self, now: Time, whom: Asked, step: LadderStep) {
        self.unanswered.insert(whom, (step, now));
        let after = now.since(self.since);
        self.steps
            .entry(step)
            .or_default()
            .asked
            .get_or_insert(after);
    }

    fn answer(&mut self, now: Time, whom: Asked) {
        let Some((step, _)) = self.unanswered.remove(&whom) else {
            return;
        };
        let mut others = self.unanswered.values();
        if !others.any(|(one, _)| *one == step) {
            let after = now.since(self.since);
            self.steps
                .entry(step)
                .or_default()
                .ended
                .get_or_insert(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Label;

    const MEETING: MeetingKey = (Label::Feed, [1; 32]);

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    /// A ladder with a route at 0, a coordinator at 1 and a signal server at 2.
    fn ladder() -> Ladder {
        let mut ladder = Ladder::default();
        let points = [
            (0, LadderStep::Routes),
            (1, LadderStep::Coordinators),
            (2, LadderStep::Signal),
        ];
        ladder.handle_wanted(at(0), &[MEETING].into(), points.into());
        ladder
    }

    /// R148..R152: each step waits for those before it, for a while, and not for those behind it.
    #[test]
    fn later_steps_wait_for_earlier_ones_and_only_for_a_while() {
        let mut ladder = ladder();
        let held = |ladder: &Ladder, step| ladder.held_until(&MEETING, step);
        assert_eq!(held(&ladder, LadderStep::Peers), None);
        assert_eq!(held(&ladder, LadderStep::Routes), None);
        let coordinators = held(&ladder, LadderStep::Coordinators);
        assert_eq!(coordinators, Some(at(0) + ROUTES_HEAD_START));
        let signal = held(&ladder, LadderStep::Signal);
        assert_eq!(signal, Some(at(0) + COORDINATORS_HEAD_START));
        // R150: a hit in the routes is held while a connected peer may answer, at most so long.
        ladder.handle_asked(at(50), &MEETING, SessionId(7));
        let routes = held(&ladder, LadderStep::Routes);
        assert_eq!(routes, Some(at(50) + PEERS_HEAD_START));
        ladder.handle_told(at(90), SessionId(7));
        assert_eq!(held(&ladder, LadderStep::Routes), None);
    }

    /// R190, R192: whoever has answered, or cannot be reached, is not waited for.
    #[test]
    fn steps_that_answered_or_failed_hold_nobody() {
        let mut ladder = ladder();
        ladder.handle_entered(at(10), 0, &MEETING);
        let climbed = ladder.climbed(&MEETING, LadderStep::Routes);
        assert_eq!(climbed.asked, Some(Duration::ZERO));
        assert_eq!(climbed.ended, Some(Duration::from_millis(10)));
        assert_eq!(ladder.held_until(&MEETING, LadderStep::Coordinators), None);
        ladder.handle_point_lost(at(20), 1);
        assert_eq!(ladder.held_until(&MEETING, LadderStep::Signal), None);
        assert!(ladder.may_answer(at(20), &MEETING, LadderStep::Signal));
        ladder.handle_wanted(at(30), &[MEETING].into(), BTreeMap::new());
        assert!(!ladder.may_answer(at(30), &MEETING, LadderStep::Signal));
    }

    #[test]
    fn tries_and_successes_are_counted_by_step_and_meeting() {
        let mut ladder = ladder();
        for _ in 0..3 {
            ladder.handle_try(&MEETING, LadderStep::Routes);
        }
        ladder.handle_try(&(Label::Feed, [9; 32]), LadderStep::Routes);
        let took = Duration::from_millis(80);
        ladder.handle_success(at(150), &MEETING, LadderStep::Routes, took);
        let climbed = ladder.climbed(&MEETING, LadderStep::Routes);
        assert_eq!((climbed.tries, climbed.successes), (3, 1));
        assert_eq!(climbed.connected, Some(Duration::from_millis(150)));
        let tally = ladder.tally(LadderStep::Routes);
        assert_eq!((tally.tries, tally.successes, tally.took), (4, 1, took));
    }

    #[test]
    fn meeting_whose_last_session_is_gone_is_climbed_anew_and_keeps_its_counts() {
        let mut ladder = ladder();
        ladder.handle_try(&MEETING, LadderStep::Signal);
        ladder.handle_entered(at(10), 2, &MEETING);
        ladder.handle_alone(at(5000), &MEETING);
        assert_eq!(ladder.since(&MEETING), Some(at(5000)));
        let signal = ladder.climbed(&MEETING, LadderStep::Signal);
        assert_eq!((signal.tries, signal.ended), (1, Some(Duration::ZERO)));
        // A route that was not reached before gets another moment.
        let held = ladder.held_until(&MEETING, LadderStep::Signal);
        assert_eq!(held, Some(at(5000) + COORDINATORS_HEAD_START));
        // A meeting that nobody wants any more is not climbed.
        ladder.handle_wanted(at(6000), &BTreeSet::new(), BTreeMap::new());
        assert_eq!(ladder.since(&MEETING), None);
    }
}
