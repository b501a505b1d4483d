//! A page of metrics: families with their kind and what they are about, and values with labels.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::rules::ByName;

/// A page that is being written, in the text format of Prometheus, version 0.0.4.
///
/// Names and labels are the caller's own words: nothing in them is escaped, so none may come from a client.
#[derive(Clone, Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Begins a family of values: `kind` is `gauge`, `counter` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a value to the family that was begun last.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{name}");
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// Adds one number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// Adds one number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.value(name, &[], value);
    }

    /// Adds times by buckets: for each upper bound how many took at most so long, then the number and the sum of all.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = (Duration, u64)>,
        count: u64,
        sum: Duration,
    ) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, within) in buckets {
            let bound = bound.as_secs_f64().to_string();
            self.value(&bucket, &[("le", &bound)], within);
        }
        self.value(&bucket, &[("le", "+Inf")], count);
        self.value(&format!("{name}_sum"), &[], sum.as_secs_f64());
        self.value(&format!("{name}_count"), &[], count);
    }

    /// Adds one growing number for each name.
    pub(super) fn counters(&mut self, name: &str, help: &str, label: &str, counts: &ByName) {
        self.family(name, "counter", help);
        for (text, count) in counts.iter() {
            self.value(name, &[(label, text)], count);
        }
    }

    /// Returns what was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (
            [
                (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"),
                (CACHE_CONTROL, "no-store"),
            ],
            self.text,
        )
            .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_wants_it() {
        let mut page = Page::default();
        page.family("a", "gauge", "Of two kinds.");
        page.value("a", &[("x", "one"), ("y", "two")], 3);
        page.counter("b_total", "All.", 4);
        let buckets = [(500, 1), (2_000, 2)];
        let buckets = buckets.map(|(millis, count)| (Duration::from_millis(millis), count));
        let sum = Duration::from_millis(4_250);
        page.histogram("c_seconds", "How long.", buckets, 3, sum);
        let expected = "# HELP a Of two kinds.\n\
            # TYPE a gauge\n\
            a{x=\"one\",y=\"two\"} 3\n\
            # HELP b_total All.\n\
            # TYPE b_total counter\n\
            b_total 4\n\
            # HELP c_seconds How long.\n\
            # TYPE c_seconds histogram\n\
            c_seconds_bucket{le=\"0.5\"} 1\n\
            c_seconds_bucket{le=\"2\"} 2\n\
            c_seconds_bucket{le=\"+Inf\"} 3\n\
            c_seconds_sum 4.25\n\
            c_seconds_count 3\n";
        assert_eq!(page.as_str(), expected);
    }
}
