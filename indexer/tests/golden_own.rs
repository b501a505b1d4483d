//! What an agent keeps for itself: golden bytes, which decode back, and damage.
//!
//! `tests/vectors/own-1.json` was written once by this build; what changes there is another format
//! format.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::text::{decode_hex, encode_hex};
use kinlog_indexer::entry::{Body, BodyError, Contact, PinSetting, Preference, Ref, tag};
use kinlog_indexer::{BODY_FORMAT, Text};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const VECTORS: &str = include_str!("vectors/own-1.json");

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

fn at(feed: u8, index: u64) -> Ref {
    let feed = FeedKey([feed; 32]);
    Ref { feed, index }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let about = AgentId([5; 32]);
    let contact = Contact::new(about, Some(text("Bo")), text("next door"), vec![at(8, 9)]);
    let ended = Contact::new(about, None, text(""), vec![at(8, 300), at(9, 0)]);
    let preference = Preference::new(text("read.last"), Some(text("50")), vec![at(1, 2)]);
    let taken_back = Preference::new(text("read.last"), None, vec![]);
    vec![
        ("contact", Body::Contact(contact.unwrap())),
        ("contact_ended", Body::Contact(ended.unwrap())),
        ("preference", Body::Preference(preference.unwrap())),
        (
            "preference_taken_back",
            Body::Preference(taken_back.unwrap()),
        ),
    ]
}

fn pin() -> PinSetting {
    PinSetting {
        live: true,
        tier: text("reciprocal"),
        reason: text("the family's photos"),
        depth: 2,
    }
}

fn decode(tag: u64, bytes: &Bytes) -> Result<Body, BodyError> {
    Body::decode(tag, u64::from(BODY_FORMAT), bytes)
}

#[test]
fn what_is_kept_for_oneself_gives_its_golden_bytes() {
    let golden: Value = serde_json::from_str(VECTORS).unwrap();
    let mut actual: Map<String, Value> = bodies()
        .into_iter()
        .map(|(name, body)| (name.to_owned(), json!(encode_hex(&body.encode()))))
        .collect();
    actual.insert("pin_setting".to_owned(), json!(encode_hex(&pin().encode())));
    let actual = Value::Object(actual);
    assert_eq!(actual, golden, "actual: {actual:#}");
    for (name, body) in bodies() {
        let bytes = decode_hex(golden[name].as_str().unwrap()).unwrap();
        assert_eq!(decode(body.tag(), &bytes.into()), Ok(body), "{name}");
    }
    let bytes = decode_hex(golden["pin_setting"].as_str().unwrap()).unwrap();
    assert_eq!(PinSetting::decode(&bytes), Ok(pin()));
}

#[test]
fn what_is_longer_than_its_field_is_refused() {
    let replaces = vec![at(1, 1); 17];
    let about = AgentId([1; 32]);
    assert!(Contact::new(about, None, text(""), replaces.clone()).is_err());
    assert!(Preference::new(text("x"), None, replaces).is_err());
    let named = |tag: u8, bytes: usize| {
        let mut body = vec![tag << 3 | 2];
        body.extend([(bytes & 127) as u8 | 128, (bytes >> 7) as u8]);
        body.extend(vec![b'a'; bytes]);
        Bytes::from(body)
    };
    assert!(decode(tag::PREFERENCE, &named(1, 128)).is_ok());
    assert!(decode(tag::PREFERENCE, &named(1, 129)).is_err());
    assert!(decode(tag::PREFERENCE, &named(2, 4097)).is_err());
    let missing = decode(tag::CONTACT, &Bytes::new());
    assert!(matches!(
        missing,
        Err(BodyError::Length { field: "about", .. })
    ));
    assert!(PinSetting::decode(&named(2, 32)).is_ok());
    assert!(PinSetting::decode(&named(2, 33)).is_err());
    assert!(PinSetting::decode(&named(3, 257)).is_err());
    assert!(
        PinSetting::decode(&[4 << 3, 0x80, 2]).is_err(),
        "a depth of 256"
    );
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        petname in proptest::option::of(".{0,40}"),
        note in ".{0,40}",
        name in ".{0,30}",
        value in proptest::option::of(".{0,200}"),
        replaces in proptest::collection::vec((any::<u8>(), 0..1u64 << 53), 0..=16),
        live: bool,
        depth: u8,
    ) {
        let refs: Vec<Ref> = replaces.into_iter().map(|(feed, index)| at(feed, index)).collect();
        let petname = petname.map(|petname| text(&petname));
        let contact = Contact::new(AgentId([1; 32]), petname, text(&note), refs.clone()).unwrap();
        let value = value.map(|value| text(&value));
        let preference = Preference::new(text(&name), value, refs).unwrap();
        for body in [Body::Contact(contact), Body::Preference(preference)] {
            prop_assert_eq!(decode(body.tag(), &body.encode()), Ok(body));
        }
        let pin = PinSetting { live, tier: text(""), reason: text(&note), depth };
        prop_assert_eq!(PinSetting::decode(&pin.encode()), Ok(pin));
    }

    #[test]
    fn arbitrary_and_damaged_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        which in 0usize..4,
        at: usize,
        value: u8,
    ) {
        let _ = decode(tag::CONTACT, &bytes.clone().into());
        let _ = decode(tag::PREFERENCE, &bytes.clone().into());
        let _ = PinSetting::decode(&bytes);
        let body = bodies().swap_remove(which).1;
        let mut damaged = body.encode().to_vec();
        let at = at % damaged.len();
        damaged[at] = value;
        if let Ok(read) = decode(body.tag(), &damaged.into()) {
            prop_assert_eq!(decode(read.tag(), &read.encode()), Ok(read));
        }
    }
}
