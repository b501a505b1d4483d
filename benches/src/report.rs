//! A row as one JSON line, and in words.

use serde_json::{Value, json};

use crate::row::{Measured, Peer, Row, median};
use crate::syncs::Syncs;

/// Returns the line of `docs` and scripts: the first peer that ran stands in `theirs` and `ratio`.
pub(crate) fn json(row: &Row, measured: &Measured, syncs: &Option<Syncs>) -> Value {
    let ours = median(&measured.ours);
    let first = measured
        .peers
        .iter()
        .find_map(|peer| Some((peer, figure(peer)?)));
    let limit = measured
        .limit
        .as_ref()
        .map(|(what, figures)| (*what, median(figures)));
    json!({
        "bench": row.name,
        "ours": rounded(ours),
        "unit": row.unit,
        "peer": first.map(|(peer, _)| peer.name.as_str()),
        "theirs": first.map(|(_, theirs)| rounded(theirs)),
        "ratio": first.map(|(_, theirs)| rounded(ours / theirs)),
        "limit": limit.map(|(_, limit)| rounded(limit)),
        "limit_is": limit.map(|(what, _)| what),
        "of_limit": limit.map(|(_, limit)| rounded(ours / limit)),
        "alone": measured.parts.iter().map(part_json).collect::<Vec<Value>>(),
        "repeats": measured.ours.iter().copied().map(rounded).collect::<Vec<f64>>(),
        "peers": measured.peers.iter().map(peer_json).collect::<Vec<Value>>(),
        "fdatasyncs": syncs.as_ref().map(|syncs| json!({ "calls": syncs.calls, "for": syncs.work })),
    })
}

/// Returns the row as a person reads it.
pub(crate) fn words(row: &Row, measured: &Measured, syncs: &Option<Syncs>) -> String {
    let ours = median(&measured.ours);
    let mut words = format!("ours {} {}", grouped(ours), row.unit);
    for peer in &measured.peers {
        match (&peer.figures, figure(peer)) {
            (_, Some(theirs)) => {
                let ratio = ours / theirs;
                words += &format!("; {} {} ({ratio:.2}x)", peer.name, grouped(theirs));
            }
            (Err(error), None) => words += &format!("; {} skipped: {error:#}", peer.name),
            (Ok(_), None) => words += &format!("; {} gave no figure", peer.name),
        }
    }
    if let Some((what, figures)) = &measured.limit {
        let limit = median(figures);
        words += &format!(
            "; {:.0} % of {} ({what})",
            100.0 * ours / limit,
            grouped(limit)
        );
    }
    for (what, figures) in &measured.parts {
        words += &format!("; {what} alone {}", grouped(median(figures)));
    }
    if let Some(syncs) = syncs {
        words += &format!("; {} fdatasync calls for {}", syncs.calls, syncs.work);
    }
    words
}

fn part_json((what, figures): &(&'static str, Vec<f64>)) -> Value {
    json!({ "part": what, "figure": rounded(median(figures)) })
}

fn peer_json(peer: &Peer) -> Value {
    match (&peer.figures, figure(peer)) {
        (Ok(all), Some(theirs)) => {
            let repeats: Vec<f64> = all.iter().copied().map(rounded).collect();
            json!({ "peer": peer.name, "theirs": rounded(theirs), "repeats": repeats })
        }
        (Err(error), _) => json!({ "peer": peer.name, "skipped": format!("{error:#}") }),
        (Ok(_), None) => json!({ "peer": peer.name, "skipped": "no figure" }),
    }
}

fn figure(peer: &Peer) -> Option<f64> {
    let figures = peer.figures.as_ref().ok()?;
    (!figures.is_empty()).then(|| median(figures))
}

/// Four significant digits are more than a machine repeats.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_four_digits() {
        assert_eq!(rounded(123_456.7), 123_500.0);
        assert_eq!(rounded(0.012_345_6), 0.012_35);
        assert_eq!(grouped(1_234_567.8), "1,234,568");
        assert_eq!(grouped(12.345), "12.35");
    }
}
