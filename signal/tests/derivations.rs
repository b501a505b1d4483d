//! Topics, client keys and join signatures against `feeds/tests/vectors/kinlog-1.json`.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use kinlog_feeds::crypto::Secret;
use kinlog_feeds::text;
use kinlog_signal::topic::{client_key, period, roll_offset, topic_in_period, topics};
use kinlog_signal::{Label, ServerName, Topic, sign_join, verify_join};
use serde_json::{Value, json};

fn vector(name: &str) -> Value {
    let all = include_str!("../../feeds/tests/vectors/kinlog-1.json");
    serde_json::from_str::<Value>(all).unwrap()[name].clone()
}

fn input(vector: &Value, field: &str) -> [u8; 32] {
    text::decode_hex(vector["in"][field].as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(text::encode_hex(bytes.as_ref()))
}

#[test]
fn topics_match() {
    let vector = vector("topic");
    let (key, seconds) = (
        input(&vector, "key"),
        vector["in"]["unix_seconds"].as_u64().unwrap(),
    );
    let expected = &vector["out"];
    assert_eq!(json!(roll_offset(&key)), expected["offset"]);
    assert_eq!(json!(period(&key, seconds)), expected["n"]);
    let labels = [
        (Label::Agent, "agent"),
        (Label::Feed, "feed"),
        (Label::Room, "room"),
        (Label::Invite, "invite"),
        (Label::Code, "code"),
        (Label::Net, "net"),
    ];
    for (label, name) in labels {
        let topic = topic_in_period(label, &key, period(&key, seconds));
        assert_eq!(hex(topic.as_bytes()), expected[name], "{name}");
        assert_eq!(topics(label, &key, seconds).first(), Some(&topic));
    }
}

#[test]
fn client_keys_and_join_signatures_match() {
    let vector = vector("signal");
    let server = vector["in"]["server"].as_str().unwrap();
    let (host, port) = server.split_once(':').unwrap();
    let server = ServerName::new(&host.to_uppercase(), port.parse().unwrap());
    let topic = Topic(input(&vector, "topic"));
    let nonce = input(&vector, "nonce");
    let key = client_key(
        &Secret::new(input(&vector, "device_secret")),
        &server,
        &topic,
    );
    assert_eq!(hex(key.public_key()), vector["out"]["client_key"]);
    let signature = sign_join(&key, &nonce, &server, &topic);
    assert_eq!(hex(signature), vector["out"]["signature"]);
    assert_eq!(
        verify_join(&key.public_key(), &nonce, &server, &topic, &signature),
        Ok(())
    );
}
