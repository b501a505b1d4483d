//! Hello, tag and certificate against `feeds/tests/vectors/kinlog-1.json`.

use kinlog_feeds::crypto::Secret;
use kinlog_feeds::{FeedKey, Hash, KeyPair, text};
use serde_json::{Value, json};

use crate::session::certificate::{self, LinkBinding};
use crate::session::hello::{Hello, cap};
use crate::session::state::session_tag;
use crate::session::{Label, SessionRole};

fn vector(name: &str) -> Value {
    let all = include_str!("../../../feeds/tests/vectors/kinlog-1.json");
    serde_json::from_str::<Value>(all).unwrap()[name].clone()
}

fn input<const N: usize>(vector: &Value, field: &str) -> [u8; N] {
    text::decode_hex(vector["in"][field].as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(text::encode_hex(bytes.as_ref()))
}

#[test]
fn hello_matches() {
    let vector = vector("session_hello");
    assert_eq!(vector["in"]["label"], json!(Label::Room.byte()));
    let (hash, key) = (input(&vector, "handshake_hash"), input(&vector, "key"));
    let initiator = cap(&hash, SessionRole::Initiator, Label::Room, &key);
    assert_eq!(hex(initiator), vector["out"]["initiator_cap"]);
    let responder = cap(&hash, SessionRole::Responder, Label::Room, &key);
    assert_eq!(hex(responder), vector["out"]["responder_cap"]);
    let hello = Hello {
        features: vector["in"]["features"].as_u64().unwrap(),
        frame_bytes_max: vector["in"]["max_frame"].as_u64().unwrap() as usize,
        label: Label::Room.byte(),
        cap: initiator,
    };
    assert_eq!(hex(hello.encode()), vector["out"]["initiator_hello"]);
}

#[test]
fn tag_matches() {
    let vector = vector("session_tag");
    let tag = session_tag(
        &input(&vector, "handshake_hash"),
        &FeedKey(input(&vector, "feed_key")),
    );
    assert_eq!(hex(tag), vector["out"]["tag"]);
}

#[test]
fn certificate_matches() {
    let vector = vector("session_certificate");
    let seed = Secret::new(input(&vector, "device_sign_seed"));
    let device = KeyPair::from_seed(seed.expose());
    let binding = LinkBinding {
        initiator: input(&vector, "initiator_fingerprint"),
        responder: input(&vector, "responder_fingerprint"),
    };
    let (identity, hash) = (
        Hash(input(&vector, "identity_hash")),
        input(&vector, "handshake_hash"),
    );
    let made = certificate::sign(&device, &identity, SessionRole::Initiator, &hash, &binding);
    assert_eq!(hex(&made), vector["out"]["certificate"]);
    let shown = certificate::check(&made, SessionRole::Initiator, &hash, &binding).unwrap();
    assert_eq!(shown.identity_hash, identity);
}
