//! What an agent can be asked.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api::{Selection, Stance, Text};
use crate::sign_in::SignInOffer;

/// How a pin is kept.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PinOptions {
    /// Links in documents that are followed too, and in those, so many times; 0 follows none.
    #[serde(default)]
    pub depth: u8,
    /// `sovereign`, `reciprocal`, `invested` or `gift` (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Why, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For this device alone; otherwise all devices of the agent keep it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub here: bool,
}

/// One thing to do; the comment names the answers, in order.
///
/// `feed` is a path of ours (`/notes`), a key or a link. Files are absolute paths that the agent
/// itself reads or writes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// [`Reply::Id`](crate::api::Reply::Id).
    Id,
    /// [`Reply::Status`](crate::api::Reply::Status).
    Status,
    /// [`Reply::Metrics`](crate::api::Reply::Metrics).
    Metrics,
    /// [`Reply::PairText`](crate::api::Reply::PairText): an offer for a machine that is met without any
    /// server, in the place of one that was open; for ten minutes.
    PairOffer,
    /// [`Reply::PairText`](crate::api::Reply::PairText) with the answer to an offer, then
    /// [`Reply::Paired`](crate::api::Reply::Paired) when the other machine took it.
    PairAnswer { text: String },
    /// [`Reply::Paired`](crate::api::Reply::Paired). Takes the answer to the offer that is open.
    PairFinish { text: String },
    /// [`Reply::Doctor`](crate::api::Reply::Doctor): what the agent knows of its network and process.
    Doctor,
    /// [`Reply::Egress`](crate::api::Reply::Egress).
    Egress,
    /// [`Reply::Peers`](crate::api::Reply::Peers): everybody, those of a room, or one agent; with `watch`
    /// open, and then [`Reply::PeerChanged`](crate::api::Reply::PeerChanged) as it happens.
    Peers {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        #[serde(default)]
        watch: bool,
    },
    /// [`Reply::Pong`](crate::api::Reply::Pong), `count` times, a second apart; when nobody connects
    /// within `wait_ms` (default 10 s) [`Reply::NotReached`](crate::api::Reply::NotReached), and an error
    /// of kind [`ErrorKind::NoPeers`](crate::api::ErrorKind::NoPeers).
    Ping {
        peer: String,
        count: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u64>,
    },
    /// [`Reply::Devices`](crate::api::Reply::Devices), of this agent or another one that is known.
    Devices {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// [`Reply::Devices`](crate::api::Reply::Devices) with the renamed one alone.
    DeviceRename { device: String, name: String },
    /// [`Reply::Revocation`](crate::api::Reply::Revocation): what it does, or would do. `undo` are
    /// devices about which the revoked one is not believed.
    DeviceRevoke {
        device: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        undo: Vec<String>,
        /// Only says what it would do.
        #[serde(default)]
        preview: bool,
    },
    /// [`Reply::LinkCode`](crate::api::Reply::LinkCode); with `wait` then
    /// [`Reply::LinkAsked`](crate::api::Reply::LinkAsked) when a device asks, and
    /// [`Reply::Linked`](crate::api::Reply::Linked) when its words were
    /// [confirmed](Request::LinkConfirm).
    LinkOpen {
        /// What the new device may do: words of `write`, `add`, `revoke`; as this one when none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        powers: Vec<String>,
        #[serde(default)]
        wait: bool,
    },
    /// [`Reply::LinkAsked`](crate::api::Reply::LinkAsked). Takes a request that came by file, in hex.
    LinkAsk { asked: String },
    /// [`Reply::Linked`](crate::api::Reply::Linked). Adds the device that asked, when these are the
    /// words that both show.
    LinkConfirm { words: String },
    /// [`Reply::Unpublished`](crate::api::Reply::Unpublished): what only this device has.
    Unpublished,
    /// [`Reply::Safety`](crate::api::Reply::Safety) with another agent that is known.
    Safety { agent: String },
    /// [`Reply::Feed`](crate::api::Reply::Feed). Creates a feed of raw blocks at `path`; a plain one
    /// is in no directory and known by its key only.
    FeedCreate {
        path: String,
        #[serde(default)]
        plain: bool,
        /// Sealed for the own devices, and listed where only they look.
        #[serde(default)]
        private: bool,
        /// `log` (default): one device writes it; `shared`: each device writes its part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
    },
    /// [`Reply::Feed`](crate::api::Reply::Feed). Gives an own path another label, and leads readers there.
    FeedRename { path: String, to: String },
    /// [`Reply::Feed`](crate::api::Reply::Feed). Goes on here with a path of another own device.
    FeedTake { path: String },
    /// [`Reply::Feed`](crate::api::Reply::Feed). Lists an own path no longer.
    FeedRetire { path: String },
    /// [`Reply::Feeds`](crate::api::Reply::Feeds).
    FeedList,
    /// [`Reply::Feed`](crate::api::Reply::Feed).
    FeedInfo { feed: String },
    /// [`Reply::Appended`](crate::api::Reply::Appended). The payload is the blocks one after the
    /// other, `lengths` their sizes; all are durable when the answer comes. Creates `path` if need be.
    FeedAppend { path: String, lengths: Vec<u32> },
    /// [`Reply::Block`](crate::api::Reply::Block) each, its bytes as payload. Blocks not held are
    /// an error unless no range was given: then what is held is returned.
    FeedRead {
        feed: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Text<Selection>>,
        /// These bytes of the feed, counted from its first one, instead of whole blocks: each
        /// [`Reply::Block`](crate::api::Reply::Block) has a part of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<Range<u64>>,
        /// Blocks of the range that are not held are asked of connected peers for so many ms; they stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u64>,
    },
    /// [`Reply::Progress`](crate::api::Reply::Progress) several times, then
    /// [`Reply::Appended`](crate::api::Reply::Appended). Creates `path` if need be.
    FeedImport {
        path: String,
        file: PathBuf,
        block_size: u32,
    },
    /// [`Reply::Progress`](crate::api::Reply::Progress) several times, then
    /// [`Reply::Exported`](crate::api::Reply::Exported). The file appears whole or not at all.
    FeedExport {
        feed: String,
        file: PathBuf,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Text<Selection>>,
    },
    /// [`Reply::Verified`](crate::api::Reply::Verified); if there are problems, then an error of
    /// kind [`ErrorKind::Verification`](crate::api::ErrorKind::Verification).
    FeedVerify { feed: String },
    /// [`Reply::Conflicts`](crate::api::Reply::Conflicts), of one feed or of all; if there are any,
    /// then an error of kind [`ErrorKind::Conflict`](crate::api::ErrorKind::Conflict).
    FeedConflicts {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feed: Option<String>,
    },
    /// [`Reply::Feed`](crate::api::Reply::Feed). Cuts an own plain feed to its first blocks; durable
    /// when the answer comes.
    FeedTruncate { feed: String, length: u64 },
    /// [`Reply::Progress`](crate::api::Reply::Progress) several times, then
    /// [`Reply::BundleExported`](crate::api::Reply::BundleExported). Without ranges all that is held.
    /// The file appears whole or not at all.
    BundleExport {
        feed: String,
        file: PathBuf,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ranges: Vec<Text<Selection>>,
    },
    /// [`Reply::Progress`](crate::api::Reply::Progress) several times, then
    /// [`Reply::BundleImported`](crate::api::Reply::BundleImported). Nothing is stored of a bundle
    /// that does not hold as a whole.
    BundleImport { file: PathBuf },
    /// [`Reply::Cleared`](crate::api::Reply::Cleared). Gives up blocks and keeps their tree nodes;
    /// those of an own feed only with `own`. With `everywhere` those of an own path, and everybody who
    /// follows it is told to do so.
    FeedClear {
        feed: String,
        range: Text<Selection>,
        #[serde(default)]
        own: bool,
        #[serde(default)]
        everywhere: bool,
    },
    /// [`Reply::Dropped`](crate::api::Reply::Dropped). Takes out a feed that is not our own and that
    /// nothing asks for.
    FeedDrop { feed: String },
    /// [`Reply::Store`](crate::api::Reply::Store).
    StoreStat,
    /// Gives the space of cleared blocks and dropped feeds back; answered by
    /// [`Reply::StoreCompacted`](crate::api::Reply::StoreCompacted).
    StoreCompact,
    /// [`Reply::Progress`](crate::api::Reply::Progress) for each feed, then
    /// [`Reply::StoreChecked`](crate::api::Reply::StoreChecked); if there are problems, then an error
    /// of kind [`ErrorKind::Verification`](crate::api::ErrorKind::Verification).
    StoreCheck,
    /// [`Reply::Published`](crate::api::Reply::Published). A document entry for each text file;
    /// creates `path` as a feed of entries if need be.
    Publish {
        path: String,
        files: Vec<PathBuf>,
        /// A new path is private; a public one is refused.
        #[serde(default)]
        private: bool,
    },
    /// [`Reply::Serving`](crate::api::Reply::Serving) for each feed, then open until the caller drops
    /// it. Public and plain feeds only, over the plain Hypercore 11 protocol: at most
    /// [`PLAIN_FEEDS_MAX`](crate::limits::PLAIN_FEEDS_MAX), all of them on each connection.
    FeedServe { feeds: Vec<String>, tcp: String },
    /// From each of these addresses what it has. [`Reply::Progress`](crate::api::Reply::Progress) several
    /// times, over all feeds together, then a [`Reply::Feed`](crate::api::Reply::Feed) for each; with `live` open until
    /// the caller drops it.
    FeedPull {
        keys: Vec<String>,
        tcp: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Text<Selection>>,
        /// The blocks that hold these bytes of each feed, instead of a range of blocks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<Range<u64>>,
        #[serde(default)]
        live: bool,
    },
    /// [`Reply::Follow`](crate::api::Reply::Follow) several times. Remembers the pin. `once` ends
    /// when all asked for is stored; so does a range `A..B`.
    Follow {
        link: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Text<Selection>>,
        #[serde(default)]
        once: bool,
        #[serde(default)]
        options: PinOptions,
    },
    /// [`Reply::Pins`](crate::api::Reply::Pins) with the pin. Remembers it and waits for nothing.
    Pin {
        link: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Text<Selection>>,
        #[serde(default)]
        options: PinOptions,
    },
    /// [`Reply::Unpinned`](crate::api::Reply::Unpinned). Forgets the pins and gives back what nothing
    /// else keeps; own feeds stay.
    Unpin { link: String },
    /// [`Reply::Pins`](crate::api::Reply::Pins) with the pins that were removed.
    Unfollow { link: String },
    /// [`Reply::Pins`](crate::api::Reply::Pins).
    Pins,
    /// [`Reply::Follow`](crate::api::Reply::Follow) for ever. Pins every link whole, reason `seed`;
    /// without links it shows the progress of all pins.
    Seed { links: Vec<String> },
    /// [`Reply::Granted`](crate::api::Reply::Granted). `to` is an agent, or the link of one; the grant
    /// holds for `expires_in` seconds (default 90 days).
    RoomGrant {
        room: String,
        to: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_in: Option<u64>,
        #[serde(default)]
        quota_class: u8,
    },
    /// [`Reply::Grants`](crate::api::Reply::Grants).
    RoomGrants { room: String },
    /// [`Reply::GrantsRevoked`](crate::api::Reply::GrantsRevoked). `grant` is how the hash of one
    /// begins, or a seeder's agent id; all that the seeder has are ended.
    RoomGrantRevoke { room: String, grant: String },
    /// [`Reply::Seeding`](crate::api::Reply::Seeding) with the grant. Keeps what a grant link names.
    SeedAccept { link: String },
    /// [`Reply::Seeding`](crate::api::Reply::Seeding).
    SeedList,
    /// [`Reply::SeedingDropped`](crate::api::Reply::SeedingDropped). `grant` is how its hash begins.
    SeedDrop { grant: String },
    /// [`Reply::Room`](crate::api::Reply::Room).
    RoomCreate {
        name: String,
        /// `full`, `from-join` or days as `7d`; full unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        history: Option<String>,
    },
    /// [`Reply::Invite`](crate::api::Reply::Invite). Without role, expiry and uses the same link
    /// until it is revoked.
    RoomInvite {
        room: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// Seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_in: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uses: Option<u32>,
    },
    /// [`Reply::Invites`](crate::api::Reply::Invites).
    RoomInvites { room: String },
    /// [`Reply::RoomChanged`](crate::api::Reply::RoomChanged).
    RoomInviteRevoke { room: String, key: String },
    /// [`Reply::RoomChanged`](crate::api::Reply::RoomChanged). `who` is an id, a link or a name.
    RoomRole {
        room: String,
        who: String,
        role: String,
    },
    /// [`Reply::RoomChanged`](crate::api::Reply::RoomChanged).
    RoomRemove {
        room: String,
        who: String,
        #[serde(default)]
        reason: String,
    },
    /// [`Reply::RoomLeft`](crate::api::Reply::RoomLeft). With `purge` nothing of the room stays here.
    RoomLeave {
        room: String,
        #[serde(default)]
        purge: bool,
    },
    /// [`Reply::RoomExported`](crate::api::Reply::RoomExported), into a folder that is not there yet.
    RoomExport { room: String, folder: PathBuf },
    /// [`Reply::DirectSent`](crate::api::Reply::DirectSent). Makes the room of the two if need be.
    Direct { agent: String, text: String },
    /// [`Reply::Waiting`](crate::api::Reply::Waiting) at once, then
    /// [`Reply::Room`](crate::api::Reply::Room); after `wait_seconds` (default 60) without an
    /// answer an error of kind [`ErrorKind::NoPeers`](crate::api::ErrorKind::NoPeers). The join
    /// stays open and is asked for again after each start.
    RoomJoin {
        link: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_seconds: Option<u64>,
    },
    /// [`Reply::Rooms`](crate::api::Reply::Rooms).
    RoomList,
    /// [`Reply::Members`](crate::api::Reply::Members).
    RoomMembers { room: String },
    /// [`Reply::Sent`](crate::api::Reply::Sent). `room` is a name, a code or an id.
    Send {
        room: String,
        text: String,
        /// Name of the message that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<String>,
    },
    /// [`Reply::Sent`](crate::api::Reply::Sent). `message` is a name as
    /// [`MessageInfo::id`](crate::api::MessageInfo::id) has it.
    React {
        room: String,
        message: String,
        emoji: String,
        #[serde(default)]
        remove: bool,
    },
    /// [`Reply::Sent`](crate::api::Reply::Sent). For own messages.
    Edit {
        room: String,
        message: String,
        text: String,
    },
    /// [`Reply::Sent`](crate::api::Reply::Sent). For own messages; for admins and owners all.
    Delete {
        room: String,
        message: String,
        #[serde(default)]
        reason: String,
    },
    /// [`Reply::Message`](crate::api::Reply::Message) each, oldest first; with `watch` open and
    /// each new message as it is indexed.
    Read {
        room: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
        #[serde(default)]
        watch: bool,
        /// Messages that name this agent only.
        #[serde(default)]
        mentions: bool,
        /// With `watch`: [`Reply::Presence`](crate::api::Reply::Presence) too, for each other member who is there
        /// or types, and whenever that changes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        presence: bool,
    },
    /// [`Reply::TypingTold`](crate::api::Reply::TypingTold). Somebody types in a room: said to the members who are
    /// connected, and stored nowhere. It ends by itself after some seconds; a client says it at each key press, and
    /// few of these are passed on. A message that is sent ends it, and so does `stop`.
    Typing {
        room: String,
        #[serde(default)]
        stop: bool,
    },
    /// [`Reply::Stance`](crate::api::Reply::Stance): how this device shows itself to members of its rooms, from now
    /// on if one is given.
    Stance {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set: Option<Stance>,
    },
    /// [`Reply::Found`](crate::api::Reply::Found) each, best first.
    Search { query: String },
    /// [`Reply::Index`](crate::api::Reply::Index). With `rebuild` the index is made anew first.
    Index {
        #[serde(default)]
        rebuild: bool,
    },
    /// [`Reply::IndexChecked`](crate::api::Reply::IndexChecked). A damaged index is made anew.
    IndexCheck,
    /// [`Reply::Rows`](crate::api::Reply::Rows): one SELECT over the index.
    Query { sql: String },
    /// [`Reply::Why`](crate::api::Reply::Why). `thing` is a path, key or link of a feed, or with
    /// `room` the name of a message in it.
    Why {
        thing: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<String>,
    },
    /// [`Reply::SignIn`](crate::api::Reply::SignIn). Makes the key of a sealed capsule one that adds devices,
    /// in place of the one before.
    SignInCreate { offer: Box<Text<SignInOffer>> },
    /// [`Reply::SignIn`](crate::api::Reply::SignIn).
    SignIn,
    /// [`Reply::SignIn`](crate::api::Reply::SignIn). Revokes the key that adds devices.
    SignInRevoke,
    /// [`Reply::SignIn`](crate::api::Reply::SignIn). Holds the record of the agent whose link it is.
    SignInHold { link: String },
    /// [`Reply::SignIn`](crate::api::Reply::SignIn). Holds the record of that agent no longer.
    SignInRelease { agent: String },
    /// [`Reply::Profile`](crate::api::Reply::Profile). Of this agent, unless another is named.
    Profile {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// [`Reply::Profile`](crate::api::Reply::Profile). What is not given stays.
    ProfileSet {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<String>,
        /// Signal servers at which others meet this agent, in the place of those listed before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal_urls: Option<Vec<String>>,
    },
    /// [`Reply::Contacts`](crate::api::Reply::Contacts).
    Contacts,
    /// [`Reply::Contacts`](crate::api::Reply::Contacts) with that one. Without a note an earlier one
    /// stays.
    ContactSet {
        who: String,
        petname: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// [`Reply::Contacts`](crate::api::Reply::Contacts) with what was removed.
    ContactRemove { who: String },
    /// [`Reply::Preferences`](crate::api::Reply::Preferences), all or the one of that name.
    Preferences {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// [`Reply::Preferences`](crate::api::Reply::Preferences) with all; without a value it is taken back.
    PreferenceSet {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// [`Reply::Vouches`](crate::api::Reply::Vouches) with that one. Public.
    Vouch {
        who: String,
        trusted: bool,
        #[serde(default)]
        reason: String,
    },
    /// [`Reply::Vouches`](crate::api::Reply::Vouches).
    Vouches {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<String>,
    },
    /// [`Reply::Claims`](crate::api::Reply::Claims) with that one. Public.
    Attest { who: String, text: String },
    /// [`Reply::Claims`](crate::api::Reply::Claims) with that one. `entry` is a message of `room`, or
    /// `FEED#INDEX`. Public.
    Witness {
        entry: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        text: String,
    },
    /// [`Reply::Claims`](crate::api::Reply::Claims), newest first.
    Claims {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<String>,
    },
    /// [`Reply::ValueConflicts`](crate::api::Reply::ValueConflicts) of this agent, or of everybody known.
    ValueConflicts {
        #[serde(default)]
        all: bool,
    },
    /// [`Reply::ValueConflicts`](crate::api::Reply::ValueConflicts) with that one.
    ValueConflict { id: String },
    /// [`Reply::ValueConflicts`](crate::api::Reply::ValueConflicts) with what stands now. The side with
    /// this number (from 1), or the one that is shown, takes the place of all.
    ConflictResolve {
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        side: Option<u64>,
    },
    /// [`Reply::Stopping`](crate::api::Reply::Stopping), and whoever holds the home leaves it.
    Stop,
}

impl Request {
    /// Returns whether the request is of no use without the network.
    pub fn needs_network(&self) -> bool {
        matches!(
            self,
            Request::Follow { .. }
                | Request::Seed { .. }
                | Request::Ping { .. }
                | Request::PairOffer
                | Request::PairAnswer { .. }
                | Request::PairFinish { .. }
                | Request::RoomJoin { .. }
                | Request::LinkOpen { wait: true, .. }
        )
    }

    /// Returns whether the answers may go on for long: others want the home meanwhile.
    pub fn lasts(&self) -> bool {
        match self {
            Request::FeedServe { .. } | Request::FeedPull { .. } => true,
            Request::Read { watch, .. } | Request::Peers { watch, .. } => *watch,
            other => other.needs_network(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_stable_json() {
        let request = Request::Follow {
            link: "kinlog://agent/x".into(),
            range: Some(Text(Selection::Last(3))),
            once: true,
            options: PinOptions::default(),
        };
        let json = serde_json::to_string(&request).expect("serialises");
        assert_eq!(
            json,
            r#"{"request":"follow","link":"kinlog://agent/x","range":"last:3","once":true,"options":{"depth":0}}"#
        );
        assert_eq!(
            serde_json::from_str::<Request>(&json).expect("parses"),
            request
        );
    }
}
