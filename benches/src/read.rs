//! Reading and opening what a store on disk holds, and what it takes there and in memory.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, FileDisk, Kind, Options, Role, Store};
use kinlog_feeds::tree::Node;

use crate::append::random;
use crate::npm::{Filled, Npm};
use crate::process::Process;
use crate::row::{Effort, Measured, Row, Run};
use crate::scratch::Scratch;

const SMALL_BYTES: usize = 100;
const LARGE_BYTES: usize = 64 * 1024;
const THREADS: u64 = 2;
const MANY_FEEDS: u64 = 10_000;

/// Blocks that npm is given where ours gets 1 M: enough for a steady rate, and written in seconds.
const NPM_BLOCKS: u64 = 200_000;

pub(crate) const RANDOM_100B: Row = Row {
    name: "get_random_100b",
    unit: "blocks/s",
    definition: "a feed of 1 M blocks (250,000 with --quick) of 100 B, appended in batches of \
        1,000, store closed and opened again; two threads get 500,000 (125,000) random blocks \
        each, each checked against its leaf hash; every index page was touched before. npm: \
        20,000 (5,000) random gets, 64 in flight, of 200,000 blocks. Limit: two threads, one \
        pread of 100 B at a random block's place and one leaf hash each.",
    measure: |effort| {
        random_gets(
            effort,
            SMALL_BYTES,
            effort.scaled(1_000_000),
            1_000,
            THREADS,
        )
    },
    once: None,
};

pub(crate) const RANDOM_100B_ONE_THREAD: Row = Row {
    name: "get_random_100b_one_thread",
    unit: "blocks/s",
    definition: "as get_random_100b, with one thread on our side and in the limit.",
    measure: |effort| random_gets(effort, SMALL_BYTES, effort.scaled(1_000_000), 1_000, 1),
    once: None,
};

pub(crate) const RANDOM_64K: Row = Row {
    name: "get_random_64k",
    unit: "blocks/s",
    definition: "a feed of 8,000 blocks (2,000 with --quick) of 64 KiB, appended in batches of 16, \
        store closed and opened again; two threads get 40,000 (10,000) random blocks each, each \
        checked against its CRC32C. npm: 4,000 (1,000) random gets, 64 in flight, of 2,000 \
        blocks. Limit: two threads, one pread of 64 KiB and one CRC32C each.",
    measure: |effort| random_gets(effort, LARGE_BYTES, effort.scaled(8_000), 16, THREADS),
    once: None,
};

pub(crate) const OPEN_1M: Row = Row {
    name: "open_1m_ms",
    unit: "ms",
    definition: "a feed of 1 M blocks (250,000 with --quick) of 100 B, appended in batches of \
        1,000 and closed: opening the store, finding the feed, reading its newest block. npm: \
        the same feed, from the constructor to the newest block. Files in the page cache.",
    measure: open_1m,
    once: None,
};

pub(crate) const OPEN_10K: Row = Row {
    name: "open_10k_feeds_ms",
    unit: "ms",
    definition: "a store of 10,000 feeds of one block of 100 B, closed: opening it, finding the \
        last feed and reading its block. At most 64 files may be open \
        afterwards.",
    measure: open_10k,
    once: None,
};

pub(crate) const IDLE_FEED: Row = Row {
    name: "idle_feed_bytes",
    unit: "bytes",
    definition: "resident memory of a process that opened a store of 10,000 feeds of one block \
        of 100 B, less that of one that opened an empty store, by the feeds.",
    measure: idle_feed,
    once: None,
};

pub(crate) const OVERHEAD_100B: Row = Row {
    name: "overhead_100b_bytes",
    unit: "bytes",
    definition: "what the folder takes on the disk (blocks allocated) after 1 M blocks (250,000 \
        with --quick) of 100 B in batches of 1,000 and a clean close, less 100 B a block, by the \
        blocks. npm: the same, 200,000 blocks.",
    measure: overhead,
    once: None,
};

/// A store on disk with one feed, closed.
struct Ready {
    scratch: Scratch,
    blocks: u64,
}

impl Ready {
    fn make(blocks: u64, block_bytes: usize, batch: usize) -> Result<Ready> {
        let scratch = Scratch::new()?;
        let (store, signer) = (open(scratch.path())?, KeyPair::from_seed(&random()?));
        let manifest = Manifest::single(signer.public_key());
        let feed = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
        let values = vec![Bytes::from(vec![b'a'; block_bytes]); batch];
        for _ in 0..blocks / batch as u64 {
            feed.append_batch(&signer, &values)?;
        }
        let blocks = feed.head().length;
        store.close()?;
        Ok(Ready { scratch, blocks })
    }

    fn open(&self) -> Result<(Store, Feed)> {
        let store = open(self.scratch.path())?;
        let feed = store.feeds().pop().context("the store has a feed")?;
        Ok((store, feed))
    }
}

fn open(path: &Path) -> Result<Store> {
    Ok(Store::open(
        Arc::new(FileDisk::new(path)?),
        Options::new(random()?),
    )?)
}

fn random_gets(
    effort: &Effort,
    block_bytes: usize,
    blocks: u64,
    batch: usize,
    threads: u64,
) -> Result<Measured> {
    let large = block_bytes == LARGE_BYTES;
    let (gets, npm_blocks, npm_gets) = match large {
        true => (effort.scaled(40_000), 2_000, effort.scaled(4_000)),
        false => (effort.scaled(500_000), NPM_BLOCKS, effort.scaled(20_000)),
    };
    let ready = Ready::make(blocks, block_bytes, batch)?;
    let (store, feed) = ready.open()?;
    for block in (0..ready.blocks).step_by(256) {
        ensure!(feed.get(block)?.is_some(), "block {block} is held");
    }
    let npm = Npm::BOTH.map(|npm| {
        let filled = Filled::make(npm, npm_blocks, block_bytes);
        let run: Run<'_> = Box::new(move || match &filled {
            Ok(filled) => Ok(npm_gets as f64 / filled.seconds("get", npm_gets)?),
            Err(error) => Err(anyhow!("{error:#}")),
        });
        (npm.name(), run)
    });
    let raw = Raw::make(ready.blocks, block_bytes)?;
    let measured = Measured::alternate(
        effort,
        || {
            at_once(threads, gets, |number| {
                let block = number % ready.blocks;
                ensure!(feed.get(block)?.is_some(), "block {block} is held");
                Ok(())
            })
        },
        npm.into(),
        Some((
            "one pread at a random place and one hash or checksum of what it read",
            Box::new(|| at_once(threads, gets, |number| raw.read(number))),
        )),
    );
    store.close()?;
    measured
}

/// Does `each` with `count` random numbers on each of `threads` threads; returns calls per second.
fn at_once(threads: u64, count: u64, each: impl Fn(u64) -> Result<()> + Sync) -> Result<f64> {
    let start = Instant::now();
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let each = &each;
                scope.spawn(move || (0..count).try_for_each(|n| each(mixed(thread << 32 | n))))
            })
            .collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| anyhow!("a thread ended early"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok((threads * count) as f64 / start.elapsed().as_secs_f64())
}

/// SplitMix64: a random order that is the same in every repeat.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A plain file of blocks one behind the other.
struct Raw {
    _scratch: Scratch,
    file: fs::File,
    blocks: u64,
    block_bytes: usize,
}

impl Raw {
    fn make(blocks: u64, block_bytes: usize) -> Result<Raw> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("blocks");
        let chunk = vec![b'a'; block_bytes * 1_000];
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        for chunk_number in 0..blocks.div_ceil(1_000) {
            file.write_all_at(&chunk, chunk_number * chunk.len() as u64)?;
        }
        Ok(Raw {
            _scratch: scratch,
            file,
            blocks,
            block_bytes,
        })
    }

    fn read(&self, number: u64) -> Result<()> {
        let block = number % self.blocks;
        let mut value = vec![0; self.block_bytes];
        self.file
            .read_exact_at(&mut value, block * self.block_bytes as u64)?;
        let sum = match self.block_bytes {
            LARGE_BYTES => u64::from(crc32c::crc32c(&value)),
            _ => u64::from(Node::leaf(block, &value).hash.0[0]),
        };
        std::hint::black_box(sum);
        Ok(())
    }
}

fn open_1m(effort: &Effort) -> Result<Measured> {
    let blocks = effort.scaled(1_000_000);
    let ready = Ready::make(blocks, SMALL_BYTES, 1_000)?;
    let npm = Npm::BOTH.map(|npm| {
        let filled = Filled::make(npm, blocks, SMALL_BYTES);
        let run: Run<'_> = Box::new(move || match &filled {
            Ok(filled) => Ok(filled.seconds("open", 1)? * 1_000.0),
            Err(error) => Err(anyhow!("{error:#}")),
        });
        (npm.name(), run)
    });
    Measured::alternate(
        effort,
        || {
            let start = Instant::now();
            let (store, feed) = ready.open()?;
            ensure!(feed.get(ready.blocks - 1)?.is_some(), "the last block");
            let milliseconds = start.elapsed().as_secs_f64() * 1_000.0;
            store.close()?;
            Ok(milliseconds)
        },
        npm.into(),
        None,
    )
}

/// A store of [`MANY_FEEDS`] feeds with a block each, closed.
fn many_feeds() -> Result<Scratch> {
    let scratch = Scratch::new()?;
    let store = open(scratch.path())?;
    small_feeds(&store, MANY_FEEDS)?;
    store.close()?;
    Ok(scratch)
}

/// Makes `count` feeds with a block of 100 B each.
pub(crate) fn small_feeds(store: &Store, count: u64) -> Result<()> {
    let seeds: Vec<u64> = (0..count).collect();
    // Several at once, so that they share syncs.
    thread::scope(|scope| {
        let running: Vec<_> = seeds
            .chunks(seeds.len().div_ceil(64).max(1))
            .map(|seeds| {
                scope.spawn(move || seeds.iter().try_for_each(|seed| small_feed(store, *seed)))
            })
            .collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| anyhow!("a thread ended early"))??;
        }
        Ok(())
    })
}

fn small_feed(store: &Store, number: u64) -> Result<()> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let signer = KeyPair::from_seed(&seed);
    let manifest = Manifest::single(signer.public_key());
    let feed = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
    feed.append_batch(&signer, &[Bytes::from(vec![b'a'; SMALL_BYTES])])?;
    Ok(())
}

fn open_10k(effort: &Effort) -> Result<Measured> {
    let scratch = many_feeds()?;
    Measured::alternate(
        effort,
        || {
            let before = open_files()?;
            let start = Instant::now();
            let store = open(scratch.path())?;
            let feed = store.feeds().pop().context("the store has feeds")?;
            ensure!(feed.get(0)?.is_some(), "the last feed's block");
            let milliseconds = start.elapsed().as_secs_f64() * 1_000.0;
            ensure!(store.feeds().len() as u64 == MANY_FEEDS, "all feeds");
            let files = open_files()? - before;
            ensure!(files <= 64, "{files} files are open");
            store.close()?;
            Ok(milliseconds)
        },
        Vec::new(),
        None,
    )
}

fn open_files() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

fn idle_feed(effort: &Effort) -> Result<Measured> {
    let (full, empty) = (many_feeds()?, Scratch::new()?);
    open(empty.path())?.close()?;
    Measured::alternate(
        effort,
        || {
            let (full, empty) = (resident(full.path())?, resident(empty.path())?);
            Ok((full - empty) / MANY_FEEDS as f64)
        },
        Vec::new(),
        None,
    )
}

/// Returns the resident bytes of a process of its own that opened the store at `path`.
fn resident(path: &Path) -> Result<f64> {
    let program = std::env::current_exe()?;
    let mut process = Process::start(Command::new(program).arg("opened").arg(path))?;
    process.json()?["resident"].as_f64().context("bytes")
}

/// Opens the store at `path`, says how much memory this process takes, and ends.
pub(crate) fn say_resident(words: &[String]) -> Result<()> {
    let [path] = words else {
        anyhow::bail!("say which folder");
    };
    let store = open(Path::new(path))?;
    let feeds = store.feeds().len();
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib.context("the kernel says VmRSS")?.trim().parse()?;
    println!(r#"{{"feeds":{feeds},"resident":{}}}"#, kib * 1024);
    Ok(())
}

fn overhead(effort: &Effort) -> Result<Measured> {
    let blocks = effort.scaled(1_000_000);
    let npm = Npm::BOTH.map(|npm| {
        let run: Run<'_> = Box::new(move || {
            let filled = Filled::make(npm, NPM_BLOCKS, SMALL_BYTES)?;
            per_block(filled.path(), NPM_BLOCKS)
        });
        (npm.name(), run)
    });
    Measured::alternate(
        effort,
        || {
            let ready = Ready::make(blocks, SMALL_BYTES, 1_000)?;
            per_block(ready.scratch.path(), ready.blocks)
        },
        npm.into(),
        None,
    )
}

fn per_block(folder: &Path, blocks: u64) -> Result<f64> {
    Ok(allocated(folder)? as f64 / blocks as f64 - SMALL_BYTES as f64)
}

/// Returns the bytes that a folder and everything in it takes on its disk.
fn allocated(folder: &Path) -> Result<u64> {
    let mut bytes = fs::metadata(folder)?.blocks() * 512;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => allocated(&entry.path())?,
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(bytes)
}
