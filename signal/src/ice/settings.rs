//! What a signal server tells its clients.

use std::fmt;

use kinlog_feeds::crypto::{Secret, blake2b_256_keyed};
use kinlog_feeds::{PublicKey, text};

use super::{IceServers, IceUrl, TurnSecrets};
use crate::Topic;
use crate::limits::{ICE_URLS_MAX, TURN_CREDENTIAL_LIFETIME_S};

/// Which STUN and TURN servers clients are told to use.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct IceSettings {
    /// STUN servers. Default none: then, where this server answers STUN itself, the host that a client
    /// dialled, with the port of that socket.
    pub stun: Vec<IceUrl>,
    /// TURN servers, the one to prefer first. Default none.
    pub turn: Vec<IceUrl>,
    /// What credentials for them are signed with. Default none: then no TURN server is told.
    pub secrets: Option<TurnSecrets>,
    /// Seconds for which credentials are good, 3,600 at most, which is the default.
    pub lifetime_s: Option<u32>,
}

impl IceSettings {
    /// Names STUN servers in the place of this one; at most eight are told.
    pub fn stun(mut self, urls: Vec<IceUrl>) -> Self {
        self.stun = urls;
        self
    }

    /// Names TURN servers with the secrets that they share with this one; at most eight are told.
    pub fn turn(mut self, urls: Vec<IceUrl>, secrets: TurnSecrets) -> Self {
        self.turn = urls;
        self.secrets = Some(secrets);
        self
    }

    /// Replaces the seconds for which credentials are good.
    pub fn lifetime_s(mut self, seconds: u32) -> Self {
        self.lifetime_s = Some(seconds);
        self
    }
}

/// Ports of this server where it does it itself; clients are told the host that they dialled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnPorts {
    pub(crate) stun: Option<u16>,
    pub(crate) turn: Option<u16>,
}

/// Makes what one client is told.
#[derive(Clone)]
pub(crate) struct Teller {
    settings: IceSettings,
    own: OwnPorts,
    /// Blinds the names in usernames; fresh for each process.
    blinding: Secret,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller")
            .field("settings", &self.settings)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Teller {
    pub(crate) fn new(settings: IceSettings, own: OwnPorts, blinding: [u8; 32]) -> Self {
        Teller {
            settings,
            own,
            blinding: Secret::new(blinding),
        }
    }

    /// Returns whether there is anything to tell.
    pub(crate) fn has_any(&self) -> bool {
        self.has_turn() || self.own.stun.is_some() || !self.settings.stun.is_empty()
    }

    fn has_turn(&self) -> bool {
        let any = self.own.turn.is_some() || !self.settings.turn.is_empty();
        any && self.settings.secrets.is_some()
    }

    /// Returns what a client is told that dialled `host` and is known by `key` in `topic`.
    pub(crate) fn tell(
        &self,
        unix_seconds: u64,
        host: &str,
        topic: &Topic,
        key: &PublicKey,
    ) -> IceServers {
        let stun = match (self.settings.stun.as_slice(), self.own.stun) {
            ([], Some(port)) => vec![IceUrl::stun(host, port)],
            (urls, _) => urls.iter().take(ICE_URLS_MAX).cloned().collect(),
        };
        let mut servers = IceServers {
            stun,
            ..IceServers::default()
        };
        if let Some(secrets) = &self.settings.secrets
            && self.has_turn()
        {
            let lifetime = self
                .settings
                .lifetime_s
                .unwrap_or(TURN_CREDENTIAL_LIFETIME_S);
            servers.lifetime_s = lifetime.clamp(1, TURN_CREDENTIAL_LIFETIME_S);
            let expiry = unix_seconds.saturating_add(servers.lifetime_s.into());
            let name = self.blinded(topic, key);
            (servers.username, servers.credential) = secrets.sign(expiry, &name);
            let own = self.own.turn.into_iter();
            let own = own.flat_map(|port| IceUrl::turn(host, port));
            let all = own.chain(self.settings.turn.iter().cloned());
            servers.turn = all.take(ICE_URLS_MAX).collect();
        }
        servers
    }

    /// Returns the name of a client in a topic as a TURN server sees it: it tells two clients apart
    /// and says nothing about either.
    fn blinded(&self, topic: &Topic, key: &PublicKey) -> String {
        let hash = blake2b_256_keyed(self.blinding.expose(), &[&topic.0, &key.0]);
        text::encode_hex(hash.get(..8).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic([1; 32]);
    const KEY: PublicKey = PublicKey([2; 32]);

    fn tell(settings: IceSettings, stun_port: Option<u16>) -> IceServers {
        let own = OwnPorts {
            stun: stun_port,
            turn: None,
        };
        Teller::new(settings, own, [3; 32]).tell(1_000, "signal.example", &TOPIC, &KEY)
    }

    fn turn() -> IceSettings {
        let urls = vec!["turn:turn.example".parse().unwrap()];
        IceSettings::default().turn(urls, TurnSecrets::parse("north-south-east-west").unwrap())
    }

    #[test]
    fn own_stun_server_is_told_by_the_host_that_was_dialled() {
        let told = tell(IceSettings::default(), Some(4848));
        assert_eq!(told.stun, [IceUrl::stun("signal.example", 4848)]);
        assert_eq!((told.turn.len(), told.lifetime_s), (0, 0));
        let other = vec!["stun:stun.example".parse().unwrap()];
        let told = tell(IceSettings::default().stun(other.clone()), Some(4848));
        assert_eq!(told.stun, other);
    }

    #[test]
    fn credentials_end_within_the_hour_whatever_is_set() {
        assert_eq!(tell(turn(), None).lifetime_s, 3_600);
        let told = tell(turn().lifetime_s(86_400), None);
        assert_eq!(told.lifetime_s, 3_600);
        assert!(told.username.starts_with("4600:"), "{}", told.username);
        assert!(
            tell(turn().lifetime_s(5), None)
                .username
                .starts_with("1005:")
        );
    }

    #[test]
    fn usernames_differ_by_topic_and_client_and_name_neither() {
        let teller = Teller::new(turn(), OwnPorts::default(), [3; 32]);
        let name = |topic, key| {
            teller
                .tell(1_000, "a", &Topic([topic; 32]), &PublicKey([key; 32]))
                .username
        };
        assert_ne!(name(1, 2), name(1, 3));
        assert_ne!(name(1, 2), name(2, 2));
        assert_eq!(name(1, 2).len(), "4600:".len() + 16);
        let other_process = Teller::new(turn(), OwnPorts::default(), [4; 32]);
        assert_ne!(
            other_process.tell(1_000, "a", &TOPIC, &KEY).username,
            name(1, 2)
        );
    }

    #[test]
    fn turn_servers_without_secrets_are_not_told() {
        let mut settings = turn();
        settings.secrets = None;
        assert!(!Teller::new(settings.clone(), OwnPorts::default(), [3; 32]).has_any());
        assert_eq!(tell(settings, None), IceServers::default());
    }

    #[test]
    fn own_turn_server_is_told_first_by_the_host_that_was_dialled() {
        let own = OwnPorts {
            stun: None,
            turn: Some(3478),
        };
        let told = |settings| Teller::new(settings, own, [3; 32]).tell(1_000, "a", &TOPIC, &KEY);
        let shown = told(turn())
            .turn
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        let other = "turn:turn.example:3478?transport=udp";
        let expected = [
            "turn:a:3478?transport=udp",
            "turn:a:3478?transport=tcp",
            other,
        ];
        assert_eq!(shown, expected);
        assert_eq!(
            told(IceSettings::default()),
            IceServers::default(),
            "no secret"
        );
    }
}
