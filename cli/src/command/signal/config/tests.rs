//! The settings as facts.

use std::os::unix::fs::PermissionsExt as _;

use clap::Parser;

use super::*;

const SAMPLE: &str = include_str!("../../../../../docs/operations/signal.toml");

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: ServeArguments,
}

fn arguments(words: &[&str]) -> ServeArguments {
    let words = ["serve"].iter().chain(words);
    Line::try_parse_from(words).unwrap().arguments
}

fn config(words: &[&str], file: &str) -> Result<Config, String> {
    File::parse("signal.toml", file)
        .and_then(|file| Config::merge(&arguments(words), file))
        .map_err(|failure| failure.report().unwrap().error)
}

/// Returns the keys of an object with those of its tables.
fn keys(value: &serde_json::Value, before: &str, into: &mut Vec<String>) {
    for (key, value) in value.as_object().unwrap() {
        let key = format!("{before}{key}");
        match value.is_object() && !key.starts_with("rates.") {
            true => keys(value, &format!("{key}."), into),
            false => into.push(key),
        }
    }
}

#[test]
fn the_sample_states_every_key_with_its_default() {
    assert_eq!(config(&[], SAMPLE), config(&[], ""));
    // What has no default stands behind a `#` without a space.
    let uncommented = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let sample = File::parse("sample", &uncommented).unwrap();
    let (mut stated, mut known) = (Vec::new(), Vec::new());
    let stated_value = serde_json::to_value(&sample).unwrap();
    keys(&stated_value, "", &mut stated);
    keys(
        &serde_json::to_value(File::default()).unwrap(),
        "",
        &mut known,
    );
    assert_eq!(stated, known);
    let unset = |key: &&String| {
        let pointer = format!("/{}", key.replace('.', "/"));
        stated_value.pointer(&pointer).unwrap().is_null()
    };
    assert_eq!(
        stated.iter().filter(unset).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert!(Config::merge(&arguments(&[]), sample).is_ok());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = "listen = '127.0.0.1:1'\nmetrics = '127.0.0.1:2'\n[limits]\nconnections = 7\n\
                [rates]\naddress = { per-second = 3, burst = 4 }";
    let config = config(
        &["--listen", "127.0.0.1:9", "--name", "a:1", "--name", "b:2"],
        file,
    );
    let config = config.unwrap();
    assert_eq!(config.listen, "127.0.0.1:9");
    assert_eq!(config.metrics.as_deref(), Some("127.0.0.1:2"));
    assert_eq!(config.names, ["a:1", "b:2"]);
    assert_eq!(config.rules.connections_max, 7);
    assert_eq!(
        (
            config.rules.address_rate.per_second,
            config.rules.address_rate.burst
        ),
        (3, 4)
    );
    assert_eq!(
        config.rules.connection_rate,
        RuleSettings::default().connection_rate
    );
}

#[test]
fn metrics_without_an_address_are_on_loopback_and_off_unless_asked_for() {
    assert_eq!(
        config(&["--metrics"], "").unwrap().metrics.as_deref(),
        Some(METRICS)
    );
    assert_eq!(config(&[], "").unwrap().metrics, None);
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_file_line_and_key() {
    let unknown = config(&[], "# settings\nlisten = '127.0.0.1:1'\nlisten-on = 'x'").unwrap_err();
    assert!(
        unknown.starts_with("signal.toml, line 3: unknown field `listen-on`"),
        "{unknown}"
    );
    let unknown = config(&[], "[limits]\nconections = 1").unwrap_err();
    assert!(
        unknown.starts_with("signal.toml, line 2: unknown field `conections`"),
        "{unknown}"
    );
    let zero = config(&[], "[limits]\n\nconnections = 0").unwrap_err();
    assert!(
        zero.starts_with("signal.toml, line 3: ") && zero.contains("nonzero"),
        "{zero}"
    );
    let secret = config(&[], "listen = ['the secret of a wrong line']").unwrap_err();
    assert!(!secret.contains("the secret"), "{secret}");
}

#[test]
fn turn_servers_need_a_secret_that_nobody_else_may_read() {
    let alone = config(&["--turn-url", "turn:a"], "").unwrap_err();
    assert!(alone.contains("--turn-secret-file"), "{alone}");
    assert!(config(&["--turn-url", "stun:a"], "").is_err());
    assert!(config(&[], "stun-urls = ['turn:a']").is_err());
    assert!(config(&[], "stun = false").is_ok_and(|config| !config.stun));

    let folder = testkit::process::Folder::new("turn-secret");
    let file = folder.join("secret");
    std::fs::write(&file, "north-south-east-west\n").unwrap();
    let shown = file.display().to_string();
    let config = config(&["--turn-url", "turn:a", "--turn-secret-file", &shown], "").unwrap();
    let mode = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o640);
    let refused = config.settings().unwrap_err().report().unwrap().error;
    assert!(
        refused.contains("others may read it (mode 640)"),
        "{refused}"
    );
    mode(0o600);
    let settings = config.settings().unwrap();
    assert_eq!(settings.ice.turn.len(), 1);
    assert!(!format!("{settings:?}").contains("north-south"));
}

#[test]
fn instances_need_a_secret_that_others_cannot_read() {
    let alone = config(&["--redis", "redis://localhost"], "").unwrap_err();
    assert!(alone.contains("--bus-secret-file"), "{alone}");
    let told = config(&["--redis", "redis://:word@localhost"], "").unwrap_err();
    assert!(
        told.contains("command line") && !told.contains("word@"),
        "{told}"
    );
    let path = std::env::temp_dir().join(format!("kinlog-bus-{}", std::process::id()));
    std::fs::write(&path, [b'7'; 40]).unwrap();
    let mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read_secret(&path)
            .map(drop)
            .map_err(|failure| failure.exit_code())
    };
    assert_eq!(mode(0o640), Err(6));
    assert_eq!(mode(0o600), Ok(()));
    std::fs::write(&path, b"short").unwrap();
    assert_eq!(mode(0o600), Err(2));
    std::fs::remove_file(&path).unwrap();
    let filed = "redis = 'redis://:word@localhost'\nbus-secret-file = 'a'";
    let shown = format!("{:?}", config(&[], filed).unwrap());
    assert!(!shown.contains("word"), "{shown}");
}

#[test]
fn half_of_a_certificate_and_names_without_port_are_refused() {
    assert!(
        config(&["--cert", "a.pem"], "")
            .unwrap_err()
            .contains("--key")
    );
    assert!(config(&[], "key = 'a.pem'").unwrap_err().contains("--cert"));
    assert!(
        config(&["--name", "a.example"], "")
            .unwrap_err()
            .contains("no port")
    );
    assert!(config(&["--trust-proxy-header", "no header"], "").is_err());
    assert!(config(&["--leave-after-s", "601"], "").is_err());
}
