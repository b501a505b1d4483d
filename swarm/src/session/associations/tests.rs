//! What a session refuses when the other side opens associations, without a way between the two.

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::tree::{BlockRequest, ProofRequest};
use kinlog_feeds::wire::hypercore::{Message, Request, Synchronize};
use kinlog_feeds::wire::kinlog::{self, FeedMessage};

use super::*;
use crate::limits::{
    ASKED_BULK_BYTES, ASSOCIATION_IDS_KEPT, ASSOCIATION_REFUSALS_MAX, ASSOCIATIONS_MAX,
    FAR_BULK_BYTES, FURTHER_ASSOCIATIONS_MAX, ROUND_TRIP_SAMPLES,
};
use crate::session::{LinkBinding, Meeting, SessionConfig, SessionEvent};

/// One end: a session, and what it says about associations when it is told something.
struct End {
    session: Session,
    associations: Associations,
}

fn session(role: SessionRole) -> Session {
    let config = SessionConfig {
        role,
        meeting: Meeting::Topic {
            label: Label::Feed,
            key: [7; 32],
        },
        binding: LinkBinding::default(),
        format: 0,
        associations: true,
        introduces: None,
        static_seed: [role.byte() + 1; 32],
        ephemeral_seed: [role.byte() + 3; 32],
        stream_header: [role.byte() + 5; 24],
    };
    Session::new(Time::ZERO, config)
}

/// Passes what both say until neither has anything to say; returns what each heard of associations.
fn exchange(one: &mut Session, other: &mut Session) -> [Vec<AssociationMessage>; 2] {
    let mut heard = [Vec::new(), Vec::new()];
    while pass(one, other, &mut heard[1]) | pass(other, one, &mut heard[0]) {}
    heard
}

/// Returns whether there was anything to pass on.
fn pass(from: &mut Session, to: &mut Session, heard: &mut Vec<AssociationMessage>) -> bool {
    let mut said = false;
    while let Some(bytes) = from.poll_transmit() {
        said = true;
        to.handle_bytes(Time::ZERO, &bytes).unwrap();
    }
    while let Some(event) = to.poll_event().unwrap() {
        if let SessionEvent::Association(message) = event {
            heard.push(message);
        }
    }
    said
}

impl End {
    fn new(role: SessionRole, budget: usize) -> (End, Session) {
        let mut pair = [session(role), session(role.other())];
        let [one, other] = &mut pair;
        exchange(one, other);
        assert!(one.takes_associations() && other.takes_associations());
        let means = Means {
            webrtc: WebrtcSettings::default(),
            role,
            label: Label::Feed,
            budget: Arc::new(Semaphore::new(budget)),
        };
        let associations = Associations::new(
            Some(means),
            Clock::start(std::num::NonZeroU32::MIN),
            None,
            Arc::new(Seen::default()),
        );
        let [session, other] = pair;
        let end = End {
            session,
            associations,
        };
        (end, other)
    }

    fn has_carried(&mut self, bytes: u64) {
        let now = self.associations.clock.now();
        self.associations.policy.handle_bulk(now, bytes);
    }

    fn hears(&mut self, message: AssociationMessage) -> Result<(), SessionError> {
        self.associations.handle_message(&mut self.session, message)
    }
}

fn offer(id: u64) -> AssociationMessage {
    AssociationMessage::Offer {
        id,
        token: Token([id as u8; 32]),
        description: Bytes::from_static(b"no description"),
    }
}

fn refused(id: u64, reason: Refusal) -> AssociationMessage {
    AssociationMessage::Refused { id, reason }
}

#[tokio::test]
async fn a_fifth_association_is_refused_and_the_other_side_told_why() {
    let (mut end, mut other) = End::new(SessionRole::Responder, FURTHER_ASSOCIATIONS_MAX);
    end.has_carried(FAR_BULK_BYTES);
    // In the order in which their descriptions were ready.
    for id in [2, 1, 3, 4] {
        end.hears(offer(id)).unwrap();
    }
    let [_, heard] = exchange(&mut end.session, &mut other);
    assert_eq!(heard, [refused(4, Refusal::Enough)]);
}

#[tokio::test]
async fn associations_for_nothing_are_refused_and_in_the_end_the_session() {
    let (mut end, mut other) = End::new(SessionRole::Responder, FURTHER_ASSOCIATIONS_MAX);
    end.has_carried(ASKED_BULK_BYTES - 1);
    let most = u64::from(ASSOCIATION_REFUSALS_MAX);
    for id in 1..=most {
        end.hears(offer(id)).unwrap();
    }
    let [_, heard] = exchange(&mut end.session, &mut other);
    assert_eq!(heard.len() as u64, most);
    assert_eq!(heard[0], refused(1, Refusal::NotNeeded));
    let ended = end.hears(offer(most + 1));
    assert!(matches!(
        ended,
        Err(SessionError::Violation { ban: false, .. })
    ));
}

#[tokio::test]
async fn all_sessions_together_make_no_more_than_the_node_may() {
    let (mut end, mut other) = End::new(SessionRole::Responder, 1);
    end.has_carried(FAR_BULK_BYTES);
    end.hears(offer(1)).unwrap();
    end.hears(offer(2)).unwrap();
    let [_, heard] = exchange(&mut end.session, &mut other);
    assert_eq!(heard, [refused(2, Refusal::Enough)]);
}

#[tokio::test]
async fn a_short_way_keeps_one_and_a_long_one_takes_four() {
    for (millis, further) in [(2, 0), (20, ASSOCIATIONS_MAX - 1)] {
        let (mut end, _other) = End::new(SessionRole::Initiator, FURTHER_ASSOCIATIONS_MAX);
        for _ in 0..ROUND_TRIP_SAMPLES {
            let taken = Duration::from_millis(millis);
            end.associations.policy.handle_round_trip(taken);
        }
        end.has_carried(1 << 30);
        end.associations.settle(&mut end.session).unwrap();
        assert_eq!(end.associations.further.len(), further, "{millis} ms");
    }
}

#[tokio::test]
async fn the_responder_asks_once_and_offers_none() {
    let (mut end, mut other) = End::new(SessionRole::Responder, FURTHER_ASSOCIATIONS_MAX);
    for _ in 0..ROUND_TRIP_SAMPLES {
        let taken = Duration::from_millis(20);
        end.associations.policy.handle_round_trip(taken);
    }
    end.has_carried(1 << 30);
    for _ in 0..3 {
        end.associations.settle(&mut end.session).unwrap();
    }
    let [_, heard] = exchange(&mut end.session, &mut other);
    assert_eq!(heard, [AssociationMessage::Wanted]);
    assert_eq!(end.associations.further.len(), 0);
}

#[tokio::test]
async fn who_asks_without_need_gets_none() {
    let (mut end, mut other) = End::new(SessionRole::Initiator, FURTHER_ASSOCIATIONS_MAX);
    end.hears(AssociationMessage::Wanted).unwrap();
    let [_, heard] = exchange(&mut end.session, &mut other);
    assert_eq!(heard, [refused(0, Refusal::NotNeeded)]);
    end.has_carried(ASKED_BULK_BYTES);
    end.hears(AssociationMessage::Wanted).unwrap();
    end.hears(AssociationMessage::Wanted).unwrap();
    assert_eq!(end.associations.further.len(), ASSOCIATIONS_MAX - 1);
}

#[tokio::test]
async fn only_the_initiator_offers_and_no_id_twice() {
    let (mut end, _other) = End::new(SessionRole::Initiator, FURTHER_ASSOCIATIONS_MAX);
    end.has_carried(FAR_BULK_BYTES);
    assert!(end.hears(offer(1)).is_err());
    let (mut end, _other) = End::new(SessionRole::Responder, FURTHER_ASSOCIATIONS_MAX);
    end.has_carried(FAR_BULK_BYTES);
    end.hears(offer(500)).unwrap();
    assert!(end.hears(offer(500)).is_err());
    assert!(end.hears(offer(500 - ASSOCIATION_IDS_KEPT)).is_err());
}

#[tokio::test]
async fn nothing_but_blocks_comes_by_a_further_association() {
    let (mut end, _other) = End::new(SessionRole::Initiator, FURTHER_ASSOCIATIONS_MAX);
    let message = Message::Synchronize(Synchronize {
        fork: 0,
        length: 1,
        remote_length: 0,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: false,
        allow_push: false,
    });
    let message = kinlog::Message::Feed(0, kinlog::FeedMessage::Hypercore(message));
    let mut body = Vec::new();
    message.encode(&mut body);
    let news = News::Bulk(Bulk {
        kind: message.message_type(),
        body: body.into(),
    });
    let taken = end
        .associations
        .handle(&mut end.session, Happened::News(1, news));
    assert!(matches!(taken, Err(SessionError::Violation { .. })));
}

const FEED: FeedKey = FeedKey([3; 32]);

fn ask(id: u64) -> FeedMessage {
    FeedMessage::Hypercore(Message::Request(Request {
        id,
        fork: 0,
        proof: ProofRequest {
            block: Some(BlockRequest {
                index: id,
                nodes: 0,
            }),
            ..ProofRequest::default()
        },
        manifest: false,
        priority: 0,
    }))
}

/// Passes all that one says; returns which requests the other hears of.
fn requests(one: &mut Session, other: &mut Session) -> Vec<u64> {
    while let Some(bytes) = one.poll_transmit() {
        other.handle_bytes(Time::ZERO, &bytes).unwrap();
    }
    heard(other)
}

fn heard(other: &mut Session) -> Vec<u64> {
    let mut heard = Vec::new();
    while let Some(event) = other.poll_event().unwrap() {
        if let SessionEvent::Feed(FEED, Message::Request(request)) = event {
            heard.push(request.id);
        }
    }
    heard
}

#[test]
fn a_request_that_comes_by_several_associations_is_heard_once() {
    let (mut one, mut other) = (
        session(SessionRole::Initiator),
        session(SessionRole::Responder),
    );
    exchange(&mut one, &mut other);
    other.set_feeds([FEED], []).unwrap();
    one.set_feeds([], [FEED]).unwrap();
    one.send_feed(&FEED, ask(0), true).unwrap();
    assert_eq!(one.poll_copied(), None, "there is no other association");
    exchange(&mut one, &mut other);
    one.set_copies(true);
    for id in 1..=4 {
        one.send_feed(&FEED, ask(id), true).unwrap();
    }
    let copied: Vec<Copied> = std::iter::from_fn(|| one.poll_copied()).collect();
    assert_eq!(copied.len(), 4);
    for copy in [&copied[2], &copied[0], &copied[0]] {
        other.handle_copy(copy).unwrap();
    }
    assert_eq!(heard(&mut other), [3, 1]);
    assert_eq!(requests(&mut one, &mut other), [2, 4]);
    for copy in &copied {
        other.handle_copy(copy).unwrap();
    }
    assert_eq!(heard(&mut other), [0; 0]);
}

#[test]
fn nothing_but_requests_is_taken_as_a_copy() {
    let (mut one, mut other) = (
        session(SessionRole::Initiator),
        session(SessionRole::Responder),
    );
    exchange(&mut one, &mut other);
    let unlist = kinlog::Message::Unlist(Vec::from([0]));
    let mut body = Vec::new();
    unlist.encode(&mut body);
    let request = Bulk {
        kind: unlist.message_type(),
        body: body.into(),
    };
    let taken = other.handle_copy(&Copied { number: 0, request });
    assert!(matches!(taken, Err(SessionError::Violation { .. })));
}
