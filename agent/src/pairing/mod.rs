//! Two machines and no server at all: an offer and an answer are carried by hand.
//!
//! The offer is one text with a fresh key and all addresses of the machine that makes it; whoever takes
//! it answers with such a text. The link that comes of it is one of label `code` with that key: both
//! sides show certificates and say who they are, and each gets what it may have anyway ([`View`]): public
//! feeds that it names, and those of rooms whose member its device is. Nothing is given for having
//! the text alone.
//!
//! [`text`] has the bytes (`docs/formats.md`), [`Pairings`] the offer that is open.
//!
//! [`View`]: crate::host::View

mod meet;
mod open;
mod text;

pub(crate) use meet::{PairKeys, Paired};
pub(crate) use open::Pairings;
pub use text::{PairKind, PairText, PairTextError};
