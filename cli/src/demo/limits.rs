//! How long the demo waits for anything, with reasons.

use std::time::Duration;

/// A process that starts, answers or stops: milliseconds normally, seconds on a loaded machine.
pub(crate) const PROCESS_WAIT_MAX: Duration = Duration::from_secs(20);

/// Two peers that meet and exchange something small: a topic, ICE and DTLS take about a second.
pub(crate) const MEETING_WAIT_MAX: Duration = Duration::from_secs(40);

/// The large file on its way: 150 MB at 3 MB/s.
pub(crate) const TRANSFER_WAIT_MAX: Duration = Duration::from_secs(50);

/// A clean stop before the process is killed.
pub(crate) const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

/// Lines of a child's stderr that are kept to be shown when a step fails.
pub(crate) const STDERR_LINES_KEPT: usize = 12;

/// The file that is sent is larger than this; else it is written for the demo.
pub(crate) const BIG_FILE_BYTES_MIN: u64 = 100_000_000;

/// Until two sessions of the same two, who dialled each other at once, are one.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Between one look and the next.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
