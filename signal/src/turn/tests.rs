//! The relay as facts, driven without sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::Time;
use proptest::prelude::*;
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::*;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::*;
use rtc_stun::xoraddr::XorMappedAddress;

use super::*;
use crate::ice::TurnSecrets;
use crate::limits::Rate;

const SECRETS: &str = "the-newer-of-the-two\nthe-older-of-the-two";
const UNIX_S: u64 = 1_800_000_000;
const EXPIRY: u64 = UNIX_S + 3_600;
const PEER: &str = "8.8.8.8:5000";
const RELAYED: &str = "9.9.9.9:50000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(number: u8) -> Client {
    Client::Udp(SocketAddr::from(([1, 1, 1, number], 1_000)))
}

/// A relay with a clock, and clients that know how to ask.
struct World {
    relay: Relay,
    crypto: Arc<dyn RTCCryptoProvider>,
    now: Time,
    unix_s: u64,
    transactions: u8,
    ports: u16,
}

impl World {
    fn new() -> World {
        World::with(TurnLimits::default())
    }

    fn with(limits: TurnLimits) -> World {
        let crypto = rtc_crypto::default_provider().unwrap();
        let relays_at = (at(RELAYED).ip(), 49_152..=65_535);
        let secrets = TurnSecrets::parse(SECRETS).unwrap();
        let mut relay = Relay::new(limits, secrets, relays_at, [7; 32], Arc::clone(&crypto));
        relay.refuse_own([at(RELAYED).ip(), IpAddr::from([9, 9, 9, 10])]);
        World {
            relay,
            crypto,
            now: Time::ZERO,
            unix_s: UNIX_S,
            transactions: 0,
            ports: at(RELAYED).port(),
        }
    }

    /// Hands a message in, opens what is to be opened, and returns the rest.
    fn take(&mut self, from: Client, bytes: &[u8]) -> Vec<Output> {
        self.relay.handle_client(self.now, self.unix_s, from, bytes);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.relay.poll_output() {
            if let Output::Open { relay } = output {
                let opened = SocketAddr::new(at(RELAYED).ip(), self.ports);
                self.ports += 1;
                self.relay.handle_opened(self.now, relay, Some(opened));
            } else {
                outputs.push(output);
            }
        }
        outputs
    }

    fn request(&mut self, method: Method, attributes: &[(AttrType, Vec<u8>)]) -> Message {
        self.transactions += 1;
        let mut message = Message::new();
        message.typ = MessageType::new(method, CLASS_REQUEST);
        message.transaction_id = TransactionId([self.transactions; 12]);
        message.write_header();
        for (kind, value) in attributes {
            message.add(*kind, value);
        }
        message
    }

    /// Signs as the holder of a credential does, with the nonce that he is given first.
    fn sign(
        &mut self,
        from: Client,
        mut message: Message,
        secret: &str,
        username: &str,
    ) -> Message {
        let unsigned = self.request(METHOD_REFRESH, &[]);
        let nonce = answer(&self.take(from, &unsigned.raw))
            .get(ATTR_NONCE)
            .unwrap();
        sign(&mut message, &nonce, secret, username, &*self.crypto);
        message
    }

    /// Asks for something with a good credential; returns the code of the answer, 0 for a success.
    fn ask(&mut self, from: Client, method: Method, attributes: &[(AttrType, Vec<u8>)]) -> u16 {
        self.ask_as(from, method, attributes, &format!("{EXPIRY}:somebody"))
    }

    fn ask_as(
        &mut self,
        from: Client,
        method: Method,
        attributes: &[(AttrType, Vec<u8>)],
        username: &str,
    ) -> u16 {
        let request = self.request(method, attributes);
        let signed = self.sign(from, request, "the-newer-of-the-two", username);
        code(&answer(&self.take(from, &signed.raw)))
    }

    fn allocate(&mut self, from: Client) -> u16 {
        self.ask(from, METHOD_ALLOCATE, &[transport()])
    }

    fn permit(&mut self, from: Client, peer: &str) -> u16 {
        let peer = match peer.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, 1),
            Err(_) => at(peer),
        };
        let peer = self.peer(&peer);
        self.ask(from, METHOD_CREATE_PERMISSION, &[peer])
    }

    fn bind(&mut self, from: Client, channel: u16, peer: &str) -> u16 {
        let [high, low] = channel.to_be_bytes();
        let peer = self.peer(&at(peer));
        let channel = (ATTR_CHANNEL_NUMBER, vec![high, low, 0, 0]);
        self.ask(from, METHOD_CHANNEL_BIND, &[channel, peer])
    }

    /// Returns the attribute that names a peer in the request that is made next.
    fn peer(&self, peer: &SocketAddr) -> (AttrType, Vec<u8>) {
        let mut message = Message::new();
        message.transaction_id = TransactionId([self.transactions + 1; 12]);
        let (ip, port) = (peer.ip(), peer.port());
        let named = XorMappedAddress { ip, port };
        named
            .add_to_as(&mut message, ATTR_XOR_PEER_ADDRESS)
            .unwrap();
        let value = message.get(ATTR_XOR_PEER_ADDRESS).unwrap();
        (ATTR_XOR_PEER_ADDRESS, value)
    }

    /// Sends by an indication; returns what goes to peers.
    fn send(&mut self, from: Client, peer: &str, data: &[u8]) -> Vec<(SocketAddr, Bytes)> {
        let peer = self.peer(&at(peer));
        let mut message = self.request(METHOD_SEND, &[peer, (ATTR_DATA, data.to_vec())]);
        message.set_type(MessageType::new(METHOD_SEND, CLASS_INDICATION));
        let outputs = self.take(from, &message.raw).into_iter();
        let to_peers = outputs.map(|output| match output {
            Output::ToPeer { to, data, .. } => (to, data),
            other => panic!("{other:?}"),
        });
        to_peers.collect()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.relay.counts().dropped.of(reason)
    }
}

/// Signs with the credential of a username.
pub(super) fn sign(
    message: &mut Message,
    nonce: &[u8],
    secret: &str,
    username: &str,
    crypto: &dyn RTCCryptoProvider,
) {
    let (expiry, name) = username.split_once(':').unwrap();
    let secrets = TurnSecrets::parse(secret).unwrap();
    let (_, credential) = secrets.sign(expiry.parse().unwrap(), name);
    message.add(ATTR_USERNAME, username.as_bytes());
    message.add(ATTR_REALM, b"kinlog");
    message.add(ATTR_NONCE, nonce);
    let integrity = MessageIntegrity::new_long_term_integrity_with_provider(
        username.to_owned(),
        "kinlog".to_owned(),
        credential.reveal().to_owned(),
        crypto.crypto(),
    );
    integrity.unwrap().add_to(message).unwrap();
}

pub(super) fn transport() -> (AttrType, Vec<u8>) {
    (ATTR_REQUESTED_TRANSPORT, vec![17, 0, 0, 0])
}

/// Returns the one message to a client.
fn answer(outputs: &[Output]) -> Message {
    let [Output::ToClient { bytes, .. }, ..] = outputs else {
        panic!("no answer: {outputs:?}");
    };
    let mut message = Message::new();
    message.unmarshal_binary(bytes).unwrap();
    message
}

pub(super) fn code(answer: &Message) -> u16 {
    match answer.get(ATTR_ERROR_CODE) {
        Ok(value) => u16::from(value[2]) * 100 + u16::from(value[3]),
        Err(_) => 0,
    }
}

#[test]
fn a_client_reaches_a_peer_and_the_peer_reaches_it() {
    let mut world = World::new();
    let from = client(1);
    let request = world.request(METHOD_ALLOCATE, &[transport()]);
    let username = format!("{EXPIRY}:somebody");
    let signed = world.sign(from, request, "the-newer-of-the-two", &username);
    let made = answer(&world.take(from, &signed.raw));
    let mut relayed = XorMappedAddress {
        ip: IpAddr::from([0, 0, 0, 0]),
        port: 0,
    };
    relayed
        .get_from_as(&made, ATTR_XOR_RELAYED_ADDRESS)
        .unwrap();
    assert_eq!(SocketAddr::new(relayed.ip, relayed.port), at(RELAYED));
    assert_eq!(made.get(ATTR_LIFETIME).unwrap(), 600_u32.to_be_bytes());
    let again = answer(&world.take(from, &signed.raw));
    assert_eq!(again.raw, made.raw, "the request came twice");
    assert_eq!(world.allocate(from), 437, "another request");

    let relay = RelayId(0);
    world
        .relay
        .handle_peer(world.now, relay, at(PEER), b"early");
    assert_eq!(world.drain(), [], "nobody let the peer in");
    assert_eq!(world.send(from, PEER, b"early"), []);
    assert_eq!(world.dropped("no_permission"), 2);
    assert_eq!(world.permit(from, "8.8.8.8"), 0);
    let sent = world.send(from, PEER, b"hello");
    assert_eq!(sent, [(at(PEER), Bytes::from_static(b"hello"))]);
    world
        .relay
        .handle_peer(world.now, relay, at(PEER), b"hello yourself");
    let told = answer(&world.drain());
    assert_eq!(told.typ, MessageType::new(METHOD_DATA, CLASS_INDICATION));
    assert_eq!(told.get(ATTR_DATA).unwrap(), b"hello yourself");

    assert_eq!(world.bind(from, 0x4001, PEER), 0);
    assert_eq!(world.bind(from, 0x4002, PEER), 400, "it has a channel");
    let channel = [0x40, 0x01, 0, 2, b'h', b'i'];
    let sent = world.take(from, &channel);
    let data = Bytes::from_static(b"hi");
    let to = at(PEER);
    assert_eq!(sent, [Output::ToPeer { relay, to, data }]);
    world.relay.handle_peer(world.now, relay, at(PEER), b"hi");
    let bytes = Bytes::copy_from_slice(&channel);
    assert_eq!(world.drain(), [Output::ToClient { to: from, bytes }]);

    world.now = world.now + Duration::from_secs(301);
    assert_eq!(world.send(from, PEER, b"late"), [], "five minutes later");
    world.now = world.now + Duration::from_secs(300);
    world.relay.handle_timeout(world.now);
    assert_eq!(world.drain(), [Output::Close { relay }]);
    assert_eq!(world.relay.counts().allocations, 0);
}

#[test]
fn only_live_credentials_of_this_server_are_taken() {
    let mut world = World::new();
    let bare = world.request(METHOD_ALLOCATE, &[]);
    let challenge = answer(&world.take(client(1), &bare.raw));
    assert_eq!(code(&challenge), 401);
    // To whoever the sender was said to be: nobody gets less for more.
    assert_eq!((bare.raw.len(), challenge.raw.len()), (20, 68));
    for (secret, expiry, expected) in [
        ("the-older-of-the-two", EXPIRY, 0),
        ("the-newer-of-the-two", UNIX_S + 1, 0),
        ("nobody-knows-of-this-one", EXPIRY, 401),
        ("the-newer-of-the-two", UNIX_S, 401),
        ("the-newer-of-the-two", UNIX_S - 3_600, 401),
        ("the-newer-of-the-two", UNIX_S + 86_400, 401),
    ] {
        let from = client(world.transactions);
        let request = world.request(METHOD_ALLOCATE, &[transport()]);
        let signed = world.sign(from, request, secret, &format!("{expiry}:somebody"));
        let given = code(&answer(&world.take(from, &signed.raw)));
        assert_eq!(given, expected, "{secret}, {expiry}");
    }
    let request = world.request(METHOD_ALLOCATE, &[transport()]);
    let username = format!("{EXPIRY}:somebody");
    let mut changed = world.sign(client(9), request, "the-newer-of-the-two", &username);
    changed.raw[24] ^= 1;
    assert_eq!(code(&answer(&world.take(client(9), &changed.raw))), 401);
    changed.raw[24] ^= 1;
    let moved = answer(&world.take(client(10), &changed.raw));
    assert_eq!(code(&moved), 438, "a nonce is for one address");
    world.unix_s += 3_601;
    assert_eq!(
        code(&answer(&world.take(client(9), &changed.raw))),
        401,
        "said again later"
    );
}

#[test]
fn an_allocation_goes_on_by_newer_credentials_and_by_none_of_others() {
    let mut world = World::new();
    let from = client(1);
    assert_eq!(world.allocate(from), 0);
    world.unix_s += 3_000;
    let newer = format!("{}:somebody", EXPIRY + 3_000);
    assert_eq!(world.ask_as(from, METHOD_REFRESH, &[], &newer), 0);
    let other = format!("{}:another", EXPIRY + 3_000);
    assert_eq!(world.ask_as(from, METHOD_REFRESH, &[], &other), 441);
    world.unix_s += 7_000;
    assert_eq!(
        world.ask_as(from, METHOD_REFRESH, &[], &newer),
        0,
        "ended, but its own"
    );
    assert_eq!(
        world.ask_as(client(2), METHOD_ALLOCATE, &[transport()], &newer),
        401
    );
    let hours = |count: u32| (ATTR_LIFETIME, (count * 3_600).to_be_bytes().to_vec());
    for _ in 0..24 {
        assert_eq!(world.ask_as(from, METHOD_REFRESH, &[hours(9)], &newer), 0);
        world.now = world.now + Duration::from_secs(1_800);
        world.relay.handle_timeout(world.now);
    }
    let closed = world.drain();
    assert!(
        matches!(closed[..], [Output::Close { .. }]),
        "twelve hours are enough"
    );
}

/// Whoever is on the way could append to a request, and end an allocation by that.
#[test]
fn what_stands_behind_a_signature_counts_not() {
    let mut world = World::new();
    let from = client(1);
    assert_eq!(world.allocate(from), 0);
    let username = format!("{EXPIRY}:somebody");
    let refresh = world.request(METHOD_REFRESH, &[]);
    let mut changed = world.sign(from, refresh, "the-newer-of-the-two", &username);
    changed.add(ATTR_LIFETIME, &[0; 4]);
    changed.add(ATTR_EVEN_PORT, &[0]);
    let told = answer(&world.take(from, &changed.raw));
    assert_eq!(code(&told), 0);
    assert_eq!(told.get(ATTR_LIFETIME).unwrap(), 600_u32.to_be_bytes());
    assert_eq!(world.relay.counts().allocations, 1);

    let mut unsigned = world.request(METHOD_REFRESH, &[]);
    unsigned.add(ATTR_MESSAGE_INTEGRITY, &[0; 20]);
    unsigned.add(ATTR_USERNAME, username.as_bytes());
    unsigned.add(ATTR_REALM, b"kinlog");
    unsigned.add(ATTR_NONCE, b"00");
    assert_eq!(code(&answer(&world.take(from, &unsigned.raw))), 400);
}

#[test]
fn peers_are_of_the_public_internet_whatever_asks_for_them() {
    let mut world = World::new();
    let from = client(1);
    assert_eq!(world.allocate(from), 0);
    for peer in [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        // Another address of the relay's machine.
        "9.9.9.10",
    ] {
        assert_eq!(world.permit(from, peer), 403, "{peer}");
        assert_eq!(
            world.bind(from, 0x4001, &format!("{peer}:80")),
            403,
            "{peer}"
        );
        assert_eq!(world.send(from, &format!("{peer}:80"), b"x"), []);
    }
    for peer in [
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "[64:ff9b::a00:1]:1",
        "[2001:4860::1]:1",
    ] {
        assert_eq!(world.permit(from, peer), 443, "{peer}");
    }
    assert_eq!(world.relay.counts().refused.of("peer_forbidden"), 12);
    assert_eq!(
        world.permit(from, "9.9.9.9"),
        0,
        "relayed addresses of others"
    );
    assert_eq!(world.send(from, "9.9.9.9:50001", b"x").len(), 1);
    assert_eq!(
        world.send(from, "9.9.9.9:4848", b"x"),
        [],
        "nothing else of this machine"
    );
    assert_eq!(world.dropped("peer_forbidden"), 1);
}

#[test]
fn every_quota_says_which_it_is() {
    let limits = TurnLimits {
        allocations: 6,
        allocations_per_name: 2,
        allocations_per_address: 3,
        permissions: 2,
        channels: 1,
        ..TurnLimits::default()
    };
    let mut world = World::with(limits);
    let port = |ip: u8, port| Client::Udp(SocketAddr::from(([1, 1, 1, ip], port)));
    let mut allocate = |from, name: &str| {
        let username = format!("{EXPIRY}:{name}");
        world.ask_as(from, METHOD_ALLOCATE, &[transport()], &username)
    };
    assert_eq!([1, 2, 3].map(|it| allocate(port(1, it), "a")), [0, 0, 486]);
    assert_eq!([3, 4].map(|it| allocate(port(1, it), "b")), [0, 486]);
    assert_eq!([1, 2].map(|it| allocate(port(2, it), "c")), [0, 0]);
    assert_eq!([1, 2].map(|it| allocate(port(3, it), "d")), [0, 508]);
    let from = port(1, 1);
    let username = format!("{EXPIRY}:a");
    let mut permit = |peer: &str| {
        let peer = world.peer(&at(peer));
        world.ask_as(from, METHOD_CREATE_PERMISSION, &[peer], &username)
    };
    assert_eq!(
        ["8.8.8.8:1", "8.8.4.4:1", "1.1.1.1:1", "8.8.8.8:1"].map(&mut permit),
        [0, 0, 508, 0]
    );
    let mut bind = |channel: u8| {
        let peer = world.peer(&SocketAddr::from(([8, 8, 8, 8], channel.into())));
        let channel = (ATTR_CHANNEL_NUMBER, vec![0x40, channel, 0, 0]);
        world.ask_as(from, METHOD_CHANNEL_BIND, &[channel, peer], &username)
    };
    assert_eq!([1, 2].map(&mut bind), [0, 508]);
    let refused = world.relay.counts().refused;
    for (reason, count) in [
        ("name_quota", 1),
        ("address_quota", 1),
        ("server_quota", 1),
        ("permission_quota", 1),
        ("channel_quota", 1),
    ] {
        assert_eq!(refused.of(reason), count, "{reason}");
    }
}

#[test]
fn bytes_have_a_rate_of_their_own_and_one_for_all() {
    let rate = |burst| Rate {
        per_second: 100,
        burst,
    };
    let limits = TurnLimits {
        allocation_rate: rate(1_000),
        total_rate: rate(2_700),
        ..TurnLimits::default()
    };
    let mut world = World::with(limits);
    let [first, second, third] = [1, 2, 3].map(client);
    for from in [first, second, third] {
        assert_eq!(world.allocate(from), 0);
        assert_eq!(world.permit(from, "8.8.8.8"), 0);
    }
    let data = [0; 600];
    let mut sent = |from| world.send(from, PEER, &data).len();
    assert_eq!([first, first, first].map(&mut sent), [1, 1, 0]);
    assert_eq!([second, second, second].map(&mut sent), [1, 1, 0]);
    assert_eq!(
        [third, third].map(&mut sent),
        [1, 0],
        "others have used it up"
    );
    assert_eq!(
        (
            world.dropped("allocation_rate"),
            world.dropped("total_rate")
        ),
        (2, 1)
    );
    world.now = world.now + Duration::from_secs(60);
    assert_eq!(world.send(third, PEER, &data).len(), 1);
    assert_eq!(world.relay.counts().bytes_to_peers, 6 * 600);
}

/// Four bytes by a channel made a packet to somebody, as often as anybody liked: only what was in
/// datagrams was counted.
#[test]
fn empty_datagrams_have_a_rate_too() {
    let limits = TurnLimits {
        allocation_rate: Rate {
            per_second: 100,
            burst: 1_000,
        },
        ..TurnLimits::default()
    };
    let mut world = World::with(limits);
    for number in [1, 2] {
        let from = client(number);
        assert_eq!(world.allocate(from), 0);
        assert_eq!(world.bind(from, 0x4001, PEER), 0);
    }
    let to_peer = (0..100).flat_map(|_| world.take(client(1), &[0x40, 1, 0, 0]));
    let to_peer = to_peer.count();
    assert!((1..20).contains(&to_peer), "{to_peer}");
    assert_eq!(world.dropped("allocation_rate"), 100 - to_peer as u64);
    for _ in 0..100 {
        let relay = RelayId(1);
        world.relay.handle_peer(world.now, relay, at(PEER), b"");
    }
    assert_eq!(world.drain().len(), to_peer, "the other way likewise");
}

#[test]
fn what_is_not_spoken_is_refused() {
    let mut world = World::new();
    let from = client(1);
    let tcp = (ATTR_REQUESTED_TRANSPORT, vec![6, 0, 0, 0]);
    assert_eq!(world.ask(from, METHOD_ALLOCATE, &[tcp]), 442);
    assert_eq!(world.ask(from, METHOD_ALLOCATE, &[]), 400);
    let even = (ATTR_EVEN_PORT, vec![0]);
    assert_eq!(world.ask(from, METHOD_ALLOCATE, &[transport(), even]), 420);
    let ipv6 = (ATTR_REQUESTED_ADDRESS_FAMILY, vec![2, 0, 0, 0]);
    assert_eq!(world.ask(from, METHOD_ALLOCATE, &[transport(), ipv6]), 440);
    assert_eq!(world.ask(from, METHOD_CONNECT, &[]), 400);
    assert_eq!(world.ask(from, METHOD_REFRESH, &[]), 437);
    assert_eq!(world.relay.counts().allocated, 0);
}

#[test]
fn who_asks_too_often_gets_no_answer() {
    let limits = TurnLimits {
        request_rate: Rate {
            per_second: 1,
            burst: 3,
        },
        ..TurnLimits::default()
    };
    let mut world = World::with(limits);
    let bare = world.request(METHOD_ALLOCATE, &[transport()]);
    let answers = [(); 5].map(|()| world.take(client(1), &bare.raw).len());
    assert_eq!(answers, [1, 1, 1, 0, 0]);
    assert_eq!(world.take(client(2), &bare.raw).len(), 1, "others do");
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in 0..120usize,
        flip in 1..=255u8,
    ) {
        let mut world = World::new();
        world.take(client(1), &bytes);
        let request = world.request(METHOD_ALLOCATE, &[transport()]);
        let username = format!("{EXPIRY}:somebody");
        let mut signed = world.sign(client(1), request, "the-newer-of-the-two", &username);
        let place = at % signed.raw.len();
        signed.raw[place] ^= flip;
        world.take(client(1), &signed.raw);
        prop_assert!(world.relay.counts().allocations <= 1);
    }
}
