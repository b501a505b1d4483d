//! What the index answers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, Secret};

use crate::entry::{Content, Ref, Role};
use crate::{Clock, RoomId};

/// What one call of [`Index::ingest`](crate::Index::ingest) or
/// [`put_epoch_key`](crate::Index::put_epoch_key) did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IngestReport {
    /// Entries that became facts.
    pub entries: u64,
    /// Sealed blocks that wait for their epoch's key.
    pub pending: u64,
    /// Blocks that were indexed before.
    pub known: u64,
    /// Entries newer than this build: facts, but of no view (also counted in `entries` when their
    /// envelope was readable).
    pub newer: u64,
    /// Blocks that are no entries, damaged ones, and those their key does not open.
    pub skipped: u64,
    /// Links that disagree with a held feed.
    pub conflicts: u64,
    /// Rooms of which something changed.
    pub rooms: BTreeSet<RoomId>,
    /// Blocks that were read and that a deletion ends: what the store holds of them may go in time.
    pub deleted: BTreeMap<Ref, Ended>,
    /// Blocks that were read as deleted and whose deletion counts no more: to be read again, or fetched
    /// again where they went.
    pub undone: BTreeSet<Ref>,
    /// What changed of agents, outside rooms.
    pub agents: BTreeMap<AgentId, AgentChange>,
}

impl IngestReport {
    pub(super) fn change(&mut self, agent: AgentId) -> &mut AgentChange {
        self.agents.entry(agent).or_default()
    }
}

/// What of an agent changed: who knows it need not look at the rest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AgentChange {
    /// Its paths; with its private ones the epochs in which they are sealed.
    pub paths: bool,
    /// Something came in its directories: heads, a snapshot, or whatever else.
    pub directories: bool,
    /// Its name, or what it keeps for itself: contacts, settings, preferences.
    pub values: bool,
}

/// A block that was read and that a deletion ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// What it was but its body: the deletion that counts says the same.
    pub head: HeadHash,
    /// The blocks of the file that it told of, where no other entry tells of them.
    pub content: Option<(FeedKey, Range<u64>)>,
}

/// BLAKE2b-256 of an entry's bytes up to its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadHash(pub [u8; 32]);

/// How many blocks of each sort the index has seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Entries held as facts.
    pub entries: u64,
    /// Sealed blocks that wait for a key.
    pub pending: u64,
    /// Entries with a version, tag or format newer than this build.
    pub newer: u64,
    /// Entries whose body is damaged.
    pub malformed: u64,
    /// Blocks that are no entries.
    pub not_entries: u64,
    /// Sealed blocks that their epoch's key does not open.
    pub unopened: u64,
    /// Links that disagree with a held feed.
    pub conflicts: u64,
}

/// Why entries of a room are hidden.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hidden {
    /// What let the feed in is void, in words.
    Void(String),
    /// Somebody ended its author's membership.
    Ended {
        /// What became of the author: removed, left or cut off, as `cuts.sort` says it.
        how: String,
        /// Who did it.
        by: AgentId,
        /// Blocks of the feed that are accepted.
        accepted: u64,
    },
    /// Its author is no member.
    NoMember,
}

/// A feed whose held tree is not the one that a cut names: the branch that the cut names is the
/// feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DisputeRow {
    /// The feed.
    pub feed: FeedKey,
    /// The block from which on it is disputed: the first on which the writer's two heads may differ,
    /// where two are known, else the last that the cut accepts.
    pub index: u64,
    /// Tree hash that the cut names.
    pub stated: Hash,
    /// Tree hash that is held.
    pub held: Hash,
}

/// A link that disagrees with a held feed: evidence of a fork.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkConflict {
    /// Entry that links.
    pub feed: FeedKey,
    /// Its block index.
    pub index: u64,
    /// Feed linked to.
    pub target: FeedKey,
    /// Block linked to.
    pub target_index: u64,
    /// First bytes of the tree hash that the link states.
    pub stated: Vec<u8>,
    /// First bytes of the tree hash held.
    pub held: Vec<u8>,
}

/// A room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomRow {
    /// Name of the room in bytes.
    pub id: RoomId,
    /// First characters of its id.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// Owner.
    pub created_by: AgentId,
    /// Clock of the genesis, ms.
    pub created_at: u64,
}

/// A member of a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberRow {
    /// The member.
    pub agent: AgentId,
    /// What the member calls itself in the room, else in the open.
    pub display_name: Option<String>,
    /// Clock of the first entry that lets one of the member's devices in, ms.
    pub joined_at: u64,
    /// Clock of the entry by which the member left, ms.
    pub left_at: Option<u64>,
    /// Clock of the member's newest entry, ms; `None` before the first.
    pub last_seen_at: Option<u64>,
}

/// A device in a room, with its feeds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberFeedRow {
    /// Entries feed.
    pub feed: FeedKey,
    /// Blobs feed.
    pub blobs_feed: FeedKey,
    /// The member.
    pub agent: AgentId,
    /// The member's device.
    pub device: DeviceKey,
    /// The member's role now; `None` when it is no member any more.
    pub role: Option<Role>,
    /// Clock of the entry that lets it in, ms.
    pub joined_at: u64,
    /// How much of the entries feed is accepted; `None`: everything.
    pub cut: Option<u64>,
}

/// A chat message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageRow {
    /// Room.
    pub room: RoomId,
    /// Feed it stands in.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
    /// Author.
    pub agent: AgentId,
    /// Author's display name in the room.
    pub display_name: Option<String>,
    /// Order depth.
    pub depth: u64,
    /// Date, as its author states it.
    pub clock: Clock,
    /// Whether the date contradicts a neighbour in the timeline by more than 10 minutes.
    pub clock_marked: bool,
    /// Text, in Markdown; empty when the message was deleted.
    pub text: String,
    /// The message that it answers, as its author says; it need not be held.
    pub reply: Option<Ref>,
    /// Clock of the newest edit, ms.
    pub edited_at: Option<u64>,
    /// Who deleted it, and the clock of that, ms.
    pub deleted: Option<(AgentId, u64)>,
    /// Whether there are reactions to it, shown or hidden: where not, nobody needs to ask for them.
    pub has_reactions: bool,
}

/// A reaction to a message that stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReactionRow {
    /// The entry that added it.
    pub entry: Ref,
    /// Who reacts.
    pub agent: AgentId,
    /// That agent's display name in the room.
    pub display_name: Option<String>,
    /// The reaction.
    pub emoji: String,
}

/// An earlier or later text of a message, by its author.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EditRow {
    /// The entry that says so.
    pub entry: Ref,
    /// Its clock, ms.
    pub edited_at: u64,
    /// The text.
    pub text: String,
}

/// A file in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileRow {
    /// Id: `<feed>/<block index>` of its entry.
    pub id: String,
    /// Room.
    pub room: RoomId,
    /// Who put it there.
    pub uploader: AgentId,
    /// File name as the uploader had it; never a path to write to unchecked.
    pub filename: String,
    /// MIME type.
    pub mime_type: String,
    /// Bytes of the plaintext.
    pub size_bytes: u64,
    /// BLAKE3 of the plaintext.
    pub blake3: [u8; 32],
    /// Feed that holds the chunks.
    pub blobs_feed: FeedKey,
    /// Block of the first chunk.
    pub first_block: u64,
    /// Number of chunks.
    pub blocks: u64,
    /// Key of the chunks.
    pub key: Secret,
    /// Clock of the entry, ms.
    pub created_at: u64,
}

/// A document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentRow {
    /// Feed it stands in.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
    /// Author, `None` while unknown.
    pub author: Option<AgentId>,
    /// Label of the feed in its author's directory, when that is held.
    pub label: Option<String>,
    /// Title.
    pub title: String,
    /// Text.
    pub text: String,
    /// MIME type.
    pub mime: String,
    /// Language, or nothing.
    pub language: String,
    /// Clock of the entry, ms.
    pub created_at: u64,
}

/// A feed in an agent's public directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryRow {
    /// Label.
    pub label: String,
    /// Kind of path.
    pub kind: String,
    /// What its blocks are.
    pub content: Content,
    /// The feed.
    pub feed: FeedKey,
    /// The id its owner derived it from.
    pub feed_id: [u8; 16],
    /// Device whose directory lists it.
    pub device: DeviceKey,
    /// Blocks of it that belong to the path, when another device continues it.
    pub cut: Option<u64>,
}

/// The newest head of a feed that its device vouches for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadRow {
    /// The feed.
    pub feed: FeedKey,
    /// Length.
    pub length: u64,
    /// Tree hash at that length.
    pub tree_hash: Hash,
}

/// Something that a search found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SearchHit {
    /// A message.
    Message(MessageRow),
    /// A document.
    Document(DocumentRow),
}

/// What [`Index::rebuild`](crate::Index::rebuild) did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RebuildReport {
    /// Feeds read.
    pub feeds: u64,
    /// Blocks read.
    pub blocks: u64,
    /// Entries that became facts.
    pub entries: u64,
    /// Blocks that were read and that a deletion ends.
    pub deleted: BTreeMap<Ref, Ended>,
}
