//! Links and paths as people pass them on: `docs/formats.md`, "Who holds what".

pub(crate) mod base64url;
mod found;
mod grant;
mod invite;
mod link;
mod path;
pub(crate) mod signals;

pub(crate) use found::links_in;
pub use grant::{GrantLink, GrantLinkError};
pub use invite::{Invite, InviteError};
pub(crate) use link::is_signal_url;
pub use link::{FeedName, Link, LinkError};
pub use path::{FeedPath, PathError};
