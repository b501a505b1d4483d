//! Message-oriented transports behind one small trait.

mod path;

pub use path::{CandidateKind, IceCandidate, IcePath, Transport};
