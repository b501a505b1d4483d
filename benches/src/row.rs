//! What a row is, and all of them.

use anyhow::Result;

use crate::{append, identity, index, read};
#[cfg(feature = "network")]
use crate::{chromium, connect, far, replicate, signal_server, transfer};

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Fewer repeats and smaller inputs.
    pub(crate) quick: bool,
}

impl Effort {
    /// Returns the repeats whose median is the figure.
    pub(crate) fn repeats(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    /// Returns `full`, or a quarter of it when in a hurry.
    pub(crate) fn scaled(&self, full: u64) -> u64 {
        if self.quick { full / 4 } else { full }
    }
}

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Sizes, counts, what runs where, what is durable, what the clock covers.
    pub(crate) definition: &'static str,
    pub(crate) measure: fn(&Effort) -> Result<Measured>,
    /// Our side once, in this process, for a count of its syncs under strace.
    pub(crate) once: Option<fn(&Effort) -> Result<()>>,
}

/// One repeat; returns its figure.
pub(crate) type Run<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// The figures of one row.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) ours: Vec<f64>,
    pub(crate) peers: Vec<Peer>,
    /// What the machine does at most, measured in the same run, and what that is.
    pub(crate) limit: Option<(&'static str, Vec<f64>)>,
    /// Parts of that by themselves, in the same run and the row's unit.
    pub(crate) parts: Vec<(&'static str, Vec<f64>)>,
}

/// The figures of somebody else, or why there are none.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) figures: Result<Vec<f64>>,
}

impl Measured {
    /// Repeats ours and every peer in turn, so that a slow minute of the machine hits all alike.
    pub(crate) fn alternate(
        effort: &Effort,
        mut ours: impl FnMut() -> Result<f64>,
        peers: Vec<(String, Run<'_>)>,
        mut limit: Option<(&'static str, Run<'_>)>,
    ) -> Result<Measured> {
        let figures_of_limit = limit.as_ref().map(|(what, _)| (*what, Vec::new()));
        let mut measured = Measured {
            limit: figures_of_limit,
            ..Measured::default()
        };
        let mut running: Vec<_> = peers
            .into_iter()
            .map(|(name, run)| {
                (
                    Peer {
                        name,
                        figures: Ok(Vec::new()),
                    },
                    run,
                )
            })
            .collect();
        for _ in 0..effort.repeats() {
            measured.ours.push(ours()?);
            for (peer, run) in &mut running {
                if let Ok(figures) = &mut peer.figures {
                    match run() {
                        Ok(figure) => figures.push(figure),
                        Err(error) => peer.figures = Err(error),
                    }
                }
            }
            if let (Some((_, run)), Some((_, figures))) = (&mut limit, &mut measured.limit) {
                figures.push(run()?);
            }
        }
        measured.peers = running.into_iter().map(|(peer, _)| peer).collect();
        Ok(measured)
    }

    /// Measures parts of the limit by themselves, as often as the row.
    pub(crate) fn with_parts(
        mut self,
        effort: &Effort,
        parts: Vec<(&'static str, Run<'_>)>,
    ) -> Result<Measured> {
        for (what, mut run) in parts {
            let figures = (0..effort.repeats()).map(|_| run());
            self.parts.push((what, figures.collect::<Result<_>>()?));
        }
        Ok(self)
    }
}

/// Every row, in the order of the report.
pub(crate) const ROWS: &[Row] = &[
    append::BATCH_DURABLE,
    append::BATCH_DURABLE_2,
    append::SINGLE_RELAXED,
    append::SINGLE_DURABLE,
    append::MANY_WRITERS_DURABLE,
    append::MANY_FEEDS_DURABLE,
    append::LARGE_DURABLE,
    append::LARGE_RELAXED,
    read::RANDOM_100B,
    read::RANDOM_100B_ONE_THREAD,
    read::RANDOM_64K,
    read::OPEN_1M,
    read::OVERHEAD_100B,
    read::OPEN_10K,
    read::IDLE_FEED,
    #[cfg(feature = "network")]
    replicate::TCP_100B,
    #[cfg(feature = "network")]
    replicate::TCP_64K,
    #[cfg(feature = "network")]
    replicate::WEBRTC_64K,
    #[cfg(feature = "network")]
    replicate::WEBRTC_64K_STOCK,
    #[cfg(feature = "network")]
    replicate::WEBRTC_100B,
    #[cfg(feature = "network")]
    chromium::TO,
    #[cfg(feature = "network")]
    chromium::FROM,
    #[cfg(feature = "network")]
    replicate::FROM_NPM_100B,
    #[cfg(feature = "network")]
    replicate::FROM_NPM_64K,
    #[cfg(feature = "network")]
    replicate::TO_NPM_100B,
    #[cfg(feature = "network")]
    replicate::TO_NPM_64K,
    #[cfg(feature = "network")]
    transfer::SPARSE,
    #[cfg(feature = "network")]
    transfer::SPARSE_BYTES,
    #[cfg(feature = "network")]
    transfer::LIVE_P50,
    #[cfg(feature = "network")]
    transfer::LIVE_P99,
    #[cfg(feature = "network")]
    transfer::LIVE_RELAXED_P50,
    #[cfg(feature = "network")]
    transfer::LIVE_RELAXED_P99,
    #[cfg(feature = "network")]
    transfer::SEND_P50,
    #[cfg(feature = "network")]
    transfer::SEND_P99,
    #[cfg(feature = "network")]
    transfer::MEMORY_64K,
    #[cfg(feature = "network")]
    transfer::MEMORY_100B,
    #[cfg(feature = "network")]
    transfer::WIRE_DOWN,
    #[cfg(feature = "network")]
    transfer::WIRE_UP,
    #[cfg(feature = "network")]
    transfer::IDLE_FEED_WIRE,
    #[cfg(feature = "network")]
    connect::FIRST_BLOCK,
    #[cfg(feature = "network")]
    connect::IDLE_CONNECTION,
    #[cfg(feature = "network")]
    connect::IDLE_WAKE_UPS,
    #[cfg(feature = "network")]
    connect::IDLE_DATAGRAMS,
    #[cfg(feature = "network")]
    far::WEBRTC_20MS,
    #[cfg(feature = "network")]
    far::WEBRTC_20MS_1PCT,
    #[cfg(feature = "network")]
    far::WAN_40MS,
    #[cfg(feature = "network")]
    far::WAN_40MS_TCP,
    #[cfg(feature = "network")]
    far::INTERACTIVE,
    #[cfg(feature = "network")]
    far::SMALL_RTTS,
    #[cfg(feature = "network")]
    far::SMALL_SECONDS,
    #[cfg(feature = "network")]
    signal_server::IDLE_BYTES,
    #[cfg(feature = "network")]
    signal_server::IDLE_BYTES_TLS,
    #[cfg(feature = "network")]
    signal_server::RELAY_CPU,
    #[cfg(feature = "network")]
    signal_server::RELAY_CPU_TLS,
    #[cfg(feature = "network")]
    signal_server::RELAY_P99,
    #[cfg(feature = "network")]
    signal_server::RESTART,
    identity::EVALUATION,
    index::AUTHORITY,
    index::INGEST,
    index::LAST_50,
    index::SEARCH,
    index::REBUILD,
    index::REBUILD_MEMORY,
    index::REMOVAL,
];

/// Returns the middle of `figures`.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the slope of the line closest to the points.
#[cfg(feature = "network")]
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let mean =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    over / under
}
