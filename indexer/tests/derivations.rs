//! Epoch keys, link tags, seals and file chunks against `feeds/tests/vectors/kinlog-1.json`.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use kinlog_feeds::crypto::{self, AgentId, FeedKey, Secret, namespace};
use kinlog_feeds::text;
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::LinkScope;
use kinlog_indexer::seal::{EpochSecret, open_chunk, open_entry, seal_entry};
use serde_json::{Value, json};

fn vector(name: &str) -> Value {
    let all = include_str!("../../feeds/tests/vectors/kinlog-1.json");
    serde_json::from_str::<Value>(all).unwrap()[name].clone()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    text::decode_hex(value.as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(text::encode_hex(bytes.as_ref()))
}

fn seal(key: &[u8; 32], nonce: &[u8; 24], associated_data: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload {
        msg: plain,
        aad: associated_data,
    };
    XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(*nonce), payload)
        .unwrap()
}

#[test]
fn epoch_keys_match() {
    let vector = vector("epoch");
    let secret = EpochSecret::new(bytes(&vector["in"]["epoch_secret"]));
    assert_eq!(hex(secret.meet_key().expose()), vector["out"]["meet_key"]);
    assert_eq!(hex(secret.epoch_id().0), vector["out"]["epoch_id"]);
    let content = crypto::derive(&Secret::new(*secret.expose()), namespace::CONTENT, &[]);
    assert_eq!(hex(content.expose()), vector["out"]["content_key"]);
}

#[test]
fn link_tags_match() {
    let vector = vector("link_tag");
    let feed = FeedKey(bytes(&vector["in"]["feed_key"]));
    let room = LinkScope::Room(RoomId(bytes(&vector["in"]["room_id"])));
    let author = LinkScope::Author(AgentId(bytes(&vector["in"]["agent_id"])));
    assert_eq!(hex(room.tag(&feed).0), vector["out"]["in_room"]);
    assert_eq!(hex(author.tag(&feed).0), vector["out"]["of_author"]);
}

#[test]
fn seals_are_bound_to_feed_index_and_epoch_as_the_vector_says() {
    let (vector, epoch) = (vector("seal"), vector("epoch"));
    let secret = EpochSecret::new(bytes(&epoch["in"]["epoch_secret"]));
    let feed = FeedKey(bytes(&vector["in"]["feed_key"]));
    let index = vector["in"]["index"].as_u64().unwrap();
    let associated_data = bytes::<88>(&vector["out"]["associated_data"]);
    let (content, nonce) = (bytes(&epoch["out"]["content_key"]), [9; 24]);
    let entry = b"an entry";

    // Padme leaves the 12 bytes of length and entry as they are.
    let plain = [&8u32.to_le_bytes()[..], entry].concat();
    let mut block = vec![0x01];
    block.extend_from_slice(&bytes::<16>(&epoch["out"]["epoch_id"]));
    block.extend_from_slice(&nonce);
    block.extend_from_slice(&seal(&content, &nonce, &associated_data, &plain));
    let key = secret.content_key();
    assert_eq!(open_entry(&key, &feed, index, &block).unwrap(), &entry[..]);
    assert_eq!(
        seal_entry(&key, &feed, index, &nonce, entry).unwrap(),
        block
    );
    assert!(open_entry(&key, &feed, index + 1, &block).is_err());
}

#[test]
fn chunks_are_bound_to_number_and_count_as_the_vector_says() {
    let vector = vector("file");
    let number = vector["in"]["number"].as_u64().unwrap();
    let count = vector["in"]["count"].as_u64().unwrap();
    let nonce = bytes(&vector["out"]["nonce"]);
    let associated_data = bytes::<40>(&vector["out"]["associated_data"]);
    let sealed = seal(&[7; 32], &nonce, &associated_data, b"chunk");
    let key = Secret::new([7; 32]);
    assert_eq!(
        open_chunk(&key, number, count, &sealed).unwrap(),
        &b"chunk"[..]
    );
    assert!(open_chunk(&key, number, count + 1, &sealed).is_err());
}
