//! Addresses of this machine as others are told them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Says which address others are told in the place of one of this machine: where a router forwards a
/// port, or a test stands in between.
#[derive(Clone)]
pub struct ToldAddresses(Arc<dyn Fn(SocketAddr) -> SocketAddr + Send + Sync>);

impl ToldAddresses {
    /// Returns what tells `stands_for(address)` for each address.
    pub fn new(stands_for: impl Fn(SocketAddr) -> SocketAddr + Send + Sync + 'static) -> Self {
        ToldAddresses(Arc::new(stands_for))
    }

    /// Returns a description, or a candidate, with what is told in the place of its addresses.
    pub(super) fn tell(&self, text: &str) -> String {
        let lines = text.split_inclusive('\n');
        lines.map(|line| self.tell_line(line)).collect()
    }

    fn tell_line(&self, line: &str) -> String {
        // `candidate:FOUNDATION COMPONENT PROTOCOL PRIORITY ADDRESS PORT typ TYPE ...`, RFC 8839.
        let words: Vec<&str> = line.split(' ').collect();
        let [first, _, _, _, ip, port, ..] = words[..] else {
            return line.to_owned();
        };
        let (Ok(address), Ok(number)) = (ip.parse(), port.parse()) else {
            return line.to_owned();
        };
        if !first.contains("candidate:") {
            return line.to_owned();
        }
        let told = (self.0)(SocketAddr::new(address, number));
        let with = format!(" {} {} ", told.ip(), told.port());
        line.replacen(&format!(" {ip} {port} "), &with, 1)
    }
}

/// Returns a description, or a candidate, without the addresses that relayed candidates are related to
/// (`raddr`, `rport`): these are of this machine, for diagnosis alone, and who hides behind relays does
/// not tell them.
pub(super) fn without_related(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.map(without_related_line).collect()
}

fn without_related_line(line: &str) -> String {
    let mut before = "";
    let words = line.split(' ').map(|word| {
        let (text, end) = word.split_at(word.trim_end().len());
        let text = match before {
            "raddr" => "0.0.0.0",
            "rport" => "0",
            _ => text,
        };
        before = word;
        format!("{text}{end}")
    });
    words.collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for ToldAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToldAddresses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relayed_candidates_do_not_name_what_they_are_related_to() {
        let line = "candidate:7 1 udp 16777215 192.0.2.1 4000 typ relay raddr 10.0.0.7 rport 5000";
        let hidden = line.replace("10.0.0.7 rport 5000", "0.0.0.0 rport 0");
        assert_eq!(without_related(line), hidden);
        for end in ["\r\n", "\n", " ufrag x\r\n"] {
            let text = format!("v=0\r\na={line}{end}a=mid:0\r\n");
            let expected = format!("v=0\r\na={hidden}{end}a=mid:0\r\n");
            assert_eq!(without_related(&text), expected);
        }
    }

    #[test]
    fn addresses_of_candidates_are_replaced_and_nothing_else() {
        let told = ToldAddresses::new(|mut address| {
            assert_eq!(address.port(), 4000);
            address.set_port(5000);
            address
        });
        let text = "o=- 1 2 IN IP4 127.0.0.1\r\n\
            a=candidate:7 1 udp 2130706431 127.0.0.1 4000 typ host\r\n\
            a=end-of-candidates\r\n";
        assert_eq!(told.tell(text), text.replace("4000", "5000"));
        let alone = "candidate:7 1 udp 2130706431 127.0.0.1 4000 typ host";
        assert_eq!(told.tell(alone), alone.replace("4000", "5000"));
    }
}
