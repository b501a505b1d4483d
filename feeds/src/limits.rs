//! Named limits of feeds and their wire, each with its reason and its worst case.

use std::time::Duration;

/// Largest block of a Kinlog feed, 1 MiB: one block fits one frame, and a reader that holds a
/// full request window of such blocks stays inside the process budget.
pub const KINLOG_BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// Largest block of a plain Hypercore feed, 8 MiB: what JavaScript peers write in practice stays
/// far below, and at most [`PLAIN_SESSIONS_MAX`] such sessions exist.
pub const PLAIN_BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Largest frame a plain Hypercore session may carry: what its 3-byte length can say.
pub const PLAIN_FRAME_BYTES_MAX: usize = (1 << 24) - 1;

/// Sessions that may receive [`PLAIN_FRAME_BYTES_MAX`]: 4 x 16 MiB, a quarter of the process budget.
pub const PLAIN_SESSIONS_MAX: usize = 4;

/// Frame a Kinlog peer accepts unless it announced more, 256 KiB.
pub const FRAME_BYTES_DEFAULT: usize = 256 * 1024;

/// Largest frame a Kinlog peer may announce: one block of 1 MiB with its proof.
pub const FRAME_BYTES_MAX: usize = KINLOG_BLOCK_BYTES_MAX + 64 * 1024;

/// Bytes of block data requested from all peers together and not yet received, 4 MiB: enough for
/// 47 MB/s at 80 ms. With what was received and is not stored yet, it is what a kill may cost in
/// repeated transfer.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Nodes in one list of a proof: a path in a tree of 2^53 blocks has at most 53 siblings, and an
/// upgrade lists at most as many again.
pub const PROOF_NODES_MAX: usize = 128;

/// Largest encoded manifest, 16 KiB: 128 signers and the user data JavaScript peers write.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024;

/// Signers in one manifest.
pub const MANIFEST_SIGNERS_MAX: usize = 128;

/// Largest signature field (a multisig envelope), 16 KiB.
pub const SIGNATURE_BYTES_MAX: usize = 16 * 1024;

/// Largest conflict proof, 64 KiB: a manifest and two signature fields at their limits, and three
/// lists of at most 53 nodes. One writer's, up to 2^40 blocks, stays below 4 KiB.
pub const CONFLICT_PROOF_BYTES_MAX: usize = 64 * 1024;

/// Largest block index or length the compact encoding carries, 2^53 - 1.
pub const UINT_MAX: u64 = (1 << 53) - 1;

// Connections.

/// Largest frame before the remote has shown what it is, 64 KiB: the whole budget of an
/// unauthenticated peer.
pub const UNAUTHENTICATED_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Input bytes one connection may hold before its handshake is done, 64 KiB.
pub const UNAUTHENTICATED_BYTES_MAX: usize = 64 * 1024;

/// Input bytes that may lie undrained beyond one whole frame, 1 MiB: what a driver reads at once.
pub const INPUT_SLACK_BYTES_MAX: usize = 1024 * 1024;

/// Size at which an outgoing batch is closed, 64 KiB: one WebRTC message, and large enough that
/// the 20 bytes of framing vanish. Larger messages get a frame of their own.
pub const SEND_BATCH_BYTES: usize = 64 * 1024;

/// Bytes waiting to be sent above which [`is_writable`](crate::wire::Connection::is_writable) is
/// false, 2 MiB: about 20 ms at 100 MB/s, and the send budget of a peer.
pub const SEND_QUEUE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes waiting to be sent above which messages are refused, 24 MiB: [`SEND_QUEUE_BYTES`] and the
/// answers that were being read when it filled, one largest plain block among them.
pub const SEND_QUEUE_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Channels open at once in a session: the feeds two members of many rooms share. About 300 bytes each.
pub const CHANNELS_MAX: usize = 8192;

/// Bytes of messages kept for channels that this side has not opened yet, as protomux does; 512
/// bytes are counted for each on top. Above it parsing pauses.
pub const PENDING_BYTES_MAX: usize = 32 * 1024;

/// Longest protocol name or channel id in an open message.
pub const CHANNEL_NAME_BYTES_MAX: usize = 128;

/// Time a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which a keep-alive frame is sent (what JavaScript peers do).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Silence of the remote after which a connection is given up: six missed keep-alives.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Words of one bitfield message: the 2^21 blocks that a want covers at most.
pub const BITFIELD_WORDS_MAX: usize = 65_536;

/// Longest feed, 2^52 blocks: the flat-tree index of its last node is still below 2^53.
pub const FEED_LENGTH_MAX: u64 = 1 << 52;

/// Feeds that one manifest may link: all that fits into [`MANIFEST_BYTES_MAX`].
pub const MANIFEST_LINKED_MAX: usize = MANIFEST_BYTES_MAX / 32;

/// Newest manifest version that JavaScript Hypercore 11 reads.
pub const MANIFEST_VERSION_MAX: u64 = 3;

/// Nodes in one signature field: the ways to the lengths of all signers share most of their nodes,
/// and no more fit into [`SIGNATURE_BYTES_MAX`].
pub const MULTISIG_PATCH_NODES_MAX: usize = SIGNATURE_BYTES_MAX / 34;

// Replication.

/// Requests on their way to one Kinlog peer, and requests of one channel that wait here for an
/// answer: with small blocks a round trip's worth of work for every thread on the way, and 15 KiB of
/// requests. (npm `hypercore` has at most 512 on their way.)
pub const REQUESTS_PER_PEER_MAX: usize = 1024;

/// Requests on their way to one JavaScript peer, as JavaScript peers ask each other over TCP: it
/// answers a wider window more slowly, and in ever wilder order.
pub const REQUESTS_PER_PLAIN_PEER_MAX: usize = 48;

/// Requests of one peer over all its channels that wait here, refused or not, about 0.5 MiB.
pub const REQUESTS_QUEUED_MAX: usize = 4096;

/// Bytes of answers without a read (refusals, which blocks are held) that one peer gets within a
/// [`REPLICATE_TICK`], 1 MiB: bits of 4 million blocks, and no more waits for a peer that stops reading
/// before that is noticed.
pub const PROMPT_BYTES_MAX: usize = 1024 * 1024;

/// Reads of one peer handed to the store at once.
pub const READS_PER_PEER_MAX: usize = 1024;

/// Bytes of the reads of one peer handed to the store at once (estimated), 1 MiB.
pub const READ_BYTES_PER_PEER_MAX: usize = 1024 * 1024;

/// Bytes received and not yet applied above which nothing more is asked for, 4 MiB; at twice that
/// connections are not read.
pub const UNAPPLIED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes in one apply, 8 MiB: one durable commit, well above what amortises it.
pub const APPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Proofs of one feed kept because a node they lead to is not known yet.
pub const PARKED_PROOFS_MAX: usize = 4096;

/// Size assumed for a block before anything is known of a feed, 64 KiB: 64 of them fill the window.
pub const BLOCK_BYTES_ASSUMED: usize = 64 * 1024;

/// Size assumed for a block of a set before anything is known of a feed, 192 bytes: an answer brings
/// [`SET_BYTES`] at most (or one block), so that what the windows allow is so many answers, of some 290
/// entries of a room each. Larger blocks come fewer at a time, and the others are asked for again.
pub const SET_BLOCK_BYTES_ASSUMED: usize = 192;

/// Least size a block counts for, so that a window of empty blocks is bounded too.
pub const BLOCK_BYTES_COUNTED_MIN: usize = 64;

/// Bytes that a proof counts for beside its block while it waits to be stored: where it came from,
/// its lists, a few nodes.
pub const PROOF_BYTES_COUNTED: usize = 512;

/// Bytes asked of a peer of which nothing is known yet, 256 KiB: four answers of 64 KiB.
pub const WINDOW_BYTES_FIRST: usize = 256 * 1024;

/// Part of what may be on its way that all peers may take together which have brought nothing so far, a
/// quarter: however many promise and do not answer, those that do keep the rest.
pub const UNPROVEN_PART: usize = 4;

/// Bytes asked of a peer however slow it is, 64 KiB: one message.
pub const WINDOW_BYTES_MIN: usize = 64 * 1024;

/// Time by which a window is wider than the path to the peer is long: its work is done in pieces,
/// and a machine that is busy looks at them late. Everything later waits for that long too.
pub const WINDOW_SLACK: Duration = Duration::from_millis(30);

/// The same where answers come by several ways, 300 ms: an SCTP association that loses packets takes
/// many round trips for 64 KiB and stands still for a second now and then, and neither shows in the
/// shortest delay. More waits at whoever answers, not on the path.
pub const WINDOW_OF_WAYS: Duration = Duration::from_millis(300);

/// Most that this adds for each way, 256 KiB: four messages; four ways fill a quarter of
/// [`IN_FLIGHT_BYTES_MAX`].
pub const WINDOW_BYTES_OF_WAY: usize = 256 * 1024;

/// Time for which the shortest delay of a peer counts; the one before counts as long again.
pub const DELAY_PERIOD: Duration = Duration::from_secs(10);

/// Time for which the highest rate of a peer counts, likewise.
pub const RATE_PERIOD: Duration = Duration::from_secs(2);

/// Bytes of blocks given to one peer before the next has its turn, 64 KiB: one message.
pub const TURN_BYTES: usize = 64 * 1024;

/// Places looked at to find blocks that few peers hold.
pub const RARE_CANDIDATES: usize = 8;

/// Bytes missing of a feed up to which its blocks are urgent, 64 KiB, and what urgent requests may
/// take beyond the windows.
pub const URGENT_BYTES_MAX: usize = 64 * 1024;

/// Requests likewise.
pub const URGENT_REQUESTS_MAX: usize = 64;

/// Least time that an answer may take before another peer that holds the same is asked.
pub const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// Most time for that, also for a peer that has not answered anything yet.
pub const PATIENCE_MAX: Duration = Duration::from_secs(4);

/// Of this many blocks of a feed that were received, one may be asked of a second peer too, because
/// the first will be late: 1.6 %.
pub const BLOCKS_PER_HEDGE: u64 = 64;

/// Time that asking a second peer must save at least.
pub const HEDGE_GAIN_MIN: Duration = Duration::from_millis(50);

/// Time after which a request is taken back that nobody else could answer, if its peer is silent.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which it is taken back although its peer answers other requests.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Time for which a peer that timed out is asked nothing; doubles each time.
pub const SNUB_TIME: Duration = Duration::from_secs(10);

/// Longest such time, 40 s: a peer whose path was clogged several times is asked again within the
/// minute in which all is to heal, and one that withholds costs a time-out in a minute.
pub const SNUB_TIME_MAX: Duration = Duration::from_secs(40);

/// How often waiting requests are looked at.
pub const REPLICATE_TICK: Duration = Duration::from_millis(500);

/// Time a peer has to say what it holds of a region; it says nothing when it holds nothing.
pub const WANT_SETTLE: Duration = Duration::from_secs(1);

/// Blocks of a region that a want covers, aligned (npm `hypercore` `WANT_BATCH`).
pub const WANT_REGION_BLOCKS: u64 = 1 << 21;

/// Blocks that one bitfield message tells of.
pub const BITFIELD_PAGE_BLOCKS: u64 = 32_768;

/// Regions of a channel asked about, and followed for the remote: 134 million blocks each.
pub const WANT_REGIONS_MAX: usize = 64;

/// Pages of 32,768 blocks, neither empty nor full, and runs of full ones kept of one peer's blocks:
/// 2 MiB.
pub const REMOTE_PAGES_MAX: usize = 512;

/// Cancelled requests of a channel whose late answers are recognised.
pub const CANCELLED_REQUESTS_MAX: usize = 1024;

/// Requests without meaning after which a peer is cut (npm `hypercore`).
pub const INVALID_REQUESTS_MAX: u32 = 64;

/// Messages of data nobody asked for after which a peer is cut.
pub const UNSOLICITED_DATA_MAX: u32 = 64;

/// Blocks above the limit after which a peer is cut; one may be the writer's fault.
pub const OVERSIZE_BLOCKS_MAX: u32 = 4;

/// Proofs that lead nowhere after which a peer is cut; head changes explain a few.
pub const UNANCHORED_PROOFS_MAX: u32 = 64;

/// Blocks of a feed whose failed requests are remembered, to plan the next one with more care.
pub const RETRIES_MAX: usize = 16_384;

/// Blocks of one append that are sent before they are asked for, 16: what somebody wrote just now, not a
/// transfer.
pub const PUSH_BLOCKS_MAX: u64 = 16;

/// Blocks asked for and proved together, 1,024: 64 KiB of 64 B blocks, so that their proof costs less
/// than a byte each.
pub const SET_BLOCKS_MAX: usize = 1024;

/// Nodes in the proof of a set, 8,192 of 32 bytes and a size each: 1,024 blocks at random places of
/// 2^18 need about as many; a set with more is answered in part.
pub const SET_NODES_MAX: usize = 8192;

/// Bytes of blocks and nodes after which the answer to a set ends, 64 KiB: one WebRTC message. It has
/// one block at least, however large.
pub const SET_BYTES: usize = 64 * 1024;

/// Blocks of a window of the last ones that are asked for before older ones, 256: they share most of
/// their nodes.
pub const NEWEST_PART_BLOCKS: u64 = 256;

/// Parts of such a window, about; those of a larger one are larger.
pub const NEWEST_PARTS_MAX: u64 = 1024;

/// Bytes that a block of a set counts for beside its own while it waits to be stored: its reference, and
/// its nodes while they are verified and laid out.
pub const SET_BLOCK_BYTES_COUNTED: usize = 256;

/// What a node of a set's proof takes on the wire, about: a hash, and its size when sizes differ.
pub const SET_NODE_BYTES: usize = 34;

/// Blocks on their way from one peer that is asked for sets, 8,192: 0.8 MB of 100 B blocks, 1.5 MiB of
/// what is remembered of them.
pub const BLOCKS_IN_SETS_MAX: usize = 8192;

/// Runs in the sets of one peer that wait here, 16,384: 256 KiB, twice what an honest peer asks for.
pub const SET_RUNS_QUEUED_MAX: usize = 2 * BLOCKS_IN_SETS_MAX;

/// Sets of a channel whose late answers are recognised.
pub const LATE_SETS_MAX: usize = 1024;

/// Feeds of which a node asks who holds what: a peer answers each at least once, and may have four times as
/// many answers waiting before it takes us for a flooder.
pub const WATCHES_MAX: usize = 1024;

/// Time for which peers are asked to tell who holds what, two minutes; it is renewed after half of it.
pub const WATCH_TIME: Duration = Duration::from_secs(120);

/// Longest time for which a peer is told of what is held here without asking again, ten minutes.
pub const WATCH_TIME_MAX: Duration = Duration::from_secs(600);

/// Single blocks that are waited for at once, 4,096: about 300 bytes each.
pub const GETS_MAX: usize = 4096;

/// Runs of blocks in one message about what is held, 2,048: with fewer it is shorter than the bits of
/// 32,768 blocks.
pub const HELD_RUNS_MAX: usize = 2048;

/// Feeds listed in one message, 1,024: 16 KiB.
pub const LISTED_PER_MESSAGE_MAX: usize = 1024;

/// Feeds whose heads are told by one digest, 64: it costs less than a byte each, and one that differs makes
/// all of them be told one by one.
pub const GROUP_FEEDS_MAX: usize = 64;

/// Feeds from which on that is worth it, 16: with fewer, news come half a round trip earlier one by one.
pub const GROUP_FEEDS_MIN: usize = 16;

/// Feeds that one side of a session may have listed at once, 16,384: about 200 bytes each.
pub const LISTED_MAX: usize = 16 * 1024;

// Bundles.

/// Blocks in one run of a bundle, 512: one tree node is given for each run, 0.08 bytes a block.
pub const BUNDLE_RUN_BLOCKS_MAX: usize = 512;

/// Bytes of the blocks in one run, 1 MiB, unless it is a single larger one: what a reader holds.
pub const BUNDLE_RUN_BYTES: usize = 1024 * 1024;

/// Largest frame of a run, 16 KiB: 512 sizes and tags of 9 bytes, and 2 x 53 nodes of 41.
pub const BUNDLE_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Ranges that a bundle lists, 65,536: at most 1.2 MiB of header. A feed with more gaps goes into
/// several bundles.
pub const BUNDLE_RANGES_MAX: usize = 64 * 1024;

/// Largest header of a bundle, 1.5 MiB: manifest, signature, 53 roots and all ranges.
pub const BUNDLE_HEADER_BYTES_MAX: usize = 1536 * 1024;
