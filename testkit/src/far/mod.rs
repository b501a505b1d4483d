//! Links that are long, thin or lossy, in user space: where the kernel has nothing for it, between two
//! sockets of the loopback interface.
//!
//! [`Path`] decides when a packet arrives, from a seed and without a clock; [`StreamRelay`]
//! and [`Crossing`] carry bytes by what it says.

mod crossing;
mod path;
mod stream;

pub use crossing::Crossing;
pub use path::{Path, Quality};
pub use stream::StreamRelay;
