//! `vectors/identity-1.json`: sets as hex and what follows from them, for other implementations.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use std::process::Command;

use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash, KeyPair, PublicKey};
use kinlog_feeds::text::{decode_hex, encode_hex};
use kinlog_indexer::identity::{
    Cut, Device, DeviceAdded, DeviceCard, DeviceRevoked, Identity, IdentitySet, Names, OtherSaid,
    Powers, RootReplaced, SafetyNumber, Said, Statement, Verdict,
};
use kinlog_indexer::{FORMAT, Text};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("vectors/identity-1.json");

fn root() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn next_root() -> KeyPair {
    KeyPair::from_seed(&[2; 32])
}

fn agent() -> AgentId {
    AgentId(root().public_key().0)
}

fn device(number: u8) -> KeyPair {
    KeyPair::from_seed(&[number + 10; 32])
}

fn add(number: u8, powers: u32, name: &str) -> Said {
    let card = DeviceCard::sign(
        &agent(),
        &device(number),
        [number + 20; 32],
        &KeyPair::from_seed(&[number + 30; 32]),
        &KeyPair::from_seed(&[number + 40; 32]),
    );
    Said::DeviceAdded(DeviceAdded {
        card,
        powers: Powers(powers),
        name: Text::new(name).unwrap(),
    })
}

fn revoke(number: u8, public: Option<u64>, private: Option<u64>) -> Said {
    let cut = |length| Cut {
        length,
        tree_hash: Hash([9; 32]),
    };
    Said::DeviceRevoked(DeviceRevoked {
        device: DeviceKey(device(number).public_key().0),
        public: public.map(cut),
        private: private.map(cut),
    })
}

fn say(signer: &KeyPair, past: &[&Statement], said: Said) -> Statement {
    let names = Names::new(past.iter().map(|statement| statement.hash())).unwrap();
    Statement::sign(agent(), signer, names, said)
}

/// The cases, each as the statements held.
fn cases() -> Vec<(&'static str, Vec<Statement>)> {
    let laptop = say(&root(), &[], add(0, 7, "laptop"));
    let phone = say(&device(0), &[&laptop], add(1, 7, "phöne"));
    let tablet = say(&device(1), &[&phone], add(2, 1, "tablet"));
    let sign_in = Said::DeviceAdded(DeviceAdded {
        card: DeviceCard::without_directories(&agent(), &device(3), [0; 32]),
        powers: Powers::ADD,
        name: Text::new("sign-in").unwrap(),
    });
    let sign_in = say(&device(0), &[&laptop], sign_in);
    let by_key = say(&device(3), &[&sign_in], add(4, 3, "desk"));
    let above = say(&device(3), &[&sign_in], add(5, 7, "rack"));
    let lost = say(&device(0), &[&tablet], revoke(1, Some(300), None));
    let by_lost = say(&device(1), &[&tablet], revoke(0, Some(1), Some(1)));
    let after = say(&device(1), &[&lost], add(6, 1, "late"));
    let again = say(&root(), &[&lost], add(1, 7, "again"));
    let replaced = Said::RootReplaced(RootReplaced::sign(&agent(), &next_root()));
    let replaced = say(&root(), &[&lost], replaced);
    let by_old = say(&root(), &[&phone], revoke(0, None, None));
    let by_new = say(&next_root(), &[&replaced], add(7, 7, "new"));
    let renamed = say(&device(0), &[&phone], add(1, 7, "telephone"));
    // The phone's thief adds a device that revokes the rack, which revokes the phone.
    let rack = say(&root(), &[&phone], add(2, 7, "rack"));
    let thief = say(&device(1), &[&phone], add(8, 7, "thief"));
    let by_thief = say(&device(8), &[&thief], revoke(2, Some(0), Some(0)));
    let by_rack = say(&device(2), &[&rack], revoke(1, Some(5), Some(6)));
    let by_root = say(&root(), &[&rack], revoke(1, Some(5), Some(7)));
    let l = || laptop.clone();
    let other = |kind| Said::Other(OtherSaid::new(kind, b"later".to_vec()).unwrap());
    let beside = say(&device(0), &[&phone], other(200));
    let stranger = say(&device(9), &[&phone], other(128));
    let later = say(&root(), &[&phone], other(4));
    let after_beside = say(&root(), &[&beside], add(2, 1, "tablet"));
    let after_later = say(&root(), &[&later], revoke(0, None, None));
    Vec::from([
        ("added in a chain", vec![l(), phone.clone(), tablet.clone()]),
        ("a named one is missing", vec![l(), tablet.clone()]),
        ("a sign-in key", vec![l(), sign_in, by_key, above]),
        (
            "two revoke each other, one comes back",
            vec![
                l(),
                phone.clone(),
                tablet.clone(),
                lost.clone(),
                by_lost,
                after,
                again,
            ],
        ),
        (
            "a replaced root",
            vec![l(), phone.clone(), tablet, lost, replaced, by_old, by_new],
        ),
        (
            "kinds of a later build",
            vec![
                l(),
                phone.clone(),
                beside,
                stranger,
                later,
                after_beside,
                after_later,
            ],
        ),
        ("renamed", vec![l(), phone.clone(), renamed]),
        (
            "a thief's device, and a device revoked twice",
            vec![l(), phone, rack, thief, by_thief, by_rack, by_root],
        ),
    ])
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(encode_hex(bytes.as_ref()))
}

fn cut(cut: Option<Cut>) -> Value {
    cut.map_or(
        Value::Null,
        |cut| json!({ "length": cut.length, "tree_hash": hex(cut.tree_hash) }),
    )
}

fn shown(device: &Device) -> Value {
    json!({
        "key": hex(device.key),
        "x25519": hex(device.x25519),
        "public_directory": hex(device.directory),
        "private_directory": hex(device.private_directory),
        "name": device.name,
        "powers": device.powers.0,
        "added_by": hex(device.added_by),
        "added_in": hex(device.added_in),
    })
}

fn state(identity: &Identity) -> Value {
    let revoked = identity.revoked.iter().map(|one| {
        let by = one.revocations.iter();
        json!({
            "device": shown(&one.device),
            "public_cut": cut(one.public),
            "private_cut": cut(one.private),
            "revoked_in": by.map(|one| hex(one.statement)).collect::<Vec<_>>(),
        })
    });
    let verdicts = identity.verdicts.iter().map(|(hash, verdict)| {
        let verdict = match verdict {
            Verdict::Counts => "counts".to_owned(),
            Verdict::Waits => "waits".to_owned(),
            Verdict::SaysNothing => "says nothing".to_owned(),
            Verdict::NotAuthorised(refusal) => format!("not authorised: {}", refusal.as_str()),
            Verdict::Voided(by) => format!("voided by {}", encode_hex(&by.0)),
        };
        (encode_hex(&hash.0), json!(verdict))
    });
    json!({
        "set_hash": hex(identity.hash),
        "root": hex(identity.root()),
        "devices": identity.devices.iter().map(shown).collect::<Vec<_>>(),
        "revoked": revoked.collect::<Vec<_>>(),
        "statements": verdicts.collect::<serde_json::Map<_, _>>(),
    })
}

fn actual() -> Value {
    let cases = cases().into_iter().map(|(name, statements)| {
        let set = IdentitySet::new(statements).unwrap();
        json!({
            "name": name,
            "statements": set.statements().map(|one| hex(one.encode())).collect::<Vec<_>>(),
            "set": hex(set.encode()),
            "expected": state(&set.verify(&agent()).unwrap()),
        })
    });
    let other = (AgentId([7; 32]), PublicKey([8; 32]));
    let number = SafetyNumber::of((&agent(), &root().public_key()), (&other.0, &other.1));
    json!({
        "format": FORMAT,
        "agent": hex(agent()),
        "cases": cases.collect::<Vec<_>>(),
        "safety": {
            "one": { "agent": hex(agent()), "root": hex(root().public_key()) },
            "two": { "agent": hex(other.0), "root": hex(other.1) },
            "number": number.to_string(),
        },
    })
}

#[test]
fn every_set_gives_its_golden_state() {
    let mut golden: Value = serde_json::from_str(VECTORS).unwrap();
    golden.as_object_mut().unwrap().remove("about");
    let actual = actual();
    assert_eq!(actual, golden, "actual: {actual:#}");
}

#[test]
fn golden_sets_read_back_and_give_their_state_in_any_order() {
    let golden: Value = serde_json::from_str(VECTORS).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let statements = case["statements"].as_array().unwrap().iter().rev();
        let statements = statements.map(|statement| {
            let bytes = decode_hex(statement.as_str().unwrap()).unwrap();
            let statement = Statement::decode(&bytes).unwrap();
            assert_eq!(statement.encode(), bytes);
            statement
        });
        let set = IdentitySet::new(statements).unwrap();
        assert_eq!(hex(set.encode()), case["set"]);
        let actual = state(&set.verify(&agent()).unwrap());
        assert_eq!(actual, case["expected"], "{}", case["name"]);
    }
}

#[test]
fn python_decides_the_same_sets_in_the_same_way() {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/verify_identity.py"
    );
    let checked = Command::new("python3").args(["-B", script]).output();
    let checked = checked.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("all as written"), "{said}\n{checked:?}");
}
