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

impl fmt::Debug for ToldAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToldAddresses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
