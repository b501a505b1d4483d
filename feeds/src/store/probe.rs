//! Decoders of the store for whoever feeds them noise; only in builds with `test-switches`.
//!
//! Each returns whether the bytes decode, and panics when what they decode to does not come back
//! from its own encoding.

use crate::store::body::Body;
use crate::store::record::{CHECK_BYTES, HEADER_BYTES, Header};
use crate::store::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

/// Decodes the fixed start of a record.
pub fn record_header(bytes: &[u8]) -> bool {
    let Some(start) = bytes.first_chunk::<HEADER_BYTES>() else {
        return false;
    };
    let Some(header) = Header::decode(start) else {
        return false;
    };
    let mut again = [0; HEADER_BYTES];
    header.encode(&mut again);
    assert_eq!(again, *start, "a header has one form");
    true
}

/// Decodes the body of a record: its kind, four bytes of payload size, then the body.
pub fn record_body(bytes: &[u8]) -> bool {
    let Some((start, body)) = bytes.split_first_chunk::<5>() else {
        return false;
    };
    let [kind, a, b, c, d] = *start;
    let payload_bytes = u32::from_le_bytes([a, b, c, d]);
    let Ok(Some(decoded)) = Body::decode(kind, body, payload_bytes) else {
        return false;
    };
    let mut head = Vec::new();
    decoded.write_head_part(&mut head, 0);
    let again = &head[HEADER_BYTES..head.len() - CHECK_BYTES];
    let again = Body::decode(kind, again, payload_bytes);
    assert_eq!(again, Ok(Some(decoded)), "a body comes back as it was");
    true
}

/// Decodes the header of segment 0.
pub fn segment_header(bytes: &[u8]) -> bool {
    let Some(start) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
        return false;
    };
    let Some(header) = SegmentHeader::decode(0, start) else {
        return false;
    };
    assert_eq!(header.encode(), *start, "a header has one form");
    true
}
