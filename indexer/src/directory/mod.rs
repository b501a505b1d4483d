//! What one device's directory says, read whole or put together from a snapshot and what came after
//! it, and the snapshots that its device writes. Pure.

mod cutting;
mod fold;
mod reading;

pub use cutting::{NextSnapshot, cut_into_pages};
pub use fold::{Directory, Listed, PageFault, page_fault};
pub use reading::{Held, Wanted};
