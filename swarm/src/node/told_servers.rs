//! STUN and TURN servers as signal servers tell them.

use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::Time;
use kinlog_signal::ice::IceServers;

/// What each signal server told last.
#[derive(Debug, Default)]
pub(super) struct ToldServers {
    by_server: BTreeMap<usize, Told>,
}

#[derive(Debug)]
struct Told {
    servers: IceServers,
    /// When the credentials end, where there are some.
    end: Option<Time>,
}

impl ToldServers {
    /// Takes what signal server number `server` tells, in the place of what it told before.
    pub(super) fn told(&mut self, now: Time, server: usize, servers: IceServers) {
        let lifetime = Duration::from_secs(servers.lifetime_s.into());
        let end = (!servers.turn.is_empty()).then(|| now + lifetime);
        self.by_server.insert(server, Told { servers, end });
    }

    /// Forgets what a signal server told that is one no more.
    pub(super) fn forget(&mut self, server: usize) {
        self.by_server.remove(&server);
    }

    /// Returns what may be used now: credentials that have ended, and their servers, are left out.
    pub(super) fn usable(&self, now: Time) -> Vec<IceServers> {
        let usable = self.by_server.values().map(|told| {
            let mut servers = told.servers.clone();
            if told.end.is_some_and(|end| end <= now) {
                servers.turn.clear();
            }
            servers
        });
        usable.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_have_ended_are_used_no_more_and_stun_is() {
        let mut told = ToldServers::default();
        let servers = IceServers {
            stun: vec!["stun:a".parse().unwrap()],
            turn: vec!["turn:a".parse().unwrap()],
            lifetime_s: 2,
            ..IceServers::default()
        };
        told.told(Time::ZERO, 0, servers.clone());
        assert_eq!(told.usable(Time(1_999_999)), std::slice::from_ref(&servers));
        let ended = IceServers {
            turn: Vec::new(),
            ..servers.clone()
        };
        assert_eq!(told.usable(Time(2_000_000)), [ended]);
        told.told(Time(2_000_000), 0, servers.clone());
        assert_eq!(told.usable(Time(2_000_000)), [servers]);
    }
}
