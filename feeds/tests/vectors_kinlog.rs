//! The derivations of `vectors/kinlog-1.json` that live in this crate. The others are reproduced by
//! the crates that own them, from the same file; `vectors/verify_kinlog.py` checks it independently.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use std::path::Path;
use std::process::Command;

use kinlog_feeds::crypto::{
    Secret, device_dh_secret, device_seed, feed_seed, namespace, root_seed,
};
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::wire::Role;
use kinlog_feeds::wire::kinlog::capability;
use kinlog_feeds::{FeedKey, KeyPair, text};
use serde_json::{Value, json};

fn vector(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/kinlog-1.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all[name].clone()
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
fn namespaces_match() {
    let expected = vector("namespaces")["out"].as_object().unwrap().clone();
    // A label without its value here could change without anybody noticing.
    assert_eq!(expected.len(), namespace::ALL.len());
    for namespace in namespace::ALL {
        let label = namespace.label();
        assert_eq!(Some(&hex(namespace.hash())), expected.get(label), "{label}");
    }
}

#[test]
fn root_seed_matches() {
    let vector = vector("root");
    let seed = root_seed(&input(&vector, "bip39_seed"));
    assert_eq!(hex(seed.expose()), vector["out"]["root_seed"]);
    assert_eq!(
        hex(KeyPair::from_seed(seed.expose()).public_key()),
        vector["out"]["agent_id"]
    );
}

#[test]
fn device_keys_match() {
    let vector = vector("device");
    let secret = Secret::new(input(&vector, "device_secret"));
    let seed = device_seed(&secret);
    assert_eq!(hex(seed.expose()), vector["out"]["sign_seed"]);
    assert_eq!(
        hex(KeyPair::from_seed(seed.expose()).public_key()),
        vector["out"]["device_key"]
    );
    assert_eq!(
        hex(device_dh_secret(&secret).expose()),
        vector["out"]["dh_secret"]
    );
}

#[test]
fn feed_keys_match() {
    for name in ["feed", "public_directory", "private_directory"] {
        let vector = vector(name);
        let secret = Secret::new(input(&vector, "device_secret"));
        let seed = feed_seed(&secret, &input(&vector, "feed_id"));
        let public_key = KeyPair::from_seed(seed.expose()).public_key();
        let manifest = Manifest::single(public_key);
        let expected = &vector["out"];
        assert_eq!(hex(seed.expose()), expected["seed"], "{name}");
        assert_eq!(hex(public_key), expected["public_key"], "{name}");
        assert_eq!(hex(manifest.encode()), expected["manifest"], "{name}");
        assert_eq!(hex(manifest.key()), expected["feed_key"], "{name}");
        assert_eq!(
            hex(manifest.key().discovery_key()),
            expected["discovery_key"],
            "{name}"
        );
    }
}

#[test]
fn key_texts_match() {
    let vector = vector("link_key");
    let key = input(&vector, "key");
    assert_eq!(json!(text::encode_link_key(&key)), vector["out"]["checked"]);
    assert_eq!(json!(FeedKey(key).to_string()), vector["out"]["bare"]);
    for form in ["checked", "bare"] {
        assert_eq!(
            text::decode_key(vector["out"][form].as_str().unwrap()),
            Ok(key)
        );
    }
}

#[test]
fn feed_capabilities_match() {
    let vector = vector("feed_cap");
    let (hash, key) = (
        input(&vector, "handshake_hash"),
        FeedKey(input(&vector, "feed_key")),
    );
    for (role, name) in [
        (Role::Initiator, "initiator"),
        (Role::Responder, "responder"),
    ] {
        assert_eq!(hex(capability(role, &key, &hash)), vector["out"][name]);
    }
}

#[test]
fn python_derives_the_same_values() {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/verify_kinlog.py"
    );
    let checked = Command::new("python3").args(["-B", script]).output();
    let checked = checked.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.starts_with("OK "), "{said}\n{checked:?}");
}
