//! How long something took, in buckets that never change: what Prometheus makes shares and quantiles of.

use std::time::Duration;

use serde::Serialize;

/// Times that were measured, by buckets. Of each only the count is kept.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// Upper bounds of all buckets but the last, ascending.
    bounds: &'static [Duration],
    /// One more than bounds: the last takes what is longer than all.
    counts: Vec<u64>,
    sum: Duration,
}

/// What a [`Histogram`] has counted, each bucket with those below it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct HistogramStatus {
    /// Upper bound in milliseconds, and how many took at most so long; ascending.
    pub buckets: Vec<(u64, u64)>,
    /// How many were measured.
    pub count: u64,
    /// Microseconds of all together.
    pub sum_us: u64,
}

impl Histogram {
    /// Returns one that has measured nothing; `bounds` ascend and are whole milliseconds.
    pub(crate) fn new(bounds: &'static [Duration]) -> Self {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: Duration::ZERO,
        }
    }

    /// Something took so long.
    pub(crate) fn observe(&mut self, took: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < took);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// Returns what was counted.
    pub(crate) fn status(&self) -> HistogramStatus {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, of_bucket) in self.bounds.iter().zip(&self.counts) {
            count += of_bucket;
            let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
            buckets.push((millis, count));
        }
        HistogramStatus {
            buckets,
            count: self.counts.iter().sum(),
            sum_us: u64::try_from(self.sum.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

    /// As Prometheus has it: a bound belongs to its bucket, and each bucket counts those below it.
    #[test]
    fn a_time_counts_in_every_bucket_that_is_not_shorter() {
        let mut histogram = Histogram::new(&BOUNDS);
        for millis in [500, 1_000, 1_001, 2_000, 2_001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let status = histogram.status();
        assert_eq!(status.buckets, [(1_000, 2), (2_000, 4)]);
        assert_eq!((status.count, status.sum_us), (5, 6_502_000));
    }
}
