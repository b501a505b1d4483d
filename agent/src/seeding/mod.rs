//! Seed grants: keeping a room's sealed feeds for its members.
//!
//! A seeder wants exactly what its live grants name, shows each grant to whoever proves its meet key,
//! and serves what it keeps to them; it knows neither members nor content. `docs/rooms.md`, "A seeder".

mod clearing;
mod expiry;
mod give;
mod hold;
mod prove;

pub(crate) use expiry::watch_grants;
pub(crate) use give::GrantOffer;
pub(crate) use hold::is_of;
