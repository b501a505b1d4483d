//! The bytes of requests and answers (RFC 8489 sections 5 and 14).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::STUN_REQUEST_BYTES_MAX;

pub(super) const HEADER_BYTES: usize = 20;
const ATTRIBUTE_HEAD_BYTES: usize = 4;
const TRANSACTION_BYTES: usize = 12;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;

/// Attributes from here on may be ignored by who does not know them.
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// Attributes of credentials: a server that asks for none has no use for them, and refuses nobody
/// for them. USERNAME, MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256,
/// PASSWORD-ALGORITHM and USERHASH.
const IGNORED: [u16; 7] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e];

const FINGERPRINT_BYTES: usize = 8;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// A binding request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    transaction: [u8; TRANSACTION_BYTES],
    /// Kinds of attributes that had to be understood and are not.
    pub(super) unknown: Vec<u16>,
    /// Whether it ends with a fingerprint: then the answer does.
    fingerprint: bool,
}

impl Request {
    /// Reads a datagram; `None` when it is anything but a whole binding request.
    pub(super) fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > STUN_REQUEST_BYTES_MAX {
            return None;
        }
        let (header, mut attributes) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        let (kind, rest) = header.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (cookie, transaction) = rest.split_first_chunk::<4>()?;
        let is_binding = u16::from_be_bytes(*kind) == BINDING_REQUEST && *cookie == MAGIC_COOKIE;
        if !is_binding || usize::from(u16::from_be_bytes(*length)) != attributes.len() {
            return None;
        }
        let mut request = Request {
            transaction: transaction.try_into().ok()?,
            unknown: Vec::new(),
            fingerprint: false,
        };
        while !attributes.is_empty() {
            // Nothing may follow a fingerprint.
            if request.fingerprint {
                return None;
            }
            let before = datagram.len().checked_sub(attributes.len())?;
            let (kind, value, rest) = split_attribute(attributes)?;
            if kind == FINGERPRINT {
                let stated = u32::from_be_bytes(value.try_into().ok()?);
                if stated != fingerprint(datagram.get(..before)?) {
                    return None;
                }
                request.fingerprint = true;
            } else if kind < COMPREHENSION_OPTIONAL && !IGNORED.contains(&kind) {
                request.unknown.push(kind);
            }
            attributes = rest;
        }
        Some(request)
    }

    /// Returns the answer that tells `from`.
    pub(super) fn success(&self, from: SocketAddr) -> Vec<u8> {
        let mut answer = self.answer(BINDING_SUCCESS);
        push_attribute(
            &mut answer,
            XOR_MAPPED_ADDRESS,
            &self.xor_mapped_address(from),
        );
        self.finish(answer)
    }

    /// Returns the answer that names the attributes that are not known.
    pub(super) fn unknown_attributes(&self) -> Vec<u8> {
        let mut answer = self.answer(BINDING_ERROR);
        // Class 4, number 20, and the words.
        let mut error = vec![0, 0, 4, 20];
        error.extend_from_slice(b"Unknown Attribute");
        push_attribute(&mut answer, ERROR_CODE, &error);
        let kinds: Vec<u8> = self
            .unknown
            .iter()
            .flat_map(|it| it.to_be_bytes())
            .collect();
        push_attribute(&mut answer, UNKNOWN_ATTRIBUTES, &kinds);
        self.finish(answer)
    }

    fn answer(&self, kind: u16) -> Vec<u8> {
        let mut answer = Vec::with_capacity(HEADER_BYTES + STUN_REQUEST_BYTES_MAX);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 0]);
        answer.extend_from_slice(&MAGIC_COOKIE);
        answer.extend_from_slice(&self.transaction);
        answer
    }

    /// Family, port and address, the latter two XORed so that no NAT rewrites them in passing.
    fn xor_mapped_address(&self, from: SocketAddr) -> Vec<u8> {
        let [first, second, ..] = MAGIC_COOKIE;
        let port = from.port() ^ u16::from_be_bytes([first, second]);
        let (family, address) = match from.ip().to_canonical() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let mask = MAGIC_COOKIE.iter().chain(&self.transaction);
        let mut value = vec![0, family];
        value.extend_from_slice(&port.to_be_bytes());
        value.extend(address.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        value
    }

    fn finish(&self, mut answer: Vec<u8>) -> Vec<u8> {
        let fingerprint_bytes = if self.fingerprint {
            FINGERPRINT_BYTES
        } else {
            0
        };
        let body = answer.len() + fingerprint_bytes - HEADER_BYTES;
        let length = u16::try_from(body).unwrap_or(u16::MAX);
        if let Some(place) = answer.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        if self.fingerprint {
            let value = fingerprint(&answer).to_be_bytes();
            push_attribute(&mut answer, FINGERPRINT, &value);
        }
        answer
    }
}

/// Returns a binding request of a client; the transaction is 12 fresh random bytes.
pub fn binding_request(transaction: &[u8; TRANSACTION_BYTES]) -> [u8; HEADER_BYTES] {
    let mut request = [0; HEADER_BYTES];
    let [first, second] = BINDING_REQUEST.to_be_bytes();
    let [c0, c1, c2, c3] = MAGIC_COOKIE;
    let (head, rest) = request.split_at_mut(HEADER_BYTES - TRANSACTION_BYTES);
    head.copy_from_slice(&[first, second, 0, 0, c0, c1, c2, c3]);
    rest.copy_from_slice(transaction);
    request
}

/// Returns the address by which a server saw the sender of a request; `None` when the datagram is
/// anything but a success that answers this transaction.
pub fn mapped_address(answer: &[u8], transaction: &[u8; TRANSACTION_BYTES]) -> Option<SocketAddr> {
    let (header, mut attributes) = answer.split_first_chunk::<HEADER_BYTES>()?;
    let (kind, rest) = header.split_first_chunk::<2>()?;
    let (_, mask) = rest.split_first_chunk::<2>()?;
    let is_success = u16::from_be_bytes(*kind) == BINDING_SUCCESS;
    if !is_success || mask.strip_prefix(&MAGIC_COOKIE)? != transaction {
        return None;
    }
    loop {
        let (kind, value, rest) = split_attribute(attributes)?;
        if kind == XOR_MAPPED_ADDRESS {
            return unmasked(value, mask);
        }
        attributes = rest;
    }
}

/// Takes the mask off an address (RFC 8489 section 14.2).
fn unmasked(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let ([_, family, port @ ..], address) = value.split_first_chunk::<4>()?;
    let plain = |bytes: &[u8]| -> Vec<u8> {
        let masked = bytes.iter().zip(mask);
        masked.map(|(byte, mask)| byte ^ mask).collect()
    };
    let port = u16::from_be_bytes(plain(port).try_into().ok()?);
    let ip = match family {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(plain(address)).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(plain(address)).ok()?).into(),
        _ => return None,
    };
    // The zip above stops at the shorter one: an address longer than its mask is none.
    (address.len() <= mask.len()).then_some(SocketAddr::new(ip, port))
}

/// Splits off the first attribute: its kind, its value, and what follows its padding.
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<ATTRIBUTE_HEAD_BYTES>()?;
    let [kind_high, kind_low, length_high, length_low] = *head;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let value = rest.get(..length)?;
    let rest = rest.get(length.next_multiple_of(4)..)?;
    Some((u16::from_be_bytes([kind_high, kind_low]), value, rest))
}

fn push_attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Returns the fingerprint of what stands before it, header with the final length included.
fn fingerprint(before: &[u8]) -> u32 {
    crc32(before) ^ FINGERPRINT_XOR
}

/// CRC-32 of ITU V.42, bit by bit: a request has some hundred bytes at most.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sample request of RFC 5769 section 2.1.
    const SAMPLE: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
        802200105354554e207465737420636c69656e74\
        002400046e0001ff80290008932ff9b151263b36\
        000600096576746a3a68367659202020\
        000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
        80280004e57a3bcf";

    /// The transaction of all its samples.
    const TRANSACTION: &str = "b7e7a701bc34d686fa87dfae";

    fn hex(text: &str) -> Vec<u8> {
        kinlog_feeds::text::decode_hex(text).unwrap()
    }

    fn request(attributes: &str) -> Vec<u8> {
        let attributes = hex(attributes);
        let mut bytes = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap()];
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(hex(TRANSACTION));
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn sample_request_is_understood_but_for_the_attribute_of_ice() {
        let request = Request::decode(&hex(SAMPLE)).unwrap();
        assert_eq!(request.unknown, [0x0024], "PRIORITY is for peers");
        assert!(request.fingerprint);
        let mut damaged = hex(SAMPLE);
        damaged[30] ^= 1;
        assert_eq!(Request::decode(&damaged), None, "the fingerprint tells");
    }

    #[test]
    fn addresses_are_told_as_in_the_sample_responses() {
        let plain = Request::decode(&request("")).unwrap();
        let v4 = plain.xor_mapped_address("192.0.2.1:32853".parse().unwrap());
        assert_eq!(v4, hex("0001a147e112a643"));
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        let v6 = plain.xor_mapped_address(v6.parse().unwrap());
        assert_eq!(v6, hex("0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"));
        let mapped = plain.xor_mapped_address("[::ffff:192.0.2.1]:32853".parse().unwrap());
        assert_eq!(mapped, v4, "an IPv4 client of a dual-stack socket");
    }

    #[test]
    fn fingerprints_are_those_of_the_sample_responses() {
        let v4 = "0101003c2112a442b7e7a701bc34d686fa87dfae\
            8022000b7465737420766563746f7220\
            002000080001a147e112a643\
            000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7";
        assert_eq!(fingerprint(&hex(v4)), 0xc07d_4c96);
        let v6 = "010100482112a442b7e7a701bc34d686fa87dfae\
            8022000b7465737420766563746f7220\
            002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
            00080014a382954e4be67bf11784c97c8292c275bfe3ed41";
        assert_eq!(fingerprint(&hex(v6)), 0xc8fb_0b4c);
    }

    #[test]
    fn answers_repeat_the_transaction_and_the_fingerprint() {
        let from = "192.0.2.1:32853".parse().unwrap();
        let plain = Request::decode(&request("")).unwrap().success(from);
        let expected = "0101000c2112a442b7e7a701bc34d686fa87dfae002000080001a147e112a643";
        assert_eq!(plain, hex(expected));
        let mut signed = request("80280004");
        signed[3] = 8;
        signed.truncate(HEADER_BYTES);
        let value = fingerprint(&signed).to_be_bytes();
        push_attribute(&mut signed, FINGERPRINT, &value);
        let answer = Request::decode(&signed).unwrap().success(from);
        let (body, last) = answer.split_at(answer.len() - FINGERPRINT_BYTES);
        assert_eq!(last[4..], fingerprint(body).to_be_bytes());
    }

    #[test]
    fn a_client_reads_the_sample_response_and_asks_as_this_server_understands() {
        // RFC 5769 section 2.2, without its last attributes.
        let answer = hex("0101003c2112a442b7e7a701bc34d686fa87dfae802200\
            0b7465737420766563746f7220002000080001a147e112a643");
        let transaction: [u8; 12] = hex(TRANSACTION).try_into().unwrap();
        let told = mapped_address(&answer, &transaction);
        assert_eq!(told, Some("192.0.2.1:32853".parse().unwrap()));
        assert_eq!(mapped_address(&answer, &[0; 12]), None, "another request's");
        for end in 0..answer.len() {
            assert_eq!(mapped_address(&answer[..end], &transaction), None, "{end}");
        }
        let asked = Request::decode(&binding_request(&transaction)).unwrap();
        for from in ["192.0.2.1:1", "[2001:db8::1]:65535"] {
            let from = from.parse().unwrap();
            assert_eq!(
                mapped_address(&asked.success(from), &transaction),
                Some(from)
            );
        }
    }

    #[test]
    fn unknown_attributes_are_named_in_a_420() {
        // CHANGE-REQUEST and RESPONSE-PORT of RFC 5780, and SOFTWARE, which needs no understanding.
        let bytes = request("00030004000000000027000400000000802200036b6c3200");
        let request = Request::decode(&bytes).unwrap();
        assert_eq!(request.unknown, [0x0003, 0x0027]);
        let expected = "011100242112a442b7e7a701bc34d686fa87dfae\
            0009001500000414556e6b6e6f776e20417474726962757465000000\
            000a000400030027";
        assert_eq!(request.unknown_attributes(), hex(expected));
    }

    #[test]
    fn what_is_no_binding_request_is_not_understood() {
        let good = request("");
        assert!(Request::decode(&good).is_some());
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            bytes
        };
        assert_eq!(Request::decode(&changed(0, 1)), None, "a response");
        assert_eq!(Request::decode(&changed(1, 0x11)), None, "an indication");
        assert_eq!(Request::decode(&changed(1, 3)), None, "TURN's Allocate");
        assert_eq!(Request::decode(&changed(4, 0)), None, "RFC 3489");
        assert_eq!(Request::decode(&changed(3, 4)), None, "a wrong length");
        assert_eq!(Request::decode(&good[..19]), None);
        assert_eq!(Request::decode(&[]), None);
        assert_eq!(Request::decode(&request("80220009")), None, "a cut value");
        assert_eq!(Request::decode(&request("802200016b")), None, "no padding");
        assert_eq!(Request::decode(&[good, vec![0; 4]].concat()), None);
    }
}
