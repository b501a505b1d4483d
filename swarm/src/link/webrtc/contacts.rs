//! Which addresses were tried: for whoever wants to know whom this machine talked to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::CONTACTS_KEPT_MAX;

/// Addresses of candidates that peers told and that were tried, whatever came of it, until they are
/// taken; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Contacts(Arc<Mutex<BTreeSet<SocketAddr>>>);

impl Contacts {
    /// Notes the addresses in a description or a candidate; beyond [`CONTACTS_KEPT_MAX`] none.
    pub(super) fn note(&self, text: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for address in text.lines().filter_map(address) {
            if kept.len() < CONTACTS_KEPT_MAX {
                kept.insert(address);
            }
        }
    }

    /// Takes what was noted since the last time.
    pub fn take(&self) -> BTreeSet<SocketAddr> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the address of a candidate attribute (RFC 8839 section 5.1).
fn address(line: &str) -> Option<SocketAddr> {
    let line = line.trim();
    let candidate = line.strip_prefix("a=").unwrap_or(line);
    let mut fields = candidate.strip_prefix("candidate:")?.split(' ').skip(4);
    let ip: IpAddr = fields.next()?.parse().ok()?;
    Some(SocketAddr::new(ip, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_candidates_are_noted_once_and_taken_once() {
        let contacts = Contacts::default();
        let description = "v=0\r\na=candidate:1 1 udp 2130706431 192.168.1.4 5000 typ host\r\n\
             a=candidate:2 1 udp 1 ::1 6000 typ host\r\na=candidate:3 1 udp 1 x.local 1 typ host\r\n";
        contacts.note(description);
        contacts.note("candidate:1 1 udp 2130706431 192.168.1.4 5000 typ host");
        let expected = ["192.168.1.4:5000", "[::1]:6000"].map(|it| it.parse().unwrap());
        assert_eq!(contacts.take(), expected.into());
        assert!(contacts.take().is_empty());
    }

    #[test]
    fn what_a_peer_makes_up_fills_no_memory() {
        let contacts = Contacts::default();
        for port in 0..2 * CONTACTS_KEPT_MAX {
            contacts.note(&format!("candidate:1 1 udp 1 192.0.2.1 {port} typ host"));
        }
        assert_eq!(contacts.take().len(), CONTACTS_KEPT_MAX);
    }
}
