//! What docs/operations says is typed, and what it names is there.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::support::{Home, MEETING, Signal, kinlog};
use testkit::process::{Folder, Running, WAIT_MAX};

fn operations() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap().join("docs/operations")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(operations().join(name)).unwrap()
}

/// Returns the lines of fenced blocks below a heading.
fn commands_below(heading: &str) -> Vec<String> {
    let text = page("signal.md");
    let part = text.split("\n## ").find(|part| part.starts_with(heading));
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in part.unwrap().lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// Redis as the page starts it, but in the foreground; killed when dropped.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Somebody who types what stands on the page, with free ports in the place of its own.
struct Operator {
    folder: Folder,
    ports: BTreeMap<&'static str, u16>,
    servers: Vec<Running>,
    redis: Option<Redis>,
}

impl Operator {
    fn new(ports: &[&'static str]) -> Operator {
        // Taken together, so that all differ.
        let listeners = ports.iter().map(|port| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            (*port, listener)
        });
        let listeners = listeners.collect::<Vec<_>>();
        let free = |(port, listener): &(&'static str, TcpListener)| {
            (*port, listener.local_addr().unwrap().port())
        };
        Operator {
            folder: Folder::new("operator"),
            ports: listeners.iter().map(free).collect(),
            servers: Vec::new(),
            redis: None,
        }
    }

    /// Types a line; returns what it prints.
    fn type_line(&mut self, line: &str) -> String {
        let mut typed = line.to_owned();
        for (written, free) in &self.ports {
            typed = typed.replace(written, &free.to_string());
        }
        let words = typed.split(' ').filter(|word| *word != "&");
        let words = words.collect::<Vec<_>>();
        match words[0] {
            "kinlog" => {
                let mut command = kinlog();
                command.current_dir(self.folder.path()).args(&words[1..]);
                let mut running = Running::start(&mut command);
                let url = running.line().unwrap();
                self.servers.push(running);
                url
            }
            "curl" => {
                assert_eq!(words[1], "-s");
                let body = get(words[2]);
                match words.get(3..) {
                    Some(["|", "grep", wanted]) => {
                        let found = body.lines().filter(|line| line.contains(wanted));
                        found.collect::<Vec<_>>().join("\n")
                    }
                    _ => body,
                }
            }
            "redis-server" => {
                let words = words[1..].iter().map(|word| word.trim_matches('"'));
                let words = words.filter(|word| !["--daemonize", "yes"].contains(word));
                let child = Command::new("redis-server")
                    .current_dir(self.folder.path())
                    .args(words)
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                self.redis = Some(Redis(child));
                String::new()
            }
            _ => {
                let mut shell = Command::new("sh");
                let shell = shell.current_dir(self.folder.path()).args(["-c", &typed]);
                assert!(shell.status().unwrap().success(), "{typed}");
                String::new()
            }
        }
    }
}

/// Gets a page; asks again while nothing listens there yet.
fn get(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let until = Instant::now() + WAIT_MAX;
    let mut stream = loop {
        match TcpStream::connect(host) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{url}: {error}"),
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{url}: {head}");
    body.to_owned()
}

#[test]
fn one_server_runs_as_the_page_says() {
    let lines = commands_below("One server");
    let mut operator = Operator::new(&["4848", "9848"]);
    let mut answers = Vec::new();
    for line in lines.iter().take_while(|line| !line.starts_with("install")) {
        answers.push(operator.type_line(line));
    }
    let [url, health, ready, metrics] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(url.starts_with("ws://127.0.0.1:"), "{url}");
    assert!(health.contains("\"status\":\"ok\""), "{health}");
    assert!(ready.contains("ready"), "{ready}");
    assert!(metrics.contains("kinlog_signal_connections 0"), "{metrics}");
    let server = operator.servers.pop().unwrap();
    let terminated = Command::new("kill")
        .args(["-TERM", &server.pid().to_string()])
        .status();
    assert!(terminated.unwrap().success());
    server.finish(WAIT_MAX).ok();
}

#[test]
fn redis_three_instances_run_as_the_page_says() {
    let ports = ["4841", "4842", "4843", "6379", "9841", "9842", "9843"];
    let mut operator = Operator::new(&ports);
    let lines = commands_below("Three instances");
    let (last, before) = lines.split_last().unwrap();
    for line in before {
        operator.type_line(line);
    }
    assert_eq!(operator.servers.len(), 3);
    let until = Instant::now() + WAIT_MAX;
    loop {
        let seen = operator.type_line(last);
        if seen.ends_with("kinlog_signal_bus_instances 2") {
            break;
        }
        assert!(Instant::now() < until, "{seen}");
    }
    let secret = operator.folder.join("bus-secret");
    let mode = std::fs::metadata(secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Returns every word of a text that is a name of a metric.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !word(character))
        .filter(|word| word.starts_with("kinlog_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn redis_every_metric_that_alerts_and_dashboard_name_is_there() {
    let ports = ["4841", "6379", "9841"];
    let mut operator = Operator::new(&ports);
    for line in commands_below("Three instances") {
        let own = ["4841", "bus-secret", "redis-server"]
            .iter()
            .any(|part| line.contains(part));
        if own && !line.contains("4842") && !line.contains("4843") {
            operator.type_line(&line);
        }
    }
    let metrics = operator.type_line("curl -s http://127.0.0.1:9841/metrics");
    let families = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let exported = families
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect::<BTreeSet<_>>();
    assert!(exported.len() > 20, "{exported:?}");
    for name in ["prometheus-alerts.yml", "grafana-signal.json", "signal.md"] {
        let named = metrics_in(&page(name));
        assert!(named.len() > 5, "{name}: {named:?}");
        let missing = named.difference(&exported).collect::<Vec<_>>();
        assert_eq!(
            missing,
            Vec::<&String>::new(),
            "{name} names what nobody exports"
        );
    }
    // Each value of a label too.
    for (name, label, value) in [
        ("connects_refused", "reason", "server_full"),
        ("connects_refused", "reason", "address_full"),
        ("relayed", "kind", "offer"),
        ("relayed", "kind", "answer"),
        ("bus_refused", "reason", "mac"),
        ("bus_refused", "reason", "replayed"),
        ("bus_refused", "reason", "time"),
    ] {
        let alerts = page("prometheus-alerts.yml");
        assert!(alerts.contains(value), "{value}");
        let line = format!("kinlog_signal_{name}_total{{{label}=\"{value}\"}} 0");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
}

#[test]
fn the_dashboard_is_json_and_the_unit_starts_what_there_is() {
    let dashboard = page("grafana-signal.json");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
    let unit = page("kinlog-signal.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/kinlog "));
    let words = start.unwrap().split(' ').chain(["--help"]);
    let shown = kinlog().args(words).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
    for hardened in [
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
    ] {
        assert!(unit.contains(hardened), "{hardened}");
    }
}

/// Returns the value of a line of metrics that begins so.
fn value_of(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(' ')
    });
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    line.parse().unwrap()
}

/// Returns every name that a page of metrics has values under.
fn names_of(metrics: &str) -> BTreeSet<String> {
    let values = metrics.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
    values.map(name).collect()
}

/// Collects all texts of a value that are long enough to tell anybody apart.
fn texts_in(value: &serde_json::Value, texts: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) if text.len() >= 9 => {
            texts.insert(text.clone());
        }
        serde_json::Value::Array(all) => all.iter().for_each(|one| texts_in(one, texts)),
        serde_json::Value::Object(all) => all.values().for_each(|one| texts_in(one, texts)),
        _ => {}
    }
}

/// R186 to R189 can be watched at a node, and whoever watches learns of nobody.
#[test]
fn a_node_tells_how_fast_it_connects_and_delivers_and_names_nobody() {
    let mut signal = Signal::from(&mut kinlog(), &["--metrics", "127.0.0.1:0"]);
    signal.running.wait_stderr("/metrics");
    let (host, guest) = (Home::init("metrics-host"), Home::init("metrics-guest"));
    let mut up = host.start(["up", "--signal", &signal.url, "--metrics", "127.0.0.1:0"]);
    let url = up.wait_json("where its metrics are", WAIT_MAX, |value| {
        (value["event"] == "ready").then(|| value["metrics"].as_str().unwrap().to_owned())
    });
    let before = get(&url);
    assert_eq!(value_of(&before, "kinlog_node_network_up"), 1.0);
    assert_eq!(value_of(&before, "kinlog_connect_seconds_count"), 0.0);
    let guest_up = guest.up(&signal);
    host.run(["room", "create", "greenhouse"]).ok();
    let invite = host.json_one(["room", "invite", "greenhouse"])["link"].clone();
    let invite = invite.as_str().unwrap();
    guest.run(["room", "join", invite]).ok();
    guest.run(["send", "greenhouse", "who waters them?"]).ok();
    host.hear("greenhouse", "who waters them?");
    host.run(["send", "greenhouse", "you do"]).ok();
    guest.hear("greenhouse", "you do");

    // The guest says that it has it a moment after it shows it.
    let until = Instant::now() + MEETING;
    let metrics = loop {
        let metrics = get(&url);
        if value_of(&metrics, "kinlog_delivery_seconds_count") >= 1.0 {
            break metrics;
        }
        assert!(Instant::now() < until, "{metrics}");
    };
    let value = |name: &str| value_of(&metrics, name);
    assert!(value("kinlog_connect_seconds_count") >= 1.0, "{metrics}");
    assert!(value("kinlog_connect_seconds_bucket{le=\"30\"}") >= 1.0);
    assert!(value("kinlog_connect_searches_total") >= value("kinlog_connect_seconds_count"));
    assert!(value("kinlog_connections{state=\"active\",path=\"lan\"}") >= 1.0);
    assert_eq!(
        value("kinlog_connections{state=\"active\",path=\"peer\"}"),
        0.0
    );
    assert_eq!(value("kinlog_turn_ratio"), 0.0);
    assert!(value("kinlog_blocks_total{dir=\"in\"}") >= 1.0, "{metrics}");
    assert!(
        value("kinlog_blocks_total{dir=\"out\"}") >= 1.0,
        "{metrics}"
    );
    assert_eq!(value("kinlog_unsolicited_blocks_total"), 0.0);
    assert_eq!(value("kinlog_registry_calls_total"), 0.0);
    assert!(value("kinlog_store_bytes") > 0.0);

    // R186: the server that introduced them says so, too.
    let said = signal.running.stderr();
    let server = said
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    let server = get(server.unwrap());
    assert!(value_of(&server, "kinlog_signal_relayed_total{kind=\"answer\"}") >= 1.0);
    let calls = server
        .lines()
        .filter(|line| line.starts_with("kinlog_registry_calls_total{"));
    let calls = calls.collect::<Vec<_>>();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert!(calls.iter().all(|line| line.ends_with(" 0")), "{calls:?}");

    let mut secrets = BTreeSet::from(["127.0.0.1".to_owned(), "greenhouse".to_owned()]);
    for home in [&host, &guest] {
        texts_in(&home.json_one(["id"]), &mut secrets);
        let status = home.status();
        for part in [
            "agent", "device", "name", "signals", "sessions", "searches", "feeds", "rooms",
        ] {
            texts_in(&status[part], &mut secrets);
        }
    }
    // What they are told apart by, not the words for how it goes.
    secrets.retain(|text| {
        text.contains(|one: char| one.is_ascii_digit()) || text.starts_with("metrics-")
    });
    assert!(secrets.len() > 8, "{secrets:?}");
    for secret in &secrets {
        assert!(!metrics.contains(secret.as_str()), "{secret} in\n{metrics}");
    }

    // What is drawn and alerted is there.
    let exported = names_of(&metrics);
    for name in ["node-alerts.yml", "grafana-node.json", "node.md"] {
        let named = metrics_in(&page(name));
        assert!(named.len() > 5, "{name}: {named:?}");
        let is_there =
            |one: &String| exported.contains(one) || exported.contains(&format!("{one}_count"));
        let missing = named
            .iter()
            .filter(|one| !is_there(one))
            .collect::<Vec<_>>();
        assert_eq!(
            missing,
            Vec::<&String>::new(),
            "{name} names what nobody exports"
        );
    }
    let described = metrics_in(&page("node.md"));
    let families = exported.iter().map(|name| {
        let suffixes = ["_bucket", "_sum", "_count"];
        let suffix = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        suffix.map_or(name.as_str(), |family| family)
    });
    for family in families {
        let is_told = described.iter().any(|name| name.starts_with(family));
        assert!(is_told, "node.md says nothing of {family}");
    }
    let alerts = page("node-alerts.yml");
    for figure in ["R186", "R187", "R188", "R189"] {
        assert!(alerts.contains(figure), "no alert for {figure}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&page("grafana-node.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
    // The bounds that the figures are about are bounds of buckets.
    for bound in [
        "kinlog_connect_seconds_bucket{le=\"2\"}",
        "kinlog_delivery_seconds_bucket{le=\"5\"}",
    ] {
        assert!(alerts.contains(bound), "{bound}");
        value(bound);
    }

    guest_up.stop().ok();
    up.stop().ok();
    assert!(
        TcpStream::connect(
            url.strip_prefix("http://")
                .unwrap()
                .split('/')
                .next()
                .unwrap()
        )
        .is_err()
    );
}

#[test]
fn metrics_are_served_only_where_they_can_be() {
    let home = Home::init("nowhere");
    for address in ["nonsense", "127.0.0.1"] {
        let refused = home.run(["up", "--offline", "--metrics", address]).exits(2);
        let refused = refused.says(&format!("--metrics {address}"));
        refused.says("port 0 takes a free one");
    }
}
