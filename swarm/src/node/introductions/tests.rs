//! The rules of introductions, without a network.

use super::*;
use crate::limits::{
    CANDIDATES_PER_MINUTE, DIALS_BY_INTRODUCER_MAX, DIALS_MAX, INTRODUCED_AFTER,
    INTRODUCER_FAILURES_MAX, INTRODUCER_REST, LADDER_HOLD_MAX, NOBODY_IN_TOPIC_AFTER,
    POOL_EXPLORE_INTERVAL, RETRY_AFTER_MAX,
};
use crate::node::connects::ConnectFailure;
use crate::session::Label;

const MEETING: MeetingKey = (Label::Feed, [1; 32]);
const LOW: PublicKey = PublicKey([1; 32]);
const HIGH: PublicKey = PublicKey([9; 32]);
/// Whoever is behind it.
const STATIC: PublicKey = PublicKey([7; 32]);

fn path(peer: PublicKey) -> PeerPath {
    PeerPath::signal(0, Topic([2; 32]), peer)
}

fn at(millis: u64) -> Time {
    Time(millis * 1000)
}

fn offer_to(introductions: &mut Introductions, now: Time) -> u64 {
    match introductions.poll_action(now) {
        Some(Action::Offer { attempt, .. }) => attempt,
        other => unreachable!("expected an offer, got {other:?}"),
    }
}

#[test]
fn smaller_key_offers_and_larger_key_knocks_later() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    offer_to(&mut low, at(0));
    assert_eq!(low.poll_action(at(0)), None);

    let mut high = Introductions::new(1);
    high.handle_joined(at(0), 0, Topic([2; 32]), MEETING, HIGH, &[LOW]);
    assert_eq!(high.poll_action(at(0)), None);
    let due = high.poll_timeout().unwrap();
    assert!(due <= at(0) + KNOCK_AFTER);
    assert_eq!(
        high.poll_action(due),
        Some(Action::Knock { path: path(LOW) })
    );
}

#[test]
fn offer_of_the_larger_key_is_ignored() {
    let mut low = Introductions::new(1);
    assert!(!low.handle_offer(at(0), path(HIGH), MEETING, LOW, 5));
    let mut high = Introductions::new(1);
    assert!(high.handle_offer(at(0), path(LOW), MEETING, HIGH, 5));
    assert!(high.is_current(&path(LOW), 5));
}

#[test]
fn attempt_that_outlives_its_topic_does_not_keep_the_peer_from_being_dialled_again() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    let attempt = offer_to(&mut low, at(0));
    low.handle_topic_left(0, Topic([2; 32]));
    // It leads to a link, which nobody wants any more.
    low.handle_failed(at(300), path(HIGH), attempt);
    assert_eq!(low.poll_timeout(), None);
    low.handle_joined(at(400), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    offer_to(&mut low, at(400));
}

#[test]
fn peers_are_counted_by_topic() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    assert_eq!(low.peers_seen(&MEETING), 1);
    assert_eq!(low.peers_in(&[Topic([3; 32])]), 0);
    assert_eq!(low.peers_in(&[Topic([2; 32]), Topic([3; 32])]), 1);
    low.handle_topic_left(0, Topic([2; 32]));
    assert_eq!(low.peers_in(&[Topic([2; 32])]), 0);
}

#[test]
fn rejoining_a_server_does_not_dial_a_connected_peer_again() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    offer_to(&mut low, at(0));
    low.handle_session(path(HIGH), SessionId(1));
    low.handle_server_lost(at(0), 0);
    low.handle_joined(at(9000), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    assert_eq!(low.poll_action(at(9000)), None);
    assert_eq!(low.poll_timeout(), None);
}

#[test]
fn knock_of_a_peer_believed_connected_is_answered_with_an_offer() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    let first = offer_to(&mut low, at(0));
    low.handle_session(path(HIGH), SessionId(1));
    low.handle_knock(at(5000), path(HIGH));
    assert_ne!(offer_to(&mut low, at(5000)), first);
    // A second knock while that offer is under way changes nothing.
    low.handle_knock(at(5001), path(HIGH));
    assert_eq!(low.poll_action(at(5001)), None);
}

/// A node with enough sessions that is connected to [`STATIC`] and knows these others, whom it offers to.
fn with_enough(others: &[PublicKey]) -> Introductions {
    let mut low = Introductions::new(1);
    let connected = PublicKey([2; 32]);
    let all: Vec<PublicKey> = others.iter().copied().chain([connected]).collect();
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[connected]);
    offer_to(&mut low, at(0));
    low.handle_session(path(connected), SessionId(1));
    low.handle_session_open(
        at(0),
        Some(path(connected)),
        SessionId(1),
        MEETING,
        STATIC,
        false,
    );
    low.set_full(true);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &all);
    low
}

/// R177: whoever knocks has lost its session, or comes back: it does not wait until somebody is dialled anyway.
#[test]
fn who_knocks_at_a_node_with_enough_sessions_is_offered_to_at_once() {
    let mut low = with_enough(&[HIGH]);
    let attempt = offer_to(&mut low, at(0));
    low.handle_failed(at(100), path(HIGH), attempt);
    assert!(low.poll_timeout().unwrap() >= at(0) + POOL_EXPLORE_INTERVAL);
    low.handle_knock(at(1000), path(HIGH));
    offer_to(&mut low, at(1000));
}

#[test]
fn of_those_dialled_now_and_then_one_that_is_never_reached_keeps_no_other_waiting() {
    let mut low = with_enough(&[PublicKey([3; 32]), HIGH]);
    let mut dialled = BTreeSet::new();
    for _ in 0..4 {
        let now = low.poll_timeout().unwrap();
        let Some(Action::Offer { path, attempt }) = low.poll_action(now) else {
            unreachable!("an offer is due");
        };
        dialled.insert(path.peer);
        low.handle_failed(now, path, attempt);
    }
    assert_eq!(dialled.len(), 2);
}

/// R182: retries come ever more slowly, each after a time of its own.
#[test]
fn lost_peer_is_retried_within_half_a_second_then_ever_more_slowly() {
    let mut low = Introductions::new(7);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    offer_to(&mut low, at(0));
    low.handle_session(path(HIGH), SessionId(1));
    low.handle_session_open(
        at(0),
        Some(path(HIGH)),
        SessionId(1),
        MEETING,
        STATIC,
        false,
    );
    low.handle_session_closed(at(1000), SessionId(1));
    let mut now = low.poll_timeout().unwrap();
    assert!(now.since(at(1000)) <= Duration::from_millis(500));
    let mut waits = Vec::new();
    for _ in 0..12 {
        let attempt = offer_to(&mut low, now);
        low.handle_failed(now, path(HIGH), attempt);
        let next = low.poll_timeout().unwrap();
        waits.push(next.since(now));
        now = next;
    }
    assert!(waits[11] > waits[0] * 4);
    assert!(waits.iter().all(|wait| *wait <= RETRY_AFTER_MAX));
}

#[test]
fn at_most_eight_dials_run_at_once() {
    let mut low = Introductions::new(1);
    let peers: Vec<PublicKey> = (10..30).map(|n| PublicKey([n; 32])).collect();
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &peers);
    let mut offered = Vec::new();
    while let Some(Action::Offer { path, attempt }) = low.poll_action(at(0)) {
        offered.push((path, attempt));
    }
    assert_eq!(offered.len(), DIALS_MAX);
    assert_eq!(low.poll_timeout(), None);
    low.handle_failed(at(0), offered[0].0, offered[0].1);
    assert!(low.poll_action(at(0)).is_some());
}

#[test]
fn flood_of_candidates_is_cut_at_the_limit() {
    let mut high = Introductions::new(1);
    high.handle_offer(at(0), path(LOW), MEETING, HIGH, 5);
    let taken = |from: u64, high: &mut Introductions| {
        (from..from + 200)
            .filter(|n| high.handle_candidate(at(*n), path(LOW), 5))
            .count()
    };
    assert_eq!(taken(100, &mut high), CANDIDATES_PER_MINUTE as usize);
    assert_eq!(taken(61_000, &mut high), CANDIDATES_PER_MINUTE as usize);
    assert!(
        !high.handle_candidate(at(200_000), path(LOW), 6),
        "of another attempt"
    );
}

#[test]
fn peer_that_left_is_not_dialled() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    low.handle_peer_left(path(HIGH));
    assert_eq!(low.poll_action(at(0)), None);
    assert_eq!(low.peers_seen(&MEETING), 0);
}

/// A session with whoever introduces.
const INTRODUCER: SessionId = SessionId(50);

fn shown(peer: PublicKey) -> PeerPath {
    PeerPath::by_peer(INTRODUCER, peer)
}

#[test]
fn peer_that_offered_and_was_gone_before_it_was_told_of_is_forgotten() {
    let mut high = Introductions::new(1);
    assert!(high.handle_offer(at(0), shown(LOW), MEETING, HIGH, 5));
    high.handle_session(shown(LOW), SessionId(1));
    high.handle_session_open(at(0), Some(shown(LOW)), SessionId(1), MEETING, LOW, false);
    high.handle_session_closed(at(9), SessionId(1));
    assert_eq!(high.view(), []);
    assert_eq!(high.poll_timeout(), None);
}

#[test]
fn peer_with_a_session_is_never_dialled_again_whoever_shows_it() {
    let mut low = Introductions::new(1);
    low.handle_session_open(at(0), None, SessionId(1), MEETING, HIGH, false);
    low.handle_peer_joined(at(0), shown(HIGH), MEETING, LOW);
    assert_eq!(low.poll_timeout(), None);
    // Nor does a forged knock or offer of it end the session.
    low.handle_knock(at(1), shown(HIGH));
    assert_eq!(low.poll_timeout(), None);
    let mut high = Introductions::new(1);
    high.handle_session_open(at(0), None, SessionId(1), MEETING, LOW, false);
    assert!(!high.handle_offer(at(0), shown(LOW), MEETING, HIGH, 5));
    // Once the session is gone it is met again by whoever shows it.
    low.handle_session_closed(at(2), SessionId(1));
    let due = low.poll_timeout().unwrap();
    assert_eq!(low.poll_action(at(1)), None);
    offer_to(&mut low, due);
}

#[test]
fn of_several_introducers_of_one_peer_one_is_asked_at_a_time() {
    let mut low = Introductions::new(1);
    for introducer in 50..53 {
        let path = PeerPath::by_peer(SessionId(introducer), HIGH);
        low.handle_peer_joined(at(0), path, MEETING, LOW);
    }
    let Some(Action::Offer { path, attempt }) = low.poll_action(at(0)) else {
        unreachable!("one of them is asked");
    };
    assert_eq!(low.poll_action(at(0)), None);
    assert_eq!(low.poll_timeout(), None);
    low.handle_failed(at(10), path, attempt);
    let Some(Action::Offer { path: next, .. }) = low.poll_action(at(10)) else {
        unreachable!("the next one is asked");
    };
    assert_ne!(next, path);
}

#[test]
fn peers_an_introducer_invents_take_few_dials_and_it_rests_in_the_end() {
    let mut low = Introductions::new(1);
    let invented: Vec<PublicKey> = (100..200).map(|n| PublicKey([n; 32])).collect();
    for peer in &invented {
        low.handle_peer_joined(at(0), shown(*peer), MEETING, LOW);
    }
    assert_eq!(low.view().len(), PEERS_TOLD_MAX);
    // An honest one shows one more.
    let honest = PeerPath::by_peer(SessionId(51), HIGH);
    let (mut now, mut dials, mut reached) = (at(0), 0, false);
    for second in 0..600 {
        now = at(second * 1000);
        if second == 5 {
            low.handle_peer_joined(now, honest, MEETING, LOW);
        }
        let mut begun = Vec::new();
        while let Some(Action::Offer { path, attempt }) = low.poll_action(now) {
            if path == honest {
                reached = true;
                low.handle_session_open(at(0), Some(path), SessionId(1), MEETING, HIGH, false);
            } else {
                begun.push((path, attempt));
            }
        }
        assert!(begun.len() <= DIALS_BY_INTRODUCER_MAX);
        dials += begun.len();
        for (path, attempt) in begun {
            low.handle_failed(now, path, attempt);
        }
    }
    assert!(reached);
    let most = INTRODUCER_FAILURES_MAX as usize + DIALS_BY_INTRODUCER_MAX;
    assert!(dials <= most, "{dials}");
    // It is given another chance.
    assert!(low.poll_timeout().unwrap() > now);
    assert!(low.poll_timeout().unwrap() <= at(0) + INTRODUCER_REST + Duration::from_secs(20));
}

#[test]
fn peer_behind_two_servers_counts_as_connected_behind_both() {
    let mut low = Introductions::new(1);
    let other = PeerPath::signal(1, Topic([2; 32]), HIGH);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    low.handle_joined(at(0), 1, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    let mut attempts = BTreeMap::new();
    while let Some(Action::Offer { path, attempt }) = low.poll_action(at(0)) {
        attempts.insert(path, attempt);
    }
    assert_eq!(attempts.len(), 2, "nobody can know yet");
    for (path, session) in [(path(HIGH), SessionId(1)), (other, SessionId(2))] {
        low.handle_session(path, session);
        low.handle_session_open(at(0), Some(path), session, MEETING, STATIC, false);
    }
    // The second one is dropped as the peer is the same.
    low.handle_session_closed(at(9), SessionId(2));
    assert_eq!(low.poll_timeout(), None);
    let [view] = &low.view()[..] else {
        unreachable!("one peer")
    };
    assert_eq!(
        (view.state, view.session),
        (PeerState::Connected, Some(SessionId(1)))
    );
    assert_eq!((view.via.len(), view.failures), (2, 0));
    // When that one is lost, one of the two ways is tried, not both.
    low.handle_session_closed(at(20), SessionId(1));
    let due = low.poll_timeout().unwrap();
    offer_to(&mut low, due);
    assert_eq!(low.poll_action(at(60_000)), None);
}

#[test]
fn peer_shown_by_another_waits_while_it_may_be_one_that_a_server_shows() {
    let mut low = Introductions::new(1);
    low.handle_joined(
        at(0),
        0,
        Topic([2; 32]),
        MEETING,
        LOW,
        &[PublicKey([5; 32])],
    );
    offer_to(&mut low, at(0));
    low.handle_peer_joined(at(1), shown(HIGH), MEETING, LOW);
    assert_eq!(low.poll_timeout(), Some(at(1) + INTRODUCED_AFTER));
    // It was.
    let behind = path(PublicKey([5; 32]));
    low.handle_session(behind, SessionId(1));
    low.handle_session_open(at(0), Some(behind), SessionId(1), MEETING, HIGH, false);
    assert_eq!(low.poll_timeout(), None);
}

#[test]
fn circuit_is_asked_for_once_direct_ways_failed_and_by_the_side_that_offers() {
    let mut low = Introductions::new(1);
    low.handle_introducer(INTRODUCER, true);
    low.handle_peer_joined(at(0), shown(HIGH), MEETING, LOW);
    let attempt = offer_to(&mut low, at(0));
    low.handle_failed(at(10), shown(HIGH), attempt);
    let Some(Action::Circuit { path, number }) = low.poll_action(at(10)) else {
        unreachable!("a circuit is asked for");
    };
    assert_eq!(path, shown(HIGH));
    assert!(low.is_opening(&path, number) && !low.is_opening(&path, number ^ 1));
    low.handle_circuit_session(path, SessionId(1));
    low.handle_session_open(at(0), Some(path), SessionId(1), MEETING, HIGH, true);
    assert_eq!(low.view()[0].state, PeerState::Relayed);
    // Direct ways are tried on, however often they fail.
    for _ in 0..40 {
        let now = low.poll_timeout().unwrap();
        let attempt = offer_to(&mut low, now);
        low.handle_failed(now, path, attempt);
        assert_eq!(low.view()[0].state, PeerState::Relayed);
    }
    let now = low.poll_timeout().unwrap();
    offer_to(&mut low, now);
    low.handle_session(path, SessionId(2));
    low.handle_session_open(at(0), Some(path), SessionId(2), MEETING, HIGH, false);
    low.handle_session_closed(now, SessionId(1));
    let view = &low.view()[0];
    assert_eq!(
        (view.state, view.session),
        (PeerState::Connected, Some(SessionId(2)))
    );
    assert_eq!(low.poll_timeout(), None);

    let mut high = Introductions::new(1);
    high.handle_introducer(INTRODUCER, true);
    high.handle_peer_joined(at(0), shown(LOW), MEETING, HIGH);
    for _ in 0..10 {
        let now = high.poll_timeout().unwrap();
        let action = high.poll_action(now);
        assert_eq!(action, Some(Action::Knock { path: shown(LOW) }));
    }
    assert_eq!(high.view()[0].state, PeerState::StoreForward);
    assert!(high.handle_circuit_open(at(0), shown(LOW), MEETING, HIGH));
}

#[test]
fn circuit_that_is_refused_or_never_comes_is_asked_for_ever_more_seldom() {
    let mut low = Introductions::new(1);
    low.handle_introducer(INTRODUCER, true);
    low.handle_peer_joined(at(0), shown(HIGH), MEETING, LOW);
    let (mut asked, mut now) = (0, at(0));
    while now < at(0) + Duration::from_secs(3600) {
        match low.poll_action(now) {
            Some(Action::Circuit { path, number }) => {
                asked += 1;
                if asked % 2 == 0 {
                    low.handle_circuit_failed(now, path, number);
                }
            }
            Some(Action::Offer { path, attempt }) => low.handle_failed(now, path, attempt),
            Some(Action::Knock { .. }) => unreachable!("this side offers"),
            None => now = low.poll_timeout().unwrap(),
        }
    }
    assert!((10..25).contains(&asked), "{asked}");
}

/// A node that wants the meeting and knows a route at position 0 and a signal server at position 1, both of
/// which say who is there.
fn on_the_ladder() -> Introductions {
    let mut low = Introductions::new(1);
    let points = [(0, LadderStep::Routes), (1, LadderStep::Signal)];
    low.handle_wanted(at(0), &[MEETING].into(), points.into());
    for position in [0, 1] {
        low.handle_joined(at(0), position, Topic([2; 32]), MEETING, LOW, &[]);
    }
    low
}

fn behind(position: usize, peer: PublicKey) -> PeerPath {
    PeerPath::signal(position, Topic([2; 32]), peer)
}

/// R150, R152, R174: who is at a route and at a server is dialled at the route, and at the server only
/// when that leads nowhere.
#[test]
fn what_a_server_shows_waits_while_an_earlier_step_leads_somewhere() {
    let mut low = on_the_ladder();
    // It is one peer, under two names; the server is quicker.
    low.handle_peer_joined(at(10), behind(1, HIGH), MEETING, LOW);
    assert_eq!(low.poll_action(at(10)), None);
    low.handle_peer_joined(at(30), behind(0, PublicKey([8; 32])), MEETING, LOW);
    let Some(Action::Offer { path, attempt }) = low.poll_action(at(30)) else {
        unreachable!("the route is tried");
    };
    assert_eq!(path, behind(0, PublicKey([8; 32])));
    let held = low.climb(at(31), &MEETING).steps[5];
    assert_eq!(
        (held.step, held.state),
        (LadderStep::Signal, StepState::Held)
    );
    assert_eq!(low.poll_action(at(400)), None);
    low.handle_failed(at(450), path, attempt);
    let Some(Action::Offer { path, .. }) = low.poll_action(at(450)) else {
        unreachable!("the next step is tried");
    };
    assert_eq!(path, behind(1, HIGH));
    let routes = low.climb(at(451), &MEETING).steps[3];
    assert_eq!((routes.tries, routes.successes), (1, 0));
}

#[test]
fn no_step_is_held_for_longer_than_a_second_whatever_earlier_ones_show() {
    let mut low = on_the_ladder();
    low.handle_peer_joined(at(0), behind(1, HIGH), MEETING, LOW);
    let (mut dialled_at, mut running) = (None, None);
    for tick in 2..200 {
        let now = at(tick * 10);
        // Somebody invents one after the other at the route; each attempt is there until the next one is.
        let invented = PublicKey([u8::try_from(tick).unwrap(); 32]);
        low.handle_peer_joined(now, behind(0, invented), MEETING, LOW);
        while let Some(Action::Offer { path, attempt }) = low.poll_action(now) {
            if path == behind(1, HIGH) {
                dialled_at = dialled_at.or(Some(now));
            } else if let Some((path, attempt)) = running.replace((path, attempt)) {
                low.handle_failed(now, path, attempt);
            }
        }
    }
    assert_eq!(dialled_at, Some(at(0) + LADDER_HOLD_MAX));
}

/// R153, R191: nobody is reached, and it says why.
#[test]
fn meeting_where_nobody_is_reached_is_left_to_store_and_forward() {
    let mut low = on_the_ladder();
    let early = low.climb(at(100), &MEETING);
    assert_eq!((early.state, early.why), (PeerState::Discovering, None));
    let late = low.climb(at(0) + NOBODY_IN_TOPIC_AFTER, &MEETING);
    assert_eq!(late.state, PeerState::StoreForward);
    assert_eq!(late.why.unwrap(), "nobody is shown by: routes, signal");
    low.handle_peer_joined(at(9000), behind(1, HIGH), MEETING, LOW);
    let now = low.poll_timeout().unwrap();
    let attempt = offer_to(&mut low, now);
    low.handle_failed(now, behind(1, HIGH), attempt);
    let late = low.climb(now, &MEETING);
    assert_eq!(late.state, PeerState::StoreForward);
    assert_eq!(
        late.why.unwrap(),
        "1 peer is shown, and could not be reached"
    );
    low.handle_session_open(now, None, SessionId(1), MEETING, STATIC, true);
    assert_eq!(low.climb(now, &MEETING).state, PeerState::Relayed);
}

mod states {
    use proptest::prelude::*;

    use super::*;

    /// What may happen, to one of few peers, by one of few introducers.
    fn happens(low: &mut Introductions, now: Time, what: u8, which: u8, session: u64) {
        let peer = PublicKey([which % 3 + 7; 32]);
        let own = PublicKey([8; 32]);
        let path = match which / 3 % 4 {
            0 => PeerPath::by_peer(INTRODUCER, peer),
            1 => PeerPath::by_peer(SessionId(51), peer),
            server => PeerPath::signal(usize::from(server), Topic([2; 32]), peer),
        };
        // Two sessions with each of them, one of which is relayed.
        let relayed = session % 2 == 1;
        let session = SessionId(u64::from(which % 3) * 2 + session % 2);
        match what {
            0 => low.handle_peer_joined(now, path, MEETING, own),
            1 => low.handle_peer_left(path),
            2 => {
                low.handle_offer(now, path, MEETING, own, 1);
            }
            3 => low.handle_answer(path, 1),
            4 => low.handle_knock(now, path),
            5 => low.handle_session(path, session),
            6 => low.handle_session_open(now, Some(path), session, MEETING, peer, relayed),
            7 => low.handle_session_closed(now, session),
            8 => low.handle_failed(now, path, 1),
            9 => low.handle_server_lost(now, 2),
            13 => low.handle_introducer(INTRODUCER, which < 50),
            14 => {
                low.handle_circuit_open(now, path, MEETING, own);
                low.handle_circuit_session(path, SessionId(u64::from(which % 3) * 2 + 1));
            }
            10 => low.forget(&path),
            11 => low.handle_session_closed(now, INTRODUCER),
            _ => {
                while let Some(action) = low.poll_action(now) {
                    if let Action::Circuit { path, number } = action
                        && relayed
                    {
                        low.handle_circuit_failed(now, path, number);
                    }
                }
            }
        }
    }

    proptest! {
        /// R175, R176: whatever happens in whatever order: what is told of each way to a peer is a walk along allowed steps,
        /// without gaps, and ends where it is.
        #[test]
        fn only_allowed_steps_are_ever_told(
            steps in proptest::collection::vec((0u8..15, 0u8..60, 0u64..8, 0u64..3000), 1..120)
        ) {
            let mut low = Introductions::new(3);
            let mut now = Time::ZERO;
            let mut told: BTreeMap<PeerPath, PeerState> = BTreeMap::new();
            for (what, which, session, millis) in steps {
                now = now + Duration::from_millis(millis);
                happens(&mut low, now, what, which, session);
                while let Some(change) = low.poll_change() {
                    let before = told.insert(change.path, change.to);
                    prop_assert_eq!(before.unwrap_or(PeerState::Disconnected), change.from);
                    prop_assert!(change.from.may_become(change.to), "{:?}", change);
                }
                for (path, peer) in &low.peers {
                    let last = told.get(path).copied().unwrap_or(PeerState::Disconnected);
                    prop_assert_eq!(last, low.state_of(peer), "{:?} {:?}", path, peer);
                }
                for (path, last) in &told {
                    let is_known = low.peers.contains_key(path);
                    prop_assert!(is_known || *last == PeerState::Disconnected);
                }
            }
        }
    }
}

/// R187: a peer counts once, from when it was shown, and not while it is connected by another way.
#[test]
fn a_search_lasts_from_when_a_peer_is_shown_until_its_first_session_opens() {
    let mut low = Introductions::new(1);
    low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
    let attempt = offer_to(&mut low, at(100));
    low.handle_unconnected(&path(HIGH), attempt, ConnectFailure::Timeout);
    low.handle_failed(at(300), path(HIGH), attempt);
    let again = low.poll_timeout().unwrap();
    offer_to(&mut low, again);
    low.handle_session(path(HIGH), SessionId(1));
    let first = Some(path(HIGH));
    low.handle_session_open(at(1_500), first, SessionId(1), MEETING, STATIC, false);

    low.handle_joined(at(2_000), 1, Topic([3; 32]), MEETING, LOW, &[HIGH]);
    let again = low.poll_timeout().unwrap();
    offer_to(&mut low, again);
    let other = PeerPath::signal(1, Topic([3; 32]), HIGH);
    low.handle_session(other, SessionId(2));
    let now = again + Duration::from_secs(1);
    low.handle_session_open(now, Some(other), SessionId(2), MEETING, STATIC, false);

    let status = low.connects().status();
    assert_eq!((status.searches, status.took.count), (1, 1));
    assert_eq!(status.took.sum_us, 1_500_000);
    assert_eq!(status.failures[&ConnectFailure::Timeout], 1);
}

#[test]
fn who_told_of_a_peer_two_hops_away_is_asked_again_now_and_then() {
    let mut low = Introductions::new(1);
    low.handle_further(at(0), SessionId(1), STATIC, HIGH, None);
    let asked = (0..=60).filter(|second| !low.look_further(at(second * 1000)).is_empty());
    assert_eq!(asked.count(), 1);
}
