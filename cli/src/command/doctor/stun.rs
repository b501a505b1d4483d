//! What kind of NAT lies between this machine and others: the address that STUN servers see (RFC 8489).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kinlog_signal::ice::{IceTransport, IceUrl, IceUrlError};
use kinlog_signal::stun::{binding_request, mapped_address};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::Check;

/// Time that a server has to answer one request.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);

/// Requests to one server: packets get lost.
const TRIES: u32 = 3;

/// Servers that are asked: two tell all there is to tell.
const SERVERS_MAX: usize = 4;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1024;

/// Asks servers (`stun:host:port`) from one socket.
pub(super) async fn checks(urls: &[String]) -> Vec<Check> {
    if urls.is_empty() {
        let found = "no STUN server is known: who is reached from far away cannot be told";
        return vec![Check::warn("nat", found).hint("kinlog up --stun stun:HOST:PORT")];
    }
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else {
        return vec![Check::bad("nat", "no UDP socket can be opened")];
    };
    let (mut checks, mut seen) = (Vec::new(), Vec::new());
    for url in urls.iter().take(SERVERS_MAX) {
        match ask(&socket, url).await {
            Ok(mapped) => {
                checks.push(Check::ok(
                    "stun",
                    format!("{url} sees this machine as {mapped}"),
                ));
                seen.push(mapped);
            }
            Err(why) => checks.push(Check::warn("stun", format!("{url}: {why}"))),
        }
    }
    let port = socket.local_addr().map_or(0, |own| own.port());
    checks.push(kind(&seen, own_address(&seen), port));
    checks
}

/// Asks TURN servers whether they are there: what credentials are good for shows only when somebody is relayed.
pub(super) async fn relays(urls: &[String]) -> Vec<Check> {
    let mut checks = Vec::new();
    for text in urls.iter().take(SERVERS_MAX) {
        checks.push(match relay(text).await {
            Ok(()) => Check::ok("turn", format!("{text} answers")),
            Err(why) => Check::warn("turn", format!("{text}: {why}"))
                .hint("who sits behind a symmetric NAT, or has no UDP, needs one"),
        });
    }
    checks
}

async fn relay(text: &str) -> Result<(), String> {
    let url: IceUrl = text
        .parse()
        .map_err(|error: IceUrlError| error.to_string())?;
    let place = format!("{}:{}", url.host(), url.port());
    if url.transport() == IceTransport::Tcp {
        let dialled = timeout(TRIES * ANSWER_WITHIN, TcpStream::connect(&place)).await;
        let dialled = dialled.map_err(|_| "no answer".to_owned())?;
        return dialled.map(|_| ()).map_err(|error| error.to_string());
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await;
    let socket = socket.map_err(|error| error.to_string())?;
    // A TURN server answers what a STUN server does (RFC 8656 section 5).
    ask(&socket, &format!("stun:{place}")).await.map(|_| ())
}

/// Returns the address from which packets to whoever saw this machine leave.
fn own_address(seen: &[SocketAddr]) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(seen.first()?).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Says what the addresses mean that servers saw one socket by.
fn kind(seen: &[SocketAddr], own: Option<IpAddr>, port: u16) -> Check {
    match seen {
        [] => Check::bad("nat", "no STUN server answers: UDP is blocked, or the servers are down")
            .hint("only a TURN server over TCP, or a machine on this network, helps"),
        [first, ..] if Some(first.ip()) == own && first.port() == port => {
            Check::ok("nat", "open: others see the machine's own address")
        }
        [_] => Check::ok(
            "nat",
            "there is one; with one STUN server nobody can tell of which kind",
        )
        .hint("a second server tells: kinlog up --stun stun:OTHER:PORT"),
        [first, rest @ ..] if rest.iter().all(|one| one == first) => Check::ok(
            "nat",
            "cone (the same mapping for all): direct connections mostly work",
        ),
        _ => Check::warn(
            "nat",
            "symmetric (another mapping for each): direct connections to others behind such a NAT fail",
        )
        .hint("a TURN server, or a peer that relays, helps"),
    }
}

async fn ask(socket: &UdpSocket, url: &str) -> Result<SocketAddr, String> {
    // What is no such URL says so, and that TLS is not spoken.
    let parsed: IceUrl = url
        .parse()
        .map_err(|error: IceUrlError| error.to_string())?;
    if parsed.is_turn() {
        return Err("a TURN server, expected stun:HOST:PORT".to_owned());
    }
    let place = format!("{}:{}", parsed.host(), parsed.port());
    let found = lookup_host(&place)
        .await
        .map_err(|error| error.to_string())?;
    let server = found.into_iter().find(SocketAddr::is_ipv4);
    let server = server.ok_or("the name has no IPv4 address")?;
    let mut transaction = [0; 12];
    getrandom::fill(&mut transaction).map_err(|error| error.to_string())?;
    let request = binding_request(&transaction);
    for _ in 0..TRIES {
        let sent = socket.send_to(&request, server).await;
        sent.map_err(|error| error.to_string())?;
        let answered = timeout(ANSWER_WITHIN, async {
            let mut bytes = [0; ANSWER_BYTES_MAX];
            loop {
                // Anybody may send something; only the server knows the transaction.
                let Ok((length, _)) = socket.recv_from(&mut bytes).await else {
                    return std::future::pending().await;
                };
                if let Some(mapped) = mapped_address(&bytes[..length], &transaction) {
                    return mapped;
                }
            }
        });
        if let Ok(mapped) = answered.await {
            return Ok(mapped);
        }
    }
    Err(format!("no answer to {TRIES} requests"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Health;

    /// The answer of RFC 5769 section 2.2, without its last attributes.
    const ANSWER: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae802200\
        0b7465737420766563746f7220002000080001a147e112a643";

    fn hex(text: &str) -> Vec<u8> {
        kinlog_feeds::text::decode_hex(&text.replace(' ', "")).expect("hex")
    }

    #[test]
    fn the_mappings_tell_what_lies_between() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (one, other) = (at("198.51.100.1:7000"), at("198.51.100.1:7001"));
        let own = Some("192.168.1.4".parse().expect("an address"));
        let told = |seen: &[SocketAddr], own| {
            let check = kind(seen, own, 7000);
            (check.health, check.found)
        };
        assert_eq!(told(&[], own).0, Health::Bad);
        assert!(told(&[one], own).1.contains("nobody can tell"));
        assert!(told(&[one, one], own).1.starts_with("cone"));
        let (health, found) = told(&[one, other], own);
        assert!(
            health == Health::Warn && found.starts_with("symmetric"),
            "{found}"
        );
        assert!(told(&[one], Some(one.ip())).1.starts_with("open"));
    }

    #[tokio::test]
    async fn a_server_is_asked_until_it_answers() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        let url = format!("stun:{}", server.local_addr().expect("an address"));
        let answers = tokio::spawn(async move {
            let mut bytes = [0; 64];
            // The first one is lost.
            for is_lost in [true, false] {
                let (length, from) = server.recv_from(&mut bytes).await.expect("a request");
                let transaction = bytes[8..20].try_into().expect("twelve bytes");
                assert_eq!(bytes[..length], binding_request(&transaction));
                let mut answer = hex(ANSWER);
                answer[8..20].copy_from_slice(&transaction);
                if !is_lost {
                    server.send_to(&answer, from).await.expect("sent");
                }
            }
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        let seen = ask(&socket, &url).await;
        assert_eq!(seen, Ok("192.0.2.1:32853".parse().expect("an address")));
        answers.await.expect("answered");
        assert!(ask(&socket, "turn:x").await.is_err());
        let error = ask(&socket, "stuns:x").await.unwrap_err();
        assert!(error.contains("TLS"), "{error}");
    }

    #[tokio::test]
    async fn a_turn_server_is_looked_for_by_the_way_that_its_url_says() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a socket");
        let there = listener.local_addr().expect("an address");
        let urls = [
            format!("turn:{there}?transport=tcp"),
            format!("turns:{there}?transport=tcp"),
        ];
        let checks = relays(&urls).await;
        assert_eq!(
            (checks[0].health, checks[1].health),
            (Health::Ok, Health::Warn)
        );
        assert!(checks[1].found.contains("TLS"), "{}", checks[1].found);
    }
}
