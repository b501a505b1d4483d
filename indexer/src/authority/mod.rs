//! Who may do what in a room: a pure function of the acts held.
//!
//! Acts come in any order, twice, with parents missing ([`RoomActs::add`]); what follows does not
//! depend on it ([`RoomActs::authority`]). Each act is judged once, by its past, when that is held
//! whole. Which authorised acts count is decided among those that something concurrent contests, in
//! the order of their rank; so an act at the head of a history costs what it is about, and only
//! what is concurrent costs more. No clock and no disk here. The rules, with their reasons:
//! `docs/design/0015-identity-and-authority.md`.

mod aside;
mod bits;
mod carried;
mod decide;
mod graph;
mod held;
mod judge;
mod room_acts;
mod state;
mod verdict;
mod view;

pub use carried::DevicesOf;
pub use held::{ActPlace, Devices, HeldAct, devices_of};
pub use judge::feed_acts_max;
pub use room_acts::{ActHeads, RoomActs};
pub use verdict::{Refusal, Verdict, Void, VoidReason};
pub use view::{
    ActRow, Announcement, Authority, Ending, EndingSort, EpochRow, FeedCut, GrantRow, InviteRow,
    Member, RoomFeed, RoomStart,
};
