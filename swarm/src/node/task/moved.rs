//! When this machine is on another network than before.

use super::Task;
use crate::link::{CandidateKind, IcePath, LinkError, Transport};
use crate::node::own_addresses::is_own;
use crate::session::SessionError;

impl Task {
    /// Looks whether this machine's addresses have changed. If so, what hung on the old ones is not waited
    /// for until it falls silent: servers are dialled at once, and peers are met again through them.
    pub(super) async fn look_at_addresses(&mut self) {
        if !self.own_addresses.have_changed() {
            return;
        }
        tracing::info!("this machine's addresses have changed");
        self.signalling.redial();
        for (id, entry) in &self.sessions.entries {
            let path = entry.link.path().await;
            if path.transport == Transport::Webrtc && path.ice.is_none_or(|ice| is_lost(&ice)) {
                let gone = SessionError::Link(LinkError::AddressGone);
                self.sessions.close(*id, gone);
            }
        }
    }
}

/// Returns whether a way began at an address that is not this machine's any more. What a server or a peer
/// saw belongs to the network before.
fn is_lost(ice: &IcePath) -> bool {
    match (ice.local.kind, ice.local.address) {
        (CandidateKind::Host, Some(address)) => !is_own(address.ip()),
        _ => true,
    }
}
