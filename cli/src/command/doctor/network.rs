//! The network: own addresses, signal servers, the clock beside theirs, the local network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kinlog_agent::api::DoctorInfo;
use kinlog_feeds::crypto::KeyPair;
use kinlog_signal::{Client, ClientConfig, ClientEvent, SignalUrl, Topic, server_date};
use tokio::time::timeout;

use super::Check;
use crate::output::{count, now_ms};

/// Time that a server has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How far this clock may be off before entries are marked: half of the ten minutes at which they are.
const CLOCK_OFF_MAX_S: u64 = 300;

pub(super) async fn checks(agent: Option<&DoctorInfo>) -> Vec<Check> {
    let mut checks = vec![addresses()];
    if let Some(agent) = agent {
        checks.push(lan(agent));
        if agent.signal_urls.is_empty() {
            checks.push(Check::warn("signal", "no signal server is known").hint(
                "kinlog up --signal URL; without one the local network and `kinlog pair` work",
            ));
        }
        for url in &agent.signal_urls {
            checks.push(signal(url).await);
            checks.extend(clock(url).await);
        }
    }
    checks
}

/// Returns the addresses from which packets would leave; none is sent.
fn addresses() -> Check {
    let from = |own: IpAddr, to: IpAddr| -> Option<IpAddr> {
        let socket = UdpSocket::bind(SocketAddr::new(own, 0)).ok()?;
        socket.connect(SocketAddr::new(to, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_loopback() && !own.is_unspecified()).then_some(own)
    };
    // Addresses of documentation (RFC 5737, RFC 3849): a way to them is one to everywhere.
    let v4 = from(
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
    );
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let v6 = from(Ipv6Addr::UNSPECIFIED.into(), far.into());
    let (health, found): (fn(&'static str, String) -> Check, String) = match (v4, v6) {
        (Some(v4), Some(v6)) => (Check::ok, format!("IPv4 from {v4}, IPv6 from {v6}")),
        (Some(v4), None) => (Check::ok, format!("IPv4 from {v4}; no IPv6 way out")),
        (None, Some(v6)) => (Check::ok, format!("IPv6 from {v6}; no IPv4 way out")),
        (None, None) => (
            Check::warn,
            "no way out of this machine: only others on it, or on its own network, are reached"
                .to_owned(),
        ),
    };
    health("address", found)
}

fn lan(agent: &DoctorInfo) -> Check {
    let port = match agent.lan_port {
        Some(port) => format!("own meeting point on port {port}"),
        None => "no own meeting point".to_owned(),
    };
    match (&agent.lan_trouble, agent.network, agent.lan) {
        (_, false, _) => Check::warn("lan", "not looked at: no agent is running"),
        (_, _, false) => Check::warn("lan", "the local network is not looked at"),
        (Some(trouble), ..) => Check::warn("lan", format!("{trouble}; {port}")),
        (None, ..) => Check::ok(
            "lan",
            format!("{}, {port}", seen(agent.lan_neighbours, agent.lan_machines)),
        ),
    }
}

/// Says who is seen on the local network: agents on this machine are no other machines.
fn seen(agents: u64, machines: u64) -> String {
    match (agents, machines) {
        (0, _) => "nobody else is seen".to_owned(),
        (_, 0) => format!("{} seen, on this machine", count(agents, "other agent")),
        _ => format!(
            "{} seen, on {}",
            count(agents, "other agent"),
            count(machines, "other machine")
        ),
    }
}

/// Dials a signal server as a client does.
async fn signal(url: &str) -> Check {
    let hint = "start that server, or name another: kinlog up --signal URL";
    let parsed: SignalUrl = match url.parse() {
        Ok(parsed) => parsed,
        Err(error) => return Check::bad("signal", format!("{url}: {error}")).hint(hint),
    };
    let (Ok(topic), Ok(seed)) = (random(), random()) else {
        return Check::warn("signal", format!("{url}: no random numbers to dial with"));
    };
    let began = Instant::now();
    let (client, mut events) = Client::start(ClientConfig::new(parsed.clone()));
    client.join(Topic(topic), KeyPair::from_seed(&seed));
    let answered = timeout(ANSWER_WITHIN, async {
        loop {
            match events.recv().await {
                Some(ClientEvent::Connected) => return None,
                Some(ClientEvent::Disconnected { reason, .. }) => return Some(reason),
                Some(_) => {}
                None => return Some("the client ended".to_owned()),
            }
        }
    });
    match answered.await {
        Ok(None) => Check::ok(
            "signal",
            format!(
                "{url}: greeted after {} ms, protocol {}",
                began.elapsed().as_millis(),
                parsed.path().trim_start_matches('/')
            ),
        ),
        Ok(Some(reason)) => Check::bad("signal", format!("{url}: {reason}")).hint(hint),
        Err(_) => Check::bad(
            "signal",
            format!("{url}: no greeting within {} s", ANSWER_WITHIN.as_secs()),
        )
        .hint(hint),
    }
}

fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Compares this clock with the date in a server's greeting, over TLS too.
async fn clock(url: &str) -> Option<Check> {
    let url: SignalUrl = url.parse().ok()?;
    let host = url.host().to_owned();
    let greeted = server_date(&ClientConfig::new(url)).await;
    // Why it does not answer was said before.
    let theirs = date_of(&greeted.ok()??)?;
    let off = theirs.abs_diff(now_ms() / 1000);
    Some(match off {
        // The date has whole seconds, and the answer took some time.
        0..=2 => Check::ok("clock", format!("as that of {host}")),
        3..=CLOCK_OFF_MAX_S => Check::ok("clock", format!("{off} s off that of {host}")),
        _ => Check::bad("clock", format!("{off} s off that of {host}"))
            .hint("set it: what you write is dated wrong, and codes expire at the wrong time"),
    })
}

/// Reads the date of an answer (RFC 9110 section 5.6.7), seconds since 1970.
fn date_of(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut fields = date.split_once(", ")?.1.split([' ', ':']);
    let day: u64 = fields.next()?.parse().ok()?;
    let month = fields.next()?;
    let month = MONTHS.iter().position(|one| *one == month)? as u64 + 1;
    let year: u64 = fields.next()?.parse().ok()?;
    let mut clock = fields.take(3).map(|one| one.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970, of years begun in March.
    let (y, m) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let cases = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 12:34:56 GMT", 951_827_696),
        ];
        for (date, expected) in cases {
            assert_eq!(date_of(date), Some(expected), "{date}");
        }
        for text in ["", "x", "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 06 Nov 1994"] {
            assert_eq!(date_of(text), None);
        }
    }

    #[test]
    fn agents_of_this_machine_are_no_other_machines() {
        assert_eq!(seen(0, 0), "nobody else is seen");
        assert_eq!(seen(2, 0), "2 other agents seen, on this machine");
        assert_eq!(seen(3, 1), "3 other agents seen, on 1 other machine");
    }
}
