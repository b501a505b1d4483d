//! A description in a few bytes, for where people carry it: the fields that the other side needs and nothing else.
//!
//! `u8 setup | buffer ufrag | buffer password | fingerprint 32 | uint n <= 16 | n x candidate`, a candidate being
//! `u8 kind | ip 4 or 16 | u16 port`: the low two bits of `kind` are 0 host, 1 server reflexive, 2 peer reflexive, 3
//! relayed, the third says IPv6, the others are 0. Candidates stand in order, the best first; their priorities
//! follow from that (RFC 8445 section 5.1.2). Integers are little-endian.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use kinlog_feeds::encoding::{DecodeError, Reader, Writer as _};

use super::body::{self, Text};
use crate::limits::{
    CARRIED_CANDIDATES_MAX, CARRIED_REACHING_MAX, ICE_PASSWORD_BYTES_MAX, ICE_UFRAG_BYTES_MAX,
    LINK_MESSAGE_BYTES_MAX,
};
use crate::link::LinkError;

/// An offer or an answer.
#[derive(Clone, Eq, PartialEq)]
pub struct ShortDescription {
    setup: Setup,
    ufrag: String,
    password: String,
    fingerprint: [u8; 32],
    candidates: Vec<Candidate>,
}

/// Who begins the DTLS handshake (RFC 8842 section 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Setup {
    Either,
    Active,
    Passive,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Host,
    ServerReflexive,
    PeerReflexive,
    Relayed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Candidate {
    kind: Kind,
    address: SocketAddr,
}

/// Bytes that are no description.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShortDescriptionError {
    /// They do not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A field holds something that it never does.
    #[error("{what} of the description is none")]
    Field {
        /// The field.
        what: &'static str,
    },
}

const SETUPS: [(Setup, &str); 3] = [
    (Setup::Either, "actpass"),
    (Setup::Active, "active"),
    (Setup::Passive, "passive"),
];

/// Each kind with its name in SDP and its preference.
const KINDS: [(Kind, &str, u32); 4] = [
    (Kind::Host, "host", 126),
    (Kind::ServerReflexive, "srflx", 100),
    (Kind::PeerReflexive, "prflx", 110),
    (Kind::Relayed, "relay", 0),
];

const IS_V6: u8 = 0b100;

impl fmt::Debug for ShortDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortDescription")
            .field("setup", &self.setup)
            .field("candidates", &self.candidates.len())
            .finish_non_exhaustive()
    }
}

impl ShortDescription {
    /// Returns what matters of the body of an offer or an answer, and of bodies of candidates that came later. Of
    /// more candidates than are carried the best stay, and some of each kind that reaches far.
    ///
    /// # Errors
    /// A body that lacks a field.
    pub fn of(description: &[u8], later: &[Bytes]) -> Result<Self, LinkError> {
        let bad = |what: &str| LinkError::BadDescription {
            what: "description",
            reason: format!("no {what}"),
        };
        let (_, sdp) = body::decode(Text::Offer, description)?;
        let value = |name: &str| {
            let mut lines = sdp.lines().map(str::trim);
            lines.find_map(|line| {
                line.strip_prefix("a=")?
                    .strip_prefix(name)?
                    .strip_prefix(':')
            })
        };
        let setup = value("setup").unwrap_or_default();
        let setup = SETUPS.iter().find(|(_, name)| *name == setup);
        let mut candidates: Vec<(u32, Candidate)> = sdp.lines().filter_map(candidate).collect();
        for body in later {
            let (_, text) = body::decode(Text::Candidate, body)?;
            candidates.extend(candidate(&text));
        }
        Ok(ShortDescription {
            setup: setup.ok_or_else(|| bad("setup"))?.0,
            ufrag: value("ice-ufrag").ok_or_else(|| bad("ufrag"))?.to_owned(),
            password: value("ice-pwd").ok_or_else(|| bad("password"))?.to_owned(),
            fingerprint: body::fingerprint(&sdp).ok_or_else(|| bad("sha-256 fingerprint"))?,
            candidates: carried(candidates),
        })
    }

    /// Returns the body that a negotiation takes.
    pub fn body(&self, attempt: u64) -> Bytes {
        let hex: Vec<String> = self
            .fingerprint
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        let setup = SETUPS.iter().find(|(setup, _)| *setup == self.setup);
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {}\r\n\
             a=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
             c=IN IP4 0.0.0.0\r\na=setup:{}\r\na=mid:0\r\na=sendrecv\r\na=sctp-port:5000\r\n\
             a=max-message-size:{LINK_MESSAGE_BYTES_MAX}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            hex.join(":"),
            setup.map_or("actpass", |(_, name)| name),
            self.ufrag,
            self.password,
        );
        for (at, candidate) in self.candidates.iter().enumerate() {
            sdp.push_str(&candidate.line(at));
        }
        body::encode(attempt, &sdp)
    }

    /// Encodes the description.
    pub fn encode(&self) -> Vec<u8> {
        let place = SETUPS.iter().position(|(setup, _)| *setup == self.setup);
        let mut out = vec![place.unwrap_or_default() as u8];
        out.put_buffer(self.ufrag.as_bytes());
        out.put_buffer(self.password.as_bytes());
        out.put_raw(&self.fingerprint);
        out.put_uint(self.candidates.len() as u64);
        for candidate in &self.candidates {
            candidate.put(&mut out);
        }
        out
    }

    /// Decodes a description.
    ///
    /// # Errors
    /// Bytes that are none; never more is read than they hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, ShortDescriptionError> {
        let mut reader = Reader::strict(bytes);
        let setup = SETUPS.get(usize::from(reader.u8()?));
        let (setup, _) = *setup.ok_or(ShortDescriptionError::Field { what: "setup" })?;
        let ufrag = credential("ufrag", reader.buffer("ufrag", ICE_UFRAG_BYTES_MAX)?, 4)?;
        let password = reader.buffer("password", ICE_PASSWORD_BYTES_MAX)?;
        let password = credential("password", password, 22)?;
        let fingerprint = reader.fixed()?;
        let count = reader.uint_max("candidates", CARRIED_CANDIDATES_MAX)?;
        let candidates = (0..count).map(|_| Candidate::take(&mut reader));
        let candidates = candidates.collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(ShortDescription {
            setup,
            ufrag,
            password,
            fingerprint,
            candidates,
        })
    }
}

/// Reads a credential (RFC 8839 section 5.4): anything else in it would write lines of its own into the description.
fn credential(
    what: &'static str,
    bytes: &[u8],
    bytes_min: usize,
) -> Result<String, ShortDescriptionError> {
    let is_ice = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() >= bytes_min && bytes.iter().all(is_ice) => Ok(text.to_owned()),
        _ => Err(ShortDescriptionError::Field { what }),
    }
}

impl Candidate {
    /// Returns its line, for the place it has in order.
    fn line(&self, at: usize) -> String {
        let (_, name, preference) = KINDS[self.kind as usize];
        let local = u32::from(u16::MAX) - at as u32;
        // Of component 1, the only one there is.
        let priority = (preference << 24) + (local << 8) + 255;
        let (ip, port) = (self.address.ip(), self.address.port());
        // What the others are related to is for diagnosis alone, and not told.
        let related = match (self.kind, ip) {
            (Kind::Host, _) => "",
            (_, IpAddr::V4(_)) => " raddr 0.0.0.0 rport 0",
            (_, IpAddr::V6(_)) => " raddr :: rport 0",
        };
        format!(
            "a=candidate:{} 1 udp {priority} {ip} {port} typ {name}{related}\r\n",
            at + 1
        )
    }

    fn put(&self, out: &mut Vec<u8>) {
        let kind = self.kind as u8;
        match self.address.ip() {
            IpAddr::V4(ip) => {
                out.push(kind);
                out.put_raw(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(kind | IS_V6);
                out.put_raw(&ip.octets());
            }
        }
        out.put_raw(&self.address.port().to_le_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ShortDescriptionError> {
        let wrong = ShortDescriptionError::Field { what: "candidate" };
        let byte = reader.u8()?;
        let kind = KINDS.get(usize::from(byte & !IS_V6));
        let (kind, _, _) = *kind.ok_or(wrong.clone())?;
        let ip: IpAddr = match byte & IS_V6 {
            0 => Ipv4Addr::from(reader.fixed::<4>()?).into(),
            _ => Ipv6Addr::from(reader.fixed::<16>()?).into(),
        };
        let address = SocketAddr::new(ip, u16::from_le_bytes(reader.fixed()?));
        match is_usable(address) {
            true => Ok(Candidate { kind, address }),
            false => Err(wrong),
        }
    }
}

/// Returns whether the other side could send there: an address of one link says nothing without its interface.
fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_of_a_link = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_of_a_link
}

/// Reads a candidate (RFC 8839 section 5.1) with its priority; `None` for what is none, or of no use to a data
/// channel: of another component, over TCP, or with a name in the place of its address.
fn candidate(line: &str) -> Option<(u32, Candidate)> {
    let line = line.trim();
    let line = line.strip_prefix("a=").unwrap_or(line);
    let mut words = line.strip_prefix("candidate:")?.split(' ').skip(1);
    let (component, protocol) = (words.next()?, words.next()?);
    if component != "1" || !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    let priority = words.next()?.parse().ok()?;
    let (ip, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let address = SocketAddr::new(ip, port);
    let name = words
        .next()
        .filter(|word| *word == "typ")
        .and(words.next())?;
    let (kind, _, _) = *KINDS.iter().find(|(_, one, _)| *one == name)?;
    is_usable(address).then_some((priority, Candidate { kind, address }))
}

/// Returns the candidates that are carried, the best first: none twice, loopback only where there is nothing else, and
/// places left for what reaches far.
fn carried(mut all: Vec<(u32, Candidate)>) -> Vec<Candidate> {
    all.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let mut seen = BTreeSet::new();
    all.retain(|(_, one)| seen.insert(one.address));
    let is_loopback = |one: &Candidate| one.address.ip().is_loopback();
    if all.iter().any(|(_, one)| !is_loopback(one)) {
        all.retain(|(_, one)| !is_loopback(one));
    }
    let reaching = all.iter().filter(|(_, one)| one.kind != Kind::Host);
    let mut places = CARRIED_CANDIDATES_MAX - reaching.count().min(CARRIED_REACHING_MAX);
    let mut far = CARRIED_CANDIDATES_MAX - places;
    all.retain(|(_, one)| {
        let left = match one.kind {
            Kind::Host => &mut places,
            _ => &mut far,
        };
        let stays = *left > 0;
        *left = left.saturating_sub(1);
        stays
    });
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::webrtc::{Negotiation, Progress, WebrtcSettings};

    fn sdp(candidates: &[&str]) -> Bytes {
        let hex: Vec<String> = (0..32).map(|n| format!("{n:02X}")).collect();
        let mut text = format!(
            "v=0\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:abcdefghijklmnopqrstuv\r\n",
            hex.join(":")
        );
        for line in candidates {
            text.push_str(&format!("a={line}\r\n"));
        }
        body::encode(7, &text)
    }

    fn short(candidates: &[&str]) -> ShortDescription {
        ShortDescription::of(&sdp(candidates), &[]).unwrap()
    }

    #[test]
    fn a_description_of_a_home_takes_few_bytes_and_comes_back() {
        let short = short(&[
            "candidate:1 1 udp 2130706431 192.168.1.5 40000 typ host",
            "candidate:1 2 udp 2130706430 192.168.1.5 40000 typ host",
            "candidate:1 1 udp 2130706431 192.168.1.5 40000 typ host",
            "candidate:2 1 udp 2130706175 127.0.0.1 40001 typ host",
            "candidate:3 1 udp 2130705919 fe80::1 40002 typ host",
            "candidate:4 1 udp 2130705663 2001:db8::5 40003 typ host",
            "candidate:5 1 tcp 1671430143 192.168.1.5 9 typ host tcptype active",
            "candidate:6 1 udp 2130705407 4f1e.local 40004 typ host",
            "candidate:7 1 udp 1694498815 203.0.113.9 40000 typ srflx raddr 192.168.1.5 rport 40000",
        ]);
        let kept: Vec<String> = short
            .candidates
            .iter()
            .map(|one| one.address.to_string())
            .collect();
        assert_eq!(
            kept,
            [
                "192.168.1.5:40000",
                "[2001:db8::5]:40003",
                "203.0.113.9:40000"
            ]
        );
        let bytes = short.encode();
        assert!(bytes.len() <= 110, "{}", bytes.len());
        assert_eq!(ShortDescription::decode(&bytes), Ok(short.clone()));
        let again = ShortDescription::of(&short.body(9), &[]).unwrap();
        assert_eq!(again, short);
        assert_eq!(body::attempt_of(&short.body(9)), Some(9));
        for end in 0..bytes.len() {
            assert!(ShortDescription::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn of_many_candidates_those_that_reach_far_keep_places() {
        let mut lines: Vec<String> = (1..=40)
            .map(|n| {
                format!(
                    "candidate:{n} 1 udp {} 10.0.0.{n} 4000 typ host",
                    2_130_706_431 - n
                )
            })
            .collect();
        lines.push("candidate:50 1 udp 1694498815 203.0.113.9 4000 typ srflx".to_owned());
        lines.push("candidate:51 1 udp 16777215 203.0.113.7 4000 typ relay".to_owned());
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let short = short(&lines);
        assert_eq!(short.candidates.len(), CARRIED_CANDIDATES_MAX);
        let kinds: Vec<Kind> = short.candidates.iter().map(|one| one.kind).collect();
        assert_eq!(
            kinds[kinds.len() - 2..],
            [Kind::ServerReflexive, Kind::Relayed]
        );
        let on_its_own = self::short(&["candidate:1 1 udp 5 127.0.0.1 4000 typ host"]);
        assert_eq!(on_its_own.candidates.len(), 1, "there is nothing else");
    }

    #[test]
    fn credentials_that_would_write_lines_and_addresses_of_nobody_are_refused() {
        let good = short(&["candidate:1 1 udp 5 192.0.2.1 4000 typ host"]);
        let evil = ShortDescription {
            ufrag: "ab\r\na=x".to_owned(),
            ..good.clone()
        };
        let refused = ShortDescription::decode(&evil.encode());
        assert_eq!(refused, Err(ShortDescriptionError::Field { what: "ufrag" }));
        for address in [
            "0.0.0.0:4000",
            "192.0.2.1:0",
            "[fe80::1]:4000",
            "224.0.0.1:4000",
        ] {
            let candidate = Candidate {
                kind: Kind::Host,
                address: address.parse().unwrap(),
            };
            let evil = ShortDescription {
                candidates: vec![candidate],
                ..good.clone()
            };
            let refused = ShortDescription::decode(&evil.encode());
            assert_eq!(
                refused,
                Err(ShortDescriptionError::Field { what: "candidate" })
            );
        }
    }

    #[test]
    fn its_secrets_are_in_no_log() {
        assert!(!format!("{:?}", short(&[])).contains("abcd"));
    }

    #[tokio::test]
    async fn what_is_carried_opens_the_channel() {
        let settings = WebrtcSettings::default();
        let (mut left, offer) = Negotiation::offer(&settings, 7).await.unwrap();
        let offer = ShortDescription::of(&offer, &[]).unwrap().encode();
        let offer = ShortDescription::decode(&offer).unwrap().body(7);
        let (mut right, answer) = Negotiation::answer(&settings, &offer).await.unwrap();
        let answer = ShortDescription::of(&answer, &[]).unwrap().encode();
        let answer = ShortDescription::decode(&answer).unwrap();
        left.accept(&answer.body(7)).await.unwrap();
        let open = async |negotiation: &mut Negotiation| {
            while negotiation.progress().await.unwrap() != Progress::Open {}
        };
        tokio::time::timeout(Duration::from_secs(20), async {
            tokio::join!(open(&mut left), open(&mut right))
        })
        .await
        .expect("the channel opens");
    }
}
