//! Where peers were met, to meet them there again without anybody's help: table `peer_routes`.
//!
//! A route is (agent, device, URL of a meeting point). Routes stand here alone: they are told to nobody.

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use rusqlite::params;

use crate::limits::{
    COORDINATORS_KEPT_MAX, ROUTE_WEIGHT, ROUTED_DEVICES_MAX, ROUTES_PER_DEVICE_MAX,
};
use crate::state::{State, StateError, fixed};

/// A remembered meeting point of a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PeerRoute {
    pub(crate) agent: AgentId,
    pub(crate) device: DeviceKey,
    /// URL of the meeting point.
    pub(crate) url: String,
    /// When the device was met there last, or told of it: seconds since 1970.
    pub(crate) seen_s: u64,
    /// How often it was met there of late when it was looked for, from 0 to 1.
    pub(crate) success_rate: f64,
    /// How the route came to be known: `signal`, `route`, or `told` by the device.
    pub(crate) path: String,
}

/// What a route is worth of which nothing is known yet.
const UNTRIED: f64 = 0.5;

impl State {
    /// Remembers a route, or that it was told of or used again. Beyond the limits those that were not seen
    /// for longest are forgotten.
    pub(crate) fn put_route(
        &self,
        agent: &AgentId,
        device: &DeviceKey,
        url: &str,
        path: &str,
        now_s: u64,
    ) -> Result<(), StateError> {
        let connection = self.lock();
        connection.execute(
            "INSERT INTO peer_routes VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (user_id, peer_id, signal_address) DO UPDATE SET last_seen = excluded.last_seen",
            params![agent.as_bytes(), device.as_bytes(), url, to_sql(now_s), UNTRIED, path],
        )?;
        connection.execute(
            "DELETE FROM peer_routes WHERE user_id = ?1 AND peer_id = ?2 AND signal_address NOT IN (
                 SELECT signal_address FROM peer_routes WHERE user_id = ?1 AND peer_id = ?2
                 ORDER BY last_seen DESC, success_rate DESC, signal_address = ?3 DESC LIMIT ?4)",
            params![agent.as_bytes(), device.as_bytes(), url, ROUTES_PER_DEVICE_MAX as u32],
        )?;
        connection.execute(
            "DELETE FROM peer_routes WHERE peer_id NOT IN (
                 SELECT peer_id FROM peer_routes GROUP BY peer_id
                 ORDER BY max(last_seen) DESC, peer_id = ?1 DESC LIMIT ?2)",
            params![device.as_bytes(), ROUTED_DEVICES_MAX as u32],
        )?;
        Ok(())
    }

    /// Notes whether a device was met at a route where it was looked for: a moving average.
    pub(crate) fn rate_route(
        &self,
        device: &DeviceKey,
        url: &str,
        met: bool,
    ) -> Result<(), StateError> {
        self.lock().execute(
            "UPDATE peer_routes SET success_rate = success_rate * (1 - ?3) + ?4 * ?3
             WHERE peer_id = ?1 AND signal_address = ?2",
            params![
                device.as_bytes(),
                url,
                ROUTE_WEIGHT,
                f64::from(u8::from(met))
            ],
        )?;
        Ok(())
    }

    /// Forgets a route of which its device tells no more.
    pub(crate) fn forget_route(&self, device: &DeviceKey, url: &str) -> Result<(), StateError> {
        self.lock().execute(
            "DELETE FROM peer_routes WHERE peer_id = ?1 AND signal_address = ?2",
            params![device.as_bytes(), url],
        )?;
        Ok(())
    }

    /// Forgets routes that were last seen before `since_s`.
    pub(crate) fn expire_routes(&self, since_s: u64) -> Result<(), StateError> {
        self.lock().execute(
            "DELETE FROM peer_routes WHERE last_seen < ?1",
            [to_sql(since_s)],
        )?;
        Ok(())
    }

    /// Remembers that a device introduced or relayed, or is a seeder's. Beyond the limit those for whom that
    /// is longest ago are forgotten.
    pub(crate) fn put_coordinator(&self, device: &DeviceKey, now_s: u64) -> Result<(), StateError> {
        let connection = self.lock();
        connection.execute(
            "INSERT INTO coordinators VALUES (?1, ?2)
             ON CONFLICT (peer_id) DO UPDATE SET last_seen = excluded.last_seen",
            params![device.as_bytes(), to_sql(now_s)],
        )?;
        connection.execute(
            "DELETE FROM coordinators WHERE peer_id NOT IN (
                 SELECT peer_id FROM coordinators ORDER BY last_seen DESC, peer_id = ?1 DESC LIMIT ?2)",
            params![device.as_bytes(), COORDINATORS_KEPT_MAX as u32],
        )?;
        Ok(())
    }

    /// Returns the devices that are remembered as coordinators since `since_s`, the last one first, each with
    /// when it was one.
    pub(crate) fn coordinators(&self, since_s: u64) -> Result<Vec<(DeviceKey, u64)>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT peer_id, last_seen FROM coordinators WHERE last_seen >= ?1
             ORDER BY last_seen DESC, peer_id",
        )?;
        let rows = statement.query_map([to_sql(since_s)], |row| {
            let seen: i64 = row.get(1)?;
            Ok((DeviceKey(fixed(row, 0)?), u64::try_from(seen).unwrap_or(0)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns every route, the best first.
    pub(crate) fn routes(&self) -> Result<Vec<PeerRoute>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT user_id, peer_id, signal_address, last_seen, success_rate, connection_path
             FROM peer_routes
             ORDER BY success_rate DESC, last_seen DESC, user_id, peer_id, signal_address",
        )?;
        let rows = statement.query_map([], |row| {
            let seen: i64 = row.get(3)?;
            Ok(PeerRoute {
                agent: AgentId(fixed(row, 0)?),
                device: DeviceKey(fixed(row, 1)?),
                url: row.get(2)?,
                seen_s: u64::try_from(seen).unwrap_or(0),
                success_rate: row.get(4)?,
                path: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn to_sql(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    fn state() -> (TestFolder, State) {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        (folder, state)
    }

    fn urls(state: &State) -> Vec<String> {
        let routes = state.routes().unwrap();
        routes.into_iter().map(|route| route.url).collect()
    }

    #[test]
    fn best_routes_come_first_and_the_rate_moves_with_what_happens() {
        let (_folder, state) = state();
        let (agent, device) = (AgentId([1; 32]), DeviceKey([2; 32]));
        for url in ["ws://a:1", "ws://b:1"] {
            state.put_route(&agent, &device, url, "told", 100).unwrap();
        }
        state.rate_route(&device, "ws://b:1", true).unwrap();
        assert_eq!(urls(&state), ["ws://b:1", "ws://a:1"]);
        for _ in 0..50 {
            state.rate_route(&device, "ws://b:1", false).unwrap();
        }
        assert_eq!(urls(&state), ["ws://a:1", "ws://b:1"]);
        let rates: Vec<f64> = state
            .routes()
            .unwrap()
            .iter()
            .map(|one| one.success_rate)
            .collect();
        assert!((0.0..0.01).contains(&rates[1]), "{rates:?}");
        // Told again: the rate stays.
        state
            .put_route(&agent, &device, "ws://b:1", "told", 200)
            .unwrap();
        assert_eq!(urls(&state), ["ws://a:1", "ws://b:1"]);
    }

    #[test]
    fn a_device_has_four_routes_and_fifty_devices_have_any() {
        let (_folder, state) = state();
        let agent = AgentId([1; 32]);
        let device = DeviceKey([2; 32]);
        for number in 0..10 {
            let url = format!("ws://a:{number}");
            state
                .put_route(&agent, &device, &url, "told", number)
                .unwrap();
        }
        let mut kept = urls(&state);
        kept.sort();
        assert_eq!(kept, ["ws://a:6", "ws://a:7", "ws://a:8", "ws://a:9"]);
        for number in 0..100u8 {
            let device = DeviceKey([number; 32]);
            let seen_s = 1000 + u64::from(number);
            state
                .put_route(&agent, &device, "ws://b:1", "signal", seen_s)
                .unwrap();
        }
        let routes = state.routes().unwrap();
        assert_eq!(routes.len(), ROUTED_DEVICES_MAX);
        assert!(
            routes.iter().all(|route| route.seen_s >= 1050),
            "the newest"
        );
    }

    /// R151: the last known coordinators.
    #[test]
    fn the_last_coordinators_are_remembered_and_no_others() {
        let (_folder, state) = state();
        for number in 0..100u8 {
            let device = DeviceKey([number; 32]);
            let seen_s = 1000 + u64::from(number);
            state.put_coordinator(&device, seen_s).unwrap();
        }
        state.put_coordinator(&DeviceKey([98; 32]), 2000).unwrap();
        let kept = state.coordinators(0).unwrap();
        assert_eq!(kept.len(), COORDINATORS_KEPT_MAX);
        assert_eq!(kept[0], (DeviceKey([98; 32]), 2000));
        assert_eq!(kept[1], (DeviceKey([99; 32]), 1099));
        assert_eq!(state.coordinators(1099).unwrap(), kept[..2]);
    }

    #[test]
    fn routes_that_nobody_used_for_long_are_forgotten() {
        let (_folder, state) = state();
        let agent = AgentId([1; 32]);
        state
            .put_route(&agent, &DeviceKey([2; 32]), "ws://a:1", "told", 100)
            .unwrap();
        state
            .put_route(&agent, &DeviceKey([3; 32]), "ws://b:1", "told", 200)
            .unwrap();
        state.expire_routes(150).unwrap();
        assert_eq!(urls(&state), ["ws://b:1"]);
    }
}
