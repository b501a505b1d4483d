//! What a node relays between two of its peers, sans-IO.
//!
//! A circuit carries the bytes of a session that the two ends have with each other: sealed, so that a relay
//! can hand them on, delay them or lose them, and nothing else. Each end says how much may be on its way to it, so
//! a relay keeps a window of each direction at most, and closes a circuit that is sent more. All
//! circuits share one rate, in turns of one message.
//!
//! **Drain rule.** After each `handle_*` call [`poll_send`](Circuits::poll_send) until it gives `None`, and again at
//! [`poll_timeout`](Circuits::poll_timeout).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::{PublicKey, Time};

use crate::limits::{
    CIRCUIT_IDLE_MAX, CIRCUIT_WAIT_MAX, CIRCUIT_WINDOW_BYTES, CIRCUITS_MAX,
    CIRCUITS_PER_SESSION_MAX, RELAYED_BURST_BYTES, RELAYED_BYTES_PER_SECOND,
};
use crate::link::relayed::cost;
use crate::session::{Beyond, CircuitMessage, CircuitRefusal, MeshMessage, SessionId};

/// One end of a circuit, from the relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CircuitEnd {
    pub(crate) session: SessionId,
    pub(crate) peer: PublicKey,
}

#[derive(Debug)]
struct Leg {
    end: CircuitEnd,
    /// What this end may send yet.
    allowance: u32,
    /// What came from it and has not been handed on.
    waiting: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Circuit {
    number: u64,
    /// The one who opened it first.
    legs: [Leg; 2],
    accepted: bool,
    active_at: Time,
}

/// What was relayed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Relayed {
    pub(crate) bytes: u64,
    /// Circuits refused or closed, as a limit was reached or broken.
    pub(crate) refused: u64,
}

/// All circuits that this node relays.
#[derive(Debug)]
pub(crate) struct Circuits {
    is_on: bool,
    circuits: Vec<Circuit>,
    /// Whose turn it is: circuit and direction as one number.
    turn: usize,
    tokens: u64,
    tokens_at: Time,
    control: VecDeque<(SessionId, MeshMessage)>,
    relayed: Relayed,
}

/// Returns what a message of so many bytes counts for in a window.
impl Circuits {
    /// `is_on`: this node relays.
    pub(crate) fn new(is_on: bool) -> Self {
        Circuits {
            is_on,
            circuits: Vec::new(),
            turn: 0,
            tokens: RELAYED_BURST_BYTES,
            tokens_at: Time::ZERO,
            control: VecDeque::new(),
            relayed: Relayed::default(),
        }
    }

    /// One peer wants a circuit to `peer`; `to` is that end, if this node has a direct session with it in the same meeting.
    pub(crate) fn handle_open(
        &mut self,
        now: Time,
        from: CircuitEnd,
        peer: PublicKey,
        number: u64,
        to: Option<SessionId>,
    ) {
        // One at a time between the same two: whoever opens another one has lost the first.
        let old = self
            .circuits
            .iter()
            .position(|it| it.legs[0].end == from && it.legs[1].end.peer == peer);
        if let Some(old) = old {
            let gone = self.circuits.remove(old);
            self.say(&gone, 1, CircuitMessage::Closed);
        }
        let of = |session| {
            let is_of = |it: &&Circuit| it.legs.iter().any(|leg| leg.end.session == session);
            self.circuits.iter().filter(is_of).count()
        };
        let refusal = match to {
            _ if !self.is_on => Some(CircuitRefusal::NoRelay),
            None => Some(CircuitRefusal::UnknownPeer),
            Some(to) => {
                let is_full = self.circuits.len() >= CIRCUITS_MAX
                    || of(from.session).max(of(to)) >= CIRCUITS_PER_SESSION_MAX;
                is_full.then_some(CircuitRefusal::Enough)
            }
        };
        let (None, Some(session)) = (refusal, to) else {
            self.relayed.refused += u64::from(refusal == Some(CircuitRefusal::Enough));
            let message = CircuitMessage::Refused(refusal.unwrap_or(CircuitRefusal::UnknownPeer));
            let beyond = Beyond::From(peer);
            self.push(from.session, beyond, number, message);
            return;
        };
        let leg = |end| Leg {
            end,
            allowance: CIRCUIT_WINDOW_BYTES,
            waiting: VecDeque::new(),
        };
        let circuit = Circuit {
            number,
            legs: [leg(from), leg(CircuitEnd { session, peer })],
            accepted: false,
            active_at: now,
        };
        self.say(&circuit, 1, CircuitMessage::Open);
        self.circuits.push(circuit);
    }

    /// One end says something else about its circuit to `peer`.
    pub(crate) fn handle_message(
        &mut self,
        now: Time,
        session: SessionId,
        peer: PublicKey,
        number: u64,
        message: CircuitMessage,
    ) {
        let Some((index, side)) = self.find(session, peer, number) else {
            if matches!(message, CircuitMessage::Data(_)) {
                self.push(session, Beyond::From(peer), number, CircuitMessage::Closed);
            }
            return;
        };
        let circuit = &mut self.circuits[index];
        match message {
            // Opened by `handle_open` alone.
            CircuitMessage::Open => {}
            CircuitMessage::Accepted if side == 1 && !circuit.accepted => {
                circuit.accepted = true;
                circuit.active_at = now;
                self.pass_on(index, side, CircuitMessage::Accepted);
            }
            CircuitMessage::Data(bytes) if circuit.accepted => {
                let leg = &mut circuit.legs[side];
                match leg.allowance.checked_sub(cost(bytes.len())) {
                    Some(left) => {
                        leg.allowance = left;
                        leg.waiting.push_back(bytes);
                        circuit.active_at = now;
                    }
                    None => self.break_off(index),
                }
            }
            CircuitMessage::Credit(bytes) if circuit.accepted => {
                let leg = &mut circuit.legs[1 - side];
                match leg.allowance.checked_add(bytes) {
                    Some(more) if more <= CIRCUIT_WINDOW_BYTES => {
                        leg.allowance = more;
                        self.pass_on(index, side, CircuitMessage::Credit(bytes));
                    }
                    _ => self.break_off(index),
                }
            }
            CircuitMessage::Refused(_) | CircuitMessage::Closed => {
                let circuit = self.circuits.remove(index);
                self.say(&circuit, 1 - side, message);
            }
            // Out of turn: one side alone accepts, once, and nothing is carried before.
            CircuitMessage::Accepted | CircuitMessage::Data(_) | CircuitMessage::Credit(_) => {
                self.break_off(index);
            }
        }
    }

    /// A session ended: what it was an end of is closed at the other end.
    pub(crate) fn handle_session_closed(&mut self, session: SessionId) {
        for index in (0..self.circuits.len()).rev() {
            let legs = &self.circuits[index].legs;
            let Some(side) = legs.iter().position(|leg| leg.end.session == session) else {
                continue;
            };
            let circuit = self.circuits.remove(index);
            self.say(&circuit, 1 - side, CircuitMessage::Closed);
        }
    }

    /// Returns the next message to send, and by which session.
    pub(crate) fn poll_send(&mut self, now: Time) -> Option<(SessionId, MeshMessage)> {
        self.close_idle(now);
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        self.refill(now);
        let (index, side) = self.next_waiting()?;
        let circuit = &mut self.circuits[index];
        let bytes = circuit.legs[side].waiting.front()?.len() as u64;
        if bytes > self.tokens {
            return None;
        }
        self.tokens -= bytes;
        self.turn = index * 2 + side + 1;
        self.relayed.bytes += bytes;
        let bytes = circuit.legs[side].waiting.pop_front()?;
        self.pass_on(index, side, CircuitMessage::Data(bytes));
        self.control.pop_front()
    }

    /// Returns when [`poll_send`](Self::poll_send) has something to send that waits.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let ends = self.circuits.iter().map(Circuit::ends_at);
        let waiting = self.next_waiting().and_then(|(index, side)| {
            let bytes = self.circuits[index].legs[side].waiting.front()?.len() as u64;
            let lacking = bytes.saturating_sub(self.tokens);
            let micros = lacking * 1_000_000 / RELAYED_BYTES_PER_SECOND + 1;
            Some(self.tokens_at + Duration::from_micros(micros))
        });
        ends.chain(waiting).min()
    }

    /// Returns how many circuits there are.
    pub(crate) fn len(&self) -> usize {
        self.circuits.len()
    }

    /// Returns what was relayed.
    pub(crate) fn relayed(&self) -> Relayed {
        self.relayed
    }

    fn find(&self, session: SessionId, peer: PublicKey, number: u64) -> Option<(usize, usize)> {
        self.circuits.iter().enumerate().find_map(|(index, it)| {
            let is_side = |side: &usize| {
                let other = &it.legs[1 - side].end;
                it.legs[*side].end.session == session && other.peer == peer
            };
            let side = [0, 1].into_iter().find(is_side)?;
            (it.number == number).then_some((index, side))
        })
    }

    /// Returns the next circuit in turn, and the end that something came from.
    fn next_waiting(&self) -> Option<(usize, usize)> {
        let count = self.circuits.len() * 2;
        let turns = (0..count).map(|turn| (self.turn + turn) % count);
        let mut places = turns.map(|turn| (turn / 2, turn % 2));
        places.find(|(index, side)| !self.circuits[*index].legs[*side].waiting.is_empty())
    }

    fn refill(&mut self, now: Time) {
        let micros = u64::try_from(now.since(self.tokens_at).as_micros()).unwrap_or(u64::MAX);
        let more = micros.saturating_mul(RELAYED_BYTES_PER_SECOND) / 1_000_000;
        if more > 0 {
            self.tokens = (self.tokens.saturating_add(more)).min(RELAYED_BURST_BYTES);
            self.tokens_at = now;
        }
    }

    fn close_idle(&mut self, now: Time) {
        while let Some(index) = self.circuits.iter().position(|it| it.ends_at() <= now) {
            let circuit = self.circuits.remove(index);
            self.say(&circuit, 0, CircuitMessage::Closed);
            self.say(&circuit, 1, CircuitMessage::Closed);
        }
    }

    fn break_off(&mut self, index: usize) {
        self.relayed.refused += 1;
        let circuit = self.circuits.remove(index);
        self.say(&circuit, 0, CircuitMessage::Closed);
        self.say(&circuit, 1, CircuitMessage::Closed);
    }

    /// Hands on what came from one side.
    fn pass_on(&mut self, index: usize, side: usize, message: CircuitMessage) {
        let legs = &self.circuits[index].legs;
        let (to, from) = (legs[1 - side].end.session, legs[side].end.peer);
        let number = self.circuits[index].number;
        self.push(to, Beyond::From(from), number, message);
    }

    /// Says something to one side, as from the other one.
    fn say(&mut self, circuit: &Circuit, side: usize, message: CircuitMessage) {
        let from = circuit.legs[1 - side].end.peer;
        let to = circuit.legs[side].end.session;
        self.push(to, Beyond::From(from), circuit.number, message);
    }

    fn push(&mut self, to: SessionId, beyond: Beyond, number: u64, message: CircuitMessage) {
        let message = MeshMessage::Circuit {
            beyond,
            number,
            message,
        };
        self.control.push_back((to, message));
    }
}

impl Circuit {
    fn ends_at(&self) -> Time {
        let wait = match self.accepted {
            true => CIRCUIT_IDLE_MAX,
            false => CIRCUIT_WAIT_MAX,
        };
        self.active_at + wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CircuitEnd = CircuitEnd {
        session: SessionId(1),
        peer: PublicKey([1; 32]),
    };
    const TWO: CircuitEnd = CircuitEnd {
        session: SessionId(2),
        peer: PublicKey([2; 32]),
    };

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    /// Everything to be sent at `now`: to which session, of whom, and what.
    fn sent(circuits: &mut Circuits, now: Time) -> Vec<(u64, u8, CircuitMessage)> {
        let all = std::iter::from_fn(|| circuits.poll_send(now));
        let parts = all.map(|(session, message)| match message {
            MeshMessage::Circuit {
                beyond: Beyond::From(peer),
                message,
                ..
            } => (session.0, peer.0[0], message),
            other => unreachable!("a relay says nothing like {other:?}"),
        });
        parts.collect()
    }

    fn data(bytes: usize) -> CircuitMessage {
        CircuitMessage::Data(Bytes::from(vec![7; bytes]))
    }

    /// A relay with one open circuit, number 9.
    fn open() -> Circuits {
        let mut circuits = Circuits::new(true);
        circuits.handle_open(at(0), ONE, TWO.peer, 9, Some(TWO.session));
        assert_eq!(sent(&mut circuits, at(0)), [(2, 1, CircuitMessage::Open)]);
        circuits.handle_message(at(0), TWO.session, ONE.peer, 9, CircuitMessage::Accepted);
        assert_eq!(
            sent(&mut circuits, at(0)),
            [(1, 2, CircuitMessage::Accepted)]
        );
        circuits
    }

    fn from_one(circuits: &mut Circuits, now: Time, message: CircuitMessage) {
        circuits.handle_message(now, ONE.session, TWO.peer, 9, message);
    }

    #[test]
    fn bytes_go_from_end_to_end_and_are_counted() {
        let mut circuits = open();
        from_one(&mut circuits, at(1), data(1000));
        assert_eq!(sent(&mut circuits, at(1)), [(2, 1, data(1000))]);
        circuits.handle_message(at(2), TWO.session, ONE.peer, 9, data(5));
        assert_eq!(sent(&mut circuits, at(2)), [(1, 2, data(5))]);
        assert_eq!(circuits.relayed().bytes, 1005);
        from_one(&mut circuits, at(3), CircuitMessage::Closed);
        assert_eq!(sent(&mut circuits, at(3)), [(2, 1, CircuitMessage::Closed)]);
        assert_eq!(circuits.len(), 0);
        // What comes late is answered with the end.
        from_one(&mut circuits, at(4), data(5));
        assert_eq!(sent(&mut circuits, at(4)), [(1, 2, CircuitMessage::Closed)]);
    }

    #[test]
    fn circuits_are_refused_where_none_is_to_be_had() {
        let refusal = |circuits: &mut Circuits| match &sent(circuits, at(0))[..] {
            [(1, 2, CircuitMessage::Refused(reason))] => *reason,
            other => unreachable!("refused, not {other:?}"),
        };
        let mut off = Circuits::new(false);
        off.handle_open(at(0), ONE, TWO.peer, 9, Some(TWO.session));
        assert_eq!(refusal(&mut off), CircuitRefusal::NoRelay);
        let mut on = Circuits::new(true);
        on.handle_open(at(0), ONE, TWO.peer, 9, None);
        assert_eq!(refusal(&mut on), CircuitRefusal::UnknownPeer);
        assert_eq!(on.relayed().refused, 0);
    }

    #[test]
    fn one_peer_and_all_together_get_so_many_circuits_and_no_more() {
        let mut circuits = Circuits::new(true);
        let end = |number: u8| CircuitEnd {
            session: SessionId(u64::from(number)),
            peer: PublicKey([number; 32]),
        };
        for number in 10..30 {
            let to = end(number);
            circuits.handle_open(at(0), ONE, to.peer, 1, Some(to.session));
        }
        assert_eq!(circuits.len(), CIRCUITS_PER_SESSION_MAX);
        for number in 0..100 {
            let (from, to) = (end(100 + number), end(30 + number / 4));
            circuits.handle_open(at(0), from, to.peer, 1, Some(to.session));
        }
        assert_eq!(circuits.len(), CIRCUITS_MAX);
        assert!(circuits.relayed().refused > 0);
        // Asked for and never accepted: all of it is free again.
        sent(&mut circuits, at(0) + CIRCUIT_WAIT_MAX);
        assert_eq!(circuits.len(), 0);
    }

    #[test]
    fn whoever_sends_more_than_the_window_is_cut_off() {
        let mut circuits = open();
        let message = 16 * 1024;
        for _ in 0..CIRCUIT_WINDOW_BYTES as usize / message {
            from_one(&mut circuits, at(1), data(message));
        }
        assert_eq!(circuits.len(), 1);
        from_one(&mut circuits, at(1), data(1));
        assert_eq!((circuits.len(), circuits.relayed().refused), (0, 1));
        // Credit makes room, and no more than there was.
        let mut circuits = open();
        from_one(&mut circuits, at(1), data(message));
        let credit = |circuits: &mut Circuits, bytes: usize| {
            let message = CircuitMessage::Credit(u32::try_from(bytes).unwrap());
            circuits.handle_message(at(2), TWO.session, ONE.peer, 9, message);
        };
        credit(&mut circuits, message);
        assert_eq!(circuits.len(), 1);
        credit(&mut circuits, 1);
        assert_eq!(circuits.len(), 0);
    }

    #[test]
    fn empty_messages_cannot_pile_up() {
        let mut circuits = open();
        for _ in 0..=crate::limits::CIRCUIT_MESSAGES_MAX {
            from_one(&mut circuits, at(1), data(0));
        }
        assert_eq!(circuits.len(), 0);
    }

    #[test]
    fn all_circuits_together_keep_to_the_rate_and_take_turns() {
        let mut circuits = open();
        let third = CircuitEnd {
            session: SessionId(3),
            peer: PublicKey([3; 32]),
        };
        circuits.handle_open(at(0), third, TWO.peer, 9, Some(TWO.session));
        circuits.handle_message(at(0), TWO.session, third.peer, 9, CircuitMessage::Accepted);
        sent(&mut circuits, at(0));
        let (mut carried, mut now) = ([0_u64; 4], at(0));
        while now < at(2000) {
            for end in [ONE, third] {
                let open = circuits.find(end.session, TWO.peer, 9).unwrap().0;
                while circuits.circuits[open].legs[0].allowance >= 16 * 1024 {
                    circuits.handle_message(now, end.session, TWO.peer, 9, data(16 * 1024));
                }
            }
            for (to, of, message) in sent(&mut circuits, now) {
                if let CircuitMessage::Data(bytes) = message {
                    assert_eq!(to, 2);
                    carried[usize::from(of)] += bytes.len() as u64;
                    let credit = CircuitMessage::Credit(cost(bytes.len()));
                    let peer = PublicKey([of; 32]);
                    circuits.handle_message(now, TWO.session, peer, 9, credit);
                }
            }
            now = circuits
                .poll_timeout()
                .unwrap()
                .max(now + Duration::from_micros(1));
        }
        let all = carried[1] + carried[3];
        let most = 2 * RELAYED_BYTES_PER_SECOND + RELAYED_BURST_BYTES;
        assert!(all <= most && all >= most * 9 / 10, "{all}");
        assert!(carried[1].abs_diff(carried[3]) <= 64 * 1024, "{carried:?}");
    }

    #[test]
    fn silent_circuits_and_those_of_ended_sessions_are_closed() {
        let mut circuits = open();
        let end = circuits.poll_timeout().unwrap();
        assert_eq!(end, at(0) + CIRCUIT_IDLE_MAX);
        let closed = [
            (1, 2, CircuitMessage::Closed),
            (2, 1, CircuitMessage::Closed),
        ];
        assert_eq!(sent(&mut circuits, end), closed);
        let mut circuits = open();
        circuits.handle_session_closed(TWO.session);
        assert_eq!(sent(&mut circuits, at(1)), [closed[0].clone()]);
        assert_eq!(circuits.poll_timeout(), None);
    }
}
