//! Settings of the TURN relay in the server.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use clap::Args;
use kinlog_agent::api::ErrorKind;
use kinlog_signal::ice::TurnSecrets;
use kinlog_signal::turn::{TurnServer, TurnSettings};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Port of TURN by convention.
const PORT: u16 = 3478;

/// Ports of relayed addresses, as RFC 8656 proposes.
const PORTS: RangeInclusive<u16> = 49_152..=65_535;

#[derive(Args, Debug)]
pub(super) struct RelayArguments {
    /// Relay (TURN) for clients whom nothing else connects, from this address of the machine
    /// [default: off]
    #[arg(long, value_name = "IP", env = "KINLOG_SIGNAL_TURN")]
    turn: Option<IpAddr>,

    /// What that address is on the internet, where a router maps it one to one [default: the same]
    #[arg(long, value_name = "IP", env = "KINLOG_SIGNAL_TURN_PUBLIC")]
    turn_public: Option<IpAddr>,

    /// Address on which clients come to be relayed, by UDP and TCP [default: port 3478 of all]
    #[arg(long, value_name = "ADDR", env = "KINLOG_SIGNAL_TURN_LISTEN")]
    turn_listen: Option<SocketAddr>,

    /// UDP ports that are relayed from [default: 49152-65535]
    #[arg(long, value_name = "FIRST-LAST", env = "KINLOG_SIGNAL_TURN_PORTS")]
    turn_ports: Option<String>,
}

/// The table `turn` of the file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RelayFile {
    address: Option<IpAddr>,
    public: Option<IpAddr>,
    listen: Option<SocketAddr>,
    ports: Option<String>,
}

/// A relay that is wanted.
#[derive(Debug, PartialEq)]
pub(super) struct RelayConfig {
    address: IpAddr,
    public: IpAddr,
    listen: SocketAddr,
    ports: RangeInclusive<u16>,
}

impl RelayConfig {
    /// Puts flags and environment before the file; without an address nothing is relayed.
    pub(super) fn merge(given: &RelayArguments, file: RelayFile) -> Result<Option<Self>, Failure> {
        let ports = match given.turn_ports.clone().or(file.ports) {
            Some(text) => ports(&text)?,
            None => PORTS,
        };
        let Some(address) = given.turn.or(file.address) else {
            return Ok(None);
        };
        if address.is_unspecified() {
            let refused = format!("turn {address}: peers have to be told one address");
            return Err(Failure::usage(refused).hint("give the public address of this machine"));
        }
        let any: IpAddr = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let public = given.turn_public.or(file.public).unwrap_or(address);
        if public.is_ipv4() != address.is_ipv4() {
            let refused = format!("turn-public {public}: of another family than turn {address}");
            return Err(Failure::usage(refused));
        }
        Ok(Some(RelayConfig {
            address,
            public,
            listen: given
                .turn_listen
                .or(file.listen)
                .unwrap_or((any, PORT).into()),
            ports,
        }))
    }

    /// Opens the ports of clients.
    pub(super) async fn bind(&self, secrets: TurnSecrets) -> Result<TurnServer, Failure> {
        let mut settings = TurnSettings::new(self.listen, self.address, secrets);
        settings.public = self.public;
        settings.ports = self.ports.clone();
        // An address that this machine does not have would show only when the first client asks.
        let probe = std::net::UdpSocket::bind((self.address, 0));
        probe.map_err(|error| {
            let shown = format!("--turn {}: {error}", self.address);
            Failure::new(ErrorKind::Usage, shown)
                .hint("give an address of this machine; what a router shows instead: --turn-public")
        })?;
        let bound = TurnServer::bind(settings).await;
        bound.map_err(|error| Failure::io(format!("--turn-listen {}", self.listen), &error))
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, Failure> {
    let read = |port: &str| port.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let ends = text
        .split_once('-')
        .and_then(|(first, last)| Some((read(first)?, read(last)?)));
    match ends {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err(
            Failure::usage(format!("turn-ports {text:?}: expected FIRST-LAST"))
                .hint("such as 49152-65535"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: RelayArguments,
    }

    fn merge(words: &[&str], file: &str) -> Result<Option<RelayConfig>, String> {
        let words = ["serve"].iter().chain(words);
        let given = Line::try_parse_from(words).unwrap().arguments;
        RelayConfig::merge(&given, toml::from_str(file).unwrap())
            .map_err(|failure| failure.report().unwrap().error)
    }

    #[test]
    fn a_relay_is_off_until_it_has_an_address() {
        assert_eq!(merge(&[], "ports = '1-2'"), Ok(None));
        let config = merge(&["--turn", "192.0.2.1"], "ports = '5000-5009'");
        let expected = RelayConfig {
            address: [192, 0, 2, 1].into(),
            public: [192, 0, 2, 1].into(),
            listen: ([0, 0, 0, 0], 3478).into(),
            ports: 5_000..=5_009,
        };
        assert_eq!(config, Ok(Some(expected)));
        let mapped = merge(&["--turn-public", "192.0.2.9"], "address = '10.0.0.2'");
        assert_eq!(
            mapped.unwrap().unwrap().public,
            IpAddr::from([192, 0, 2, 9])
        );
    }

    #[test]
    fn addresses_of_two_families_and_ports_backwards_are_refused() {
        assert!(merge(&["--turn", "0.0.0.0"], "").is_err());
        assert!(merge(&["--turn", "192.0.2.1", "--turn-public", "::1"], "").is_err());
        for ports in ["9-5", "0-5", "5", "a-b", "1-70000"] {
            let refused = merge(&["--turn-ports", ports], "").unwrap_err();
            assert!(refused.contains("expected FIRST-LAST"), "{refused}");
        }
    }
}
