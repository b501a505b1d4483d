//! `/metrics` in the text format of Prometheus, on a port of its own.
//!
//! [`Page`] is how a page is written, [`serve_metrics`] serves one that somebody else writes: a node says so how it
//! does, too. What this server counts stands in `server`.

mod page;
mod serve;
mod server;

pub use page::Page;
pub use serve::serve_metrics;
pub(super) use server::router;
