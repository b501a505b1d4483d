//! What comes from others and is not what its author signed, or is signed twice: refused by name.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use crate::support::{Home, MEETING, Signal};
use kinlog_feeds::crypto::{KeyPair, feed_seed};
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, FileDisk, Kind, MemoryDisk, Options, Store};
use kinlog_feeds::wire::hypercore::{self, Data, Handshake, Message, Range, Synchronize};
use kinlog_feeds::wire::{ChannelId, Config, Connection, Event, Role};
use kinlog_feeds::{FeedKey, Time};
use testkit::process::{Running, WAIT_MAX};

/// Starts `feed serve` and returns it with its address.
fn serve(home: &Home, feed: &str) -> (Running, String) {
    let mut serve = home.start(["feed", "serve", feed, "--tcp", "127.0.0.1:0"]);
    let address = serve.wait_json("the address", WAIT_MAX, |value| {
        value["address"].as_str().map(str::to_owned)
    });
    (serve, address)
}

fn key_of(home: &Home, path: &str) -> String {
    let info = home.json_one(["feed", "info", path]);
    info["key"].as_str().unwrap().to_owned()
}

/// Copies a home with its secret: two devices that are one, which must never be.
fn twin(home: &Home) -> Home {
    let twin = Home::empty("twin");
    copy(&home.path(), &twin.path());
    twin
}

/// Appends to a path as an author does who removed the fork guard from the program.
fn forge(home: &Home, path: &str, lines: &[&'static str]) {
    let secret = home.device_secret();
    let state = rusqlite::Connection::open(home.path().join("state.db")).unwrap();
    let id: [u8; 16] = state
        .query_row(
            "SELECT feed_id FROM own_feeds WHERE path = ?1",
            [path],
            |row| row.get(0),
        )
        .unwrap();
    let pair = KeyPair::from_seed(feed_seed(&secret, &id).expose());
    let disk = FileDisk::new(home.path().join("store")).unwrap();
    let store = Store::open(std::sync::Arc::new(disk), Options::new([0; 16])).unwrap();
    let feed = store
        .feed(&Manifest::single(pair.public_key()).key())
        .unwrap();
    let blocks: Vec<_> = lines.iter().map(|line| bytes::Bytes::from(*line)).collect();
    feed.append_batch(&pair, &blocks).unwrap();
    store.close().unwrap();
    // He shows it as if it had been shown before.
    let sql = "UPDATE own_feeds SET published = 1000";
    state.execute(sql, []).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn two_histories_of_one_author_exit_with_nine_and_lose_nothing() {
    let author = Home::init("author");
    author.append("/notes", "the beginning\n");
    let twin = twin(&author);
    author.append("/notes", "and so it went on\n");
    forge(&twin, "/notes", &["but it went otherwise\n", "and on\n"]);
    let key = key_of(&author, "/notes");
    assert_eq!(key, key_of(&twin, "/notes"));

    let reader = Home::init("reader");
    let (author_serves, address) = serve(&author, "/notes");
    reader.run(["feed", "pull", &key, "--tcp", &address]).ok();
    author_serves.stop();
    let (_twin_serves, address) = serve(&twin, "/notes");
    reader
        .run(["feed", "pull", &key, "--tcp", &address])
        .exits(9)
        .says(&key)
        .says("two histories");
    assert_eq!(
        reader.run(["feed", "read", &key]).ok().text(),
        "the beginning\nand so it went on\n"
    );
    reader.run(["feed", "verify", &key]).ok();
}

#[test]
fn a_follow_that_meets_a_second_history_exits_with_nine() {
    let signal = Signal::start();
    let author = Home::init("author");
    let link = author.append("/notes", "the beginning\n");
    let twin = twin(&author);
    author.append("/notes", "and so it went on\n");
    forge(&twin, "/notes", &["but it went otherwise\n", "and on\n"]);
    let key = key_of(&author, "/notes");

    let reader = Home::init("reader");
    let _reader_up = reader.up(&signal);
    let author_up = author.up(&signal);
    reader.follow(&link, &["--once"]);
    author_up.stop().ok();
    let _twin_up = twin.up(&signal);
    Running::start(&mut reader.command(["follow", &link]))
        .finish(MEETING)
        .exits(9)
        .says(&key)
        .says("two histories");
    assert_eq!(
        reader.run(["feed", "read", &link]).ok().text(),
        "the beginning\nand so it went on\n"
    );
    reader.run(["feed", "verify", &link]).ok();
}

/// Serves a feed over plain Hypercore with one byte of every block changed on its way.
struct Liar {
    key: FeedKey,
    address: String,
    lies: JoinHandle<usize>,
}

impl Liar {
    /// Answers one peer until it hangs up.
    fn start() -> Liar {
        let store = Store::open(
            std::sync::Arc::new(MemoryDisk::new()),
            Options::new([7; 16]),
        )
        .unwrap();
        let pair = KeyPair::from_seed(&[5; 32]);
        let manifest = Manifest::single(pair.public_key());
        let feed = store
            .create_feed(&manifest, kinlog_feeds::store::Role::Own, Kind::Plain)
            .unwrap();
        let blocks = (0..8).map(|block| vec![block; 500].into());
        feed.append_batch(&pair, &blocks.collect::<Vec<_>>())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let key = feed.key();
        let lies = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let lies = Lies::tell(stream, feed);
            store.close().unwrap();
            lies
        });
        Liar { key, address, lies }
    }
}

/// The liar's side of one connection.
struct Lies {
    connection: Connection,
    feed: Feed,
    handshake_hash: [u8; 64],
    told: usize,
}

impl Lies {
    fn tell(mut stream: TcpStream, feed: Feed) -> usize {
        let config = Config::new(Role::Responder, [1; 32], [2; 32], [3; 24]);
        let mut lies = Lies {
            connection: Connection::new(Time::ZERO, config),
            feed,
            handshake_hash: [0; 64],
            told: 0,
        };
        let mut buffer = [0; 4096];
        loop {
            while let Some(event) = lies.connection.poll_event().unwrap() {
                lies.answer(event);
            }
            while let Some(bytes) = lies.connection.poll_transmit() {
                if stream.write_all(&bytes).is_err() {
                    return lies.told;
                }
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return lies.told,
                Ok(read) => lies
                    .connection
                    .handle_bytes(Time::ZERO, &buffer[..read])
                    .unwrap(),
            }
        }
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::HandshakeComplete { hash, .. } => self.handshake_hash = hash,
            Event::RemoteOpen { protocol, id, .. } if protocol != hypercore::PROTOCOL => {
                let (connection, id) = (&mut self.connection, id.as_deref());
                connection.reject_remote(&protocol, id).unwrap();
            }
            Event::RemoteOpen { protocol, id, .. } => {
                let key = self.feed.key();
                let shake = Handshake::new(Role::Responder, &key, &self.handshake_hash).encode();
                let channel = self
                    .connection
                    .open(&protocol, id.as_deref(), &shake)
                    .unwrap();
                self.show(channel);
            }
            Event::Message {
                channel,
                message_type,
                body,
            } => {
                if let Some(Message::Request(asked)) = Message::decode(message_type, &body).unwrap()
                {
                    let mut proof = self.feed.prove(&asked.proof).unwrap();
                    if let Some(block) = &mut proof.block {
                        let mut value = block.value.to_vec();
                        value[100] ^= 1;
                        block.value = value.into();
                        self.told += 1;
                    }
                    let manifest = self.feed.manifest().filter(|_| asked.manifest);
                    self.send(
                        channel,
                        Message::Data(Data {
                            request: asked.id,
                            proof,
                            manifest: manifest.map(|manifest| manifest.encode().into()),
                        }),
                    );
                }
            }
            _ => {}
        }
    }

    /// Says that all blocks are there.
    fn show(&mut self, channel: ChannelId) {
        let length = self.feed.info().length;
        let head = Synchronize {
            length,
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            ..Synchronize::default()
        };
        self.send(channel, Message::Synchronize(head));
        let all = Range {
            drop: false,
            start: 0,
            length,
        };
        self.send(channel, Message::Range(all));
    }

    fn send(&mut self, channel: ChannelId, message: Message) {
        self.connection.send_message(channel, &message).unwrap();
    }
}

#[test]
fn altered_blocks_of_a_peer_exit_with_five_and_are_not_stored() {
    let liar = Liar::start();
    let reader = Home::init("reader");
    let key = liar.key.to_string();
    reader
        .run(["feed", "pull", &key, "--tcp", &liar.address])
        .exits(5)
        .says(&key)
        .says(&liar.address);
    assert!(
        liar.lies.join().unwrap() > 0,
        "nothing was asked of the liar"
    );
    let info = reader.json_one(["feed", "info", &key]);
    assert_eq!(info["blocks_held"], 0, "{info:#}");
    reader.run(["feed", "read", &key, "0..1"]).exits(3);
}

#[test]
fn a_key_that_the_peer_does_not_serve_exits_with_four() {
    let author = Home::init("author");
    author.append("/notes", "one\n");
    let (_serves, address) = serve(&author, "/notes");
    let wrong = kinlog_feeds::text::encode(&[7; 32]);
    Home::init("reader")
        .run(["feed", "pull", &wrong, "--tcp", &address])
        .exits(4)
        .says(&wrong)
        .says(&address)
        .says("right key");
}

#[test]
fn an_address_where_nobody_listens_exits_with_four() {
    let reader = Home::init("reader");
    let key = kinlog_feeds::text::encode(&[7; 32]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    reader
        .run(["feed", "pull", &key, "--tcp", &address])
        .exits(4)
        .says(&address);
}
