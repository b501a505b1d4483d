//! What the libraries tell while they work, on stderr when asked for.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::arguments::Global;
use crate::output::Output;

/// Variable that chooses what is logged, in the syntax of `tracing_subscriber`.
const VARIABLE: &str = "KINLOG_LOG";

/// What peers say in confidence, decrypted, for tests that search it: only for who asks for it by name.
const FRAMES: &str = "kinlog_swarm::frames";

/// Starts the log: warnings, `-v` ours in detail, `-vv` everything; `KINLOG_LOG` overrides.
pub(crate) fn start_log(global: &Global, output: &Output) {
    let default = match (global.quiet, global.verbose) {
        (true, _) => "off",
        (false, 0) => "off,kinlog=warn,kinlog_agent=warn",
        (false, 1) => "warn,kinlog=info,kinlog_agent=info,kinlog_swarm=info,kinlog_signal=info",
        (false, _) => "info,kinlog=debug,kinlog_agent=debug,kinlog_swarm=debug,kinlog_signal=debug",
    };
    let asked = std::env::var(VARIABLE).ok();
    let filter = match asked.as_deref() {
        Some(asked) if asked.contains(FRAMES) => EnvFilter::try_new(asked),
        Some(asked) => EnvFilter::try_new(format!("{asked},{FRAMES}=off")),
        None => EnvFilter::try_new(default),
    };
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(global.verbose > 0 || asked.is_some())
        .with_ansi(output.paint_words().is_colored())
        .with_writer(io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = if global.json {
        log.json().try_init()
    } else {
        log.without_time().try_init()
    };
}
