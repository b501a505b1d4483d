//! Answering requests: nothing is served that was not checked on the way from the disk.

use bytes::Bytes;

use crate::limits::{SET_BYTES, SET_NODE_BYTES};
use crate::store::error::{ProveError, ReadError, StoreError};
use crate::store::feed::Feed;
use crate::store::state::StoredNodes;
use crate::tree::{self, BlockSet, BlocksProof, Proof, ProofRequest};

impl Feed {
    /// Makes the proof that answers a request, with the block's value.
    ///
    /// Nodes come from head parts whose check held; the value was checked as in
    /// [`get`](Self::get).
    pub fn prove(&self, request: &ProofRequest) -> Result<Proof, ProveError> {
        let feed = self.key();
        let signed = self.entry.read().signed.clone();
        let Some(signed) = signed else {
            return Err(ProveError::NotAvailable {
                feed,
                reason: "no signed head".to_owned(),
            });
        };
        let block = request.block.map(|block| block.index);
        let value = match block {
            None => None,
            Some(block) => Some(
                self.get(block)?
                    .ok_or(ProveError::BlockNotHeld { feed, block })?,
            ),
        };
        let source = StoredNodes {
            entry: &self.entry,
            heads: &self.inner.heads,
        };
        let made = tree::prove(&signed.head, &source, request, &signed.signature);
        let mut proof = made.map_err(|error| self.prove_error(block.unwrap_or(0), error))?;
        if let (Some(block), Some(value)) = (&mut proof.block, value) {
            block.value = value;
        }
        Ok(proof)
    }

    /// Makes the proof of the first blocks of a set, as many as are held and fit into
    /// [`SET_BYTES`], with their values.
    pub fn prove_blocks(&self, set: &BlockSet) -> Result<Proof, ProveError> {
        let feed = self.key();
        let signed = self.entry.read().signed.clone();
        let Some(signed) = signed else {
            return Err(ProveError::NotAvailable {
                feed,
                reason: "no signed head".to_owned(),
            });
        };
        let first = set.blocks().next().unwrap_or_default();
        let mut values = self.first_values(set)?;
        let source = StoredNodes {
            entry: &self.entry,
            heads: &self.inner.heads,
        };
        // Nodes count too: of blocks at random places they are most of the answer.
        loop {
            let set = set
                .prefix(values.len())
                .ok_or(ProveError::BlockNotHeld { feed, block: first })?;
            let node_bytes = set.nodes().len() * SET_NODE_BYTES;
            let bytes = values.iter().map(Bytes::len).sum::<usize>() + node_bytes;
            if bytes > SET_BYTES && values.len() > 1 {
                let fitting = values.len() * SET_BYTES / bytes;
                values.truncate(fitting.clamp(1, values.len() - 1));
                continue;
            }
            let made = tree::prove_blocks(&signed.head, &source, &set);
            let blocks = made.map_err(|error| self.prove_error(first, error))?;
            return Ok(Proof {
                fork: signed.head.fork,
                blocks: Some(Box::new(BlocksProof { values, ..blocks })),
                ..Proof::default()
            });
        }
    }

    /// Returns the first blocks of a set, as many as are held and fit.
    fn first_values(&self, set: &BlockSet) -> Result<Vec<Bytes>, ReadError> {
        let (mut values, mut bytes) = (Vec::<Bytes>::new(), 0);
        for run in set.runs() {
            let mut at = run.start;
            while at < run.end {
                let found = self.get_neighbours(at..run.end, SET_BYTES - bytes)?;
                if found.is_empty() {
                    return Ok(values);
                }
                at += found.len() as u64;
                for value in found {
                    bytes += value.len();
                    if bytes > SET_BYTES && !values.is_empty() {
                        return Ok(values);
                    }
                    values.push(value);
                }
                if bytes >= SET_BYTES {
                    return Ok(values);
                }
            }
        }
        Ok(values)
    }

    fn prove_error(&self, block: u64, error: tree::ProveError<StoreError>) -> ProveError {
        let feed = self.key();
        match error {
            tree::ProveError::Source(error) => ProveError::Read(self.node_error(2 * block, error)),
            tree::ProveError::MissingNode { .. } => ProveError::NotAvailable {
                feed,
                reason: error.to_string(),
            },
            other => ProveError::InvalidRequest {
                feed,
                reason: other.to_string(),
            },
        }
    }
}
