//! Named limits of entries and their index, each with its reason and its worst case.

/// Largest encoded entry, 256 KiB: sealed and padded it stays far below a block of 1 MiB.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Links in one entry; more concurrent writers than that are rare, and a flag says so.
pub const LINKS_MAX: usize = 16;

/// Highest counter of a clock: 65,536 entries a millisecond by one device.
pub const CLOCK_COUNTER_MAX: u16 = u16::MAX;

/// How far a remote clock may be ahead and still be adopted, 10 minutes; also how far a clock may
/// contradict its neighbours in a timeline before it is marked.
pub const CLOCK_DRIFT_MS_MAX: u64 = 10 * 60 * 1000;

/// Bytes of a name of an agent, a device, a room or a file.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes of a label in a directory.
pub const LABEL_BYTES_MAX: usize = 256;

/// Bytes of a path's kind, such as `log` or `shared`.
pub const KIND_BYTES_MAX: usize = 32;

/// Bytes of a MIME type.
pub const MIME_BYTES_MAX: usize = 128;

/// Bytes of a language tag (BCP 47).
pub const LANGUAGE_BYTES_MAX: usize = 35;

/// Bytes of one chat message, 64 KiB.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one document's text: what an entry carries beside title and envelope.
pub const DOCUMENT_BYTES_MAX: usize = ENTRY_BYTES_MAX - 4 * 1024;

/// Heads in one directory commitment: 2,048 x 74 B stay inside an entry.
pub const DIRECTORY_HEADS_MAX: usize = 2048;

/// Ranges of one `cleared`, which says all that is cleared of a feed: 1,024 x 16 B. Whoever
/// has more is asked to clear what is between some of them, too.
pub const CLEARED_RANGES_MAX: usize = 1024;

/// Feeds that one directory says of that blocks were cleared; a reader of any path of it reads all of
/// these entries, with 16 others that a snapshot keeps: 48 x 16 KiB.
pub const CLEARED_FEEDS_MAX: usize = SNAPSHOT_KEPT_MAX - 16;

/// Entries `cleared` of one directory that are looked through for the newest of each feed.
pub const CLEARED_READ_MAX: usize = 4096;

/// Entries that one deletion ends: 32 x up to 1 KiB, well below an entry's limit.
pub const DELETED_MAX: usize = 32;

/// Bytes of an entry up to its body: 16 links of at most 28 and 52 for the rest.
pub const DELETED_HEAD_BYTES_MAX: usize = 512;

/// Zeros of one row that overwrites free pages of the index: what SQLite holds in memory of it.
pub(crate) const SCRUB_PIECE_BYTES: i64 = 1024 * 1024;

/// Encoded bytes of one snapshot page that a writer aims at: a reader of one prefix fetches one or
/// two of them, and one changed row writes one again. Readers take whatever an entry holds.
pub const SNAPSHOT_PAGE_BYTES: usize = 8 * 1024;

/// What a writer aims at when there are too many pages for a root, 64 KiB.
pub const SNAPSHOT_PAGE_BYTES_MAX: usize = 64 * 1024;

/// Rows of one label in a snapshot, 128 x 300 B: a page never ends within a label. Of more, feeds that
/// were retired long ago are left out.
pub const SNAPSHOT_LABEL_ROWS_MAX: usize = 128;

/// Bytes of a root: with its envelope, sealed and padded, it stays an entry.
pub const SNAPSHOT_ROOT_BYTES_MAX: usize = 200 * 1024;

/// Entries beside paths (profile, claims about others) that a root names, the newest: a reader
/// fetches them all.
pub const SNAPSHOT_KEPT_MAX: usize = 64;

/// Rows of one snapshot page: the smallest row has some 20 B.
pub const SNAPSHOT_ROWS_MAX: usize = 4096;

/// Pages of one snapshot: 65,536 lines of 300 B in pages that are two thirds full.
pub const SNAPSHOT_PAGES_MAX: usize = 4096;

/// Entries of a directory after which it appends a snapshot.
pub const SNAPSHOT_EVERY: u64 = 256;

/// Single labels that a reader of prefixes looks up because what it reads leads there: renamed and
/// continued paths. A directory that leads further leads nowhere.
pub const LABELS_LED_TO_MAX: usize = 1024;

/// Bytes of entries after which a directory appends a snapshot earlier: with a root, two pages and
/// proofs a reader of one prefix stays below 128 KiB.
pub const SNAPSHOT_EVERY_BYTES: u64 = 48 * 1024;

/// Copies of an own epoch in one entry: 256 x 115 B; an identity set has no more devices.
pub const OWN_EPOCH_COPIES_MAX: usize = 256;

/// Parents of an own epoch: heads that devices made without knowing of each other.
pub const OWN_EPOCH_PARENTS_MAX: usize = 256;

/// Bytes of a setting's name: a pin's target and range.
pub const SETTING_NAME_BYTES_MAX: usize = 512;

/// Bytes of a setting's value, 16 KiB.
pub const SETTING_BYTES_MAX: usize = 16 * 1024;

/// Writes that one write of a register replaces; more concurrent ones than devices are rare.
pub const REGISTER_REPLACES_MAX: usize = 16;

/// Ranges of one seed grant: the two feeds of each of the 512 devices of a room, and as many that were.
pub const SEED_GRANT_RANGES_MAX: usize = 2048;

/// Bytes of one seed grant, 100.2 KiB: [`SEED_GRANT_RANGES_MAX`] feeds with two integers of 9 B each, and
/// 190 B round them.
pub const SEED_GRANT_BYTES_MAX: usize = SEED_GRANT_RANGES_MAX * (32 + 2 * 9) + 190;

/// Bytes of plaintext in one chunk of a file, 64 KiB; the last one may be shorter.
pub const FILE_CHUNK_BYTES: usize = 64 * 1024;

/// Chunks of one file: 2^32 x 64 KiB.
pub const FILE_CHUNKS_MAX: u64 = 1 << 32;

/// Acts that one act names as seen; more heads than that are rare, and the next act joins them.
pub const ROOM_ACT_PARENTS_MAX: usize = 16;

/// Acts of a room that are evaluated, authorised and in line in their feeds: each knows all it
/// reaches, one bit an act, so at most 8 MiB; decades of a family's room. Those beyond, by depth and
/// hash, say nothing, on every device the same ones: the room is continued in a new one.
pub const ROOM_ACTS_MAX: usize = 8192;

/// Authorised acts of a room that are kept ready, in line or not, 32 MiB of pasts at most; then those
/// that are out of line are laid aside, and judged again should another feed reach them.
pub const ROOM_ACTS_HELD_MAX: usize = 2 * ROOM_ACTS_MAX;

/// Refused acts of a room that are kept whole, for the case that its owner made a second beginning; of
/// more nothing is kept in memory but name, place, parents and reason, at most 1 KiB.
pub const ROOM_REFUSED_WHOLE_MAX: usize = 4096;

/// Acts of one feed whose author is a guest or a member: a new epoch every day for a year, and then
/// some. Whoever needs more joins with another device.
pub const FEED_ACTS_MAX: u64 = 512;

/// Acts of one feed whose author is an admin or an owner: half of [`ROOM_ACTS_MAX`], who admit and
/// remove others, and can empty the room anyway.
pub const FEED_ACTS_OF_ADMINS_MAX: u64 = 4096;

/// Passes over the acts of a room: each but the first because the one before found what nobody's own word
/// takes back, or a revocation that another's took. Two are usual; each more takes a member who arranges it.
pub const ROOM_PASSES_MAX: usize = 16;

/// What identity sets of one agent give together, remembered for a room: a device that joins asks about
/// each once more. One that is forgotten is evaluated again, some milliseconds.
pub const ROOM_SETS_REMEMBERED_MAX: usize = 512;

/// Members of a room: past that a room is a broadcast, and every new epoch costs a copy for each.
pub const ROOM_MEMBERS_MAX: usize = 256;

/// Devices in a room: 512 copies of an epoch secret are 58 KB of an entry.
pub const ROOM_DEVICES_MAX: usize = 512;

/// Cuts in one act: two feeds for each of 256 devices.
pub const ROOM_CUTS_MAX: usize = 512;

/// Parents of one epoch.
pub const ROOM_EPOCH_PARENTS_MAX: usize = 16;

/// Epochs given in one act, and keys in one entry: 2,048 x 34 B stay inside an entry. One epoch a
/// week and one a change of devices make some hundred a year.
pub const ROOM_EPOCH_KEYS_MAX: usize = 2048;

/// Bytes of the reason for a removal.
pub const REASON_BYTES_MAX: usize = 1024;

/// Statements in one identity set.
pub const IDENTITY_STATEMENTS_MAX: usize = 256;

/// Statements that another one names: more heads than that at once are rare, and what is left out
/// stays concurrent.
pub const IDENTITY_NAMES_MAX: usize = 8;

/// Bytes of one identity statement: the largest that this build makes, a device with both claims, a
/// full name and 8 hashes, has 1,035; a later kind may need more.
pub const IDENTITY_STATEMENT_BYTES_MAX: usize = 2048;

/// Bytes of one encoded identity set, 64 KiB: it travels whole.
pub const IDENTITY_SET_BYTES_MAX: usize = 64 * 1024;

/// Rows that one query returns at most; larger wishes are cut to it.
pub const QUERY_ROWS_MAX: usize = 1000;

/// Paths of one agent that a query returns at most: 65,536 x about 300 B.
pub const DIRECTORY_ROWS_MAX: usize = 65_536;

/// Claims in directory lines whose check is remembered in memory, 131,072 x about 170 B: two full
/// directories. One that is forgotten is checked again, 60 us.
pub const CLAIMS_REMEMBERED_MAX: usize = 2 * DIRECTORY_ROWS_MAX;

/// Words of one search; the rest is left out.
pub const SEARCH_WORDS_MAX: usize = 16;

/// Bytes of one search text; the rest is left out.
pub const SEARCH_BYTES_MAX: usize = 1024;

/// Messages with the words of a search that are ranked, the newest: each costs about 5 us.
pub const SEARCH_CANDIDATES_MAX: usize = 256;

/// Prepared statements that the index keeps: all it has.
pub const PREPARED_STATEMENTS_MAX: usize = 128;

/// Pages that a look at the index beside its writer keeps in memory, 8 MiB; with
/// [`PREPARED_STATEMENTS_MAX`] statements at most twice that.
pub const READER_CACHE_KIB: usize = 8 * 1024;

/// Feeds whose newest roots are kept for checking links, 1,024 x at most 64 roots of 48 B.
pub const TREES_REMEMBERED_MAX: usize = 1024;

/// Stated depths kept in memory: 65,536 x 8 B of entries in their order, at worst one of each of as
/// many feeds, about 100 B.
pub const DEPTHS_REMEMBERED_MAX: usize = 64 * 1024;

/// Blocks of each feed that `rebuild` reads before all others: what people look at first.
pub const REBUILD_NEWEST_BLOCKS: u64 = 256;

/// Feeds whose blocks `rebuild` puts in the order of their depth; each keeps one block in memory.
pub const REBUILD_FEEDS_MERGED_MAX: usize = 256;

/// Blocks that `rebuild` hands at once from the thread that reads to the one that writes; larger ones
/// end at [`REBUILD_PART_BYTES`].
pub const REBUILD_PART_BLOCKS: usize = 1000;

/// Bytes of such blocks, 2 MiB.
pub const REBUILD_PART_BYTES: usize = 2 * 1024 * 1024;

/// Parts that `rebuild` reads ahead of the one it writes: with those in both hands at most 20 MiB of
/// blocks, and as much for what they were opened to.
pub const REBUILD_PARTS_AHEAD: usize = 8;

/// Blocks that `rebuild` commits first, so that people see the newest soon; then twice as many each
/// time, up to [`REBUILD_COMMIT_BLOCKS`].
pub const REBUILD_FIRST_COMMIT_BLOCKS: usize = 4000;

/// Blocks that `rebuild` commits at once: the words of so many are written together. What they change,
/// some 20 MiB with chat, fits what SQLite keeps in memory.
pub const REBUILD_COMMIT_BLOCKS: usize = 32_000;

/// Bytes of blocks after which `rebuild` commits earlier, 16 MiB.
pub const REBUILD_COMMIT_BYTES: usize = 16 * 1024 * 1024;

/// Fewer blocks than this at once are opened where they are written: a thread costs about 20 us.
pub const OPENED_APART_MIN: usize = 128;

/// Blocks that one of two threads opens before it looks for more: all of a batch may be open at once,
/// which takes about what its blocks do.
pub const OPENED_AT_ONCE: usize = 32;

/// Bytes of text whose words wait in memory for the end of a transaction, 16 MiB; then they are
/// written before.
pub const WORD_CHANGES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Agents that one message names.
pub const MENTIONS_MAX: usize = 64;

/// Bytes of one reaction: an emoji of several joined parts, or a short word.
pub const EMOJI_BYTES_MAX: usize = 64;

/// Reactions that one entry takes back: all that an agent has on a message, from all devices.
pub const REACTION_REMOVES_MAX: usize = 16;

/// Bytes of a claim about an agent, 4 KiB.
pub const ATTEST_BYTES_MAX: usize = 4 * 1024;

/// Bytes of what an agent says about itself.
pub const ABOUT_BYTES_MAX: usize = 2 * 1024;

/// Signal servers that a profile lists: whoever follows many people joins a few of each.
pub const PROFILE_SIGNALS_MAX: usize = 4;

/// Bytes of the URL of one.
pub const PROFILE_SIGNAL_BYTES_MAX: usize = 256;

/// Bytes of an SQL question of people.
pub const SQL_BYTES_MAX: i32 = 64 * 1024;

/// Columns of an answer to one.
pub const SQL_COLUMNS_MAX: i32 = 64;

/// Rows of an answer to one.
pub const SQL_ROWS_MAX: usize = 10_000;

/// Bytes of one value, and of all values, of an answer to one, 8 MiB.
pub const SQL_MEMORY_BYTES_MAX: i32 = 8 * 1024 * 1024;

/// Time for one.
pub const SQL_SECONDS_MAX: u64 = 5;

/// Steps of SQLite's machine between two looks at the time: well under a millisecond.
pub const SQL_STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Bytes of what somebody notes about a contact.
pub const CONTACT_NOTE_BYTES_MAX: usize = 1024;

/// Bytes of the name of a preference.
pub const PREFERENCE_NAME_BYTES_MAX: usize = 128;

/// Bytes of what a preference says.
pub const PREFERENCE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of the word that says who a pin is for.
pub const PIN_TIER_BYTES_MAX: usize = 32;

/// Bytes of why something is pinned.
pub const PIN_REASON_BYTES_MAX: usize = 256;

/// Contacts, preferences or settings of one answer: all that people keep, and then some.
pub const REGISTERS_ROWS_MAX: usize = 16 * 1024;
