//! Appending to a feed: hash, sign once, submit; durable on return.
//!
//! Tree and signature are made under the feed's own writer lock, while the batch before is still
//! being synced. Appends that come while one is being made wait, are taken together by the next
//! that makes one, and share its signature; each waits once, until it is durable.

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::crypto::{FeedKey, KeyPair, PublicKey};
use crate::store::SignRefused;
use crate::store::body::{Body, Filled, StoredHead};
use crate::store::error::{AppendError, StoreError};
use crate::store::feed::Feed;
use crate::store::limits::{RECORD_BLOCKS_MAX, RECORD_PAYLOAD_BYTES};
use crate::store::log::{Commit, Ticket};
use crate::store::state::{FeedWriter, KnownManifest};
use crate::store::turn::Turn;
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

/// Appends of one feed: one caller makes records, the others wait to be taken along.
#[derive(Debug, Default)]
pub(super) struct Appends {
    making: bool,
    waiting: Vec<Arc<AppendRequest>>,
}

/// Blocks of one caller that wait to be appended together with others'.
#[derive(Debug)]
pub(super) struct AppendRequest {
    signer: PublicKey,
    blocks: Vec<Bytes>,
    turn: Turn<Word>,
}

/// What a caller that waits is told.
#[derive(Debug)]
enum Word {
    /// Its blocks are durable, or why not.
    Done(Result<Appended, Arc<AppendError>>),
    /// It is the one that makes records now.
    Make,
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
        let known = self.known_to(signer)?;
        let mut appends = self.appends();
        if appends.making {
            let request = Arc::new(AppendRequest {
                signer: signer.public_key(),
                blocks: blocks.to_vec(),
                turn: Turn::new(),
            });
            appends.waiting.push(request.clone());
            drop(appends);
            if let Word::Done(done) = request.turn.wait() {
                return done.clone().map_err(|error| copy_of(&error, self.key()));
            }
        } else {
            appends.making = true;
            drop(appends);
        }
        let appended = self.append_for_all(&known, signer, blocks)?;
        self.inner.checkpoint_if_due();
        Ok(appended)
    }

    /// Appends `blocks` and those of all that wait, under one signature; tells the others.
    fn append_for_all(
        &self,
        known: &KnownManifest,
        signer: &KeyPair,
        blocks: &[Bytes],
    ) -> Result<Appended, AppendError> {
        let mut round = Round {
            feed: self,
            making: true,
            requests: Vec::new(),
        };
        let mut writer = self.entry.writer();
        round.requests = self.take_waiting(&signer.public_key());
        let waiting = round.requests.iter().map(|request| &*request.blocks);
        let batches: Vec<&[Bytes]> = std::iter::once(blocks).chain(waiting).collect();
        let made = self.append_now(&mut writer, known, signer, &batches);
        drop(writer);
        round.hand_over();
        let done = made.and_then(|(done, ticket)| {
            self.inner.log.wait(&ticket)?;
            Ok(done)
        });
        match done {
            Ok(done) => {
                let own = done[0];
                round.tell(done[1..].iter().map(|appended| Ok(*appended)));
                Ok(own)
            }
            Err(error) => {
                let copy = copy_of(&error, self.key());
                round.tell(std::iter::repeat(Err(Arc::new(error))));
                Err(copy)
            }
        }
    }

    fn appends(&self) -> MutexGuard<'_, Appends> {
        self.entry
            .appends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what waits under the same signer.
    fn take_waiting(&self, signer: &PublicKey) -> Vec<Arc<AppendRequest>> {
        let mut appends = self.appends();
        appends
            .waiting
            .extract_if(.., |request| request.signer == *signer)
            .collect()
    }

    /// Returns the feed's manifest if `signer` is one of those it names, and its tables are known.
    pub(super) fn known_to(&self, signer: &KeyPair) -> Result<Arc<KnownManifest>, AppendError> {
        self.entry.ensure_known()?;
        let known = self.entry.read().manifest.clone();
        let key = signer.public_key();
        let names = |known: &Arc<KnownManifest>| {
            let mut signers = known.manifest.signers.iter();
            signers.any(|signer| signer.public_key == key)
        };
        known
            .filter(names)
            .ok_or(AppendError::NotWritable { feed: self.key() })
    }

    pub(super) fn check_sizes(&self, blocks: &[Bytes]) -> Result<(), AppendError> {
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

    /// Appends batches behind one another and submits them; returns what each becomes once the
    /// ticket is durable.
    pub(super) fn append_now(
        &self,
        writer: &mut FeedWriter,
        known: &KnownManifest,
        signer: &KeyPair,
        batches: &[&[Bytes]],
    ) -> Result<(Vec<Appended>, Ticket), AppendError> {
        if writer.dropped {
            return Err(StoreError::FeedDropped { feed: self.key() }.into());
        }
        if let Some(proof) = self.conflict()? {
            let (feed, proof) = (self.key(), Box::new(proof));
            return Err(AppendError::Conflict { feed, proof });
        }
        // Read before the head: what builds on a refused head is refused with it.
        let epoch = self.inner.log.epoch();
        writer.forget_refused();
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
            true => writer.ticket.clone(),
            false => self.inner.log.submit_in(&epoch, commits)?,
        };
        writer.head = Some(head);
        writer.ticket = ticket.clone();
        Ok((done, ticket))
    }

    /// Asks whoever owns the store for leave to sign once more.
    pub(super) fn ask_guard(&self) -> Result<(), SignRefused> {
        let Some(guard) = &self.inner.options.sign_guard else {
            return Ok(());
        };
        let feed = self.key();
        guard.before_signature(&feed, &|| self.inner.log.synced())
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
        self.ask_guard()
            .map_err(|refused| AppendError::Refused { feed, refused })?;
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

/// One caller's turn to make records, for itself and for `requests`.
struct Round<'a> {
    feed: &'a Feed,
    making: bool,
    requests: Vec<Arc<AppendRequest>>,
}

impl Round<'_> {
    /// Lets the next that waits make records: those behind these are hashed during their sync.
    fn hand_over(&mut self) {
        if !std::mem::take(&mut self.making) {
            return;
        }
        let mut appends = self.feed.appends();
        appends.making = !appends.waiting.is_empty();
        let next = appends.making.then(|| appends.waiting.remove(0));
        drop(appends);
        if let Some(next) = next {
            next.turn.tell(Word::Make);
        }
    }

    fn tell(&mut self, outcomes: impl Iterator<Item = Result<Appended, Arc<AppendError>>>) {
        for (request, outcome) in self.requests.drain(..).zip(outcomes) {
            request.turn.tell(Word::Done(outcome));
        }
    }
}

impl Drop for Round<'_> {
    /// Leaves nobody waiting when the turn ends early.
    fn drop(&mut self) {
        self.hand_over();
        let first = Arc::new(io::Error::other("an append was not finished"));
        let error = AppendError::Store(StoreError::WriterStopped { first });
        self.tell(std::iter::repeat(Err(Arc::new(error))));
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
