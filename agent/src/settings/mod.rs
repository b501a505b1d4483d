//! What an agent says of itself and keeps for itself: registers in paths that all its devices write.
//!
//! `/settings` is private: pins, petnames, preferences. `/profile` and `/trust` are public: what the agent
//! calls itself, and what it says of others. Each device has a feed of its own there; the index reads them as
//! one. A device that comes later takes the pins up from what its siblings wrote.

mod names;
mod paths;
mod pins;
mod values;

pub(crate) use paths::{PROFILE, SETTINGS, TRUST, check_unreserved};
