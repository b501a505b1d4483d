//! Answering requests: nothing is served that was not checked on the way from the disk.

use crate::store::error::ProveError;
use crate::store::feed::Feed;
use crate::store::state::StoredNodes;
use crate::tree::{self, Proof, ProofRequest};

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
        let mut proof = made.map_err(|error| match error {
            tree::ProveError::Source(error) => {
                let node = block.map_or(0, |block| 2 * block);
                ProveError::Read(self.node_error(node, error))
            }
            tree::ProveError::MissingNode { .. } => ProveError::NotAvailable {
                feed,
                reason: error.to_string(),
            },
            other => ProveError::InvalidRequest {
                feed,
                reason: other.to_string(),
            },
        })?;
        if let (Some(block), Some(value)) = (&mut proof.block, value) {
            block.value = value;
        }
        Ok(proof)
    }
}
