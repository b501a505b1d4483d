//! Whom peers are told of, without a network.

use super::*;
use crate::limits::{FORWARDED_PER_MINUTE, FURTHER_ASKED_MAX, FURTHER_WAIT_MAX};

const MEETING: MeetingKey = (Label::Feed, [1; 32]);
const OTHER: MeetingKey = (Label::Feed, [2; 32]);
const WALL_S: u64 = 1_700_000_000;

fn at(millis: u64) -> Time {
    Time(millis * 1000)
}

fn peer(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

/// An introducer with these peers, each by the session with its number.
fn with(peers: &[u8]) -> Introducer {
    let mut introducer = Introducer::default();
    for number in peers {
        let session = SessionId(u64::from(*number));
        introducer.handle_open(at(0), session, MEETING, peer(*number), *number == 1);
    }
    introducer
}

/// Everything told at `now` but states, by session: who came and who went.
fn told(introducer: &mut Introducer, now: Time) -> Vec<(u64, u64, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((session, message)) = introducer.poll_found(now, WALL_S) {
        let MeshMessage::Found {
            request_id,
            peers,
            gone,
        } = message
        else {
            continue;
        };
        let peers = peers.iter().map(|found| found.peer.0[0]).collect();
        let gone = gone.iter().map(|gone| gone.0[0]).collect();
        all.push((session.0, request_id, peers, gone));
    }
    all
}

#[test]
fn nobody_is_told_of_anything_before_it_asks() {
    let mut introducer = with(&[1, 2, 3]);
    assert_eq!(introducer.poll_timeout(), None);
    introducer.handle_query(at(0), SessionId(2), 9, Reach::Near);
    assert_eq!(
        told(&mut introducer, at(0)),
        [(2, 9, vec![1, 3], Vec::new())]
    );
    assert_eq!(introducer.poll_timeout(), None);
}

#[test]
fn who_asked_hears_of_who_comes_and_goes_and_of_nothing_twice() {
    let mut introducer = with(&[1, 2]);
    introducer.handle_query(at(0), SessionId(1), 1, Reach::Near);
    told(&mut introducer, at(0));
    introducer.handle_open(at(5000), SessionId(3), MEETING, peer(3), false);
    introducer.handle_closed(at(5001), SessionId(2));
    // Both at once, a little later.
    assert!(told(&mut introducer, at(5001)).is_empty());
    let due = introducer.poll_timeout().unwrap();
    assert!(due <= at(5000) + PEERS_TOLD_AFTER);
    assert_eq!(told(&mut introducer, due), [(1, 0, vec![3], vec![2])]);
    // Come and gone before it was told: nothing to tell.
    introducer.handle_open(at(9000), SessionId(4), MEETING, peer(4), false);
    introducer.handle_closed(at(9001), SessionId(4));
    assert!(told(&mut introducer, at(20_000)).is_empty());
}

#[test]
fn changes_are_told_together_and_not_too_often() {
    let mut introducer = with(&[1]);
    introducer.handle_query(at(0), SessionId(1), 1, Reach::Near);
    let mut messages = told(&mut introducer, at(0)).len();
    for millis in 1..10_000 {
        let session = SessionId(millis + 10);
        let number = u8::try_from(millis % 200).unwrap() + 2;
        introducer.handle_open(at(millis), session, MEETING, peer(number), false);
        introducer.handle_closed(at(millis), SessionId(millis + 9));
        messages += told(&mut introducer, at(millis)).len();
    }
    let most = 10_000 / u64::try_from(PEERS_TOLD_AFTER.as_millis()).unwrap() + 2;
    assert!((2..=most).contains(&(messages as u64)), "{messages}");
}

#[test]
fn nothing_is_told_or_carried_across_meetings() {
    let mut introducer = with(&[1, 2]);
    introducer.handle_open(at(0), SessionId(7), OTHER, peer(7), true);
    introducer.handle_query(at(0), SessionId(7), 1, Reach::Near);
    introducer.handle_query(at(0), SessionId(1), 1, Reach::Near);
    let all = told(&mut introducer, at(0));
    assert_eq!(
        all,
        [(1, 1, vec![2], Vec::new()), (7, 1, Vec::new(), Vec::new())]
    );
    assert_eq!(introducer.carry(at(0), SessionId(7), peer(1)), None);
    let carried = introducer.carry(at(0), SessionId(1), peer(2));
    assert_eq!(carried, Some((SessionId(2), peer(1))));
}

#[test]
fn surplus_of_signals_and_queries_is_dropped_and_counted() {
    let mut introducer = with(&[1, 2]);
    let carry = |introducer: &mut Introducer, now: u64| {
        (0..1000)
            .filter(|_| introducer.carry(at(now), SessionId(1), peer(2)).is_some())
            .count()
    };
    assert_eq!(carry(&mut introducer, 0), INTRODUCED_PER_MINUTE as usize);
    assert_eq!(carry(&mut introducer, 59_000), 0);
    assert_eq!(
        carry(&mut introducer, 61_000),
        INTRODUCED_PER_MINUTE as usize
    );
    // The other one is not held up by it.
    assert!(introducer.carry(at(1), SessionId(2), peer(1)).is_some());
    let before = introducer.counted().surplus;
    for request in 1..=100 {
        introducer.handle_query(at(70_000), SessionId(1), request, Reach::Near);
    }
    assert_eq!(introducer.counted().surplus, before + 99);
    assert_eq!(told(&mut introducer, at(70_000)).len(), 1);
    introducer.handle_query(at(70_001), SessionId(1), 101, Reach::Near);
    assert!(told(&mut introducer, at(70_001)).is_empty(), "later");
}

#[test]
fn of_two_sessions_with_one_peer_it_is_told_once_and_the_newer_carries() {
    let mut introducer = with(&[1, 2]);
    introducer.handle_open(at(1), SessionId(9), MEETING, peer(2), false);
    introducer.handle_query(at(1), SessionId(1), 1, Reach::Near);
    assert_eq!(told(&mut introducer, at(1)), [(1, 1, vec![2], Vec::new())]);
    assert_eq!(
        introducer.between(SessionId(1), peer(2)),
        Some(SessionId(9))
    );
    introducer.handle_closed(at(2), SessionId(2));
    assert!(told(&mut introducer, at(9_000)).is_empty());
}

/// R171, R179: whoever missed something is right again after 30 s, and nothing is sent while nothing changes.
#[test]
fn what_changed_is_told_again_every_thirty_seconds_and_nothing_else() {
    let mut introducer = with(&[1, 2]);
    introducer.handle_query(at(0), SessionId(2), 1, Reach::Near);
    told(&mut introducer, at(0));
    // It knows everything: there is nothing to wake up for.
    assert_eq!(introducer.poll_timeout(), None);
    introducer.handle_open(at(5000), SessionId(3), MEETING, peer(3), true);
    assert_eq!(
        told(&mut introducer, at(7000)),
        [(2, 0, vec![3], Vec::new())]
    );
    introducer.handle_closed(at(8000), SessionId(1));
    assert_eq!(
        told(&mut introducer, at(9000)),
        [(2, 0, Vec::new(), vec![1])]
    );
    let due = introducer.poll_timeout().unwrap();
    assert_eq!(due, at(7000) + NETWORK_STATE_INTERVAL);
    let Some((
        session,
        MeshMessage::State {
            peers,
            gone,
            coordinators,
            timestamp_s,
        },
    )) = introducer.poll_found(due, WALL_S)
    else {
        unreachable!("a state is due");
    };
    assert_eq!((session, timestamp_s), (SessionId(2), WALL_S));
    let come: Vec<PublicKey> = peers.iter().map(|found| found.peer).collect();
    assert_eq!((come, gone), (vec![peer(3)], vec![peer(1)]));
    assert_eq!(coordinators, [peer(3)]);
    assert_eq!(introducer.poll_found(due, WALL_S), None);
    assert_eq!(introducer.poll_timeout(), None);
    // What came and went between two states is in neither.
    introducer.handle_open(at(90_000), SessionId(4), MEETING, peer(4), false);
    told(&mut introducer, at(92_000));
    introducer.handle_closed(at(93_000), SessionId(4));
    told(&mut introducer, at(95_000));
    let due = introducer.poll_timeout().unwrap();
    assert_eq!(introducer.poll_found(due, WALL_S), None);
    assert_eq!(introducer.poll_timeout(), None);
}

#[test]
fn devices_are_named_where_all_of_a_meeting_show_theirs_and_nowhere_else() {
    let room: MeetingKey = (Label::Room, [3; 32]);
    for (meeting, named) in [(room, Some(peer(77))), (MEETING, None)] {
        let mut introducer = Introducer::default();
        for number in [1, 2] {
            let session = SessionId(u64::from(number));
            introducer.handle_open(at(0), session, meeting, peer(number), false);
        }
        introducer.handle_query(at(0), SessionId(1), 1, Reach::Near);
        told(&mut introducer, at(0));
        // Its certificate comes later than it does.
        introducer.handle_device(at(10), SessionId(2), peer(77));
        let found = introducer.poll_found(at(5000), WALL_S);
        let device = found.map(|(_, message)| match message {
            MeshMessage::Found { peers, .. } => peers[0].device,
            other => unreachable!("{other:?}"),
        });
        assert_eq!(device, named.map(Some));
    }
}

/// What a question that is asked on makes an introducer send: to whom, and whether it is a question.
fn sent(introducer: &mut Introducer, now: Time) -> Vec<(u64, bool)> {
    let all = std::iter::from_fn(|| introducer.poll_found(now, WALL_S));
    let all = all.map(|(session, message)| {
        let asks = matches!(
            message,
            MeshMessage::Query {
                reach: Reach::Forwarded,
                ..
            }
        );
        (session.0, asks)
    });
    all.collect()
}

/// R149, R169, R170: two hops, and by whom.
#[test]
fn who_asks_further_hears_of_peers_of_peers_and_by_whom_they_are_connected() {
    let mut introducer = with(&[1, 2, 3]);
    introducer.handle_query(at(0), SessionId(1), 9, Reach::Further);
    let asked: Vec<(u64, bool)> = sent(&mut introducer, at(0));
    assert_eq!(asked, [(2, true), (3, true), (1, false)]);
    let far = |number: u8, via: Option<PublicKey>| FoundPeer {
        peer: peer(number),
        can_relay: false,
        connected_s: 4,
        device: None,
        via,
    };
    // Of those the asker and its neighbours are no news, and what has come by a third is not passed on.
    let peers = [
        far(1, None),
        far(3, None),
        far(8, None),
        far(9, Some(peer(6))),
    ];
    assert!(introducer.handle_answer(at(90), SessionId(2), 9, &peers));
    let Some((
        SessionId(1),
        MeshMessage::Found {
            request_id, peers, ..
        },
    )) = introducer.poll_found(at(90), WALL_S)
    else {
        unreachable!("the answer is handed on");
    };
    assert_eq!(request_id, 9);
    assert_eq!(peers, [far(8, Some(peer(2)))]);
    // It is answered once by each.
    assert!(!introducer.handle_answer(at(91), SessionId(2), 9, &peers));
    assert_eq!(introducer.poll_found(at(91), WALL_S), None);
    assert!(!introducer.handle_answer(at(91), SessionId(1), 9, &peers));
}

#[test]
fn a_question_goes_two_hops_and_no_more_and_is_answered_once() {
    let mut introducer = with(&[1, 2, 3]);
    introducer.handle_query(at(0), SessionId(1), 9, Reach::Forwarded);
    assert_eq!(
        sent(&mut introducer, at(0)),
        [(1, false)],
        "answered, not asked on"
    );
    // The same by another way.
    introducer.handle_query(at(1), SessionId(2), 9, Reach::Forwarded);
    assert_eq!(sent(&mut introducer, at(1)), []);
    assert_eq!(introducer.counted().surplus, 1);
    // Whoever answered by such a question is not told of changes by it.
    introducer.handle_closed(at(2), SessionId(3));
    assert_eq!(sent(&mut introducer, at(60_000)), []);
}

#[test]
fn questions_are_asked_on_seldom_to_few_and_not_for_long() {
    let mut introducer = with(&(1..=40).collect::<Vec<u8>>());
    let mut asked = 0;
    for request in 1..=1000 {
        introducer.handle_query(at(request), SessionId(1), request, Reach::Further);
        let sent = sent(&mut introducer, at(request)).into_iter();
        asked += sent.filter(|(_, asks)| *asks).count();
    }
    assert_eq!(asked, FURTHER_ASKED_MAX);
    let peers = [FoundPeer {
        peer: peer(99),
        can_relay: false,
        connected_s: 0,
        device: None,
        via: None,
    }];
    let late = at(1) + FURTHER_WAIT_MAX;
    sent(&mut introducer, late);
    assert!(!introducer.handle_answer(late, SessionId(2), 1, &peers));
    // Who asks on for others does so often enough, and no more.
    let answered = (2000..3000).filter(|request| {
        introducer.handle_query(at(*request), SessionId(5), *request, Reach::Forwarded);
        !sent(&mut introducer, at(*request)).is_empty()
    });
    assert_eq!(answered.count(), FORWARDED_PER_MINUTE as usize);
}

/// Nobody stays on show for whoever asks in the moment between somebody's end and the news of it.
#[test]
fn who_asks_again_hears_of_who_went_meanwhile() {
    let mut introducer = with(&[1, 2]);
    introducer.handle_query(at(0), SessionId(1), 1, Reach::Near);
    told(&mut introducer, at(0));
    introducer.handle_closed(at(20_000), SessionId(2));
    introducer.handle_query(at(20_100), SessionId(1), 2, Reach::Near);
    assert_eq!(
        told(&mut introducer, at(20_100)),
        [(1, 2, Vec::new(), vec![2])]
    );
}

#[test]
fn a_state_names_who_came_and_went_since_the_last_one() {
    let mut introducer = with(&[1, 2]);
    introducer.handle_query(at(0), SessionId(1), 1, Reach::Near);
    told(&mut introducer, at(0));
    introducer.handle_open(at(5000), SessionId(3), MEETING, peer(3), false);
    assert_eq!(told(&mut introducer, at(6000)), [(1, 0, vec![3], vec![])]);
    let state_at = at(6000) + NETWORK_STATE_INTERVAL;
    introducer.handle_open(state_at, SessionId(4), MEETING, peer(4), false);
    introducer.handle_closed(state_at, SessionId(3));
    let (session, state) = introducer.poll_found(state_at, WALL_S).unwrap();
    let MeshMessage::State { peers, gone, .. } = state else {
        unreachable!("a state is due");
    };
    assert_eq!(
        (session, peers[0].peer, gone),
        (SessionId(1), peer(4), vec![peer(3)])
    );
}
