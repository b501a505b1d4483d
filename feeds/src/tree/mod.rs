//! The Merkle tree of a feed: nodes, appending, proofs and their verification. Pure values, no
//! storage: what is already trusted comes in through [`NodeSource`].
//!
//! The numbering is that of `flat-tree`: block `i` is node `2i`, inner nodes are odd. Source of the
//! algorithms: `lib/merkle-tree.js` of npm `hypercore` 11, written anew and hardened against
//! hostile input.

mod append;
mod blocks;
mod build;
mod fold;
mod head;
mod node;
mod proof;
mod prove;
mod seek;
mod set;
mod trusted;
mod upgrade;
mod verify;

pub(crate) use append::hash_values;
pub use append::{AppendError, Appended, append, completed_parents, hash_leaves};
pub use blocks::{BlocksProof, prove_blocks};
pub use head::{Head, NodeSource, SignedHead, root_indexes};
pub use node::Node;
pub use proof::{
    BlockProof, BlockRequest, HashProof, HashRequest, Proof, ProofRequest, SeekProof, SeekRequest,
    UpgradeProof, UpgradeRequest,
};
pub use prove::{ProveError, prove};
pub use seek::{Sought, seek};
pub use set::{BlockSet, Group};
pub(crate) use verify::verify_hashed;
pub use verify::{Conflict, Fault, Verified, VerifyError, verify};

pub(crate) use build::Builder;
pub(crate) use head::subtrees;
