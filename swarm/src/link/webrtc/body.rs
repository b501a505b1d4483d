//! Bodies of offers, answers and candidates, opaque to signal servers.
//!
//! `u8 version = 1 | u64 attempt | UTF-8 text to the end`: the text is an SDP description or a
//! candidate attribute (RFC 8839). The attempt is drawn by the side that offers; answers and
//! candidates repeat it, so that those of an attempt given up are told from the current one's.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{CANDIDATE_BYTES_MAX, DESCRIPTION_BYTES_MAX};
use crate::link::LinkError;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 9;

/// Which kind of text a body carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Text {
    Offer,
    Answer,
    Candidate,
}

impl Text {
    fn name(self) -> &'static str {
        match self {
            Text::Offer => "offer",
            Text::Answer => "answer",
            Text::Candidate => "candidate",
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Text::Offer | Text::Answer => DESCRIPTION_BYTES_MAX,
            Text::Candidate => CANDIDATE_BYTES_MAX,
        }
    }
}

/// Returns the attempt that a body names, `None` when it is no body.
pub fn attempt_of(body: &[u8]) -> Option<u64> {
    let (head, _) = body.split_first_chunk::<HEAD_BYTES>()?;
    let (version, attempt) = head.split_first()?;
    (*version == VERSION).then_some(u64::from_le_bytes(attempt.try_into().ok()?))
}

/// Returns the body by which the side that does not offer asks for an offer: a candidate of
/// attempt 0 without text.
pub fn knock() -> Bytes {
    encode(0, "")
}

/// Returns whether the body of a candidate is a [`knock`].
pub fn is_knock(body: &[u8]) -> bool {
    body.len() == HEAD_BYTES && attempt_of(body) == Some(0)
}

pub(super) fn encode(attempt: u64, text: &str) -> Bytes {
    let mut body = BytesMut::with_capacity(HEAD_BYTES + text.len());
    body.put_u8(VERSION);
    body.put_u64_le(attempt);
    body.put_slice(text.as_bytes());
    body.freeze()
}

pub(super) fn decode(kind: Text, body: &[u8]) -> Result<(u64, String), LinkError> {
    let bad = |reason: String| LinkError::BadDescription {
        what: kind.name(),
        reason,
    };
    let attempt = attempt_of(body).ok_or_else(|| bad("no version 1 body".to_owned()))?;
    let text = body.get(HEAD_BYTES..).unwrap_or_default();
    if text.len() > kind.bytes_max() {
        return Err(bad(format!(
            "{} bytes, at most {}",
            text.len(),
            kind.bytes_max()
        )));
    }
    let text = std::str::from_utf8(text).map_err(|_| bad("not UTF-8".to_owned()))?;
    Ok((attempt, text.to_owned()))
}

/// Returns the SHA-256 fingerprint that a description names (RFC 8122 section 5).
pub(super) fn fingerprint(sdp: &str) -> Option<[u8; 32]> {
    let line = sdp
        .lines()
        .find_map(|line| line.trim().strip_prefix("a=fingerprint:"))?;
    let (hash, text) = line.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut parts = text.trim().split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_comes_back_as_it_was() {
        let body = encode(7, "v=0\r\n");
        assert_eq!(attempt_of(&body), Some(7));
        assert_eq!(
            decode(Text::Offer, &body).unwrap(),
            (7, "v=0\r\n".to_owned())
        );
    }

    #[test]
    fn knock_is_no_candidate() {
        assert!(is_knock(&knock()));
        assert!(!is_knock(&encode(0, "x")) && !is_knock(&encode(1, "")) && !is_knock(&[]));
    }

    #[test]
    fn foreign_and_oversized_bodies_are_refused() {
        assert_eq!(attempt_of(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert!(decode(Text::Offer, &[1, 2, 3]).is_err());
        assert!(decode(Text::Candidate, &encode(1, &"x".repeat(513))).is_err());
        let mut latin1 = encode(1, "a").to_vec();
        latin1.push(0xe9);
        assert!(decode(Text::Answer, &latin1).is_err());
    }

    #[test]
    fn fingerprint_is_read_from_its_line() {
        let hex: Vec<String> = (0..32).map(|n| format!("{n:02X}")).collect();
        let sdp = format!("v=0\r\na=fingerprint:sha-256 {}\r\n", hex.join(":"));
        let expected: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        assert_eq!(fingerprint(&sdp), Some(expected));
        assert_eq!(fingerprint(&sdp.replace("sha-256", "sha-1")), None);
        assert_eq!(fingerprint(&sdp.replace(":1F", "")), None);
    }
}
