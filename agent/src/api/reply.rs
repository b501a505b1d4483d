//! What an agent answers. Field names are what `--json` prints, so they are kept.

use std::path::PathBuf;

use kinlog_feeds::Hash;
use kinlog_feeds::crypto::{AgentId, DeviceKey, DiscoveryKey, FeedKey};
use serde::{Deserialize, Serialize};

use crate::api::{
    GrantInfo, InviteInfo, MemberInfo, MessageInfo, ReaderInfo, RoomChange, RoomExported, RoomLeft,
    SeedingInfo, Selection, Text,
};

/// One answer to a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// Who this agent is.
    Id(IdInfo),
    /// Everything `status` shows.
    Status(Box<Status>),
    /// One feed.
    Feed(FeedInfo),
    /// The agent is about to leave the home.
    Stopping,
    /// Feeds.
    Feeds { feeds: Vec<FeedInfo> },
    /// Blocks that are durable now.
    Appended {
        key: Text<FeedKey>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Index of the first block appended.
        start: u64,
        /// Blocks of the feed now.
        length: u64,
        byte_length: u64,
        /// `kinlog://agent/...` of an own public path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    /// A block; its bytes are the payload.
    Block { index: u64, bytes: u64 },
    /// How far a long piece of work is.
    Progress(TransferProgress),
    /// A file that was written.
    Exported {
        key: Text<FeedKey>,
        file: PathBuf,
        range: Text<Selection>,
        bytes: u64,
    },
    /// What a check of everything stored of a feed found.
    Verified {
        key: Text<FeedKey>,
        length: u64,
        blocks_checked: u64,
        problems: Vec<BlockProblem>,
    },
    /// A bundle that was written.
    BundleExported {
        key: Text<FeedKey>,
        file: PathBuf,
        /// Blocks of the signed head in it.
        length: u64,
        /// Blocks in it.
        ranges: Vec<Text<Selection>>,
        blocks: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// A bundle that was taken in.
    BundleImported {
        feed: Box<FeedInfo>,
        /// The feed was not held before.
        created: bool,
        length_before: u64,
        blocks_new: u64,
        blocks_held_before: u64,
        /// Blocks left out, as they hang on nodes of a shorter head that are not held.
        blocks_untied: u64,
    },
    /// What a bundle holds, all of it verified.
    BundleVerified {
        key: Text<FeedKey>,
        fork: u64,
        length: u64,
        byte_length: u64,
        ranges: Vec<Text<Selection>>,
        blocks: u64,
        bytes: u64,
    },
    /// Blocks that were given up.
    Cleared {
        key: Text<FeedKey>,
        range: Text<Selection>,
        /// Blocks that were held.
        blocks: u64,
        bytes: u64,
        /// A pin asks for some of them: they are fetched again.
        wanted: bool,
    },
    /// A feed that was taken out.
    Dropped {
        key: Text<FeedKey>,
        blocks: u64,
        bytes: u64,
    },
    /// Feeds whose authors signed two histories.
    Conflicts { conflicts: Vec<ConflictInfo> },
    /// What the store takes.
    Store(StoreInfo),
    /// What compacting the store did.
    StoreCompacted {
        /// Segments that are gone.
        segments: u64,
        /// Bytes of log that were in them.
        bytes_before: u64,
        /// Bytes of log that what lived of them takes now.
        bytes_moved: u64,
        /// Segments that have to stay although much of them is dead.
        kept: u64,
    },
    /// What a check of everything stored found.
    StoreChecked {
        feeds: u64,
        blocks_checked: u64,
        nodes_checked: u64,
        /// How much does not hold; the first of it is listed.
        problem_count: u64,
        problems: Vec<BlockProblem>,
        /// Pieces of the log that do not hold, of a store that does not open.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gaps: Vec<String>,
    },
    /// What a repair of the store did.
    StoreRepaired {
        folder: PathBuf,
        /// All of it holds; nothing was done.
        sound: bool,
        /// Where the old store is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        damaged: Option<PathBuf>,
        feeds: Vec<RepairedFeedInfo>,
        /// Pieces of the old log that do not hold.
        gaps: Vec<String>,
        /// Records that could not be carried over.
        records_left: u64,
        /// Feeds of which the record with their key is lost.
        feeds_without_name: u64,
    },
    /// Documents that were published.
    Published {
        key: Text<FeedKey>,
        path: String,
        /// None for a private path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        length: u64,
        documents: Vec<DocumentInfo>,
    },
    /// A feed is being served at `address`.
    Serving { key: Text<FeedKey>, address: String },
    /// How far a follow is.
    Follow(FollowProgress),
    /// Pins.
    Pins { pins: Vec<PinInfo> },
    /// A seed grant that was given, with the link that carries it to the seeder.
    Granted {
        room: String,
        grant: Text<Hash>,
        feeds: u64,
        expires_at_ms: u64,
        link: String,
    },
    /// Seed grants of a room.
    Grants {
        room: String,
        grants: Vec<GrantInfo>,
    },
    /// Seed grants that hold no more.
    GrantsRevoked {
        room: String,
        grants: Vec<Text<Hash>>,
    },
    /// Seed grants that are held.
    Seeding { grants: Vec<SeedingInfo> },
    /// Seed grants that were given up, and what of the store was given back with them.
    SeedingDropped {
        grants: Vec<SeedingInfo>,
        blocks: u64,
        bytes: u64,
    },
    /// Pins that were forgotten, and what of the store was given back with them.
    Unpinned {
        pins: Vec<PinInfo>,
        blocks: u64,
        bytes: u64,
    },
    /// A room.
    Room(RoomInfo),
    /// Rooms.
    Rooms { rooms: Vec<RoomInfo> },
    /// Members of a room.
    Members {
        room: String,
        members: Vec<MemberInfo>,
        /// Who sees something of the room.
        #[serde(default)]
        readers: Vec<ReaderInfo>,
    },
    /// Invites of a room.
    Invites {
        room: String,
        invites: Vec<InviteInfo>,
    },
    /// Something of a room was changed.
    RoomChanged(RoomChange),
    /// A room was left.
    RoomLeft(RoomLeft),
    /// A room was written into a folder.
    RoomExported(RoomExported),
    /// A message to one agent; the link is for the agent, who is not in the room yet.
    DirectSent {
        room: String,
        key: Text<FeedKey>,
        index: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    /// A link that lets its holder join.
    Invite { room: String, link: String },
    /// The request to join was made; nobody answered yet.
    Waiting { room: String, message: String },
    /// A message that is durable now.
    Sent {
        /// Names it in its room.
        id: String,
        room: String,
        key: Text<FeedKey>,
        index: u64,
    },
    /// A message.
    Message(MessageInfo),
    /// A hit of a search.
    Found(FoundEntry),
    /// How this agent signs in with a password, and whose records are held here.
    SignIn(SignInInfo),
    /// The devices of this agent, this one first.
    Devices { devices: Vec<DeviceInfo> },
    /// A device that is revoked, or would be.
    Revocation {
        device: Box<DeviceInfo>,
        /// What of its public and private directory is accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        public: Option<CutInfo>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        private: Option<CutInfo>,
        /// Devices that it added or revoked, and what becomes of these.
        said: Vec<String>,
        done: bool,
    },
    /// A code that links a device.
    LinkCode { code: String, until_ms: u64 },
    /// A device asks by the code.
    LinkAsked(LinkAskedInfo),
    /// A device was added.
    Linked {
        device: Text<DeviceKey>,
        name: String,
        /// What it waits for, in hex.
        answer: String,
    },
    /// Digits to compare with somebody.
    Safety {
        agent: Text<AgentId>,
        name: String,
        /// 12 groups of 5 digits.
        number: String,
    },
    /// The state of the index.
    Index {
        dump_hash: String,
        entries: u64,
        pending: u64,
    },
    /// What a check of the index found; with problems it was made anew.
    IndexChecked {
        problems: Vec<String>,
        rebuilt: bool,
    },
    /// The answer to an SQL question.
    Rows {
        columns: Vec<String>,
        /// Numbers, texts, null; bytes as z-base-32.
        rows: Vec<Vec<serde_json::Value>>,
        /// There is more than is given.
        more: bool,
    },
    /// Why something is here, or is not shown.
    Why {
        thing: String,
        reasons: Vec<WhyReason>,
    },
}

/// Who an agent is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct IdInfo {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    pub name: String,
    /// `kinlog://agent/...` of the agent itself.
    pub link: String,
    pub home: PathBuf,
}

/// A feed as its holder sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FeedInfo {
    pub key: Text<FeedKey>,
    pub discovery_key: Text<DiscoveryKey>,
    /// Path under its author, when a directory we hold lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its author, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    /// Link by which others follow it, when it is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// `own`, `device` (another of this agent's), `followed`, `pinned`, `seeded`, `directory`,
    /// `private directory`, `room` or `plain`.
    pub role: String,
    /// It is sealed, for the own devices alone.
    #[serde(default)]
    pub private: bool,
    /// `entries` (indexed) or `bytes`.
    pub content: String,
    pub fork: u64,
    /// Blocks of the newest signed head that is held.
    pub length: u64,
    pub byte_length: u64,
    pub blocks_held: u64,
    pub bytes_held: u64,
    /// Blocks from the start without a gap.
    pub contiguous: u64,
    /// In what way its author signed two histories: the feed stops where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
}

/// A feed that is stopped, and the proof of why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ConflictInfo {
    pub key: Text<FeedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its author, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    /// Blocks of the signed head that is held.
    pub length: u64,
    /// What the two heads are, in words.
    pub what: String,
    /// The block from which on the histories may differ; none for heads of two forks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block: Option<u64>,
    /// Both heads.
    pub heads: Vec<ConflictHead>,
    /// The encoded proof in hex: anybody can check it.
    pub proof: String,
}

/// One of two heads that contradict each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ConflictHead {
    pub fork: u64,
    pub length: u64,
    /// In hex.
    pub tree_hash: String,
}

/// How far a transfer is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TransferProgress {
    /// `import`, `export`, `pull`.
    pub what: String,
    pub blocks: u64,
    pub blocks_total: u64,
    pub bytes: u64,
    /// Zero while unknown.
    pub bytes_total: u64,
}

/// A block or node that is not what was signed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BlockProblem {
    pub key: Text<FeedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    pub problem: String,
}

/// A document that was published.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DocumentInfo {
    pub title: String,
    pub index: u64,
    pub bytes: u64,
}

/// The steps of finding and fetching what a link names, in order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowStep {
    /// Reach a signal server.
    Signal,
    /// Meet somebody under the agent's (or feed's) topic.
    Peers,
    /// Get and verify the agent's identity set.
    Identity,
    /// Get the agent's public directories, find the path in them.
    Directory,
    /// Get the feed's newest signed head.
    Head,
    /// Get the blocks.
    Blocks,
    /// All that was asked for is stored.
    Complete,
}

/// How far a follow is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FollowProgress {
    pub link: String,
    pub step: FollowStep,
    /// One sentence for people: the step, or who was not found in it.
    pub message: String,
    /// Nobody was found in this step for 10 s.
    #[serde(default)]
    pub nobody: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<FeedKey>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Blocks of the newest known head.
    pub length: u64,
    /// Blocks asked for that are stored.
    pub have: u64,
    /// Blocks asked for.
    pub want: u64,
    /// Bytes of the blocks stored.
    pub bytes: u64,
    /// Sessions open now.
    pub peers: u64,
    pub complete: bool,
}

/// What is to be kept, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PinInfo {
    pub link: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<FeedKey>>,
    pub range: Text<Selection>,
    pub live: bool,
    /// `sovereign`, `reciprocal`, `invested` or `gift`.
    pub tier: String,
    /// `follow`, `seed`, `directory of a pinned path`, ...
    pub reason: String,
    /// How many times links in documents are followed.
    #[serde(default)]
    pub depth: u8,
    /// Who is kept for what: `device`, `followed`, `pinned` or `seeded`.
    #[serde(default)]
    pub role: String,
    pub length: u64,
    pub have: u64,
    pub want: u64,
}

/// A device of this agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeviceInfo {
    pub key: Text<DeviceKey>,
    pub name: String,
    /// `this`, `former` (its paths are continued here) or `other`.
    pub role: String,
    /// Paths that it lists in public.
    pub paths: u64,
    /// Why it may not write any more, when it is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_renew: Option<String>,
    /// `device`; `revoked`; `undone`, when whoever added it was revoked.
    pub state: String,
    /// Words of `write`, `add`, `revoke`.
    pub powers: Vec<String>,
    /// Name of the device that added it, or `the phrase`.
    pub added_by: String,
    /// Names of those who revoked it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked_by: Vec<String>,
}

/// How much of a directory is accepted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CutInfo {
    pub length: u64,
    pub tree_hash: String,
}

/// A device that asks to be linked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LinkAskedInfo {
    pub device: Text<DeviceKey>,
    pub name: String,
    /// What it may do when it is added.
    pub powers: Vec<String>,
    /// Words that have to stand on both devices.
    pub words: String,
}

/// What became of one of somebody's devices.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeviceChange {
    pub agent: Text<AgentId>,
    /// Name of the agent, and the start of its id.
    pub name: String,
    /// `device_added`, `device_renamed`, `device_revoked`, `device_undone` or `root_replaced`.
    pub what: String,
    pub device: Text<DeviceKey>,
    pub device_name: String,
    /// Who did it; for a renamed device its former name.
    pub by: String,
}

/// Signing in with a password.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignInInfo {
    /// `ready`, `elsewhere` (made by another device, the record has not come yet) or `none`.
    pub state: String,
    /// Number of the record, which counts up with each new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What a seeder is given that is to hold the record, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_link: Option<String>,
    /// Keys that add devices by a password, or did.
    pub keys: Vec<SignInKeyInfo>,
    /// Other agents whose records are held here.
    pub held: Vec<HeldSignInInfo>,
}

/// A key that adds devices by a password.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignInKeyInfo {
    pub key: Text<DeviceKey>,
    /// The device that made it.
    pub made_by: String,
    pub revoked: bool,
    /// Devices that it added.
    pub devices: Vec<String>,
}

/// The record of another agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HeldSignInInfo {
    pub agent: Text<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of the record; none until it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// A room this agent is a member of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoomInfo {
    /// z-base-32 of the genesis hash.
    pub id: String,
    /// First 8 characters of the id.
    pub code: String,
    pub name: String,
    pub members: u64,
    pub messages: u64,
    /// How this agent went out of it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The other agent of a room of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
}

/// One reason for something.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WhyReason {
    /// What decided: `own`, `pin`, `room`, `conflict`, `index`, `tombstone`, `store`.
    pub from: String,
    pub text: String,
    /// z-base-32 of the agent who decided it, when it was somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}

/// A hit of a search.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FoundEntry {
    /// `message`, `document`, `file`, `profile`.
    pub kind: String,
    pub title: String,
    /// The words around the hit.
    pub snippet: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub author: String,
    pub key: Text<FeedKey>,
    pub index: u64,
}

/// Everything `status` shows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    pub name: String,
    pub home: PathBuf,
    /// Process that holds the home.
    pub pid: u32,
    /// Whether the network is on.
    pub network: bool,
    pub signals: Vec<SignalStatus>,
    pub sessions: Vec<SessionStatus>,
    pub feeds: Vec<FeedStatus>,
    pub rooms: Vec<RoomInfo>,
    pub store: StoreStatus,
    /// Whether every feed is in sync.
    pub in_sync: bool,
    /// Bytes received over all links since the network was started.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Joins that wait for a member, one sentence each.
    pub open_joins: Vec<String>,
    /// Why this device may not write any more; `kinlog device renew` helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_renew: Option<String>,
}

/// A signal server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignalStatus {
    pub url: String,
    pub connected: bool,
    /// Why not, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A session with another agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SessionStatus {
    /// Number of the session in this process.
    pub id: u64,
    /// `agent`, `feed`, `room`, `invite`: the topic they met by.
    pub met_by: String,
    /// Path, room or key behind the topic.
    pub topic: String,
    /// `webrtc`, `tcp`, `memory`.
    pub transport: String,
    /// The candidate pair that ICE chose, for WebRTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice: Option<IceInfo>,
    /// The far device, when it showed a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Text<DeviceKey>>,
    /// The far agent, when its device is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// `connecting`, `handshake`, `open` or `plain`.
    pub state: String,
    /// Seconds since the link opened.
    pub seconds: u64,
    /// Keys of the feeds whose channel is open.
    pub feeds: Vec<String>,
}

/// The path between two WebRTC peers as ICE reports it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct IceInfo {
    pub local: String,
    pub remote: String,
    /// `host`, `srflx`, `prflx`, `relay`.
    pub local_kind: String,
    pub remote_kind: String,
}

/// A feed, what is held of it and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FeedStatus {
    #[serde(flatten)]
    pub feed: FeedInfo,
    /// Blocks wanted that are stored.
    pub have: u64,
    /// Blocks wanted.
    pub want: u64,
    pub in_sync: bool,
    /// Why it is not in sync, or that it is.
    pub sync: String,
    /// Why it is stored: own, a pin, a room, the directory of a pinned path.
    pub why: Vec<String>,
}

/// What a repair kept and lost of a feed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RepairedFeedInfo {
    pub key: Text<FeedKey>,
    pub length: u64,
    /// Length of the newest head of which anything is left.
    pub length_seen: u64,
    pub blocks_held: u64,
    pub blocks_lost: u64,
    pub lost: Vec<Text<Selection>>,
    /// A newer head may have been lost.
    pub unconfirmed: bool,
}

/// The store on disk, in detail.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoreInfo {
    pub folder: PathBuf,
    pub feeds: u64,
    /// Blocks held, of all feeds.
    pub blocks: u64,
    pub block_bytes: u64,
    pub segments: u64,
    /// Bytes of log written.
    pub log_bytes: u64,
    /// Bytes of log that compaction could give back, about.
    pub dead_bytes: u64,
    /// Bytes of the index when it was last written out.
    pub index_bytes: u64,
    /// Bytes the disk can still take.
    pub free_bytes: u64,
}

/// The store on disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoreStatus {
    pub bytes: u64,
    pub segments: u64,
    pub feeds: u64,
    pub blocks: u64,
}
