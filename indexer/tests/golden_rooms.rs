//! What rooms come to: golden rooms, block by block, for whoever evaluates them with code of its own.
//!
//! `tests/vectors/rooms-1.json` was written once, from rooms and scenes of `quarrel/`; reading it needs nothing of
//! what made it. What changes in what an old room comes to is other rules, and another format.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "the replicas of `convergence.rs` use the rest")]
#[path = "quarrel/mod.rs"]
mod quarrel;
#[allow(dead_code, reason = "the fold over it is used by `convergence.rs`")]
#[path = "acts/reference.rs"]
mod reference;
#[path = "quarrel/scenes.rs"]
mod scenes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use kinlog_feeds::crypto::{FeedKey, Hash};
use kinlog_feeds::text::{decode_hex, encode_hex};
use kinlog_feeds::tree::{Head, append};
use kinlog_indexer::authority::Authority;
use kinlog_indexer::index::{Block, FeedContext, Scope, TreeHashes};
use kinlog_indexer::seal::{ContentKey, EpochId};
use kinlog_indexer::{Index, RoomId};
use quarrel::Quarrel;
use quarrel::fold::fold;
use scenes::{Scene, fight, scenes};
use serde_json::{Map, Value, json};
use testkit::process::Folder;
use testkit::random::usual_seed;

const VECTORS: &str = include_str!("vectors/rooms-1.json");

/// Rooms of one history for each feed, which between them hold every act, every verdict that a whole
/// room can have, cuts and deletions.
const SEEDS: [u64; 6] = [7, 8, 12, 56, 82, 328];

/// Fights of devices that Python evaluates in a run, and the seed of the first: one of these repeats a
/// pass, and comes to something else without.
const FIGHTS: u64 = 40;
const FIRST_FIGHT: u64 = 1_795_000_000_000_000_040;

/// What a room comes to, by parts.
const PARTS: [&str; 5] = ["acts", "roles", "shown", "messages", "epochs"];

/// A room as it stands in the file.
struct Room {
    id: RoomId,
    keys: Vec<ContentKey>,
    feeds: BTreeMap<FeedKey, Vec<Bytes>>,
}

/// The tree hashes of feeds that are held whole.
struct Trees(BTreeMap<(FeedKey, u64), Hash>);

impl TreeHashes for Trees {
    fn tree_hash(&self, feed: &FeedKey, length: u64) -> Option<Hash> {
        self.0.get(&(*feed, length)).copied()
    }

    fn contested_from(&self, _: &FeedKey) -> Option<u64> {
        None
    }
}

impl Room {
    fn made(seed: u64) -> Room {
        let quarrel = Quarrel::new(seed);
        assert!(quarrel.fork.is_none(), "seed {seed} has a forked feed");
        let mut feeds: BTreeMap<FeedKey, Vec<Bytes>> = BTreeMap::new();
        for block in quarrel.blocks(0) {
            feeds.entry(block.feed).or_default().push(block.bytes);
        }
        Room {
            id: quarrel.room,
            keys: quarrel::keys(),
            feeds,
        }
    }

    fn of(scene: Scene) -> Room {
        Room {
            id: scene.room,
            keys: quarrel::keys(),
            feeds: scene.feeds,
        }
    }

    fn read(golden: &Value) -> Room {
        let blocks = |blocks: &Value| blocks.as_array().unwrap().iter().map(bytes).collect();
        let feeds = golden["feeds"].as_object().unwrap().iter();
        Room {
            id: RoomId(key(&golden["room"])),
            keys: golden["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| ContentKey::new(key(one)))
                .collect(),
            feeds: feeds
                .map(|(feed, held)| (FeedKey(key(&json!(feed))), blocks(held)))
                .collect(),
        }
    }

    /// What it holds and what it comes to.
    fn told(&self) -> Value {
        let index = self.index();
        let authority = index.authority(&self.id).unwrap();
        let mut acts: Vec<Value> = Vec::new();
        for (hash, row) in &authority.acts {
            let hash = encode_hex(hash.as_bytes());
            acts.push(json!([
                hash,
                encode_hex(&row.feed.0),
                row.index,
                row.tag,
                row.depth,
                row.verdict.as_str()
            ]));
        }
        let mut shown = Map::new();
        let mut roles = Map::new();
        for feed in index.member_feeds(&self.id).unwrap() {
            shown.insert(encode_hex(&feed.feed.0), json!(feed.cut));
            if let Some(role) = feed.role {
                roles.insert(encode_hex(&feed.agent.0), json!(role.as_str()));
            }
        }
        let messages = index
            .messages(&self.id, 1_000)
            .unwrap()
            .into_iter()
            .map(|message| {
                let at = message.entry();
                json!([encode_hex(&at.feed.0), at.index, message.text])
            });
        let keys = self.keys.iter().map(|key| encode_hex(key.expose()));
        let feeds = self.feeds.iter().map(|(feed, blocks)| {
            let blocks: Vec<String> = blocks.iter().map(|block| encode_hex(block)).collect();
            (encode_hex(&feed.0), json!(blocks))
        });
        json!({
            "room": encode_hex(&self.id.0),
            "keys": keys.collect::<Vec<_>>(),
            "feeds": feeds.collect::<Map<_, _>>(),
            "acts": acts,
            "roles": roles,
            "shown": shown,
            "messages": messages.collect::<Vec<_>>(),
            "epochs": epochs_as_taken(&authority, &self.first_epoch(&authority)),
        })
    }

    /// The epoch whose act key sealed the genesis: each stands behind its content key.
    fn first_epoch(&self, authority: &Authority) -> EpochId {
        let ids: Vec<EpochId> = self.keys.iter().map(ContentKey::epoch_id).collect();
        let sealed_by = authority.start.as_ref().unwrap().sealed_by.unwrap();
        let at = ids.iter().position(|id| *id == sealed_by).unwrap();
        ids[at - 1]
    }

    fn index(&self) -> Index {
        let mut trees = BTreeMap::new();
        for (feed, blocks) in &self.feeds {
            let mut head = Head::default();
            for (block, length) in blocks.iter().zip(1..) {
                head = append(&head, std::slice::from_ref(block)).unwrap().head;
                trees.insert((*feed, length), head.tree_hash());
            }
        }
        let mut index = Index::open_in_memory().unwrap();
        index.set_tree_hashes(Box::new(Trees(trees)));
        for key in &self.keys {
            index.put_epoch_key(self.id, key.clone()).unwrap();
        }
        let scope = Scope::Room(self.id);
        for feed in self.feeds.keys() {
            index.put_feed(FeedContext { key: *feed, scope }).unwrap();
        }
        index.ingest(&self.blocks()).unwrap();
        index
    }

    fn blocks(&self) -> Vec<Block> {
        let blocks = self.feeds.iter().flat_map(|(feed, blocks)| {
            let block = |(index, bytes): (u64, &Bytes)| Block {
                feed: *feed,
                index,
                bytes: bytes.clone(),
            };
            (0..).zip(blocks).map(block)
        });
        blocks.collect()
    }
}

/// Epochs in the order in which they are taken: first those that exactly the members' devices have, then
/// those that nobody else has; of each the deepest first.
fn epochs_as_taken(authority: &Authority, first: &EpochId) -> Value {
    let (devices, heads) = (authority.devices(), authority.epoch_heads(first));
    let ids: BTreeSet<&EpochId> = authority.epochs.keys().chain([first]).collect();
    let epoch = |id: &EpochId| {
        let (row, has) = (authority.epochs.get(id), authority.recipients(id, first));
        let oldest = row.map(|row| (row.depth, row.announced[0].act));
        let order = (has != devices, !has.is_subset(&devices), Reverse(oldest));
        let parents = row.into_iter().flat_map(|row| &row.parents);
        let parents: Vec<String> = parents.map(|parent| encode_hex(&parent.0)).collect();
        let has: Vec<String> = has.iter().map(|device| encode_hex(&device.0)).collect();
        (
            order,
            json!([encode_hex(&id.0), parents, has, heads.contains(id)]),
        )
    };
    let mut epochs: Vec<_> = ids.into_iter().map(epoch).collect();
    epochs.sort_by_key(|(order, _)| *order);
    epochs.into_iter().map(|(_, told)| told).collect()
}

fn bytes(hex: &Value) -> Bytes {
    decode_hex(hex.as_str().unwrap()).unwrap().into()
}

fn key(hex: &Value) -> [u8; 32] {
    bytes(hex).as_ref().try_into().unwrap()
}

/// The rooms of the file, each with all that it comes to.
fn golden() -> Vec<Value> {
    let mut golden: Value = serde_json::from_str(VECTORS).unwrap();
    let epochs = golden["epochs"].take();
    let mut rooms = golden["rooms"].as_array().unwrap().clone();
    assert_eq!(rooms.len(), epochs.as_array().unwrap().len());
    for (room, epochs) in rooms.iter_mut().zip(epochs.as_array().unwrap()) {
        room["epochs"] = epochs.clone();
    }
    rooms
}

#[test]
fn golden_rooms_come_to_what_is_written() {
    let rooms = golden();
    assert_eq!(rooms.len(), SEEDS.len() + scenes().len());
    for (number, golden) in rooms.iter().enumerate() {
        let told = Room::read(golden).told();
        for part in PARTS {
            assert_eq!(told[part], golden[part], "room {number}: {part}");
        }
    }
}

#[test]
fn golden_rooms_hold_every_act_and_every_verdict() {
    let (mut tags, mut verdicts, mut cuts) = (BTreeSet::new(), BTreeSet::new(), 0);
    for room in golden() {
        for act in room["acts"].as_array().unwrap() {
            let verdict = act[5].as_str().unwrap().to_owned();
            if verdict == "counts" {
                tags.insert(act[3].as_u64().unwrap());
            }
            verdicts.insert(verdict);
        }
        let shown = room["shown"].as_object().unwrap().values();
        cuts += shown.filter(|cut| !cut.is_null()).count();
    }
    let every = [16, 17, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 39];
    assert_eq!(tags, BTreeSet::from(every));
    assert_eq!(
        verdicts.into_iter().collect::<Vec<_>>(),
        ["counts", "refused", "void"]
    );
    assert!(cuts > 0, "nobody's feed was cut");
}

#[test]
fn the_plain_fold_shows_the_same_of_golden_rooms() {
    for (number, golden) in golden().iter().enumerate() {
        let room = Room::read(golden);
        let seen = fold(&room.id, &room.blocks(), &room.keys);
        let roles = seen.roles.iter();
        let roles = roles.map(|(agent, role)| (encode_hex(&agent.0), json!(role.as_str())));
        let shown = seen.feeds.iter();
        let shown = shown.map(|(feed, cut)| (encode_hex(&feed.0), json!(cut)));
        assert_eq!(golden["roles"], roles.collect::<Value>(), "room {number}");
        assert_eq!(golden["shown"], shown.collect::<Value>(), "room {number}");
    }
}

#[test]
fn python_evaluates_the_same_rooms_with_code_of_its_own() {
    python_agrees(&[], golden().len());
}

#[test]
fn python_comes_to_the_same_of_random_fights_of_devices() {
    let seed = usual_seed(FIRST_FIGHT);
    println!("KINLOG_SEED={seed}");
    let fights = (0..FIGHTS).map(|number| Room::of(fight(seed.wrapping_add(number))).told());
    let fights: Vec<Value> = fights.collect();
    let verdict = |act: &Value| act[5].as_str() == Some("void");
    let acts = fights
        .iter()
        .flat_map(|room| room["acts"].as_array().unwrap());
    assert!(
        acts.filter(|act| verdict(act)).count() as u64 > FIGHTS,
        "nobody fought"
    );
    let folder = Folder::new("fights");
    let path = folder.path().join("fights.json");
    std::fs::write(&path, file(fights)).unwrap();
    python_agrees(&[path], FIGHTS as usize);
}

fn python_agrees(file: &[PathBuf], rooms: usize) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/verify_rooms.py");
    let checked = Command::new("python3")
        .args(["-B", script])
        .args(file)
        .output();
    let checked = checked.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        said.contains(&format!("{rooms} rooms, all as written")),
        "{said}\n{checked:?}"
    );
}

/// Writes the file again, for a change of the rules before they are final:
/// `cargo test -p kinlog-indexer --test golden_rooms -- --ignored --nocapture`.
#[test]
#[ignore = "writes what the others read"]
fn write_golden_rooms() {
    let rooms = SEEDS.into_iter().map(Room::made);
    let rooms = rooms.chain(scenes().map(Room::of));
    write(rooms.map(|room| room.told()).collect());
}

/// Writes what the rooms of the file come to by other rules, and leaves their blocks.
#[test]
#[ignore = "writes what the others read"]
fn write_what_golden_rooms_come_to() {
    write(
        golden()
            .iter()
            .map(|room| Room::read(room).told())
            .collect(),
    );
}

fn write(rooms: Vec<Value>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rooms-1.json");
    std::fs::write(path, file(rooms)).unwrap();
}

fn file(mut rooms: Vec<Value>) -> String {
    let about = "rooms, block by block: keys are content and act keys of epochs; an act is [hash, feed, index, tag, depth, verdict]; \
        shown is the length from which on a feed is hidden; a message is [feed, index, text]; \
        epochs, of each room: [id, parents, devices that have it, whether it is a head] in the order in which they are taken";
    let epochs: Vec<Value> = rooms.iter_mut().map(|room| room["epochs"].take()).collect();
    for room in &mut rooms {
        room.as_object_mut().unwrap().remove("epochs");
    }
    let file = json!({ "about": about, "epochs": epochs, "rooms": rooms });
    format!("{file:#}\n")
}
