//! Whole feeds from one process to another, verified and durable on both sides.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::npm::{Npm, Served};
use crate::process::Process;
use crate::row::{Effort, Measured, Row, Run};

const MIB: f64 = 1_000_000.0;
const LARGE_BYTES: usize = 65_536;

pub(crate) const TCP_100B: Row = Row {
    name: "replicate_tcp_100b",
    unit: "blocks/s",
    definition: "200,000 blocks (50,000 with --quick) of 100 B from one process to another over \
        loopback TCP, plain Hypercore wire, into a new store; the clock runs in the reader from \
        dialling until every block is verified and durable (the server's are before). npm: 20,000 \
        (5,000), from dialling until `download` is done, not synced.",
    measure: |effort| measure_tcp(effort, effort.scaled(200_000), effort.scaled(20_000), 100),
    once: None,
};

pub(crate) const TCP_64K: Row = Row {
    name: "replicate_tcp_64k",
    unit: "MB/s",
    definition: "4,096 blocks (1,024 with --quick) of 64 KiB, else as replicate_tcp_100b; npm: \
        2,048 (512). MB are millions of bytes of blocks.",
    measure: |effort| {
        measure_tcp(
            effort,
            effort.scaled(4_096),
            effort.scaled(2_048),
            LARGE_BYTES,
        )
    },
    once: None,
};

pub(crate) const WEBRTC_64K: Row = Row {
    name: "replicate_webrtc_64k",
    unit: "MB/s",
    definition: "4,096 blocks (1,024 with --quick) of 64 KiB from one process to another over a \
        WebRTC data channel on loopback, met through a signal server, into a new store; the clock \
        runs in the reader from the open session until every block is verified and durable. npm: \
        2,048 (512) over TCP, from dialling until `download` is done, not synced. Limit: the same \
        bytes in messages of 64 KiB over a raw channel of the same stack and settings between two \
        processes, first to last message.",
    measure: |effort| measure_webrtc(effort, effort.scaled(4_096), LARGE_BYTES, &[]),
    once: None,
};

pub(crate) const WEBRTC_64K_STOCK: Row = Row {
    name: "replicate_webrtc_64k_stock",
    unit: "MB/s",
    definition: "as replicate_webrtc_64k, with UDP socket buffers of 212,992 B on both sides, as a \
        kernel gives them whose net.core.rmem_max and wmem_max nobody changed; the raw channel with \
        such buffers too.",
    measure: |effort| measure_webrtc(effort, effort.scaled(4_096), LARGE_BYTES, &["stock"]),
    once: None,
};

pub(crate) const WEBRTC_100B: Row = Row {
    name: "replicate_webrtc_100b",
    unit: "blocks/s",
    definition: "200,000 blocks (50,000 with --quick) of 100 B, else as replicate_webrtc_64k. \
        Limit: as many bytes of blocks as the raw channel carries.",
    measure: |effort| measure_webrtc(effort, effort.scaled(200_000), 100, &[]),
    once: None,
};

pub(crate) const FROM_NPM_100B: Row = Row {
    name: "from_npm_100b",
    unit: "blocks/s",
    definition: "20,000 blocks (5,000 with --quick) of 100 B that npm hypercore 11 serves over \
        loopback TCP, into a new store: from dialling until all is verified and durable. npm: the \
        same read by npm 11 and, of its own, by npm 10, not synced.",
    measure: |effort| from_npm(effort, effort.scaled(20_000), 100),
    once: None,
};

pub(crate) const FROM_NPM_64K: Row = Row {
    name: "from_npm_64k",
    unit: "MB/s",
    definition: "2,048 blocks (512 with --quick) of 64 KiB, else as from_npm_100b.",
    measure: |effort| from_npm(effort, effort.scaled(2_048), LARGE_BYTES),
    once: None,
};

pub(crate) const TO_NPM_100B: Row = Row {
    name: "to_npm_100b",
    unit: "blocks/s",
    definition: "20,000 blocks (5,000 with --quick) of 100 B that we serve over loopback TCP to a \
        process of npm hypercore 11: from its dialling until its `download` is done, not synced. \
        npm: the same served by npm.",
    measure: |effort| to_npm(effort, effort.scaled(20_000), 100),
    once: None,
};

pub(crate) const TO_NPM_64K: Row = Row {
    name: "to_npm_64k",
    unit: "MB/s",
    definition: "2,048 blocks (512 with --quick) of 64 KiB, else as to_npm_100b.",
    measure: |effort| to_npm(effort, effort.scaled(2_048), LARGE_BYTES),
    once: None,
};

fn from_npm(effort: &Effort, blocks: u64, bytes: usize) -> Result<Measured> {
    let served = Served::start(Npm::Hypercore11, blocks, bytes)?;
    Measured::alternate(
        effort,
        || {
            let pulled = pull(&served.address(), served.key(), blocks)?;
            Ok(rate(blocks, bytes, pulled.seconds))
        },
        npm(blocks, bytes),
        None,
    )
}

fn to_npm(effort: &Effort, blocks: u64, bytes: usize) -> Result<Measured> {
    let mut server = Process::end(&["serve", "tcp", &blocks.to_string(), &bytes.to_string()])?;
    let said = server.json()?;
    let (key, address) = (text(&said, "key_hex")?, text(&said, "address")?);
    let (_, port) = address.rsplit_once(':').context("an address has a port")?;
    Measured::alternate(
        effort,
        || {
            let seconds = Npm::Hypercore11.pull(&key, port, blocks)?;
            Ok(rate(blocks, bytes, seconds))
        },
        npm(blocks, bytes),
        None,
    )
}

fn measure_tcp(effort: &Effort, blocks: u64, npm_blocks: u64, bytes: usize) -> Result<Measured> {
    let mut server = Process::end(&["serve", "tcp", &blocks.to_string(), &bytes.to_string()])?;
    let said = server.json()?;
    let (key, address) = (text(&said, "key")?, text(&said, "address")?);
    Measured::alternate(
        effort,
        || Ok(rate(blocks, bytes, pull(&address, &key, blocks)?.seconds)),
        npm(npm_blocks, bytes),
        None,
    )
}

/// `how` is a word more for each of our processes, or none.
fn measure_webrtc(
    effort: &Effort,
    blocks: u64,
    block_bytes: usize,
    how: &[&str],
) -> Result<Measured> {
    let mut signal = Process::end(&["signal"])?;
    let url = text(&signal.json()?, "url")?;
    let (count, size) = (blocks.to_string(), block_bytes.to_string());
    let mut server = Process::end(&[&["serve", &url, &count, &size], how].concat())?;
    let key = text(&server.json()?, "key")?;
    let bytes = blocks as usize * block_bytes;
    Measured::alternate(
        effort,
        || {
            Ok(rate(
                blocks,
                block_bytes,
                pull_by(&url, &key, blocks, how)?.transfer_seconds,
            ))
        },
        npm(
            match block_bytes {
                LARGE_BYTES => effort.scaled(2_048),
                _ => effort.scaled(20_000),
            },
            block_bytes,
        ),
        Some((
            "raw data channel, messages of 64 KiB",
            Box::new(move || {
                let seconds = raw_channel_by(bytes, how)?.seconds;
                Ok(rate(blocks, block_bytes, seconds))
            }),
        )),
    )
}

/// Returns blocks per second of small blocks, MB per second of large ones.
fn rate(blocks: u64, block_bytes: usize, seconds: f64) -> f64 {
    if block_bytes < LARGE_BYTES {
        return blocks as f64 / seconds;
    }
    blocks as f64 * block_bytes as f64 / MIB / seconds
}

/// The times of one pull.
pub(crate) struct Pulled {
    pub(crate) first_block_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) transfer_seconds: f64,
}

/// Pulls with a process of its own, by address or through a signal server.
pub(crate) fn pull(by: &str, key: &str, blocks: u64) -> Result<Pulled> {
    pull_by(by, key, blocks, &[])
}

fn pull_by(by: &str, key: &str, blocks: u64, how: &[&str]) -> Result<Pulled> {
    let blocks = blocks.to_string();
    let mut reader = Process::end(&[&["pull", by, key, &blocks], how].concat())?;
    let said = reader.json()?;
    Ok(Pulled {
        first_block_seconds: number(&said, "first_block_seconds")?,
        seconds: number(&said, "seconds")?,
        transfer_seconds: number(&said, "transfer_seconds")?,
    })
}

/// The times of a raw channel.
pub(crate) struct RawChannel {
    pub(crate) open_seconds: f64,
    pub(crate) seconds: f64,
}

/// Opens a raw channel between two processes and sends `bytes` over it.
pub(crate) fn raw_channel(bytes: usize) -> Result<RawChannel> {
    raw_channel_by(bytes, &[])
}

fn raw_channel_by(bytes: usize, how: &[&str]) -> Result<RawChannel> {
    let bytes = bytes.to_string();
    let mut offerer = Process::end(&[&["raw", "offer", &bytes], how].concat())?;
    let mut answerer = Process::end(&[&["raw", "answer", &bytes], how].concat())?;
    let (opened, received) = offerer.introduce(&mut answerer)?;
    Ok(RawChannel {
        open_seconds: number(&opened, "open_seconds")?,
        seconds: number(&received, "seconds")?,
    })
}

/// Returns the npm versions, each with a server of its own that lives as long as the row.
fn npm<'a>(blocks: u64, bytes: usize) -> Vec<(String, Run<'a>)> {
    let peer = |npm: Npm| -> (String, Run<'a>) {
        let mut served = None;
        let run = move || {
            let served = match &mut served {
                Some(served) => served,
                none => none.insert(Served::start(npm, blocks, bytes)?),
            };
            Ok(rate(blocks, bytes, served.pull()?))
        };
        (npm.name(), Box::new(run))
    };
    Npm::BOTH.map(peer).into()
}

pub(crate) fn text(said: &Value, name: &str) -> Result<String> {
    let found = said[name].as_str().map(str::to_owned);
    found.with_context(|| format!("no {name} in {said}"))
}

pub(crate) fn number(said: &Value, name: &str) -> Result<f64> {
    said[name]
        .as_f64()
        .with_context(|| format!("no {name} in {said}"))
}
