//! Written by `cargo xtask gen` from `proto/`; edits are lost.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

pub(crate) mod kinlog_entry_v1;
