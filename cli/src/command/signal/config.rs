//! What an operator may set: flags, else environment, else a TOML file, else defaults.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kinlog_signal::Settings;
use kinlog_signal::ice::{IceSettings, IceUrl};
use kinlog_signal::limits::{ICE_URLS_MAX, Rate};
use kinlog_signal::rules::RuleSettings;
use kinlog_signal::server::HeaderName;
use kinlog_signal::server::{Cluster, tls_from_files};
use serde::{Deserialize, Serialize};

use crate::command::signal::relay::{RelayArguments, RelayConfig, RelayFile};
use crate::command::signal::secrets::{fresh_turn_secret, read_secret, turn_secrets};
use crate::error::Failure;

/// Where the server listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:4848";

/// Where `--metrics` without an address listens.
const METRICS: &str = "127.0.0.1:9848";

/// Largest settings file; the sample has 4 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Longest time between saying that the server stops and stopping.
const LEAVE_AFTER_S_MAX: u64 = 600;

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Settings in TOML; docs/operations/signal.toml has every key
    #[arg(long, value_name = "FILE", env = "KINLOG_SIGNAL_CONFIG")]
    config: Option<PathBuf>,

    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:4848]
    #[arg(long, value_name = "ADDR", env = "KINLOG_SIGNAL_LISTEN")]
    listen: Option<String>,

    /// Name (host:port) under which clients dial, once for each; others are refused [default: any]
    #[arg(
        long = "name",
        value_name = "NAME",
        env = "KINLOG_SIGNAL_NAMES",
        value_delimiter = ','
    )]
    names: Vec<String>,

    /// Certificate chain (PEM), to be dialled with wss://
    #[arg(long, value_name = "FILE", env = "KINLOG_SIGNAL_CERT")]
    cert: Option<PathBuf>,

    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "KINLOG_SIGNAL_KEY")]
    key: Option<PathBuf>,

    /// Behind a proxy: the header in which it names its clients, such as X-Forwarded-For
    #[arg(long, value_name = "HEADER", env = "KINLOG_SIGNAL_TRUST_PROXY_HEADER")]
    trust_proxy_header: Option<String>,

    /// Serve /metrics for Prometheus on this address [default: off; without ADDR: 127.0.0.1:9848]
    #[arg(
        long,
        value_name = "ADDR",
        env = "KINLOG_SIGNAL_METRICS",
        num_args = 0..=1,
        default_missing_value = METRICS
    )]
    metrics: Option<String>,

    /// After being told to stop, say so on /api/ready this long before closing clients [default: 0]
    #[arg(long, value_name = "SECONDS", env = "KINLOG_SIGNAL_LEAVE_AFTER_S")]
    leave_after_s: Option<u64>,

    /// Do not tell clients their public addresses: no STUN on the UDP port of the same number
    #[arg(long, env = "KINLOG_SIGNAL_NO_STUN")]
    no_stun: bool,

    /// STUN server to name to clients in the place of this one (stun:HOST:PORT), once for each
    #[arg(
        long = "stun-url",
        value_name = "URL",
        env = "KINLOG_SIGNAL_STUN_URLS",
        value_delimiter = ','
    )]
    stun_urls: Vec<String>,

    /// TURN server that relays for clients (turn:HOST:PORT?transport=udp or tcp), once for each
    #[arg(
        long = "turn-url",
        value_name = "URL",
        env = "KINLOG_SIGNAL_TURN_URLS",
        value_delimiter = ','
    )]
    turn_urls: Vec<String>,

    #[command(flatten)]
    relay: RelayArguments,

    /// File (mode 0600) with the secret that the TURN servers share; while it is replaced two, a line
    /// each, of which the first signs
    #[arg(long, value_name = "FILE", env = "KINLOG_SIGNAL_TURN_SECRET_FILE")]
    turn_secret_file: Option<PathBuf>,

    /// Be one of several instances that meet over this Redis: redis://host[:port]; a URL with a
    /// password belongs in the file or in KINLOG_SIGNAL_REDIS
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// File with the secret that all instances share, at least 32 bytes, readable by its owner alone
    #[arg(long, value_name = "FILE", env = "KINLOG_SIGNAL_BUS_SECRET_FILE")]
    bus_secret_file: Option<PathBuf>,

    /// Stop when stdin closes: whoever started this process is gone then
    #[arg(long, hide = true)]
    pub(super) until_stdin_closes: bool,

    /// For tests: write every frame in hex on stderr, so that it can be searched
    #[arg(long, hide = true)]
    pub(super) test_record_frames: bool,
}

/// The file; a key that is not there has its default.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    listen: Option<String>,
    names: Option<Vec<String>>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    trust_proxy_header: Option<String>,
    metrics: Option<String>,
    leave_after_s: Option<u64>,
    stun: Option<bool>,
    stun_urls: Option<Vec<String>>,
    turn_urls: Option<Vec<String>>,
    turn_secret_file: Option<PathBuf>,
    redis: Option<String>,
    bus_secret_file: Option<PathBuf>,
    turn: RelayFile,
    limits: Limits,
    rates: Rates,
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Limits {
    connections: Option<NonZeroUsize>,
    connections_per_address: Option<NonZeroUsize>,
    connections_unjoined: Option<NonZeroUsize>,
    topics_per_connection: Option<NonZeroUsize>,
    peers_per_topic: Option<NonZeroUsize>,
    memberships: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Rates {
    connection: Option<FileRate>,
    address: Option<FileRate>,
    topic_joins: Option<FileRate>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl File {
    fn read(path: &Path) -> Result<File, Failure> {
        let failed = |error| Failure::io(path.display(), &error);
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > FILE_BYTES_MAX {
            return Err(Failure::usage(format!(
                "{}: {length} bytes, settings have at most {FILE_BYTES_MAX}",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        File::parse(&path.display().to_string(), &text)
    }

    /// Errors show line and key, and not the line itself: a value may be a secret.
    fn parse(name: &str, text: &str) -> Result<File, Failure> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.lines().count().max(1));
            // A span that starts a line begins after that line's predecessor.
            let line = line + usize::from(before.is_some_and(|before| before.ends_with('\n')));
            Failure::usage(format!("{name}, line {line}: {}", error.message()))
                .hint("docs/operations/signal.toml has every key with its default")
        })
    }
}

/// A URL of Redis and the file with the secret of the bus; the URL may hold a password.
#[derive(PartialEq)]
struct Instances {
    redis: String,
    secret_file: PathBuf,
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances").finish_non_exhaustive()
    }
}

/// All settings, whencesoever they come.
#[derive(Debug, PartialEq)]
pub(super) struct Config {
    pub(super) listen: String,
    pub(super) metrics: Option<String>,
    names: Vec<String>,
    tls: Option<(PathBuf, PathBuf)>,
    proxy_header: Option<HeaderName>,
    leave_after: Duration,
    pub(super) stun: bool,
    stun_urls: Vec<IceUrl>,
    turn_urls: Vec<IceUrl>,
    turn_secret_file: Option<PathBuf>,
    pub(super) relay: Option<RelayConfig>,
    instances: Option<Instances>,
    rules: RuleSettings,
}

impl Config {
    /// Puts flags and environment (which are one to us) before the file.
    pub(super) fn gather(arguments: &ServeArguments) -> Result<Config, Failure> {
        let file = match &arguments.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        Config::merge(arguments, file)
    }

    fn merge(arguments: &ServeArguments, file: File) -> Result<Config, Failure> {
        let redis = redis_url(arguments.redis.as_deref(), file.redis)?;
        let secret_file = arguments.bus_secret_file.clone().or(file.bus_secret_file);
        let instances = match (redis, secret_file) {
            (Some(redis), Some(secret_file)) => Some(Instances { redis, secret_file }),
            (None, _) => None,
            (Some(_), None) => {
                return Err(
                    Failure::usage("redis without a secret: give --bus-secret-file")
                        .hint("make one with: head -c 32 /dev/urandom | base64 > bus-secret"),
                );
            }
        };
        let either = |given: &Option<PathBuf>, filed| given.clone().or(filed);
        let tls = match (
            either(&arguments.cert, file.cert),
            either(&arguments.key, file.key),
        ) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return Err(Failure::usage("a cert without its key: give --key")),
            (None, Some(_)) => return Err(Failure::usage("a key without its cert: give --cert")),
        };
        let header = arguments.trust_proxy_header.clone();
        let header = header.or(file.trust_proxy_header);
        let proxy_header = header
            .map(|header| {
                header.parse::<HeaderName>().map_err(|_| {
                    Failure::usage(format!(
                        "trust-proxy-header {header:?}: no name of a header"
                    ))
                })
            })
            .transpose()?;
        let leave_after_s = arguments.leave_after_s.or(file.leave_after_s).unwrap_or(0);
        if leave_after_s > LEAVE_AFTER_S_MAX {
            return Err(Failure::usage(format!(
                "leave-after-s {leave_after_s}: at most {LEAVE_AFTER_S_MAX}"
            )));
        }
        let names = match &arguments.names[..] {
            [] => file.names.unwrap_or_default(),
            names => names.to_vec(),
        };
        if let Some(name) = names.iter().find(|name| !name.contains(':')) {
            return Err(Failure::usage(format!("name {name:?}: no port")).hint(
                "names are host:port as clients dial them; wss:// without a port means 443",
            ));
        }
        let stun_urls = ice_urls("stun-url", &arguments.stun_urls, file.stun_urls)?;
        let turn_urls = ice_urls("turn-url", &arguments.turn_urls, file.turn_urls)?;
        let turn_secret_file = either(&arguments.turn_secret_file, file.turn_secret_file);
        let relay = RelayConfig::merge(&arguments.relay, file.turn)?;
        let is_shared = relay.is_some() && instances.is_some();
        if turn_secret_file.is_none() && (is_shared || !turn_urls.is_empty()) {
            let refused = "a TURN server without its secret: give --turn-secret-file";
            return Err(Failure::usage(refused));
        }
        let listen = arguments.listen.clone().or(file.listen);
        Ok(Config {
            listen: listen.unwrap_or_else(|| LISTEN.to_owned()),
            metrics: arguments.metrics.clone().or(file.metrics),
            names,
            tls,
            proxy_header,
            leave_after: Duration::from_secs(leave_after_s),
            stun: !arguments.no_stun && file.stun.unwrap_or(true),
            stun_urls,
            turn_urls,
            turn_secret_file,
            relay,
            instances,
            rules: rules(&file.limits, &file.rates),
        })
    }

    /// Returns what the server takes; reads certificate and key.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::default()
            .rules(self.rules)
            .names(self.names.clone())
            .leave_after(self.leave_after);
        if let Some((certificate, key)) = &self.tls {
            let tls = tls_from_files(certificate, key)
                .map_err(|error| Failure::usage(error.to_string()))?;
            settings = settings.tls(tls);
        }
        if let Some(instances) = &self.instances {
            let secret = read_secret(&instances.secret_file)?;
            let cluster = Cluster::new(&instances.redis, secret)
                .map_err(|error| Failure::usage(format!("redis: {error}")))?;
            settings = settings.cluster(cluster);
        }
        if let Some(header) = &self.proxy_header {
            settings = settings.proxy_header(header.clone());
        }
        let mut ice = IceSettings::default().stun(self.stun_urls.clone());
        let urls = self.turn_urls.clone();
        if let Some(secret_file) = &self.turn_secret_file {
            ice = ice.turn(urls, turn_secrets(secret_file)?);
        } else if self.relay.is_some() {
            // Nobody else has to know it.
            ice = ice.turn(urls, fresh_turn_secret()?);
        }
        Ok(settings.ice(ice))
    }
}

/// Reads the URLs of a setting, which name servers of one kind.
fn ice_urls(
    setting: &str,
    given: &[String],
    filed: Option<Vec<String>>,
) -> Result<Vec<IceUrl>, Failure> {
    let urls = match given {
        [] => filed.unwrap_or_default(),
        given => given.to_vec(),
    };
    if urls.len() > ICE_URLS_MAX {
        let refused = format!("{setting}: {} URLs, at most {ICE_URLS_MAX}", urls.len());
        return Err(Failure::usage(refused));
    }
    let read = |url: &String| match url.parse::<IceUrl>() {
        Ok(url) if url.is_turn() == (setting == "turn-url") => Ok(url),
        Ok(url) => Err(Failure::usage(format!(
            "{setting} {url}: a server of the other kind"
        ))),
        Err(error) => Err(Failure::usage(format!("{setting} {error}"))),
    };
    urls.iter().map(read).collect()
}

/// Returns the URL from the flag, the environment or the file; no password comes by the flag, which
/// everybody on the machine can read.
fn redis_url(flag: Option<&str>, file: Option<String>) -> Result<Option<String>, Failure> {
    if flag.is_some_and(|url| url.contains('@')) {
        return Err(Failure::usage("--redis: no password on the command line")
            .hint("put the URL into the settings file or into KINLOG_SIGNAL_REDIS"));
    }
    let environment = || std::env::var("KINLOG_SIGNAL_REDIS").ok();
    Ok(flag.map(str::to_owned).or_else(environment).or(file))
}

fn rules(limits: &Limits, rates: &Rates) -> RuleSettings {
    let mut rules = RuleSettings::default();
    for (place, given) in [
        (&mut rules.connections_max, limits.connections),
        (
            &mut rules.connections_per_address_max,
            limits.connections_per_address,
        ),
        (&mut rules.unjoined_max, limits.connections_unjoined),
        (
            &mut rules.topics_per_connection_max,
            limits.topics_per_connection,
        ),
        (&mut rules.peers_per_topic_max, limits.peers_per_topic),
        (&mut rules.memberships_max, limits.memberships),
    ] {
        *place = given.map_or(*place, NonZeroUsize::get);
    }
    for (place, given) in [
        (&mut rules.connection_rate, rates.connection),
        (&mut rules.address_rate, rates.address),
        (&mut rules.topic_join_rate, rates.topic_joins),
    ] {
        *place = given.map_or(*place, |rate| Rate {
            per_second: rate.per_second.get(),
            burst: rate.burst.get(),
        });
    }
    rules
}

#[cfg(test)]
mod tests;
