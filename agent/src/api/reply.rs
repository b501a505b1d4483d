//! What an agent answers. Field names are what `--json` prints, so they are kept.

use std::path::PathBuf;

use kinlog_feeds::Hash;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use serde::{Deserialize, Serialize};

use crate::api::{
    BlockProblem, ClaimInfo, ConflictInfo, ContactInfo, CutInfo, DeviceInfo, DoctorInfo,
    DocumentInfo, EgressInfo, FeedInfo, FollowProgress, GrantInfo, InviteInfo, LinkAskedInfo,
    MemberInfo, MessageInfo, Metrics, PairedInfo, PeerInfo, PeerState, PinInfo, PongInfo,
    PreferenceInfo, PresenceInfo, ProfileInfo, ReaderInfo, RepairedFeedInfo, RoomChange,
    RoomExported, RoomInfo, RoomLeft, SeedingInfo, Selection, SignInInfo, Stance, Status, StepInfo,
    StoreInfo, Text, TransferProgress, UnpublishedFeed, ValueConflictInfo, VouchInfo,
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
    /// How the node does, in numbers for whoever watches it.
    Metrics(Box<Metrics>),
    /// A text that is to be carried to another machine.
    PairText {
        /// `offer` or `answer`.
        what: String,
        /// `kinlog://pair/#...`: whoever has it can meet this machine.
        text: String,
        until_ms: u64,
    },
    /// Another machine is connected by texts that were carried.
    Paired(PairedInfo),
    /// What the agent knows of its network and process.
    Doctor(Box<DoctorInfo>),
    /// Every host that was contacted, the last one first.
    Egress { hosts: Vec<EgressInfo> },
    /// Somebody in a room does something else than before.
    Presence(PresenceInfo),
    /// Who can hear that somebody types.
    TypingTold {
        room: String,
        /// Connected devices of members.
        told: u64,
    },
    /// How this device shows itself.
    Stance { stance: Stance },
    /// Who may be met, and how each is reached now.
    Peers {
        /// Whether the network is on.
        network: bool,
        peers: Vec<PeerInfo>,
    },
    /// Somebody is reached otherwise than before.
    PeerChanged {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<PeerState>,
        peer: PeerInfo,
    },
    /// Somebody said a number back.
    Pong(PongInfo),
    /// Nobody connects: what was tried, step by step.
    NotReached { peer: String, steps: Vec<StepInfo> },
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
        /// Everybody who follows the feed is told to give them up.
        #[serde(default)]
        everywhere: bool,
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
    Waiting {
        room: String,
        message: String,
        /// Nobody was found for a while: what was tried, step by step.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        steps: Vec<StepInfo>,
    },
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
    /// Own feeds with blocks that no peer was shown.
    Unpublished { feeds: Vec<UnpublishedFeed> },
    /// Digits to compare with somebody.
    Safety {
        agent: Text<AgentId>,
        name: String,
        /// 12 groups of 5 digits.
        number: String,
    },
    /// What an agent says of itself.
    Profile(ProfileInfo),
    /// What people are called here.
    Contacts { contacts: Vec<ContactInfo> },
    /// What a person likes.
    Preferences { preferences: Vec<PreferenceInfo> },
    /// Who trusts whom.
    Vouches { vouches: Vec<VouchInfo> },
    /// Claims about agents and entries.
    Claims { claims: Vec<ClaimInfo> },
    /// Values that contradict each other; `stopped_feeds` have two histories, which is another thing.
    ValueConflicts {
        conflicts: Vec<ValueConflictInfo>,
        #[serde(default)]
        stopped_feeds: u64,
    },
    /// The state of the index.
    Index {
        dump_hash: String,
        entries: u64,
        pending: u64,
        /// Blocks that are here and not indexed yet.
        behind: u64,
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

/// One reason for something.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WhyReason {
    /// What decided: `own`, `pin`, `room`, `cut`, `conflict`, `index`, `authority`, `dispute`,
    /// `tombstone`, `store`.
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
