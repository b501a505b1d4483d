//! Every bound of this crate, with its reason.

use std::time::Duration;

/// JSON part of a frame on the local socket, 4 MiB: a status of 10,000 feeds, the lengths of an
/// append of [`APPEND_BLOCKS_MAX`] blocks.
pub const FRAME_JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Payload of a frame on the local socket, 16 MiB: an append of many blocks in one commit.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Blocks in one append request, 65,536; a caller with more sends several.
pub const APPEND_BLOCKS_MAX: usize = 65_536;

/// Answers waiting for a slow caller: 64 blocks of at most 1 MiB.
pub const ANSWERS_QUEUED_MAX: usize = 64;

/// Longest URL of a signal server in a link, 512 bytes.
pub const SIGNAL_URL_BYTES_MAX: usize = 512;

/// Signal servers in one link, and the most an agent connects to: each costs a socket.
pub const SIGNAL_URLS_MAX: usize = 8;

/// Lines and redirects kept of one directory, 65,536 each: about 30 MiB for whoever fills it up.
pub const DIRECTORY_LINES_MAX: usize = 65_536;

/// Heads in one entry of a directory, 256: 19 KiB, so that whoever reads what came after the last
/// snapshot reads little.
pub const HEADS_AT_ONCE: usize = 256;

/// Feeds of one room that a join response names, 512: 256 devices, 49 KiB. More are learned from the
/// room's own entries.
pub const ROOM_FEEDS_MAX: usize = 512;

/// Answers to one join that are looked into at once: whoever has the link may answer, and one true
/// answer among them is enough. The oldest gives way.
pub const JOIN_ANSWERS_MAX: usize = 4;

/// Time after which a member is asked again, in a session that stays open, to be let in.
pub const ASK_TO_JOIN_EVERY: Duration = Duration::from_secs(15);

/// Blocks of a feed that a member named in an answer which are fetched before the room says that the
/// answer is true: acts come early in a feed, and a liar fills no disk.
pub const JOIN_BLOCKS_MAX: u64 = 65_536;

/// Bytes of an invite's text in a message: [`SIGNAL_URLS_MAX`] URLs and two keys.
pub const INVITE_TEXT_BYTES_MAX: usize = 8 * 1024;

/// Messages a device writes into one room in a second, 20: a chat is read by people.
pub const MESSAGES_A_SECOND: u64 = 20;

/// Messages a device writes into one room at once, 200: what was typed, or scripted, while nobody
/// was there.
pub const MESSAGES_AT_ONCE: u64 = 200;

/// Acts that are left to a device in a room when its people are told: an eighth of the 512 of a member,
/// time enough to do something about it.
pub const ACTS_LEFT_TOLD_MAX: u64 = 64;

/// Epochs by whose meet keys a member is met at once: whoever was offline meets the others under the
/// newest it knows, and each costs a topic at the signal server.
pub const MEET_EPOCHS_MAX: usize = 8;

/// Age of the epoch of a direct room after which a new one is made, 7 days: what a stolen key opens.
pub const EPOCH_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Age of the epoch of a room that keeps some days after which a new one is made, a day: what is
/// destroyed is destroyed by the epoch.
pub const EPOCH_AGE_MAX_DAYS: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the date of an epoch may lie ahead of this clock and still be believed, 10 minutes in ms: as
/// for every other entry.
pub const CLOCK_AHEAD_MS_MAX: u64 = 10 * 60 * 1000;

/// Epochs whose keys a member asks for, or is given, in one message: more are asked for in the next.
pub const EPOCHS_ASKED_MAX: usize = 256;

/// Messages of peers waiting to be worked on, each of 192 KiB at most, so 12 MiB.
/// Seed grants held, some 100 KiB each at worst: 25 MiB.
pub const GRANTS_HELD_MAX: usize = 256;

/// Live grants that one member's device has with a seeder for a room: one for each meet key that
/// members may meet it by, and as many that replace them.
pub const GRANTS_OF_ROOM_MAX: usize = 16;

/// How long a seed grant holds unless its giver says otherwise, 90 days in seconds: a seeder that nobody
/// thinks of any more stops by itself.
pub const GRANT_SECONDS: u64 = 90 * 24 * 60 * 60;

/// Meet keys by which a seeder of one grant is met at once: that of the newest epoch and of three before
/// it, for members who were away. Each costs a topic, and an act when it changes.
pub const GRANT_MEET_KEYS_MAX: usize = 4;

/// Longest wait for a grant to expire before the clock is looked at again: it may be set meanwhile.
pub const EXPIRY_LOOK_MAX: Duration = Duration::from_secs(60 * 60);

/// Messages of peers waiting to be worked on, each of 166 KiB at most, so 10.4 MiB.
pub const HOST_EVENTS_QUEUED_MAX: usize = 64;

/// Blocks in one transaction of the index: nobody reads before the others, and words and pages that
/// many of them have are written once. With chat it takes a tenth of a second.
pub const INDEX_BATCH_BLOCKS: usize = 8_000;

/// Blocks of a feed that is far behind which are indexed before all others: what people look at first.
pub const INDEX_NEWEST_BLOCKS: u64 = 256;

/// Connections that read the index beside its writer: twice as many as cores are busy with, and 16
/// MiB each in the worst case.
pub const INDEX_READERS_MAX: usize = 4;

/// Bytes of blocks in one transaction of the index, 16 MiB.
pub const INDEX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a file read and appended in one commit, 4 MiB.
pub const IMPORT_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Hits one search shows.
pub const SEARCH_HITS_MAX: usize = 100;

/// Time between two notes of which own heads peers were shown: each costs a sync of `state.db`.
pub const KEEP_SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Time in which the first peers may show newer heads of own feeds before these are published: some
/// round trips through a slow relay.
pub const ASK_FIRST: Duration = Duration::from_secs(2);

/// Signatures reserved at once, 1,000: what a restored copy may have signed unnoticed by home and state
/// folder, and so as few as keep the reserving (five syncs) out of the cost of an append.
pub const SIGNATURES_RESERVED: u64 = 1_000;

/// Time for which reserved signatures may be used, for the same reason.
pub const RESERVED_FOR: Duration = Duration::from_secs(1);

/// Bytes of an install record or its twin, 16 KiB: each has less than one.
pub const INSTALL_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Time between two commitments of heads while feeds are written: what a fork guard may miss.
pub const VOUCH_EVERY: Duration = Duration::from_secs(60);

/// Time without progress after which a follow says which step found nobody. With the start of a
/// process, the first step and the time between two looks, whoever waits is told within 10 s.
pub const NOBODY_AFTER: Duration = Duration::from_secs(8);

/// Time without progress after which a follow that is to end gives up.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Feeds of one plain Hypercore connection, served or pulled: 1,024 channels with what is known of the
/// other side's blocks are some tens of megabytes at worst, of a peer that nobody vouches for.
pub const PLAIN_FEEDS_MAX: usize = 1024;

/// Peers that one plain pull asks: more bring no more.
pub const PLAIN_PEERS_MAX: usize = 8;

/// Time a join waits for a member unless the caller says otherwise.
pub const JOIN_WAIT: Duration = Duration::from_secs(60);

/// Least time between two progress answers: a terminal shows no more.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Characters of an answered message that are shown with the answer.
pub const REPLY_CHARACTERS_MAX: usize = 80;

/// Messages of a room that one look returns; a watch looks again at each change.
pub const MESSAGES_READ_MAX: usize = 1000;

/// Time that an offer to pair is open, 10 minutes: as long as somebody walks from one machine to the
/// other and back.
pub const PAIR_OPEN: Duration = Duration::from_secs(10 * 60);

/// Time for candidates that take longer than the description: an answer of a STUN server. None can
/// follow what is carried by hand.
pub const PAIR_GATHER_WAIT: Duration = Duration::from_millis(1500);

/// Time to connect once both texts were carried: checks of all pairs of addresses, and some more.
pub const PAIR_CONNECT_WAIT: Duration = Duration::from_secs(30);

/// Time that the other side has to say who it is.
pub const PAIR_HELLO_WAIT: Duration = Duration::from_secs(15);

/// Time between two pings of a paired machine: its link, which waits for people, says too late that it
/// is broken.
pub const PAIR_PING_EVERY: Duration = Duration::from_secs(10);

/// Machines that are paired at once, 16: each is a link beside those of topics.
pub const PAIRS_MAX: usize = 16;

/// Feeds offered, and asked for, over one pairing, 4,096: half of the tags that a session takes.
pub const PAIR_FEEDS_MAX: usize = 4096;

/// Candidates that are waited for beside those of a description.
pub const PAIR_CANDIDATES_MAX: usize = 32;

/// Characters of a text, 2 KiB: the longest has 700, and mail may wrap it.
pub const PAIR_TEXT_BYTES_MAX: usize = 2 * 1024;

/// Time for signal servers to tell which STUN and TURN servers there are.
pub const PAIR_SERVERS_WAIT: Duration = Duration::from_secs(1);

/// Time between two looks whether they did.
pub const PAIR_SERVERS_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Hosts remembered as contacted, 1,000: some 100 KiB.
pub const EGRESS_KEPT_MAX: usize = 1000;

/// Time between two looks at whom this machine talked to.
pub const EGRESS_LOOK_EVERY: Duration = Duration::from_secs(10);

/// Time between two looks at who is reached how, for whoever watches: what a node sees in topics
/// changes unheard.
pub const PEERS_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Devices of which is remembered when a session with them ended, 40 bytes each.
pub const LAST_MET_MAX: usize = 1024;

/// Time that a ping waits for a connection unless the caller says otherwise: an introduction and two
/// attempts to connect.
pub const PING_CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Time between two pings.
pub const PING_EVERY: Duration = Duration::from_secs(1);

/// Sessions whose violation is remembered for whoever waits for them.
pub const VIOLATIONS_KEPT_MAX: usize = 64;

/// Siblings that a device meets each in a topic of the two, 8: a topic costs a place at every signal
/// server. With more of them all meet in the topics of their epochs too.
pub const PAIR_TOPICS_MAX: usize = 8;

/// Redirects from one label to the next that are gone along.
pub const REDIRECTS_MAX: usize = 16;

/// Links that are followed from the documents of one feed, 256: each may bring a topic and a directory.
pub const LINKS_FOLLOWED_MAX: usize = 256;

/// How many times links are followed at most: people's circles overlap after a few steps.
pub const LINK_DEPTH_MAX: u8 = 8;

/// Bytes of the reason of a pin.
pub const PIN_REASON_BYTES_MAX: usize = 256;

/// Callers on the local socket at once; the next one waits. Each may hold a frame of 20 MiB.
pub const SOCKET_CALLERS_MAX: usize = 64;

/// Wait after a caller could not be accepted: descriptors come free when others end.
pub const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Sign-in records held for others, 256: each was asked for by its owner's link, has 560 bytes, and costs a topic.
pub const SIGN_INS_HELD_MAX: usize = 256;

/// Records that a new device looks at, 16: one for each holder that has another one than the rest.
pub const SIGN_IN_RECORDS_LOOKED_AT_MAX: usize = 16;

/// Time that signing in waits for others unless the caller says otherwise.
pub const SIGN_IN_WAIT: Duration = Duration::from_secs(60);

/// Time that other holders are given after a record that password and code do not open: one may have a newer.
pub const SIGN_IN_OTHERS_WAIT: Duration = Duration::from_secs(3);

/// Time in which a peer takes the statement that adds a new device; without one `kinlog up` tells them later.
pub const SIGN_IN_TELL_WAIT: Duration = Duration::from_secs(10);

/// Shortest passphrase that may be chosen, 8 characters: argon2id buys each guess time, not many bits.
pub const PASSPHRASE_CHARACTERS_MIN: usize = 8;

/// Bytes of a passphrase, 1 KiB: nobody types more.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

/// Memory that an envelope may ask for, 1 GiB: more is no envelope of ours, and may take a machine down.
pub const KDF_MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// Passes that an envelope may ask for: 16 over 1 GiB take about 20 s.
pub const KDF_PASSES_MAX: u32 = 16;

/// Lanes that an envelope may ask for.
pub const KDF_LANES_MAX: u32 = 16;

/// Bytes of an envelope, 64 KiB: it holds keys, and capsules of a few statements.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// Ended sessions remembered, so that whoever made their links makes others: far more than end between two
/// looks.
pub const SESSIONS_ENDED_KEPT_MAX: usize = 256;

/// Time that locking waits for whoever holds the home: an agent that stops commits heads and closes its
/// store first.
pub const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Pieces of work that go on at once, each on a thread: more than tokio's 512 threads for such work.
pub const WORK_AT_ONCE_MAX: u32 = 1024;

/// Time that an agent which stops waits for work that nobody waits for any more: a piece takes a batch of
/// the index at most.
pub const STOP_WAIT: Duration = Duration::from_secs(10);

/// Seconds that the operating system's key ring may ask its user to unlock it: what a person needs to
/// type, and a service without anybody before it says soon that it is locked.
pub const KEY_RING_PROMPT_SECONDS: u64 = 60;

/// Time between two looks whether a home is free.
pub const LOCK_LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Changes of devices kept for a slow watcher; a full set has 256 statements.
pub const DEVICE_CHANGES_KEPT_MAX: usize = 256;

/// Time a code that links a device is open, 10 minutes: as long as somebody walks from one device to the
/// other.
pub const LINK_OPEN: Duration = Duration::from_secs(10 * 60);

/// Bytes of what a device keeps between its request and the answer, 8 KiB: a code with
/// [`SIGNAL_URLS_MAX`] URLs, a name and a secret.
pub const LINK_FILE_BYTES_MAX: usize = 8 * 1024;

/// Time that a device waits for an answer that is carried by file, 1 day: a code is open for ten minutes, and
/// a stick may take its way. Its secret is deleted then.
pub const LINK_PENDING_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Time that `recover` looks for others who hold the identity, unless the caller says otherwise.
pub const RECOVER_WAIT: Duration = Duration::from_secs(20);

/// Bytes of a backup's chunk before it is sealed, 64 KiB: what is held in memory of a backup, twice.
pub const BACKUP_CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of what a backup says of itself, 4 KiB: six short fields.
pub const BACKUP_SUMMARY_BYTES_MAX: usize = 4 * 1024;

/// Newest blocks kept of what an agent that is followed calls itself, of each of its devices: at most 16 entries
/// of 256 KiB, in truth some hundred bytes.
pub const PROFILE_BLOCKS: u64 = 16;

/// Time between the first sight of a deletion that counts and the end of what it deletes, 1 day: what voids
/// it may still be on its way.
pub const EMPTY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Noted ranges of one feed that was cleared, above which those that are said no more go at once:
/// 16,384 x 48 B.
pub const CLEARED_NOTED_MAX: usize = 16 * 1024;

/// Ranges that a seeder remembers of what one device cleared of its grants, 65,536 x 96 B on the disk.
pub const GIVER_CLEARED_MAX: usize = 64 * 1024;

/// Time between looks for deleted blocks whose day is over, beside those after every change.
pub const EMPTY_LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// Blocks that are asked of peers for one reader, beyond what is followed: so many places are kept for it in
/// memory, 40 bytes each. Who wants more follows a range.
pub const BLOCKS_FETCHED_MAX: usize = 65_536;

/// Blocks that one reader has asked for at a time: what keeps a link of 100 ms and 10 MB/s busy with blocks
/// of 4 KiB, and a sixteenth of what a node waits for in all.
pub const BLOCKS_FETCHED_AT_ONCE: usize = 256;

/// Devices whose meeting points are remembered (R177).
pub const ROUTED_DEVICES_MAX: usize = 50;

/// Meeting points remembered of one device: as many as it may tell of.
pub const ROUTES_PER_DEVICE_MAX: usize = 4;

/// Devices that are remembered as coordinators: one or two of them are there as a rule.
pub const COORDINATORS_KEPT_MAX: usize = 8;

/// Remembered meeting points of those who are missing that are tried at once: each is a connection.
pub const ROUTES_TRIED_MAX: usize = 8;

// What is tried is joined, also where as many servers are listed as may be: what is not joined fails.
const _: () =
    assert!(ROUTES_TRIED_MAX + LISTED_SERVERS_MAX <= kinlog_swarm::limits::ROUTES_JOINED_MAX);

/// Signal servers joined because people who are followed list them, 4 of all of them: each is a connection, and
/// learns which blinded topics this machine is in.
pub const LISTED_SERVERS_MAX: usize = 4;

/// How long a meeting point is remembered at which a device was neither met nor told of.
pub const ROUTE_EXPIRES_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Share of the newest try in a route's success rate: five tries are two thirds of it.
pub const ROUTE_WEIGHT: f64 = 0.2;

/// How often it is looked at who is missing and where they may be.
pub const ROUTES_EVERY: Duration = Duration::from_secs(5);

/// How long a remembered meeting point is tried before that counts as a failure: connecting takes a few
/// seconds, and the other side may be starting, too.
pub const ROUTE_TRIED_FOR: Duration = Duration::from_secs(20);

/// Longest time between two failures that are counted of a route that goes on being tried; each writes
/// `state.db` once.
pub const ROUTE_TRIED_FOR_MAX: Duration = Duration::from_secs(15 * 60);

/// How often it is written down anew that a route is good, or that a device told of it.
pub const ROUTE_NOTED_EVERY: Duration = Duration::from_secs(60 * 60);

/// Seconds for which "typing" is said: a client that goes on says so again before that, and one that is killed is
/// seen typing no longer.
pub const TYPING_FOR_S: u32 = 8;

/// Longest time for which "typing" is taken of somebody, in seconds.
pub const TYPING_FOR_S_MAX: u32 = 15;

/// Time between two messages that say "typing" in one room, however often a client asks for it: half of what one
/// holds.
pub const TYPING_AGAIN_AFTER_MS: u64 = 4_000;

/// Longest time for which "online" and "away" are said and taken, in seconds: what does not change costs two
/// small messages an hour for each session.
pub const PRESENCE_FOR_S_MAX: u32 = 60 * 60;

/// Time after which "online" and "away" are said again.
pub const PRESENCE_AGAIN_AFTER: Duration = Duration::from_secs(30 * 60);

/// Least time between two looks at who was not told yet that this device is there.
pub const PRESENCE_LOOK_EVERY: Duration = Duration::from_millis(300);

/// What one device may say of its presence at once, in all rooms together: somebody in 64 rooms says in each that it
/// is there.
pub const PRESENCE_AT_ONCE: u64 = 64;

/// What one device may say of its presence each second after that: it types in one room at a time.
pub const PRESENCE_A_SECOND: u64 = 2;

/// What is heard of presence in one room at once, of all its devices.
pub const ROOM_PRESENCE_AT_ONCE: u64 = 512;

/// What is heard of presence in one room each second after that: fifty people who type all at once.
pub const ROOM_PRESENCE_A_SECOND: u64 = 16;

/// Devices in rooms of which is known what they do, 96 bytes each: 0.8 MB.
pub const PRESENCES_MAX: usize = 8 * 1024;
