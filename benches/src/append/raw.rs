//! What appending cannot do without, each by itself and all behind one another.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::tree::{self, Head};

use crate::append::{Work, random};
use crate::row::Run;
use crate::scratch::Scratch;

/// What every call of an append does at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub(super) calls: u64,
    pub(super) blocks: usize,
    pub(super) block_bytes: usize,
    /// Bytes that a call writes.
    pub(super) written: usize,
}

impl Raw {
    /// Returns the same calls, one behind the other, `written` bytes each.
    pub(super) fn of(work: &Work, written: usize) -> Raw {
        Raw {
            calls: work.all_calls(),
            blocks: work.blocks,
            block_bytes: work.block_bytes,
            written,
        }
    }

    /// Hashes, signs, writes and syncs, one after the other; returns blocks per second.
    pub(super) fn all(&self) -> Result<f64> {
        self.rate(&mut self.hashing()?, Some(&self.full_file()?), true)
    }

    /// Hashes and signs only.
    pub(super) fn hash_and_sign(&self) -> Result<f64> {
        self.rate(&mut self.hashing()?, None, false)
    }

    /// Writes only, into a file of final size, never synced.
    fn write(&self) -> Result<f64> {
        self.rate(&mut Hashing::default(), Some(&self.full_file()?), false)
    }

    /// Writes and syncs only.
    fn write_and_sync(&self) -> Result<f64> {
        self.rate(&mut Hashing::default(), Some(&self.full_file()?), true)
    }

    /// Returns each part by itself, as runs that give `scale` times blocks per second.
    pub(super) fn parts<'a>(self, scale: f64) -> Vec<(&'static str, Run<'a>)> {
        let part =
            |run: fn(&Raw) -> Result<f64>| -> Run<'a> { Box::new(move || Ok(run(&self)? * scale)) };
        vec![
            ("hash and sign", part(Raw::hash_and_sign)),
            ("write", part(Raw::write)),
            ("write and fdatasync", part(Raw::write_and_sync)),
        ]
    }

    fn hashing(&self) -> Result<Hashing> {
        let signer = KeyPair::from_seed(&random()?);
        let manifest = Manifest::single(signer.public_key());
        let verifier = Verifier::new(manifest.key(), &manifest)?;
        Ok(Hashing {
            by: Some((signer, verifier)),
            batch: vec![Bytes::from(vec![b'a'; self.block_bytes]); self.blocks],
            head: Head::default(),
        })
    }

    /// Makes a file of zeros, so that a sync carries no change of its size.
    fn full_file(&self) -> Result<(Scratch, File)> {
        let scratch = Scratch::new()?;
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(scratch.path().join("log"))?;
        let zeros = vec![0; 4 * 1024 * 1024];
        let size = self.calls * self.written as u64;
        for offset in (0..size).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok((scratch, file))
    }

    fn rate(
        &self,
        hashing: &mut Hashing,
        file: Option<&(Scratch, File)>,
        sync: bool,
    ) -> Result<f64> {
        let record = vec![b'a'; self.written];
        let start = Instant::now();
        for call in 0..self.calls {
            hashing.step()?;
            if let Some((_, file)) = file {
                file.write_all_at(&record, call * self.written as u64)?;
                if sync {
                    file.sync_data()?;
                }
            }
        }
        Ok(self.calls as f64 * self.blocks as f64 / start.elapsed().as_secs_f64())
    }
}

/// A feed in memory that grows by one batch a step; without a signer it does nothing.
#[derive(Default)]
struct Hashing {
    by: Option<(KeyPair, Verifier)>,
    batch: Vec<Bytes>,
    head: Head,
}

impl Hashing {
    fn step(&mut self) -> Result<()> {
        let Some((signer, verifier)) = &self.by else {
            return Ok(());
        };
        self.head = tree::append(&self.head, &self.batch)?.head;
        let hash = self.head.tree_hash();
        verifier
            .sign(signer, &hash, self.head.length, self.head.fork)
            .context("signing")?;
        Ok(())
    }
}

/// Signs on two threads and returns signatures per second of both.
/// Writes `bytes` and syncs them, one after the other into a file of final size; returns the
/// milliseconds of each.
pub(crate) fn fdatasync_ms(count: u64, bytes: usize) -> Result<Vec<f64>> {
    let scratch = Scratch::new()?;
    let file = File::create(scratch.path().join("raw"))?;
    let piece = vec![b'a'; bytes];
    file.write_all_at(&vec![0; usize::try_from(count)? * bytes], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for at in 0..count {
        let start = std::time::Instant::now();
        file.write_all_at(&piece, at * bytes as u64)?;
        file.sync_data()?;
        times.push(1_000.0 * start.elapsed().as_secs_f64());
    }
    Ok(times)
}

pub(super) fn sign_on_two_cores(signatures: u64) -> Result<f64> {
    let manifest_of = |signer: &KeyPair| Manifest::single(signer.public_key());
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || -> Result<()> {
                    let signer = KeyPair::from_seed(&random()?);
                    let manifest = manifest_of(&signer);
                    let verifier = Verifier::new(manifest.key(), &manifest)?;
                    let head = tree::append(&Head::default(), &[Bytes::from_static(b"a")])?.head;
                    let hash = head.tree_hash();
                    for length in 0..signatures / 2 {
                        verifier
                            .sign(&signer, &hash, length, 0)
                            .context("signing")?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|ended| ended.map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(signatures as f64 / start.elapsed().as_secs_f64())
}
