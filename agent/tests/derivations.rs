//! Phrases and invite links against `feeds/tests/vectors/kinlog-1.json`.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use kinlog_agent::home::Phrase;
use kinlog_agent::links::Invite;
use kinlog_agent::rooms::RoomId;
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::text;
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

#[test]
fn invite_links_match() {
    let vector = vector("invite");
    let urls = vector["in"]["signal_urls"].as_array().unwrap();
    let invite = Invite {
        room: RoomId(input(&vector, "room_id")),
        seed: Secret::new(input(&vector, "invite_seed")),
        signal_urls: urls
            .iter()
            .map(|url| url.as_str().unwrap().to_owned())
            .collect(),
    };
    let fragment = vector["out"]["fragment"].as_str().unwrap();
    assert_eq!(json!(invite.encode()), vector["out"]["fragment"]);
    assert_eq!(Invite::decode(fragment), Ok(invite.clone()));
    let public_key = text::encode_hex(invite.public_key().as_bytes());
    assert_eq!(json!(public_key), vector["out"]["public_key"]);
}

#[test]
fn a_phrase_gives_its_agent_id() {
    let vector = vector("phrase");
    let phrase = Phrase::parse(vector["in"]["phrase"].as_str().unwrap()).unwrap();
    let agent_id = text::encode_hex(phrase.root().public_key().as_bytes());
    assert_eq!(json!(agent_id), vector["out"]["agent_id"]);
}
