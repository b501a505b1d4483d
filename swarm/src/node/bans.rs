//! Who is not to be met again for a while.

use std::collections::BTreeMap;

use kinlog_feeds::Time;

use crate::limits::{BAN_FIRST, BAN_LATER, BANS_MAX};

/// Bans, keyed by what is known of a peer: its client key on a server, its device key.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    entries: BTreeMap<[u8; 32], Ban>,
}

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Time,
    times: u32,
}

impl Bans {
    /// Bans for 10 minutes, from the second time on for 24 hours.
    pub(crate) fn ban(&mut self, now: Time, key: [u8; 32]) {
        if self.entries.len() >= BANS_MAX && !self.entries.contains_key(&key) {
            // The ban that ends first makes room.
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, ban)| ban.until)
                .map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        let ban = self.entries.entry(key).or_insert(Ban {
            until: now,
            times: 0,
        });
        let span = if ban.times == 0 { BAN_FIRST } else { BAN_LATER };
        ban.times = ban.times.saturating_add(1);
        ban.until = now + span;
    }

    pub(crate) fn is_banned(&self, now: Time, key: &[u8; 32]) -> bool {
        self.entries.get(key).is_some_and(|ban| now < ban.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_ban_is_longer_than_the_first() {
        let mut bans = Bans::default();
        let key = [1; 32];
        assert!(!bans.is_banned(Time::ZERO, &key));
        bans.ban(Time::ZERO, key);
        assert!(bans.is_banned(Time::ZERO, &key));
        assert!(!bans.is_banned(Time::ZERO + BAN_FIRST, &key));
        bans.ban(Time::ZERO + BAN_FIRST, key);
        assert!(bans.is_banned(Time::ZERO + BAN_LATER, &key));
        assert!(!bans.is_banned(Time::ZERO + BAN_FIRST + BAN_LATER, &key));
    }

    #[test]
    fn list_of_bans_stays_bounded() {
        let mut bans = Bans::default();
        for n in 0..BANS_MAX as u64 + 10 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            bans.ban(Time(n), key);
        }
        assert_eq!(bans.entries.len(), BANS_MAX);
        assert!(
            !bans.entries.contains_key(&[0; 32]),
            "the first to end made room"
        );
    }
}
