//! The registry over HTTP as a stranger calls it, and its description.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kinlog_feeds::{KeyPair, text};
use kinlog_signal::limits::Rate;
use kinlog_signal::registry::{Announcement, Heartbeat};
use kinlog_signal::rules::RuleSettings;
use kinlog_signal::{Client, ClientConfig, ClientEvent, ServerName, Settings, Topic, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const TOPIC: Topic = Topic([1; 32]);

async fn server(settings: Settings) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, settings, std::future::pending()));
    address
}

fn name(address: SocketAddr) -> ServerName {
    ServerName::new("127.0.0.1", address.port())
}

fn unix_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// An answer in parts.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

async fn call(address: SocketAddr, method: &str, path: &str, body: Option<&str>) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.map_or(0, str::len);
    let kind = if body.is_some() {
        "content-type: application/json\r\n"
    } else {
        ""
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{kind}\
         content-length: {length}\r\n\r\n{}",
        body.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

fn announcement(key: &KeyPair, user: &KeyPair, time_s: u64) -> Announcement {
    Announcement {
        topic: TOPIC,
        user: user.public_key(),
        peer: key.public_key(),
        signal_address: "wss://signal.example".to_owned(),
        capabilities: vec!["relay".to_owned()],
        time_s,
    }
}

fn body_of(said: &Announcement, server: &ServerName, key: &KeyPair, user: &KeyPair) -> Value {
    json!({
        "peerId": text::encode(&said.peer.0),
        "userId": text::encode(&said.user.0),
        "signalAddress": said.signal_address,
        "capabilities": said.capabilities,
        "time": said.time_s,
        "signature": text::encode_hex(&said.sign(server, key)),
        "userSignature": text::encode_hex(&said.sign(server, user)),
    })
}

async fn announce(address: SocketAddr, body: &Value) -> Answer {
    let path = format!("/network/{}/announce", text::encode_hex(&TOPIC.0));
    call(address, "POST", &path, Some(&body.to_string())).await
}

async fn heartbeat(address: SocketAddr, key: &KeyPair, capacity: u32, time_s: u64) -> Answer {
    let said = Heartbeat {
        topic: TOPIC,
        peer: key.public_key(),
        active_peers: 3,
        capacity,
        time_s,
    };
    let body = json!({
        "networkId": text::encode(&TOPIC.0),
        "peerId": text::encode(&said.peer.0),
        "activePeers": said.active_peers,
        "capacity": said.capacity,
        "time": said.time_s,
        "signature": text::encode_hex(&said.sign(&name(address), key)),
    });
    call(
        address,
        "POST",
        "/coordinator/heartbeat",
        Some(&body.to_string()),
    )
    .await
}

async fn active_peers(address: SocketAddr) -> Answer {
    let path = format!("/network/{}/active-peers", text::encode(&TOPIC.0));
    call(address, "GET", &path, None).await
}

fn keys() -> (KeyPair, KeyPair) {
    (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]))
}

#[tokio::test]
async fn an_announced_peer_is_found_by_network_and_by_user() {
    let address = server(Settings::default()).await;
    let (key, user) = keys();
    let said = announcement(&key, &user, unix_s());
    let taken = announce(address, &body_of(&said, &name(address), &key, &user)).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    assert!(taken.body["expires"].as_u64().unwrap() >= said.time_s + 500);

    let found = active_peers(address).await.body;
    let peer = json!({
        "userId": text::encode(&user.public_key().0),
        "peerId": text::encode(&key.public_key().0),
        "signalAddress": "wss://signal.example",
        "capabilities": ["relay"],
        "lastSeen": found["peers"][0]["lastSeen"],
        "isCoordinator": false,
    });
    assert!(found["peers"][0]["lastSeen"].as_u64().unwrap() >= said.time_s);
    assert_eq!(
        (&found["peers"], &found["total"]),
        (&json!([peer]), &json!(1))
    );

    let path = |id: &KeyPair| {
        let (network, user) = (text::encode(&TOPIC.0), text::encode(&id.public_key().0));
        format!("/network/{network}/peer/{user}")
    };
    let devices = call(address, "GET", &path(&user), None).await.body;
    assert_eq!(
        (&devices["online"], &devices["devices"]),
        (&json!(true), &json!([peer]))
    );
    let stranger = KeyPair::from_seed(&[9; 32]);
    let nobody = call(address, "GET", &path(&stranger), None).await.body;
    assert_eq!(
        (&nobody["online"], &nobody["devices"]),
        (&json!(false), &json!([]))
    );
    let elsewhere = format!("/network/{}/active-peers", text::encode(&[7; 32]));
    let elsewhere = call(address, "GET", &elsewhere, None).await.body;
    assert_eq!(elsewhere["peers"], json!([]));
}

#[tokio::test]
async fn who_is_connected_shows_too_with_this_servers_address() {
    let address = server(Settings::default()).await;
    let url = format!("ws://{address}");
    let (client, mut events) = Client::start(ClientConfig::new(url.parse().unwrap()));
    let key = KeyPair::from_seed(&[1; 32]);
    client.join(TOPIC, key.clone());
    loop {
        let event = timeout(SOON, events.recv()).await.unwrap().unwrap();
        if matches!(event, ClientEvent::Joined { .. }) {
            break;
        }
    }
    let found = active_peers(address).await.body;
    assert_eq!(
        found["peers"][0]["peerId"],
        text::encode(&key.public_key().0)
    );
    assert_eq!(found["peers"][0]["signalAddress"], url);
    assert_eq!(
        heartbeat(address, &key, 5, unix_s()).await.status,
        200,
        "it may coordinate"
    );
    assert_eq!(
        active_peers(address).await.body["peers"][0]["isCoordinator"],
        true
    );
}

#[tokio::test]
async fn what_is_not_signed_for_here_and_now_is_refused() {
    let address = server(Settings::default()).await;
    let ((key, user), here) = (keys(), name(address));
    let refused = async |body: &Value, status: u16, kind: &str| {
        let answer = announce(address, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(
            answer.head.contains("application/problem+json"),
            "{}",
            answer.head
        );
        assert_eq!(answer.body["type"], format!("urn:kinlog:problem:{kind}"));
        assert_eq!(answer.body["status"], status);
    };
    let said = announcement(&key, &user, unix_s());
    let elsewhere = ServerName::new("other.example", 443);
    refused(
        &body_of(&said, &elsewhere, &key, &user),
        403,
        "bad-signature",
    )
    .await;
    refused(&body_of(&said, &here, &user, &user), 403, "bad-signature").await;
    // Nobody announces a device of somebody else.
    refused(&body_of(&said, &here, &key, &key), 403, "bad-signature").await;
    for time_s in [unix_s() - 200, unix_s() + 200] {
        let off = announcement(&key, &user, time_s);
        refused(&body_of(&off, &here, &key, &user), 400, "time-off").await;
    }
    let good = body_of(&said, &here, &key, &user);
    assert_eq!(announce(address, &good).await.status, 200);
    refused(&good, 409, "not-newer").await;
    let mut changed = good.clone();
    changed["capabilities"] = json!(["storage"]);
    refused(&changed, 403, "bad-signature").await;
    assert_eq!(
        heartbeat(address, &user, 5, unix_s()).await.status,
        404,
        "not announced"
    );
}

#[tokio::test]
async fn no_message_and_nothing_long_is_taken() {
    let address = server(Settings::default()).await;
    let ((key, user), here) = (keys(), name(address));
    let good = body_of(&announcement(&key, &user, unix_s()), &here, &key, &user);
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, status) in [
        (with("message", json!("remember this")), 400),
        (
            with("signalAddress", json!("https://elsewhere.example")),
            400,
        ),
        (
            with("signalAddress", json!(format!("wss://{}", "a".repeat(300)))),
            400,
        ),
        (with("capabilities", json!(["Hello world"])), 400),
        (with("capabilities", json!(vec!["a"; 9])), 400),
        (with("peerId", json!("no key")), 400),
        (with("signature", json!("00")), 400),
        (with("signalAddress", json!("a".repeat(5000))), 413),
    ] {
        let answer = announce(address, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    let path = format!("/network/{}/announce", text::encode(&TOPIC.0));
    let bare = call(address, "POST", &path, None).await;
    assert_eq!(bare.status, 415, "a form of another site cannot announce");
    assert_eq!(active_peers(address).await.body["peers"], json!([]));
}

#[tokio::test]
async fn coordinators_rank_by_capacity_then_uptime_then_key() {
    let address = server(Settings::default()).await;
    let peers = (1..=5)
        .map(|seed| KeyPair::from_seed(&[seed; 32]))
        .collect::<Vec<_>>();
    let now = unix_s();
    for peer in &peers {
        let said = announcement(peer, peer, now);
        let body = body_of(&said, &name(address), peer, peer);
        assert_eq!(announce(address, &body).await.status, 200);
    }
    for (peer, capacity) in peers.iter().zip([10, 30, 20, 20, 5]) {
        assert_eq!(heartbeat(address, peer, capacity, now).await.status, 200);
    }
    let expected = [1, 2, 3].map(|at: usize| text::encode(&peers[at].public_key().0));
    let found = active_peers(address).await.body;
    assert_eq!(found["coordinators"], json!(expected));
    assert_eq!(
        found["peers"][0]["isCoordinator"], true,
        "coordinators come first"
    );
    let elected = found["peers"].as_array().unwrap().iter();
    assert_eq!(
        elected.filter(|peer| peer["isCoordinator"] == true).count(),
        3
    );
    assert_eq!(
        heartbeat(address, &peers[4], 99, now).await.status,
        409,
        "said before"
    );
    let ranking = heartbeat(address, &peers[4], 99, now + 1).await.body;
    assert_eq!(
        ranking["coordinators"][0],
        text::encode(&peers[4].public_key().0)
    );
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_back() {
    let mut rules = RuleSettings::default();
    rules.address_rate = Rate {
        per_second: 1,
        burst: 16,
    };
    let address = server(Settings::default().rules(rules)).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(active_peers(address).await);
    }
    let last = answers.last().unwrap();
    assert_eq!(answers[0].status, 200);
    assert_eq!(last.status, 429, "{}", last.body);
    assert!(last.head.contains("retry-after: "), "{}", last.head);
}

#[tokio::test]
async fn browsers_of_any_origin_may_read_and_announce() {
    let address = server(Settings::default()).await;
    let read = active_peers(address).await.head;
    assert!(read.contains("access-control-allow-origin: *"), "{read}");
    assert!(!read.contains("allow-credentials"), "{read}");
    let path = format!("/network/{}/announce", text::encode(&TOPIC.0));
    let asked = call(address, "OPTIONS", &path, None).await;
    assert_eq!(asked.status, 204);
    assert!(
        asked
            .head
            .contains("access-control-allow-methods: GET, POST"),
        "{}",
        asked.head
    );
}

/// Checks a value against the parts of JSON Schema that the description uses.
fn check(doc: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = doc.pointer(reference.trim_start_matches('#')).unwrap();
        check(doc, schema, value, place);
    }
    match schema["type"].as_str() {
        Some("object") => {
            let held = value
                .as_object()
                .unwrap_or_else(|| panic!("{place}: {value}"));
            let known = schema["properties"].as_object();
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    held.contains_key(required.as_str().unwrap()),
                    "{place}: no {required}"
                );
            }
            for (key, value) in held {
                if let Some(known) = known {
                    let schema = known.get(key);
                    let schema =
                        schema.unwrap_or_else(|| panic!("{place}: {key} is not described"));
                    check(doc, schema, value, &format!("{place}.{key}"));
                }
            }
        }
        Some("array") => {
            for value in value
                .as_array()
                .unwrap_or_else(|| panic!("{place}: {value}"))
            {
                check(doc, &schema["items"], value, place);
            }
        }
        Some("string") => assert!(value.is_string(), "{place}: {value}"),
        Some("integer") => assert!(value.is_u64(), "{place}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{place}: {value}"),
        Some(other) => panic!("{place}: {other} is not known to this test"),
        None => {}
    }
}

#[tokio::test]
async fn the_description_is_what_the_server_does() {
    let address = server(Settings::default()).await;
    let (key, now) = (KeyPair::from_seed(&[1; 32]), unix_s());
    let body = body_of(&announcement(&key, &key, now), &name(address), &key, &key);
    assert_eq!(announce(address, &body).await.status, 200);
    assert_eq!(heartbeat(address, &key, 5, now).await.status, 200);
    let doc = call(address, "GET", "/api/openapi.json", None).await.body;
    assert_eq!(doc["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, methods) in doc["paths"].as_object().unwrap() {
        let real = path
            .replace("{networkId}", &text::encode(&TOPIC.0))
            .replace("{userId}", &text::encode(&key.public_key().0));
        for (method, operation) in methods.as_object().unwrap() {
            described.insert((path.as_str(), method.as_str()));
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_object() {
                let shown = format!("{method} {path}, example");
                check(&doc, &content["schema"], &content["example"], &shown);
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let content = &response["content"]["application/json"];
                if !content["example"].is_null() {
                    let shown = format!("{path} {status}, example");
                    check(&doc, &content["schema"], &content["example"], &shown);
                }
            }
            let fresh = match path.as_str() {
                "/coordinator/heartbeat" => heartbeat(address, &key, 5, now + 1).await,
                "/network/{networkId}/announce" => {
                    let said = announcement(&key, &key, now + 1);
                    announce(address, &body_of(&said, &name(address), &key, &key)).await
                }
                _ => call(address, &method.to_uppercase(), &real, None).await,
            };
            assert_eq!(fresh.status, 200, "{method} {path}: {}", fresh.body);
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            check(&doc, schema, &fresh.body, path);
        }
    }
    let all = BTreeSet::from([
        ("/network/{networkId}/active-peers", "get"),
        ("/network/{networkId}/announce", "post"),
        ("/network/{networkId}/peer/{userId}", "get"),
        ("/coordinator/heartbeat", "post"),
        ("/api/health", "get"),
        ("/api/ready", "get"),
        ("/api/openapi.json", "get"),
    ]);
    assert_eq!(described, all);
    let problem = &doc["components"]["responses"]["Problem"]["content"]["application/problem+json"];
    check(&doc, &problem["schema"], &problem["example"], "problem");
    let refused = call(address, "GET", "/network/nonsense/active-peers", None).await;
    assert_eq!(refused.status, 400);
    check(&doc, &problem["schema"], &refused.body, "refusal");
}
