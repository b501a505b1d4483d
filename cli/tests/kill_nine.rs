//! A 100 MB file arrives whole through five kill -9 on alternating sides, and little is sent twice.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Home, Signal, assert_webrtc, noise};
use kinlog_feeds::limits::IN_FLIGHT_BYTES_MAX;
use serde_json::Value;
use testkit::process::Running;

const FILE_BYTES: usize = 100_000_000;

/// The share of the file, in percent, at which one side is killed.
const KILLED_AT: [u64; 5] = [10, 30, 50, 70, 90];

/// The kill comes up to this much later.
const KILL_DELAY_MS_MAX: u64 = 100;

/// A tenth of the file, on two cores that do other things as well.
const SHARE_WAIT_MAX: Duration = Duration::from_secs(120);

/// One side: a home, and a process that comes and goes.
struct Side {
    home: Home,
    up: Option<Running>,
    /// Everything its processes told, over all lives.
    told: String,
    message_log: PathBuf,
}

impl Side {
    fn new(name: &str) -> Side {
        let home = Home::init(name);
        let message_log = home.beside("messages.log");
        Side {
            home,
            up: None,
            told: String::new(),
            message_log,
        }
    }

    fn up(&mut self, signal: &Signal) {
        let mut command = self.home.command(["up", "--json", "--signal", &signal.url]);
        command.arg("--message-log").arg(&self.message_log);
        command.env(
            "KINLOG_LOG",
            "off,kinlog_swarm::blocks=trace,kinlog_swarm::links=trace",
        );
        let mut up = Running::start(&mut command);
        up.wait_json(
            "word that it is ready",
            testkit::process::WAIT_MAX,
            |value| (value["event"] == "ready").then_some(()),
        );
        self.up = Some(up);
    }

    /// Kills it as `kill -9` does.
    fn kill(&mut self) {
        let mut up = self.up.take().expect("it is up");
        up.kill_now();
        self.told.push_str(&up.all_stderr());
    }

    fn stop(&mut self) {
        let finished = self.up.take().expect("it is up").stop().ok();
        self.told.push_str(&finished.stderr);
    }

    /// Returns the bytes of all messages it received.
    fn bytes_received(&self) -> u64 {
        let log = std::fs::read_to_string(&self.message_log).unwrap();
        log.lines()
            .map(|line| line.parse::<u64>().expect("a size a line"))
            .sum()
    }
}

#[test]
fn a_large_file_survives_five_kills() {
    let seed = testkit::random::seed();
    println!("KINLOG_SEED={seed}");
    let delays = noise(seed, 8 * KILLED_AT.len());
    let mut delays = delays
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) % (KILL_DELAY_MS_MAX + 1));

    let signal = Signal::start();
    let (mut author, mut reader) = (Side::new("author"), Side::new("reader"));
    let file = author.home.write("file.bin", &noise(seed, FILE_BYTES));
    let link = author.home.import("/files/large", &file);
    author.up(&signal);
    reader.up(&signal);

    let mut following = reader.home.start(["follow", &link]);
    for (number, percent) in KILLED_AT.into_iter().enumerate() {
        let connected = |value: &Value| (value["peers"].as_u64() > Some(0)).then_some(());
        following.wait_json("connection", SHARE_WAIT_MAX, connected);
        assert_webrtc(&reader.home.status());
        let share = following.wait_json("next share", SHARE_WAIT_MAX, |value| {
            let (have, want) = (value["have"].as_u64()?, value["want"].as_u64()?);
            (want > 1000 && have * 100 >= want * percent).then_some((have, want))
        });
        let delay = delays.next().unwrap();
        // Part of what is tested: the kill falls at a random moment after the share is passed.
        std::thread::sleep(Duration::from_millis(delay));
        let victim = if number % 2 == 0 {
            &mut reader
        } else {
            &mut author
        };
        println!(
            "{share:?} stored, {} killed {delay} ms later",
            victim.home.name
        );
        victim.kill();
        victim.up(&signal);
        if number % 2 == 0 {
            following = reader.home.start(["follow", &link]);
        }
    }
    following.wait_json("whole file", SHARE_WAIT_MAX, |value| {
        (value["complete"] == true).then_some(())
    });
    assert_webrtc(&reader.home.status());
    following.kill();
    reader.stop();
    author.stop();

    let copy = reader.home.beside("copy.bin");
    reader
        .home
        .run(["feed", "export", &link, copy.to_str().unwrap()])
        .ok();
    assert!(
        std::fs::read(&copy).unwrap() == std::fs::read(&file).unwrap(),
        "the copy differs"
    );
    reader.home.run(["feed", "verify", &link]).ok();
    author.home.run(["feed", "verify", "/files/large"]).ok();

    let received = reader.bytes_received() + author.bytes_received();
    let allowed =
        FILE_BYTES as u64 * 102 / 100 + KILLED_AT.len() as u64 * IN_FLIGHT_BYTES_MAX as u64;
    println!("{received} bytes received over all lives, {allowed} allowed");
    assert!(
        received <= allowed,
        "{received} bytes received, {allowed} allowed"
    );
    assert!(
        received >= FILE_BYTES as u64,
        "the log misses messages: {received} bytes"
    );
    const { assert!(IN_FLIGHT_BYTES_MAX <= 4 * 1024 * 1024) };

    for side in [&reader, &author] {
        let links = links_made(&side.told);
        // Each life had one at least: the other side of every kill is met again.
        assert!(
            links.len() > KILLED_AT.len(),
            "{}: {links:?}",
            side.home.name
        );
        for link in links {
            assert!(is_candidate_pair(&link), "{}: {link:?}", side.home.name);
        }
    }

    let asked = blocks_asked(&reader.told);
    assert!(
        asked.total >= FILE_BYTES.div_ceil(65_536),
        "only {} requests seen",
        asked.total
    );
    assert_eq!(
        asked.again,
        BTreeSet::new(),
        "stored blocks were asked for again"
    );
}

/// Returns transport and ICE path of every link that a side told of.
fn links_made(told: &str) -> Vec<(String, String)> {
    let lines = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["fields"]["message"] == "link made")
        .map(|line| {
            let field = |name: &str| line["fields"][name].as_str().unwrap().to_owned();
            (field("transport"), field("ice"))
        })
        .collect()
}

/// Returns whether a link is WebRTC with an address at both ends of the pair that ICE selected.
fn is_candidate_pair((transport, ice): &(String, String)) -> bool {
    transport == "Webrtc" && ice.matches("address: Some(").count() == 2
}

#[test]
fn a_link_that_is_no_candidate_pair_is_noticed() {
    let pair = "Some(IcePath { local: IceCandidate { kind: Host, address: Some(127.0.0.1:1) }, \
                remote: IceCandidate { kind: Prflx, address: Some(127.0.0.1:2) }, protocol: \"udp\" })";
    let told =
        serde_json::json!({"fields": {"message": "link made", "transport": "Webrtc", "ice": pair}});
    let links = links_made(&told.to_string());
    assert!(
        links.len() == 1 && is_candidate_pair(&links[0]),
        "{links:?}"
    );
    let webrtc = |ice: &str| is_candidate_pair(&("Webrtc".to_owned(), ice.to_owned()));
    assert!(!webrtc("None") && !webrtc(&pair.replace("Some(127.0.0.1:2)", "None")));
    assert!(!is_candidate_pair(&("Tcp".to_owned(), pair.to_owned())));
}

/// What a reader asked for, over all its lives.
struct Asked {
    total: usize,
    /// Blocks that it asked for after it had stored them.
    again: BTreeSet<(String, u64)>,
}

/// Reads what the replication told: one line per block asked for and per run of blocks stored.
fn blocks_asked(told: &str) -> Asked {
    let mut stored = BTreeSet::new();
    let mut asked = Asked {
        total: 0,
        again: BTreeSet::new(),
    };
    // The last line of a killed process may be cut.
    for line in told
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let fields = &line["fields"];
        let feed = fields["feed"].as_str().unwrap_or_default().to_owned();
        match fields["message"].as_str() {
            Some("block asked for") => {
                let block = fields["block"].as_u64().expect("a block");
                asked.total += 1;
                if stored.contains(&(feed.clone(), block)) {
                    asked.again.insert((feed, block));
                }
            }
            Some("blocks stored") => {
                let (start, end) = (fields["start"].as_u64(), fields["end"].as_u64());
                let range = start.expect("a start")..end.expect("an end");
                stored.extend(range.map(|block| (feed.clone(), block)));
            }
            _ => {}
        }
    }
    asked
}

#[test]
fn a_request_after_the_block_was_stored_is_noticed() {
    let told = r#"
        {"fields":{"message":"block asked for","feed":"f","block":1}}
        {"fields":{"message":"block asked for","feed":"f","block":1}}
        {"fields":{"message":"blocks stored","feed":"f","start":0,"end":2}}
        {"fields":{"message":"block asked for","feed":"g","block":1}}
        {"fields":{"message":"block asked for","feed":"f","block":1}}
        {"fields":{"mess"#;
    let asked = blocks_asked(told);
    assert_eq!(
        (asked.total, asked.again),
        (4, BTreeSet::from([("f".to_owned(), 1)]))
    );
}
