//! What peers need to reach each other through NATs: addresses of STUN and TURN servers, and
//! credentials for the latter.
//!
//! A signal server tells its clients ([`IceServers`]) which servers to use. For TURN it signs
//! credentials that end within the hour with a secret that it shares with the TURN server, by the
//! convention that coturn calls `use-auth-secret`; the two never talk to each other.
//!
//! - [`IceUrl`]: the URL of one server.
//! - [`TurnSecrets`] (feature `server`): what credentials are signed with.
//! - [`IceSettings`] (feature `server`): what a server tells.

#[cfg(feature = "server")]
mod secrets;
#[cfg(feature = "server")]
mod settings;
mod url;

use std::fmt;

#[cfg(feature = "server")]
pub use secrets::{TurnSecrets, TurnSecretsError};
#[cfg(feature = "server")]
pub use settings::IceSettings;
#[cfg(feature = "server")]
pub(crate) use settings::{OwnPorts, Teller};
pub use url::{IceTransport, IceUrl, IceUrlError};

/// By which servers a client learns its public addresses and is relayed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IceServers {
    /// STUN servers.
    pub stun: Vec<IceUrl>,
    /// TURN servers.
    pub turn: Vec<IceUrl>,
    /// Who to be for the TURN servers.
    pub username: String,
    /// What to be it by.
    pub credential: IceCredential,
    /// For how many seconds the credential is good; 0 where there is none.
    pub lifetime_s: u32,
}

/// A password for TURN servers; `Debug` does not show it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct IceCredential(String);

impl IceCredential {
    /// Takes a password.
    pub fn new(credential: String) -> Self {
        IceCredential(credential)
    }

    /// Returns the password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IceCredential")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_servers_shows_no_credential() {
        let servers = IceServers {
            credential: IceCredential::new("open sesame".to_owned()),
            ..IceServers::default()
        };
        assert!(!format!("{servers:?}").contains("sesame"));
    }
}
