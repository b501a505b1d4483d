//! The messages of `hypercore/alpha` as values, and their encoding.

use bytes::Bytes;

use crate::encoding::{DecodeError, Reader, Writer, uint_len};
use crate::limits::{
    BITFIELD_WORDS_MAX, MANIFEST_BYTES_MAX, PLAIN_FRAME_BYTES_MAX, PROOF_NODES_MAX,
    SIGNATURE_BYTES_MAX,
};
use crate::tree::{
    BlockProof, BlockRequest, HashProof, HashRequest, Node, Proof, ProofRequest, SeekProof,
    SeekRequest, UpgradeProof, UpgradeRequest,
};

/// The numbers by which protomux names the messages of the channel.
pub mod message_type {
    /// [`Message::Synchronize`](super::Message::Synchronize).
    pub const SYNCHRONIZE: u64 = 0;
    /// [`Message::Request`](super::Message::Request).
    pub const REQUEST: u64 = 1;
    /// [`Message::Cancel`](super::Message::Cancel).
    pub const CANCEL: u64 = 2;
    /// [`Message::Data`](super::Message::Data).
    pub const DATA: u64 = 3;
    /// [`Message::NoData`](super::Message::NoData).
    pub const NO_DATA: u64 = 4;
    /// [`Message::Want`](super::Message::Want).
    pub const WANT: u64 = 5;
    /// [`Message::Unwant`](super::Message::Unwant).
    pub const UNWANT: u64 = 6;
    /// [`Message::Bitfield`](super::Message::Bitfield).
    pub const BITFIELD: u64 = 7;
    /// [`Message::Range`](super::Message::Range).
    pub const RANGE: u64 = 8;
    /// [`Message::Extension`](super::Message::Extension).
    pub const EXTENSION: u64 = 9;
}

/// What a side holds and is ready to do; sent at the start and whenever it changes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Synchronize {
    /// Fork of the sender's head.
    pub fork: u64,
    /// Length of the sender's head, in blocks.
    pub length: u64,
    /// The length the sender believes the receiver to have; 0 if forks differ.
    pub remote_length: u64,
    /// The sender can prove upgrades.
    pub can_upgrade: bool,
    /// The sender answers requests.
    pub uploading: bool,
    /// The sender makes requests.
    pub downloading: bool,
    /// The sender holds the manifest.
    pub has_manifest: bool,
    /// The sender takes data it did not ask for.
    pub allow_push: bool,
}

/// Asks for parts of the tree and a block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Number by which the answer names this request; 0 is reserved for pushes.
    pub id: u64,
    /// Fork the request is about.
    pub fork: u64,
    /// What is asked for.
    pub proof: ProofRequest,
    /// The manifest is asked for too.
    pub manifest: bool,
    /// Higher goes first; 0 is normal.
    pub priority: u64,
}

/// Answers a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Data {
    /// The request's id.
    pub request: u64,
    /// The parts asked for.
    pub proof: Proof,
    /// The manifest, encoded and unverified.
    pub manifest: Option<Bytes>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoDataReason {
    /// The sender does not hold it (any more).
    NotAvailable,
    /// The request makes no sense to the sender.
    InvalidRequest,
    /// A reason of a later protocol.
    Other(u64),
}

/// Says that a request will not be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoData {
    /// The request's id.
    pub request: u64,
    /// Why, if told; Hypercore 10 never tells.
    pub reason: Option<NoDataReason>,
}

/// Asks to be told which blocks of a region the receiver holds (or, as `Unwant`, no longer).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Want {
    /// First block.
    pub start: u64,
    /// Blocks.
    pub length: u64,
    /// Any block of the region will do.
    pub any: bool,
}

/// Says that a run of blocks is held, or was dropped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Range {
    /// The blocks were dropped.
    pub drop: bool,
    /// First block.
    pub start: u64,
    /// Blocks.
    pub length: u64,
}

/// A message of `hypercore/alpha`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// State of the sender.
    Synchronize(Synchronize),
    /// Asks.
    Request(Request),
    /// Takes a request back: its id.
    Cancel(u64),
    /// Answers a request.
    Data(Data),
    /// Declines a request.
    NoData(NoData),
    /// Asks which blocks are held.
    Want(Want),
    /// Ends a want.
    Unwant(Want),
    /// Bit `i` of word `w` tells of block `start + 32 w + i`.
    Bitfield {
        /// First block.
        start: u64,
        /// The bits.
        words: Vec<u32>,
    },
    /// A run of blocks held or dropped.
    Range(Range),
    /// A named message of an application.
    Extension {
        /// Name; empty means the same as the last one.
        name: Bytes,
        /// Content.
        payload: Bytes,
    },
}

mod sync_flag {
    pub(super) const CAN_UPGRADE: u64 = 1;
    pub(super) const UPLOADING: u64 = 2;
    pub(super) const DOWNLOADING: u64 = 4;
    pub(super) const HAS_MANIFEST: u64 = 8;
    pub(super) const ALLOW_PUSH: u64 = 16;
}

mod part_flag {
    pub(super) const BLOCK: u64 = 1;
    pub(super) const HASH: u64 = 2;
    pub(super) const SEEK: u64 = 4;
    pub(super) const UPGRADE: u64 = 8;
    pub(super) const MANIFEST: u64 = 16;
    pub(super) const PRIORITY: u64 = 32;
}

mod range_flag {
    pub(super) const DROP: u64 = 1;
    pub(super) const ONE: u64 = 2;
}

const WANT_ANY: u64 = 1;
const NO_DATA_HAS_REASON: u64 = 1;

impl Message {
    /// Returns the number by which protomux names this message.
    pub fn message_type(&self) -> u64 {
        match self {
            Message::Synchronize(_) => message_type::SYNCHRONIZE,
            Message::Request(_) => message_type::REQUEST,
            Message::Cancel(_) => message_type::CANCEL,
            Message::Data(_) => message_type::DATA,
            Message::NoData(_) => message_type::NO_DATA,
            Message::Want(_) => message_type::WANT,
            Message::Unwant(_) => message_type::UNWANT,
            Message::Bitfield { .. } => message_type::BITFIELD,
            Message::Range(_) => message_type::RANGE,
            Message::Extension { .. } => message_type::EXTENSION,
        }
    }

    /// Decodes the body of a message; a type this build does not know gives `None`.
    ///
    /// Blocks, signatures and manifests are slices of `body`, not copies.
    pub fn decode(message_type: u64, body: &Bytes) -> Result<Option<Message>, DecodeError> {
        let mut reader = Reader::new(body);
        let reader = &mut reader;
        let message = match message_type {
            message_type::SYNCHRONIZE => Message::Synchronize(decode_synchronize(reader)?),
            message_type::REQUEST => Message::Request(decode_request(reader)?),
            message_type::CANCEL => Message::Cancel(reader.uint()?),
            message_type::DATA => Message::Data(decode_data(reader, body)?),
            message_type::NO_DATA => Message::NoData(decode_no_data(reader)?),
            message_type::WANT => Message::Want(decode_want(reader)?),
            message_type::UNWANT => Message::Unwant(decode_want(reader)?),
            message_type::BITFIELD => decode_bitfield(reader)?,
            message_type::RANGE => Message::Range(decode_range(reader)?),
            message_type::EXTENSION => {
                let name = take_buffer(reader, body, "extension name", PLAIN_FRAME_BYTES_MAX)?;
                Message::Extension {
                    name,
                    payload: body.slice(reader.position()..),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(message))
    }

    /// Returns the bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Message::Synchronize(sync) => {
                1 + uint_len(sync.fork) + uint_len(sync.length) + uint_len(sync.remote_length)
            }
            Message::Request(request) => request_len(request),
            Message::Cancel(id) => uint_len(*id),
            Message::Data(data) => data_len(data),
            Message::NoData(no_data) => {
                uint_len(no_data.request)
                    + 1
                    + no_data.reason.map_or(0, |reason| uint_len(reason.number()))
            }
            Message::Want(want) | Message::Unwant(want) => {
                uint_len(want.start) + uint_len(want.length) + usize::from(want.any)
            }
            Message::Bitfield { start, words } => {
                uint_len(*start) + uint_len(words.len() as u64) + 4 * words.len()
            }
            Message::Range(range) => {
                1 + uint_len(range.start)
                    + if range.length == 1 {
                        0
                    } else {
                        uint_len(range.length)
                    }
            }
            Message::Extension { name, payload } => buffer_len(name) + payload.len(),
        }
    }

    /// Appends the encoded body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Synchronize(sync) => encode_synchronize(sync, out),
            Message::Request(request) => encode_request(request, out),
            Message::Cancel(id) => out.put_uint(*id),
            Message::Data(data) => encode_data(data, out),
            Message::NoData(no_data) => {
                out.put_uint(no_data.request);
                match no_data.reason {
                    None => out.put_uint(0),
                    Some(reason) => {
                        out.put_uint(NO_DATA_HAS_REASON);
                        out.put_uint(reason.number());
                    }
                }
            }
            Message::Want(want) | Message::Unwant(want) => {
                out.put_uint(want.start);
                out.put_uint(want.length);
                if want.any {
                    out.put_uint(WANT_ANY);
                }
            }
            Message::Bitfield { start, words } => {
                out.put_uint(*start);
                out.put_uint(words.len() as u64);
                for word in words {
                    out.put_raw(&word.to_le_bytes());
                }
            }
            Message::Range(range) => {
                let drop = if range.drop { range_flag::DROP } else { 0 };
                let one = if range.length == 1 {
                    range_flag::ONE
                } else {
                    0
                };
                out.put_uint(drop | one);
                out.put_uint(range.start);
                if range.length != 1 {
                    out.put_uint(range.length);
                }
            }
            Message::Extension { name, payload } => {
                out.put_buffer(name);
                out.put_raw(payload);
            }
        }
    }
}

impl NoDataReason {
    fn number(self) -> u64 {
        match self {
            NoDataReason::NotAvailable => 1,
            NoDataReason::InvalidRequest => 2,
            NoDataReason::Other(number) => number,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(NoDataReason::NotAvailable),
            2 => Some(NoDataReason::InvalidRequest),
            other => Some(NoDataReason::Other(other)),
        }
    }
}

fn encode_synchronize(sync: &Synchronize, out: &mut Vec<u8>) {
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    out.put_uint(
        flag(sync.can_upgrade, sync_flag::CAN_UPGRADE)
            | flag(sync.uploading, sync_flag::UPLOADING)
            | flag(sync.downloading, sync_flag::DOWNLOADING)
            | flag(sync.has_manifest, sync_flag::HAS_MANIFEST)
            | flag(sync.allow_push, sync_flag::ALLOW_PUSH),
    );
    out.put_uint(sync.fork);
    out.put_uint(sync.length);
    out.put_uint(sync.remote_length);
}

fn decode_synchronize(reader: &mut Reader<'_>) -> Result<Synchronize, DecodeError> {
    let flags = reader.uint()?;
    Ok(Synchronize {
        fork: reader.uint()?,
        length: reader.uint()?,
        remote_length: reader.uint()?,
        can_upgrade: flags & sync_flag::CAN_UPGRADE != 0,
        uploading: flags & sync_flag::UPLOADING != 0,
        downloading: flags & sync_flag::DOWNLOADING != 0,
        has_manifest: flags & sync_flag::HAS_MANIFEST != 0,
        allow_push: flags & sync_flag::ALLOW_PUSH != 0,
    })
}

fn request_len(request: &Request) -> usize {
    let pair = |one: u64, other: u64| uint_len(one) + uint_len(other);
    let proof = &request.proof;
    1 + pair(request.id, request.fork)
        + proof
            .block
            .map_or(0, |block| pair(block.index, block.nodes))
        + proof.hash.map_or(0, |hash| pair(hash.index, hash.nodes))
        + proof.seek.map_or(0, |seek| pair(seek.bytes, seek.padding))
        + proof
            .upgrade
            .map_or(0, |upgrade| pair(upgrade.start, upgrade.length))
        + if request.priority == 0 {
            0
        } else {
            uint_len(request.priority)
        }
}

fn encode_request(request: &Request, out: &mut Vec<u8>) {
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    let proof = &request.proof;
    out.put_uint(
        flag(proof.block.is_some(), part_flag::BLOCK)
            | flag(proof.hash.is_some(), part_flag::HASH)
            | flag(proof.seek.is_some(), part_flag::SEEK)
            | flag(proof.upgrade.is_some(), part_flag::UPGRADE)
            | flag(request.manifest, part_flag::MANIFEST)
            | flag(request.priority != 0, part_flag::PRIORITY),
    );
    out.put_uint(request.id);
    out.put_uint(request.fork);
    let mut pair = |one: u64, other: u64| {
        out.put_uint(one);
        out.put_uint(other);
    };
    if let Some(block) = proof.block {
        pair(block.index, block.nodes);
    }
    if let Some(hash) = proof.hash {
        pair(hash.index, hash.nodes);
    }
    if let Some(seek) = proof.seek {
        pair(seek.bytes, seek.padding);
    }
    if let Some(upgrade) = proof.upgrade {
        pair(upgrade.start, upgrade.length);
    }
    if request.priority != 0 {
        out.put_uint(request.priority);
    }
}

fn decode_request(reader: &mut Reader<'_>) -> Result<Request, DecodeError> {
    let flags = reader.uint()?;
    let has = |bit: u64| flags & bit != 0;
    let (id, fork) = (reader.uint()?, reader.uint()?);
    let mut proof = ProofRequest::default();
    if has(part_flag::BLOCK) {
        proof.block = Some(BlockRequest {
            index: reader.uint()?,
            nodes: reader.uint()?,
        });
    }
    if has(part_flag::HASH) {
        proof.hash = Some(HashRequest {
            index: reader.uint()?,
            nodes: reader.uint()?,
        });
    }
    if has(part_flag::SEEK) {
        proof.seek = Some(SeekRequest {
            bytes: reader.uint()?,
            padding: reader.uint()?,
        });
    }
    if has(part_flag::UPGRADE) {
        proof.upgrade = Some(UpgradeRequest {
            start: reader.uint()?,
            length: reader.uint()?,
        });
    }
    let priority = if has(part_flag::PRIORITY) {
        reader.uint()?
    } else {
        0
    };
    Ok(Request {
        id,
        fork,
        proof,
        manifest: has(part_flag::MANIFEST),
        priority,
    })
}

fn data_len(data: &Data) -> usize {
    let proof = &data.proof;
    1 + uint_len(data.request)
        + uint_len(proof.fork)
        + proof.block.as_ref().map_or(0, |block| {
            uint_len(block.index) + buffer_len(&block.value) + nodes_len(&block.nodes)
        })
        + proof
            .hash
            .as_ref()
            .map_or(0, |hash| uint_len(hash.index) + nodes_len(&hash.nodes))
        + proof
            .seek
            .as_ref()
            .map_or(0, |seek| uint_len(seek.bytes) + nodes_len(&seek.nodes))
        + proof.upgrade.as_ref().map_or(0, |upgrade| {
            uint_len(upgrade.start)
                + uint_len(upgrade.length)
                + nodes_len(&upgrade.nodes)
                + nodes_len(&upgrade.additional_nodes)
                + buffer_len(&upgrade.signature)
        })
        + data.manifest.as_ref().map_or(0, Bytes::len)
}

fn encode_data(data: &Data, out: &mut Vec<u8>) {
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    let proof = &data.proof;
    out.put_uint(
        flag(proof.block.is_some(), part_flag::BLOCK)
            | flag(proof.hash.is_some(), part_flag::HASH)
            | flag(proof.seek.is_some(), part_flag::SEEK)
            | flag(proof.upgrade.is_some(), part_flag::UPGRADE)
            | flag(data.manifest.is_some(), part_flag::MANIFEST),
    );
    out.put_uint(data.request);
    out.put_uint(proof.fork);
    if let Some(block) = &proof.block {
        out.put_uint(block.index);
        out.put_buffer(&block.value);
        Node::encode_list(&block.nodes, out);
    }
    if let Some(hash) = &proof.hash {
        out.put_uint(hash.index);
        Node::encode_list(&hash.nodes, out);
    }
    if let Some(seek) = &proof.seek {
        out.put_uint(seek.bytes);
        Node::encode_list(&seek.nodes, out);
    }
    if let Some(upgrade) = &proof.upgrade {
        out.put_uint(upgrade.start);
        out.put_uint(upgrade.length);
        Node::encode_list(&upgrade.nodes, out);
        Node::encode_list(&upgrade.additional_nodes, out);
        out.put_buffer(&upgrade.signature);
    }
    if let Some(manifest) = &data.manifest {
        out.put_raw(manifest);
    }
}

fn decode_data(reader: &mut Reader<'_>, body: &Bytes) -> Result<Data, DecodeError> {
    let flags = reader.uint()?;
    let has = |bit: u64| flags & bit != 0;
    let request = reader.uint()?;
    let mut proof = Proof {
        fork: reader.uint()?,
        ..Proof::default()
    };
    if has(part_flag::BLOCK) {
        proof.block = Some(BlockProof {
            index: reader.uint()?,
            value: take_buffer(reader, body, "block", PLAIN_FRAME_BYTES_MAX)?,
            nodes: Node::decode_list(reader, "proof nodes", PROOF_NODES_MAX)?,
        });
    }
    if has(part_flag::HASH) {
        proof.hash = Some(HashProof {
            index: reader.uint()?,
            nodes: Node::decode_list(reader, "proof nodes", PROOF_NODES_MAX)?,
        });
    }
    if has(part_flag::SEEK) {
        proof.seek = Some(SeekProof {
            bytes: reader.uint()?,
            nodes: Node::decode_list(reader, "proof nodes", PROOF_NODES_MAX)?,
        });
    }
    if has(part_flag::UPGRADE) {
        proof.upgrade = Some(UpgradeProof {
            start: reader.uint()?,
            length: reader.uint()?,
            nodes: Node::decode_list(reader, "proof nodes", PROOF_NODES_MAX)?,
            additional_nodes: Node::decode_list(reader, "proof nodes", PROOF_NODES_MAX)?,
            signature: take_buffer(reader, body, "signature", SIGNATURE_BYTES_MAX)?,
        });
    }
    let manifest = if has(part_flag::MANIFEST) {
        let at = reader.position();
        let rest = body.slice(at..);
        if rest.len() > MANIFEST_BYTES_MAX {
            let (limit, actual) = (MANIFEST_BYTES_MAX as u64, rest.len() as u64);
            return Err(DecodeError::AboveLimit {
                what: "manifest",
                at,
                limit,
                actual,
            });
        }
        Some(rest)
    } else {
        None
    };
    Ok(Data {
        request,
        proof,
        manifest,
    })
}

fn decode_no_data(reader: &mut Reader<'_>) -> Result<NoData, DecodeError> {
    let request = reader.uint()?;
    let flags = if reader.is_empty() { 0 } else { reader.uint()? };
    let reason = if flags & NO_DATA_HAS_REASON != 0 {
        NoDataReason::from_number(reader.uint()?)
    } else {
        None
    };
    Ok(NoData { request, reason })
}

fn decode_want(reader: &mut Reader<'_>) -> Result<Want, DecodeError> {
    let (start, length) = (reader.uint()?, reader.uint()?);
    let flags = if reader.is_empty() { 0 } else { reader.uint()? };
    Ok(Want {
        start,
        length,
        any: flags & WANT_ANY != 0,
    })
}

fn decode_range(reader: &mut Reader<'_>) -> Result<Range, DecodeError> {
    let flags = reader.uint()?;
    let start = reader.uint()?;
    let length = if flags & range_flag::ONE != 0 {
        1
    } else {
        reader.uint()?
    };
    Ok(Range {
        drop: flags & range_flag::DROP != 0,
        start,
        length,
    })
}

fn decode_bitfield(reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let start = reader.uint()?;
    let count = reader.uint_max("bitfield words", BITFIELD_WORDS_MAX)?;
    let words = reader
        .raw(4 * count)?
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().expect("chunks of 4 bytes")))
        .collect();
    Ok(Message::Bitfield { start, words })
}

fn nodes_len(nodes: &[Node]) -> usize {
    let each = |node: &Node| uint_len(node.index) + uint_len(node.size) + 32;
    uint_len(nodes.len() as u64) + nodes.iter().map(each).sum::<usize>()
}

fn buffer_len(bytes: &Bytes) -> usize {
    uint_len(bytes.len() as u64) + bytes.len()
}

fn take_buffer(
    reader: &mut Reader<'_>,
    body: &Bytes,
    what: &'static str,
    limit: usize,
) -> Result<Bytes, DecodeError> {
    let count = reader.buffer(what, limit)?.len();
    let end = reader.position();
    Ok(body.slice(end - count..end))
}
