//! Every host that this home contacted, and why: kept here alone, for whoever lives with it.
//!
//! Servers of the settings count from when they are dialled, addresses that peers told from when they
//! were tried, whatever came of it.

use std::collections::BTreeMap;

use kinlog_signal::ice::IceServers;
use kinlog_swarm::NodeStatus;

use crate::api::{EgressInfo, Error};
use crate::core::Core;
use crate::limits::EGRESS_KEPT_MAX;
use crate::network::Network;

/// Name of the value in `state.db`: a list in JSON.
const VALUE: &str = "egress";

/// What is kept, by host and reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct EgressLog(BTreeMap<(String, String), EgressInfo>);

impl EgressLog {
    fn read(bytes: Option<Vec<u8>>) -> EgressLog {
        // A log that does not read begins anew: it is told, not decided by.
        let rows = bytes.and_then(|bytes| serde_json::from_slice::<Vec<EgressInfo>>(&bytes).ok());
        let rows = rows.unwrap_or_default().into_iter();
        EgressLog(
            rows.map(|row| ((row.host.clone(), row.why.clone()), row))
                .collect(),
        )
    }

    /// Notes that a host was contacted; of too many the one that was contacted longest ago goes.
    pub(crate) fn note(&mut self, host: &str, why: &str, now_ms: u64) {
        let key = (host.to_owned(), why.to_owned());
        let row = self.0.entry(key).or_insert_with(|| EgressInfo {
            host: host.to_owned(),
            why: why.to_owned(),
            first_ms: now_ms,
            last_ms: now_ms,
        });
        row.last_ms = row.last_ms.max(now_ms);
        while self.0.len() > EGRESS_KEPT_MAX {
            let oldest = self.0.iter().min_by_key(|(_, row)| row.last_ms);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }

    /// Returns all, the last contacted first.
    pub(crate) fn rows(self) -> Vec<EgressInfo> {
        let mut rows: Vec<EgressInfo> = self.0.into_values().collect();
        rows.sort_by(|one, other| {
            (other.last_ms, &one.host, &one.why).cmp(&(one.last_ms, &other.host, &other.why))
        });
        rows
    }

    /// Notes what the node does now; `listed_by` says who lists a signal server that is joined for that, and
    /// `servers` are the STUN and TURN servers in use.
    fn look(
        &mut self,
        node: &NodeStatus,
        listed_by: impl Fn(&str) -> Option<Vec<String>>,
        servers: &[(String, &str)],
        now_ms: u64,
    ) {
        for point in &node.signal {
            // A point that waits for its first topic was not dialled.
            if !point.connected && point.reason.is_none() {
                continue;
            }
            let listed = listed_by(&point.url).map(|by| listed(&by));
            let why = match point.found_by.name() {
                "signal" => "signal server",
                "route" if listed.is_some() => listed.as_deref().unwrap_or_default(),
                "lan" => "meeting point: local network",
                "route" => "meeting point: remembered",
                "own" => continue,
                _ => "meeting point",
            };
            self.note(&point.url, why, now_ms);
        }
        for session in &node.sessions {
            let path = session.path.as_ref();
            if path.is_some() {
                for (url, why) in servers {
                    self.note(url, why, now_ms);
                }
            }
            if let Some(address) = path.and_then(|path| path.remote.address) {
                self.note(&address.ip().to_string(), "peer: connected", now_ms);
            }
        }
    }
}

/// Says why a signal server is joined that somebody lists.
fn listed(by: &[String]) -> String {
    match by {
        [] => "signal server: listed in a profile".to_owned(),
        [one] => format!("signal server: {one} lists it"),
        [first, others @ ..] => format!("signal server: {first} and {} more list it", others.len()),
    }
}

impl Core {
    /// Returns every host that was contacted, as far as it was noted.
    pub(crate) fn egress(&self) -> Result<Vec<EgressInfo>, Error> {
        Ok(EgressLog::read(self.state.value(VALUE)?).rows())
    }

    /// Notes what the node contacted since the last time.
    pub(crate) fn note_egress(
        &self,
        network: &Network,
        node: &NodeStatus,
        told: &[IceServers],
        now_ms: u64,
    ) -> Result<(), Error> {
        let settings = network.stun_urls.iter().cloned();
        let stun = told.iter().flat_map(|servers| &servers.stun);
        let turn = told.iter().flat_map(|servers| &servers.turn);
        let servers: BTreeMap<String, &str> = stun
            .map(|url| (url.to_string(), "STUN server: a signal server told it"))
            .chain(turn.map(|url| (url.to_string(), "TURN server: a signal server told it")))
            .chain(settings.map(|url| (url, "STUN server")))
            .collect();
        let servers: Vec<(String, &str)> = servers.into_iter().collect();
        let before = self.state.value(VALUE)?;
        let mut log = EgressLog::read(before.clone());
        for address in network.contacts.take() {
            let why = "peer: address tried";
            log.note(&address.ip().to_string(), why, now_ms);
            for (url, why) in &servers {
                log.note(url, why, now_ms);
            }
        }
        log.look(node, |url| network.listed_by(url), &servers, now_ms);
        let rows = log.rows();
        let bytes = serde_json::to_vec(&rows).map_err(|error| Error::general(error.to_string()))?;
        if before.as_deref() != Some(&bytes) {
            self.state.set_value(VALUE, &bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_kept_once_for_each_reason_with_the_newest_time() {
        let mut log = EgressLog::default();
        log.note("192.0.2.1", "peer", 5);
        log.note("192.0.2.1", "peer", 9);
        log.note("192.0.2.1", "STUN server", 7);
        let bytes = serde_json::to_vec(&log.rows()).unwrap();
        let rows = EgressLog::read(Some(bytes)).rows();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.why.as_str(), row.first_ms, row.last_ms))
            .collect();
        assert_eq!(told, [("peer", 5, 9), ("STUN server", 7, 7)]);
    }

    #[test]
    fn of_too_many_the_oldest_goes() {
        let mut log = EgressLog::default();
        for number in 0..=EGRESS_KEPT_MAX {
            log.note(&format!("host {number}"), "peer", number as u64);
        }
        let rows = log.rows();
        assert_eq!(rows.len(), EGRESS_KEPT_MAX);
        assert!(rows.iter().all(|row| row.host != "host 0"));
    }

    #[test]
    fn a_log_that_does_not_read_begins_anew() {
        assert!(
            EgressLog::read(Some(b"not a list".to_vec()))
                .rows()
                .is_empty()
        );
    }
}
