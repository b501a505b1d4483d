//! What secrets stand in on a disk: envelopes, sealed values, backups.

use kinlog_agent::backup::{Summary, Unpublished, probe_open, probe_parts, probe_seal};
use kinlog_agent::vault::{
    ENVELOPE_OVERHEAD_BYTES, HomeKey, KdfParameters, SecretPlace, envelope_parameters,
};
use kinlog_feeds::crypto::{AgentId, DeviceKey, Secret};

const PLACE: SecretPlace<'static> = SecretPlace::new("epochs", "secret", &[7; 16]);

/// No derivation is done: it takes a quarter of a second.
pub(super) fn envelope(bytes: &[u8]) -> bool {
    let Ok(parameters) = envelope_parameters(bytes) else {
        return false;
    };
    let again = KdfParameters::decode(&parameters.encode());
    assert_eq!(again, Ok(parameters), "within the bounds again");
    true
}

pub(super) fn envelope_seeds() -> Vec<Vec<u8>> {
    let mut seed = vec![1];
    seed.extend_from_slice(&KdfParameters::FLOOR.encode());
    seed.resize(ENVELOPE_OVERHEAD_BYTES + 32, 0x5a);
    Vec::from([seed])
}

fn home_key() -> HomeKey {
    HomeKey::new(Secret::new([3; 32]))
}

pub(super) fn sealed_secret(bytes: &[u8]) -> bool {
    let Ok(plain) = home_key().open(PLACE, bytes) else {
        return false;
    };
    let nonce = bytes[1..25].try_into().unwrap();
    assert_eq!(home_key().seal(PLACE, nonce, &plain), bytes);
    true
}

pub(super) fn sealed_secret_seeds() -> Vec<Vec<u8>> {
    let seal = |plain: &[u8]| home_key().seal(PLACE, &[9; 24], plain);
    Vec::from([seal(&[6; 32]), seal(b"")])
}

pub(super) fn backup_file(bytes: &[u8]) -> bool {
    let Ok(plain) = probe_open([4; 32], bytes) else {
        return false;
    };
    assert!(plain.len() < bytes.len());
    true
}

pub(super) fn backup_file_seeds() -> Vec<Vec<u8>> {
    let two_chunks = vec![0xa5; 65_536 + 10];
    Vec::from([
        probe_seal([4; 32], b"kinlog"),
        probe_seal([4; 32], &two_chunks),
    ])
}

pub(super) fn backup_parts(bytes: &[u8]) -> bool {
    probe_parts(bytes)
}

pub(super) fn backup_parts_seeds() -> Vec<Vec<u8>> {
    let summary = Summary {
        agent: AgentId([1; 32]).into(),
        device: DeviceKey([2; 32]).into(),
        name: "ann".to_owned(),
        made_ms: 1_700_000_000_000,
        kinlog: "0.1.0".to_owned(),
        format: 1,
        unpublished: Unpublished::default(),
    };
    let mut seed = Vec::new();
    summary.write(&mut seed).unwrap();
    for (kind, content) in [(9, &b"later"[..]), (2, b"pages"), (0, b"")] {
        seed.push(kind);
        seed.extend_from_slice(&(content.len() as u64).to_le_bytes());
        seed.extend_from_slice(content);
    }
    Vec::from([seed])
}
