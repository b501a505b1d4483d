//! Appending to a feed: hash, sign once, submit; durable on return.
//!
//! Tree and signature are made under the feed's own writer lock, while the batch before is still
//! being synced. Appends that had to wait for that lock are taken together by whoever gets it, and
//! share one signature.

use std::sync::{Arc, OnceLock, PoisonError};

use bytes::Bytes;

use crate::crypto::{FeedKey, KeyPair};
use crate::store::body::{Body, Filled, StoredHead};
use crate::store::error::{AppendError, StoreError};
use crate::store::feed::Feed;
use crate::store::limits::{RECORD_BLOCKS_MAX, RECORD_PAYLOAD_BYTES};
use crate::store::log::{Commit, Ticket};
use crate::store::state::{FeedWriter, KnownManifest};
use crate::tree::{self, Head, SignedHead};

/// Where appended blocks stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Index of the first block appended.
    pub start: u64,
    /// Length of the feed behind the last one.
    pub length: u64,
    /// Bytes of the feed up to there.
    pub byte_length: u64,
}

/// Blocks of one caller that wait to be appended together with others'.
#[derive(Debug)]
pub(super) struct AppendRequest {
    blocks: Vec<Bytes>,
    outcome: OnceLock<Result<(Appended, Ticket), Arc<AppendError>>>,
}

impl Feed {
    /// Appends blocks and returns when they are durable; nothing of a failed batch is visible.
    ///
    /// Batches of concurrent callers are appended one after the other in some order. A batch above
    /// [`RECORD_BLOCKS_MAX`] blocks or [`RECORD_PAYLOAD_BYTES`] becomes several signed heads, of
    /// which a crash may leave the first ones.
    ///
    /// # Errors
    ///
    /// [`AppendError::TooLarge`] names the first block above the feed's limit.
    pub fn append_batch(
        &self,
        signer: &KeyPair,
        blocks: &[Bytes],
    ) -> Result<Appended, AppendError> {
        self.check_sizes(blocks)?;
        let known = self.entry.read().manifest.clone();
        let key = signer.public_key();
        let known = known
            .filter(|known| {
                known
                    .manifest
                    .signers
                    .iter()
                    .any(|signer| signer.public_key == key)
            })
            .ok_or(AppendError::NotWritable { feed: self.key() })?;
        let (appended, ticket) = match self.entry.try_writer() {
            Some(mut writer) => self.append_now(&mut writer, &known, signer, &[blocks])?[0],
            None => self.append_together(&known, signer, blocks)?,
        };
        self.inner.log.wait(ticket)?;
        self.inner.checkpoint_if_due();
        Ok(appended)
    }

    fn check_sizes(&self, blocks: &[Bytes]) -> Result<(), AppendError> {
        let limit = self.kind().block_bytes_max();
        match blocks.iter().position(|block| block.len() > limit) {
            None => Ok(()),
            Some(position) => Err(AppendError::TooLarge {
                feed: self.key(),
                block: self.entry.head().length + position as u64,
                size: blocks[position].len(),
                limit,
            }),
        }
    }

    /// Queues up for the writer; whoever gets it appends for all that wait.
    fn append_together(
        &self,
        known: &KnownManifest,
        signer: &KeyPair,
        blocks: &[Bytes],
    ) -> Result<(Appended, Ticket), AppendError> {
        let request = Arc::new(AppendRequest {
            blocks: blocks.to_vec(),
            outcome: OnceLock::new(),
        });
        let appends = || {
            self.entry
                .appends
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        appends().push(request.clone());
        let mut writer = self.entry.writer();
        if request.outcome.get().is_none() {
            let requests = std::mem::take(&mut *appends());
            let batches: Vec<&[Bytes]> = requests
                .iter()
                .map(|request| request.blocks.as_slice())
                .collect();
            match self.append_now(&mut writer, known, signer, &batches) {
                Ok(done) => {
                    for (request, done) in requests.iter().zip(done) {
                        let _ = request.outcome.set(Ok(done));
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    for request in &requests {
                        let _ = request.outcome.set(Err(error.clone()));
                    }
                }
            }
        }
        drop(writer);
        let outcome = request
            .outcome
            .get()
            .expect("whoever held the writer took all that waited");
        outcome.clone().map_err(|error| copy_of(&error, self.key()))
    }

    /// Appends batches behind one another and submits them; returns what each became.
    fn append_now(
        &self,
        writer: &mut FeedWriter,
        known: &KnownManifest,
        signer: &KeyPair,
        batches: &[&[Bytes]],
    ) -> Result<Vec<(Appended, Ticket)>, AppendError> {
        if writer.dropped {
            return Err(StoreError::FeedDropped { feed: self.key() }.into());
        }
        if let Some(proof) = self.conflict()? {
            let (feed, proof) = (self.key(), Box::new(proof));
            return Err(AppendError::Conflict { feed, proof });
        }
        let mut head = match &writer.head {
            Some(head) => head.clone(),
            None => self.entry.head(),
        };
        let mut done = Vec::with_capacity(batches.len());
        let mut position = head.length;
        let mut byte_length = head.byte_length;
        for batch in batches {
            let start = position;
            position += batch.len() as u64;
            byte_length += batch.iter().map(|block| block.len() as u64).sum::<u64>();
            done.push(Appended {
                start,
                length: position,
                byte_length,
            });
        }
        let joined: Vec<Bytes>;
        let blocks = match batches {
            [one] => *one,
            many => {
                joined = many.concat();
                &joined
            }
        };
        let mut commits = Vec::new();
        let mut rest = blocks;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(record_blocks(rest));
            rest = later;
            commits.push(self.append_record(&mut head, known, signer, now)?);
        }
        let ticket = match commits.is_empty() {
            true => writer.ticket,
            false => self.inner.log.submit(commits)?,
        };
        writer.head = Some(head);
        writer.ticket = ticket;
        Ok(done
            .into_iter()
            .map(|appended| (appended, ticket))
            .collect())
    }

    /// Asks whoever owns the store for leave to sign once more.
    fn ask_guard(&self) -> Result<(), AppendError> {
        let Some(guard) = &self.inner.options.sign_guard else {
            return Ok(());
        };
        let feed = self.key();
        guard
            .before_signature(&feed, &|| self.inner.log.synced())
            .map_err(|refused| AppendError::Refused { feed, refused })
    }

    fn append_record(
        &self,
        head: &mut Head,
        known: &KnownManifest,
        signer: &KeyPair,
        blocks: &[Bytes],
    ) -> Result<Commit, AppendError> {
        let feed = self.key();
        let made = tree::append(head, blocks).map_err(|_| AppendError::TooLong { feed })?;
        self.ask_guard()?;
        let tree_hash = made.head.tree_hash();
        let (length, fork) = (made.head.length, made.head.fork);
        let signature = known
            .verifier
            .sign(signer, &tree_hash, length, fork)
            .map_err(|_| AppendError::NotWritable { feed })?;
        let mut filled = Filled {
            nodes: made.leaves,
            ..Filled::default()
        };
        filled.nodes.extend(made.parents);
        filled.blocks.reserve_exact(blocks.len());
        for (index, block) in (head.length..).zip(blocks) {
            filled.push_block(index, block);
        }
        filled.head = Some(StoredHead {
            fork,
            length,
            tree_hash,
            signature: signature.clone(),
        });
        *head = made.head.clone();
        let signed = SignedHead {
            head: made.head,
            tree_hash,
            signature,
        };
        Ok(self.commit_filled(Body::Append(filled), blocks, Some(Arc::new(signed))))
    }
}

/// Returns how many of `blocks` go into one record: at least one.
fn record_blocks(blocks: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fitting = blocks.iter().take(RECORD_BLOCKS_MAX).take_while(|block| {
        bytes += block.len();
        bytes <= RECORD_PAYLOAD_BYTES
    });
    fitting.count().max(1)
}

/// Tells every caller of a joint append the one reason why it failed.
fn copy_of(error: &AppendError, feed: FeedKey) -> AppendError {
    match error {
        AppendError::NotWritable { .. } => AppendError::NotWritable { feed },
        AppendError::TooLong { .. } => AppendError::TooLong { feed },
        AppendError::Refused { refused, .. } => AppendError::Refused {
            feed,
            refused: refused.clone(),
        },
        AppendError::Conflict { proof, .. } => AppendError::Conflict {
            feed,
            proof: proof.clone(),
        },
        AppendError::TooLarge {
            block, size, limit, ..
        } => AppendError::TooLarge {
            feed,
            block: *block,
            size: *size,
            limit: *limit,
        },
        AppendError::Store(error) => AppendError::Store(error.clone()),
    }
}
