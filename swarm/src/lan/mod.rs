//! Meeting on one network with no server: every node is a meeting point, and mDNS tells where it is.
//!
//! Owned by the node. A node serves the topic protocol on a port of its own ([`meeting_point`]),
//! announces the port under a name that is random for each process, and browses for others
//! ([`announcement`]). Of all nodes that are seen, each joins the few that
//! [`neighbourhood`] picks, so that all meet with a few connections each; [`driver`] carries that out.
//!
//! What is announced names no agent, no device, no topic and no machine; `docs/protocol.md`, "On one
//! network", has the bytes, `docs/cryptography.md` what somebody on the network learns.

mod addresses;
mod announcement;
mod config;
mod driver;
mod meeting_point;
mod neighbourhood;

pub(crate) use addresses::own_urls;
pub use config::{LanConfig, LanInterfaces, MeetingPointConfig};
pub(crate) use driver::{Lan, LanNews};
pub(crate) use meeting_point::MeetingPoint;
