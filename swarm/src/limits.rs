//! Named limits of links, sessions and the node, each with its reason and its worst case.

use std::time::Duration;

/// Identity set a peer may send, 64 KiB: what an identity of 256 statements takes.
pub const IDENTITY_SET_BYTES_MAX: usize = 64 * 1024;

/// Join request or answer, 192 KiB: an identity set with keys and signatures round it; keys of 4,096
/// epochs and places of 512 feeds.
pub const JOIN_BYTES_MAX: usize = 192 * 1024;

/// Seed grant, 101 KiB: 2,048 feeds with two integers each, and what stands round them.
pub const SEED_GRANT_BYTES_MAX: usize = 101 * 1024;

/// Ranges of one message about cleared blocks, 16 KiB; who has more to tell sends several.
pub const SEED_CLEARED_RANGES_MAX: usize = 1024;

/// Sign-in record a peer may send, 1 KiB: one has 560 bytes.
pub const SIGN_IN_RECORD_BYTES_MAX: usize = 1024;

/// Events a slow subscriber may lag behind before it loses the oldest.
pub const EVENTS_QUEUED_MAX: usize = 4096;

/// Peer messages of ours that wait for the node at once; each is at most [`JOIN_BYTES_MAX`],
/// or a seed grant with an identity set.
pub const PEER_MESSAGES_QUEUED_MAX: usize = 64;

/// Bytes of peer messages that are queued for somebody who does not keep up, 1 MiB beside the 2 MiB
/// that may wait of feeds: an identity set or a join's answer fits several times, and whoever asks for
/// more without reading is cut off.
pub const PEER_MESSAGE_BYTES_UNREAD_MAX: usize = 1024 * 1024;

/// Messages of one peer that wait for the host's answers, 8: their answers are on their way to the
/// session, which then looks how many of them are read; 1.5 MiB of the largest.
pub const UNANSWERED_MAX: usize = 8;

/// Longest wait of a clean shutdown for the sessions to say goodbye and for the store's work.
pub const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(4);

/// Largest message of a WebRTC or memory link, 64 KiB: the size every stack takes, and the
/// fastest one measured.
pub const LINK_MESSAGE_BYTES_MAX: usize = 65_536;

/// Messages one direction of a memory link holds: 1 MiB, as a data channel's send buffer.
pub const MEMORY_LINK_MESSAGES_MAX: usize = 16;

/// Bytes taken from a TCP socket at once.
pub const TCP_READ_BYTES_MAX: usize = 256 * 1024;

/// Bytes given to a TCP socket at once.
pub const TCP_WRITE_BYTES_MAX: usize = 256 * 1024;

/// Bytes a data channel may hold that the peer has not acknowledged, 1 MiB: SCTP's receive
/// window, more only waits longer.
pub const WEBRTC_SEND_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// Socket buffer asked for on UDP sockets, 4 MiB; the kernel may give less (`net.core.rmem_max`).
pub const UDP_SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Largest offer or answer, 12 KiB: a data channel's description with 32 candidates.
pub const DESCRIPTION_BYTES_MAX: usize = 12 * 1024;

/// Largest candidate, 512 B.
pub const CANDIDATE_BYTES_MAX: usize = 512;

/// Candidates of a description that people carry, 16 of 7 or 19 bytes: a text of more fits no QR code that a
/// terminal shows.
pub const CARRIED_CANDIDATES_MAX: usize = 16;

/// Of these, places kept for addresses that STUN and TURN servers gave: they reach farther than those of the
/// machine's own networks.
pub const CARRIED_REACHING_MAX: usize = 6;

/// Longest ICE user name fragment in a description that people carry, 32 bytes: the stack draws 16.
pub const ICE_UFRAG_BYTES_MAX: usize = 32;

/// Longest ICE password there, 64 bytes: the stack draws 32.
pub const ICE_PASSWORD_BYTES_MAX: usize = 64;

/// Longest description that people carry, encoded.
pub const CARRIED_DESCRIPTION_BYTES_MAX: usize =
    1 + 3 + ICE_UFRAG_BYTES_MAX + 3 + ICE_PASSWORD_BYTES_MAX + 32 + 3 + CARRIED_CANDIDATES_MAX * 19;

/// Candidates of the other side that one negotiation takes, 64 of [`CANDIDATE_BYTES_MAX`]: twice as many
/// as an offer has room for; whatever comes beyond is dropped, and the negotiation goes on.
pub const CANDIDATES_MAX: usize = 64;

/// Local candidates and state changes of one negotiation that wait for the node.
pub const NEGOTIATION_EVENTS_MAX: usize = 64;

/// How long an offer or answer waits for local candidates before it leaves without the rest;
/// host candidates take a few milliseconds, later ones follow by themselves.
pub const GATHERING_WAIT: Duration = Duration::from_millis(150);

/// The same where servers are asked for candidates: as long as one takes that is near. What a TURN
/// server gives by TCP never comes in time, so waiting is in vain as a rule.
pub const GATHERING_WAIT_FOR_SERVERS: Duration = Duration::from_millis(30);

/// Interval of ICE checks while connecting; the stack's own 200 ms cost a third of the opening.
pub const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// ICE checks of one pair before it is given up: 20 ms x 150 is 3 s.
pub const ICE_CHECKS_MAX: u16 = 150;

/// The same where descriptions are carried by hand, for minutes.
pub const PATIENT_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Addresses of others kept for whoever wants to know whom this machine talked to, 32 bytes each.
pub const CONTACTS_KEPT_MAX: usize = 1024;

/// Silence after which ICE calls a link disconnected.
pub const ICE_DISCONNECTED_AFTER: Duration = Duration::from_secs(5);

/// Silence after which ICE calls a disconnected link failed, and the session ends.
pub const ICE_FAILED_AFTER: Duration = Duration::from_secs(10);

/// Interval of ICE keep-alives.
pub const ICE_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// How long a pair with an address that a STUN server saw waits for one without: within one network
/// that takes a few milliseconds.
pub const REFLEXIVE_ACCEPTED_AFTER: Duration = Duration::from_millis(100);

/// How long a pair with a relay waits for a direct one: two NATs that let each other in need some round
/// trips between them, with descriptions by way of the signal server before.
pub const RELAY_ACCEPTED_AFTER: Duration = Duration::from_millis(800);

/// STUN servers asked for one connection, each from every local address.
pub const STUN_SERVERS_MAX: usize = 4;

/// TURN servers used for one connection, each from every local address.
pub const TURN_SERVERS_MAX: usize = 4;

/// How long TURN by TCP waits for any other way to open first.
pub const TURN_TCP_HEAD_START: Duration = Duration::from_millis(500);

/// Local addresses from which one TURN server is used by TCP, a connection each.
pub const TURN_TCP_CLIENTS_MAX: usize = 4;

/// How long such a connection may take to open.
pub const TURN_TCP_CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Datagrams that wait for one such connection: 1 MiB of the usual 1,200 bytes, as SCTP's window.
pub const TURN_TCP_FRAMES_QUEUED_MAX: usize = 1_024;

/// Tags in one want or unwant message: 10 KiB.
pub const TAGS_PER_MESSAGE_MAX: usize = 1024;

/// Feeds one side of a session may ask for: as many as it may have channels.
pub const WANTED_TAGS_MAX: usize = 8192;

/// Sessions that are used, unless the settings say otherwise (R177).
pub const POOL_ACTIVE: usize = 5;

/// Sessions beside them that are kept alive.
pub const POOL_STANDBY: usize = 10;

/// Peers remembered whose session was one too many, 80 B each.
pub const POOL_REMEMBERED: usize = 50;

/// How often sessions beyond the limits are closed (R181).
pub const POOL_CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes within a second from which on a session is used: what keeps it alive, and tells of heads, is less.
pub const POOL_USE_BYTES: u64 = 256;

/// How long after that a session counts as in use: a transfer that is slow, or waits for lost packets, carries
/// something more often.
pub const POOL_IN_USE: Duration = Duration::from_secs(10);

/// How long a peer whose session was one too many is not dialled, and how long one that comes back all the same
/// keeps its session.
pub const POOL_REST: Duration = Duration::from_secs(10 * 60);

/// How long who parts waits for the other side to end the session: what was said last would be lost with a link
/// that is closed right behind it. A build that does not know the word ends nothing.
pub const PARTING_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often somebody is dialled though there are enough sessions, so that all of a large meeting stay in touch.
pub const POOL_EXPLORE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How long a new link may take to a verified hello.
pub const HELLO_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long closing a link may take before it is dropped as it is.
pub const LINK_CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Batches of feed messages that wait for the replication: 64 x one link message, 4 MiB over
/// WebRTC and 16 MiB over TCP; beyond it sessions stop reading.
pub const REPLICATION_BATCHES_MAX: usize = 64;

/// Messages in one such batch: the smallest have four bytes on the wire and a hundred times that in
/// memory, 64 batches of them some 2 MiB.
pub const BATCH_MESSAGES_MAX: usize = 64;

/// Reads given to a worker at once: enough of small blocks that threads are not woken for little.
pub const READS_PER_JOB_MAX: usize = 256;

/// Blocks appended just now that the replication's task reads by itself before it hands on others, 4: each
/// a read from memory of 1 MiB at most, and a thread woken less on a block's way to its followers.
pub const PUSHES_READ_HERE_MAX: usize = 4;

/// Least reads given to a worker at once, unless there are fewer: half a megabyte of large blocks.
pub const READS_PER_JOB_MIN: usize = 8;

/// Worker threads that read blocks and make proofs.
pub const READ_WORKERS: usize = 2;

/// Worker threads that verify and store; a feed always has the same one.
pub const APPLY_WORKERS: usize = 2;

/// How long a wanted feed may lack a channel, with peers connected, before the node says so.
pub const NOBODY_HAS_AFTER: Duration = Duration::from_secs(5);

/// Offers of ours under way at once: a hostile server cannot make a node flood others.
pub const DIALS_MAX: usize = 8;

/// Offers of others under way at once: 32 links that have not proved anything, 255 KiB each.
pub const INCOMING_NEGOTIATIONS_MAX: usize = 32;

/// Candidates taken from one peer in a minute.
pub const CANDIDATES_PER_MINUTE: u32 = 64;

/// Peers remembered over all topics and servers, about 200 bytes each.
pub const PEERS_KNOWN_MAX: usize = 4096;

/// Sessions at once, plain ones included: 64 x 4 MiB is the process budget of 256 MiB.
pub const SESSIONS_MAX: usize = 64;

/// How long the side that does not offer waits for an offer before it asks for one.
pub const KNOCK_AFTER: Duration = Duration::from_millis(400);

/// First wait before a lost or unreachable peer is tried again; doubled each time.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Longest wait before a peer that is still in the topic is tried again.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How long one attempt to connect may take, from the offer to the open channel.
pub const NEGOTIATION_WAIT_MAX: Duration = Duration::from_secs(10);

/// Answers and candidates that wait for one negotiation.
pub const NEGOTIATION_SIGNALS_MAX: usize = 64;

/// First ban of a peer whose data did not verify.
pub const BAN_FIRST: Duration = Duration::from_secs(10 * 60);

/// Every later ban of the same peer.
pub const BAN_LATER: Duration = Duration::from_secs(24 * 60 * 60);

/// Bans remembered, 48 bytes each.
pub const BANS_MAX: usize = 4096;

/// Reports of sessions that wait for the node.
pub const REPORTS_QUEUED_MAX: usize = 256;

/// How long a topic may be empty before the node says so and looks in the neighbour periods too.
pub const NOBODY_IN_TOPIC_AFTER: Duration = Duration::from_secs(5);

/// Interval at which a node looks at the clock: topics that roll, rates, empty topics.
pub const TICK: Duration = Duration::from_secs(1);

/// How long connecting a TCP socket may take.
pub const TCP_CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Two sessions with one peer that come up within this time came up together, and both sides drop
/// the same one; later, the newer one replaces the older. Dials of each other at once are a second apart at
/// most; with more, who comes back from another address right after it was met would lose to the session
/// that it left, again and again.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(2);

/// Longest timer of the WebRTC stack while a connection comes up (see `link/webrtc/runtime.rs`): it
/// wakes 500 times a second for at most [`NEGOTIATION_WAIT_MAX`].
pub const CONNECTING_TIMER_MAX: Duration = Duration::from_millis(2);

/// How long one message may wait for the other side to take it: whoever does not read for so long
/// is no peer, only memory.
pub const SEND_STALL_MAX: Duration = Duration::from_secs(20);

/// Associations with one peer on a long or lossy way, the first included: each has a receive window of
/// 1 MiB and waits for what it lost by itself.
pub const ASSOCIATIONS_MAX: usize = 4;

/// Further associations of all sessions: 24 x (1 MiB that waits to be sent, 1 MiB kept until it has come,
/// 1 MiB received) is 72 MiB. Whoever opens many sessions gets no more of them.
pub const FURTHER_ASSOCIATIONS_MAX: usize = 24;

/// Round trip from which on a way is long: 1 MiB in each of them is 50 MB/s.
pub const FAR_ROUND_TRIP: Duration = Duration::from_millis(20);

/// Round trips measured before the shortest says anything: one may have waited for a busy machine.
pub const ROUND_TRIP_SAMPLES: u32 = 4;

/// Interval of further measurements while bulk data is carried: the way may have become shorter.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Pings of one session that wait for their answers: people and programs that look at a session at once.
pub const PINGS_WAITING_MAX: usize = 16;

/// How long a ping waits for its answer: longer than any way that still carries something.
pub const PING_WAIT_MAX: Duration = Duration::from_secs(10);

/// Bulk data after which a session on a long way gets further associations, 256 KiB: opening one takes some ten
/// round trips, in which this much is carried anyway, and less than a tenth of it in bytes.
pub const FAR_BULK_BYTES: u64 = 256 * 1024;

/// Bulk data without which the other side has no reason to ask for associations: it counts what is on
/// its way, too.
pub const ASKED_BULK_BYTES: u64 = FAR_BULK_BYTES / 4;

/// Pause after which bulk data is counted anew; a lost packet costs one to four seconds.
pub const BULK_PAUSE: Duration = Duration::from_secs(5);

/// How long a message has waited for a link that stood still: half of what SCTP waits before it sends
/// again.
pub const STALL_AFTER: Duration = Duration::from_millis(500);

/// Standing still so often within [`STALLS_WITHIN`] is loss, on a way that is not long.
pub const STALLS_OF_LOSS: usize = 3;

/// See [`STALLS_OF_LOSS`].
pub const STALLS_WITHIN: Duration = Duration::from_secs(30);

/// How long after the last bulk data further associations are closed.
pub const ASSOCIATIONS_IDLE: Duration = Duration::from_secs(15);

/// First wait after an association could not be made, or broke; doubled each time.
pub const ASSOCIATIONS_RETRY: Duration = Duration::from_secs(5);

/// Longest such wait.
pub const ASSOCIATIONS_RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// Bytes on their way by one further association, 1 MiB: SCTP's receive window.
pub const ASSOCIATION_BYTES_MAX: usize = 1024 * 1024;

/// How long an association may bring nothing of what it took before the others take over: what is lost
/// twice has come after three seconds.
pub const ASSOCIATION_STUCK: Duration = Duration::from_secs(4);

/// Offers of associations that a peer is refused before its session ends: it has been told why.
pub const ASSOCIATION_REFUSALS_MAX: u32 = 16;

/// Largest offer or answer of an association: a description and nine bytes before it.
pub const ASSOCIATION_BODY_BYTES_MAX: usize = DESCRIPTION_BYTES_MAX + 9;

/// Largest candidate of an association.
pub const ASSOCIATION_CANDIDATE_BYTES_MAX: usize = CANDIDATE_BYTES_MAX + 9;

/// Messages of further associations that wait for their session; beyond it they stop reading. Usually
/// of 64 KiB.
pub const ASSOCIATION_NEWS_MAX: usize = 16;

/// How far a copy of a request may be ahead of what the first association brought, 16,384: sixteen times
/// what is on its way from one peer. 1 MiB for each session, and only of one that sends so many.
pub const COPIES_AHEAD_MAX: u64 = 16_384;

/// How far the id of an offered association may lie behind the highest: offers begun together come in any
/// order, and older ids have been used.
pub const ASSOCIATION_IDS_KEPT: u64 = 64;

/// Connections to the own meeting point, 64: those of a household, a few KiB each.
pub const POINT_CONNECTIONS_MAX: usize = 64;

/// Connections of one address to it: several agents of one machine, each once.
pub const POINT_CONNECTIONS_PER_ADDRESS_MAX: usize = 16;

/// Topics over all its connections, 250 B each: 64 nodes with 128 topics take 2 MiB.
pub const POINT_MEMBERSHIPS_MAX: usize = 8192;

/// Peers in one topic of it: as many as may be connected.
pub const POINT_PEERS_PER_TOPIC_MAX: usize = POINT_CONNECTIONS_MAX;

/// Time for the goodbye on the local network to leave: the thread of mDNS sends it at once, unless it is
/// flooded.
pub const GOODBYE_WAIT_MAX: Duration = Duration::from_millis(700);

/// URLs that a node tells of its own meeting point, and that are taken of a peer.
pub const MEETING_URLS_MAX: usize = 4;

/// Longest such URL, in bytes.
pub const MEETING_URL_BYTES_MAX: usize = 256;

/// Remembered meeting points, and servers that somebody lists, that are joined at once: each is a connection.
pub const ROUTES_JOINED_MAX: usize = 12;

/// Other nodes of the local network that are remembered, 100 B each; who floods it with names fills it.
pub const NEIGHBOURS_MAX: usize = 256;

/// Of them with one address, so that one machine with many names is a small part of them: as many agents
/// of one machine as may be connected from it.
pub const NEIGHBOURS_PER_ADDRESS_MAX: usize = POINT_CONNECTIONS_PER_ADDRESS_MAX;

/// Addresses kept of one other node.
pub const NEIGHBOUR_ADDRESSES_MAX: usize = 4;

/// Meeting points that all nodes of a network choose, the first of them and one that takes over.
pub const NEIGHBOUR_POINTS: usize = 2;

/// How long one further meeting point is stayed at, another one after it: where machines that mean ill
/// hold the places that all choose, those who look for each other still meet.
pub const WANDER_INTERVAL: Duration = Duration::from_secs(60);

/// Meeting points of the local network that are dialled in a minute, whatever is announced.
pub const LAN_DIALS_PER_MINUTE: usize = 12;

/// How long a meeting point that could not be reached is passed over; doubled each time.
pub const PASSED_OVER_FIRST: Duration = Duration::from_secs(30);

/// Longest such time.
pub const PASSED_OVER_MAX: Duration = Duration::from_secs(16 * 60);

/// What the node and its look at the local network have to tell each other and have not taken yet.
pub const LAN_NEWS_MAX: usize = 64;

/// Time in which an announcement is to leave by some interface before mDNS is called not possible.
pub const ANNOUNCED_WITHIN: Duration = Duration::from_secs(5);

/// How often what mDNS remembers of the network is counted.
pub const MDNS_COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// Records mDNS may remember, some 300 B each: 16 for each of as many nodes as are remembered. Beyond it
/// somebody floods the network, and mDNS starts anew with nothing.
pub const MDNS_RECORDS_MAX: i64 = 16 * NEIGHBOURS_MAX as i64;

/// Peers in one message about them: as many as a node has sessions.
pub const PEERS_TOLD_MAX: usize = 64;

/// Body that an introducer carries, 16 KiB: as signal servers do.
pub const INTRODUCED_BODY_BYTES_MAX: usize = 16 * 1024;

/// Content of one message of a circuit, 16 KiB: what is urgent in the relay's own sessions waits behind no
/// more than that.
pub const CIRCUIT_DATA_BYTES_MAX: usize = 16 * 1024;

/// Signals of one peer that an introducer hands on in a minute, 16 KiB each: an offer or answer and its
/// candidates to some thirty peers.
pub const INTRODUCED_PER_MINUTE: u32 = 256;

/// Least time between changes that one peer is told of: who comes and goes in it is told of together.
pub const PEERS_TOLD_AFTER: Duration = Duration::from_secs(1);

/// How often somebody is told again what changed, while something does (R171, R179).
pub const NETWORK_STATE_INTERVAL: Duration = Duration::from_secs(30);

/// Coordinators named in such a message: one that is there is enough.
pub const COORDINATORS_TOLD_MAX: usize = 4;

/// Peers that are asked on behalf of one that asks further: two hops reach the peers of so many.
pub const FURTHER_ASKED_MAX: usize = 8;

/// Questions that were asked on and wait for answers, 100 B each.
pub const FURTHER_WAITING_MAX: usize = 64;

/// How long they wait: two round trips of a slow way.
pub const FURTHER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Least time between two questions of one peer that are asked on: each costs messages of eight others.
pub const FURTHER_INTERVAL: Duration = Duration::from_secs(8);

/// Questions of one peer on behalf of others that are answered in a minute: it has 64 others at most.
pub const FORWARDED_PER_MINUTE: u32 = 64;

/// Questions remembered so that none is answered twice, 8 B each.
pub const QUERIES_SEEN_MAX: usize = 256;

/// How long such a peer is believed to be there: those who told of it are asked again before.
pub const FURTHER_KEPT: Duration = Duration::from_secs(60);

/// Peers of peers' peers remembered of one session, 150 B each.
pub const FURTHER_KNOWN_MAX: usize = 64;

/// Least time between answers to queries of one peer: whoever was answered hears of changes unasked.
pub const PEER_QUERY_INTERVAL: Duration = Duration::from_secs(5);

/// How long what later steps of the ladder show waits while a connected peer may still say whom it has: its
/// answer takes a round trip.
pub const PEERS_HEAD_START: Duration = Duration::from_millis(200);

/// The same for meeting points of the local network, and for remembered ones: connecting to one takes two
/// round trips.
pub const ROUTES_HEAD_START: Duration = Duration::from_millis(200);

/// The same for meeting points of coordinators.
pub const COORDINATORS_HEAD_START: Duration = Duration::from_millis(300);

/// The same while somebody whom an earlier step shows is being dialled, who may be the one: an attempt that
/// goes well takes so long.
pub const ATTEMPT_HEAD_START: Duration = Duration::from_millis(500);

/// Longest time that a peer waits for earlier steps altogether, from when it is first shown, whatever others
/// show meanwhile.
pub const LADDER_HOLD_MAX: Duration = Duration::from_secs(1);

/// Meeting points of coordinators that are joined at once: each is a connection, and one that is there
/// is enough.
pub const COORDINATORS_JOINED_MAX: usize = 2;

/// How long a peer that an introducer shows waits for its first dial while one is dialled that a signal server
/// shows, and that nobody knows by its static yet: it may be the same.
pub const INTRODUCED_AFTER: Duration = Duration::from_secs(2);

/// Offers under way to peers of one introducer, who may have invented them: three quarters of
/// [`DIALS_MAX`] stay for others.
pub const DIALS_BY_INTRODUCER_MAX: usize = 2;

/// Offers of others under way by one introducer.
pub const INCOMING_BY_INTRODUCER_MAX: usize = 8;

/// Peers of one introducer in a row that could not be reached before it rests: it may have invented them.
pub const INTRODUCER_FAILURES_MAX: u32 = 16;

/// How long such an introducer is not asked to carry offers of ours.
pub const INTRODUCER_REST: Duration = Duration::from_secs(10 * 60);

/// Attempts that fail before a peer that can be reached by a relay is, and others are left to store and
/// forward: one takes [`NEGOTIATION_WAIT_MAX`], as long as anybody likes to wait, and the next ones go on beside it.
pub const FAILURES_BEFORE_RELAY: u32 = 1;

/// Knocks without an offer after which a peer is left to store and forward: they take some ten seconds.
pub const KNOCKS_UNANSWERED: u32 = 5;

/// Circuits that a node relays at once: 32 x 2 x [`CIRCUIT_WINDOW_BYTES`] is 16 MiB.
pub const CIRCUITS_MAX: usize = 32;

/// Of them with one peer at either end.
pub const CIRCUITS_PER_SESSION_MAX: usize = 8;

/// Bytes of one direction of a circuit that may be on their way, 256 KiB: what a relay keeps of it at most when
/// the other end takes nothing; 5 MB/s at 50 ms.
pub const CIRCUIT_WINDOW_BYTES: u32 = 256 * 1024;

/// What a message of a circuit counts for at least in the window: 1,024 messages may be on their way.
pub const CIRCUIT_MESSAGE_BYTES_MIN: u32 = 256;

/// Messages of one direction of a circuit that may be on their way.
pub const CIRCUIT_MESSAGES_MAX: usize = (CIRCUIT_WINDOW_BYTES / CIRCUIT_MESSAGE_BYTES_MIN) as usize;

/// Bytes a node relays in a second, over all circuits, 4 MiB: its own sessions come first.
pub const RELAYED_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;

/// Bytes that may be relayed at once after a pause: one window.
pub const RELAYED_BURST_BYTES: u64 = CIRCUIT_WINDOW_BYTES as u64;

/// Silence after which a relay closes a circuit: a session has something to say every few seconds.
pub const CIRCUIT_IDLE_MAX: Duration = Duration::from_secs(60);

/// How long the other end may take to accept a circuit.
pub const CIRCUIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// First wait after a circuit was refused or not accepted; doubled each time.
pub const CIRCUIT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Longest such wait.
pub const CIRCUIT_RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// How long an append may take to a connected peer before it counts as not delivered, twelve times what is asked
/// for (R188).
pub const DELIVERY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Appends whose delivery is measured at once, 16 B each: when more wait, a large import is under way, and those
/// tell how it fares.
pub const DELIVERIES_WAITING_MAX: usize = 1024;
