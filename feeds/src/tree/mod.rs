//! The Merkle tree of a feed: nodes, proofs, verification. Pure values, no storage.

mod node;
mod proof;

pub use node::Node;
pub use proof::{
    BlockProof, BlockRequest, HashProof, HashRequest, Proof, ProofRequest, SeekProof, SeekRequest,
    UpgradeProof, UpgradeRequest,
};
