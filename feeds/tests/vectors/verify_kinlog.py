#!/usr/bin/env python3
"""Independent check of kinlog-1.json: every derivation again with hashlib and a few lines of ed25519.

    verify_kinlog.py            compares the file with what is computed here
    verify_kinlog.py --print    prints the file

The Rust tests of feeds, signal, swarm, indexer and agent reproduce the same values with the code
that is used. A value here never changes: a change of a derivation is a new file with a new number.
"""
import base64
import hashlib
import json
import os
import struct
import sys


def h(*parts, key=b"", size=32):
    return hashlib.blake2b(b"".join(parts), digest_size=size, key=key).digest()


def ns(label):
    return h(b"kinlog/" + label.encode())


def derive(secret, label, context=b""):
    return h(ns(label), context, key=secret)


def u64(number):
    return struct.pack("<Q", number)


def uint(number):
    if number <= 0xFC:
        return bytes([number])
    if number <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", number)
    if number <= 0xFFFFFFFF:
        return b"\xfe" + struct.pack("<I", number)
    return b"\xff" + u64(number)


def buffer(data):
    return uint(len(data)) + data


def zbase32(data):
    alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(alphabet[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))


# ed25519 (RFC 8032), slow and plain.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(number, point):
    result = (0, 1)
    while number:
        if number & 1:
            result = add(result, point)
        point, number = add(point, point), number >> 1
    return result


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 else x), y


BASE = base_point()


def compress(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ~7 & (1 << 254) - 1 | 1 << 254
    return scalar, digest[32:]


def public(seed):
    return compress(times(expand(seed)[0], BASE))


def sign(seed, message):
    scalar, prefix = expand(seed)
    number = lambda *parts: int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L
    r = number(prefix, message)
    point = compress(times(r, BASE))
    k = number(point, public(seed), message)
    return point + ((r + k * scalar) % L).to_bytes(32, "little")


HYPERCORE = [h(h(b"hypercore"), bytes([number])) for number in range(6)]
LABELS = """root device-sign device-dh feed content meet epoch-id epoch-commit topic topic-offset signal-join
    signal-registry signal-client session-cap session-cert session-tag feed-cap seal file link-tag record segment
    index-file statement join-request sealed-box invite-check genesis identity-set room-claim
    bundle act act-hash feed-claim device-accept root-accept safety own-room seed-grant room-tag
    home-key home-secret backup backup-part link-code link-check link-request link-answer
    link-words grant-check sign-in sign-in-meet sign-in-check sign-in-record room-notice""".split()


def run(first, count):
    """Bytes that count up, so that an exchange of two inputs shows."""
    return bytes((first + i) % 256 for i in range(count))


def vectors():
    out = {}

    def put(name, formula, inputs, **values):
        text = lambda value: value.hex() if isinstance(value, bytes) else value
        fields = lambda part: {key: text(value) for key, value in part.items()}
        out[name] = {"formula": formula, "in": fields(inputs), "out": fields(values)}

    put("namespaces", 'H("kinlog/" || label)', {}, **{label: ns(label) for label in LABELS})

    bip39 = run(0x00, 64)
    root = h(ns("root"), key=bip39)
    put("root", 'H_{bip39 seed}(NS("root")); agent id = ed25519 public key',
        {"bip39_seed": bip39}, root_seed=root, agent_id=public(root))
    agent = public(root)

    words = "abandon " * 23 + "art"
    bip39 = hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048)
    root = h(ns("root"), key=bip39)
    put("phrase", "BIP39 seed of the phrase with an empty passphrase, then as root",
        {"phrase": words}, bip39_seed=bip39, root_seed=root, agent_id=public(root))

    device = run(0x40, 32)
    device_sign = derive(device, "device-sign")
    put("device", 'derive(device secret, "device-sign" | "device-dh", "")',
        {"device_secret": device}, sign_seed=device_sign, device_key=public(device_sign),
        dh_secret=derive(device, "device-dh"))

    def feed(name, feed_id):
        seed = derive(device, "feed", feed_id)
        manifest = bytes([1, 0, 0, 1, 1, 0]) + HYPERCORE[4] + public(seed)
        key = h(HYPERCORE[3], manifest)
        put(name, 'derive(device secret, "feed", feed id); key = hash of the default manifest',
            {"device_secret": device, "feed_id": feed_id}, seed=seed, public_key=public(seed),
            manifest=manifest, feed_key=key, discovery_key=h(b"hypercore", key=key))
        return key

    key = feed("feed", run(0x60, 16))
    feed("public_directory", bytes(16))
    feed("private_directory", b"\x01" + bytes(15))

    secret = run(0x70, 32)
    content, meet = derive(secret, "content"), derive(secret, "meet")
    epoch = h(ns("epoch-id"), content)[:16]
    put("epoch", 'derive(epoch secret, "content" | "meet", ""); H(NS("epoch-id") || content key)[..16]',
        {"epoch_secret": secret}, content_key=content, meet_key=meet, epoch_id=epoch)

    seconds = 1_800_000_000
    offset = int.from_bytes(h(ns("topic-offset"), key=meet)[:8], "little") % 86_400
    n = (seconds - offset) // 86_400
    topic = lambda label: h(ns("topic"), bytes([label]), u64(n), key=meet)
    labels = ["agent", "feed", "room", "invite", "code", "net"]
    put("topic", 'H_K(NS("topic") || label byte || u64 n)', {"key": meet, "unix_seconds": seconds},
        offset=offset, n=n, **{name: topic(number) for number, name in enumerate(labels, 1)})

    server = "signal.example:443"
    room_topic, nonce = topic(3), run(0x90, 32)
    client = derive(device, "signal-client", buffer(server.encode()) + room_topic)
    signable = ns("signal-join") + nonce + buffer(server.encode()) + room_topic
    put("signal", 'derive(device secret, "signal-client", server || topic); '
        'signature over NS("signal-join") || nonce || server || topic',
        {"device_secret": device, "server": server, "topic": room_topic, "nonce": nonce},
        client_seed=client, client_key=public(client), signature=sign(client, signable))

    handshake = run(0xA0, 64)
    cap = lambda role: h(ns("session-cap"), bytes([role, 3]), meet, key=handshake)
    features, frame = 0x0807060504030201, 256 * 1024
    hello = b"\x01" + u64(features) + uint(frame) + b"\x03" + cap(0)
    put("session_hello", "u8 version=1 | u64 features | uint max frame | u8 label | cap 32; "
        'cap = H_{handshake hash}(NS("session-cap") || role || label || K)',
        {"handshake_hash": handshake, "label": 3, "key": meet, "features": features,
         "max_frame": frame},
        initiator_cap=cap(0), responder_cap=cap(1), initiator_hello=hello)
    put("session_tag", 'H_{handshake hash}(NS("session-tag") || feed key)[..8]',
        {"handshake_hash": handshake, "feed_key": key},
        tag=h(ns("session-tag"), key, key=handshake)[:8])

    put("feed_cap", 'H_{handshake hash}(NS("feed-cap") || role || feed key)[..16]',
        {"handshake_hash": handshake, "feed_key": key},
        initiator=h(ns("feed-cap"), b"\x00", key, key=handshake)[:16],
        responder=h(ns("feed-cap"), b"\x01", key, key=handshake)[:16])

    prints = run(0xC0, 32), run(0xE0, 32)
    identity = run(0x11, 32)
    signable = ns("session-cert") + b"\x00" + handshake + prints[0] + prints[1]
    put("session_certificate", 'device key | identity-set hash | signature over NS("session-cert") '
        "|| role || handshake hash || fingerprint of initiator || of responder",
        {"device_sign_seed": device_sign, "identity_hash": identity, "role": 0,
         "handshake_hash": handshake, "initiator_fingerprint": prints[0],
         "responder_fingerprint": prints[1]},
        signable=signable,
        certificate=public(device_sign) + identity + sign(device_sign, signable))

    put("seal", 'NS("seal") || feed key || u64 index || epoch id',
        {"feed_key": key, "index": 258, "epoch_id": epoch},
        associated_data=ns("seal") + key + u64(258) + epoch)
    put("file", 'nonce = u64 chunk number || 16 zeros; NS("file") || u64 chunk count',
        {"number": 259, "count": 772},
        nonce=u64(259) + bytes(16), associated_data=ns("file") + u64(772))

    room = run(0x22, 32)
    put("link_tag", 'H_k(NS("link-tag") || feed key)[..8], k = room id or agent id',
        {"room_id": room, "agent_id": agent, "feed_key": key},
        in_room=h(ns("link-tag"), key, key=room)[:8],
        of_author=h(ns("link-tag"), key, key=agent)[:8])

    store, head = run(0x33, 16), run(0x44, 60)
    put("record", 'H_{store id}(NS("record") || u64 segment || u64 offset || head part)[..16]',
        {"store_id": store, "segment": 7, "offset": 65_536, "head": head},
        check=h(ns("record"), u64(7), u64(65_536), head, key=store)[:16])

    put("link_key", "z-base-32 of key || H(key)[..4]", {"key": agent},
        checked=zbase32(agent + h(agent)[:4]), bare=zbase32(agent))

    urls = ["wss://signal.example/", "ws://127.0.0.1:9000/"]
    seed = run(0x55, 32)
    body = b"\x01" + room + seed + uint(len(urls)) + b"".join(buffer(u.encode()) for u in urls)
    link = body + h(ns("invite-check"), body)[:4]
    put("invite", "base64url(u8 version=1 | room id 32 | invite seed 32 | uint n | n signal URLs | "
        'check 4), check = H(NS("invite-check") || what precedes)[..4]',
        {"room_id": room, "invite_seed": seed, "signal_urls": urls},
        public_key=public(seed), bytes=link,
        fragment=base64.urlsafe_b64encode(link).rstrip(b"=").decode())
    return out


def main():
    computed = vectors()
    if "--print" in sys.argv:
        print(json.dumps(computed, indent=1))
        return
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kinlog-1.json")
    with open(path) as file:
        stored = json.load(file)
    assert stored.keys() == computed.keys(), stored.keys() ^ computed.keys()
    for name, value in computed.items():
        assert stored[name] == value, name
    print("OK", sum(len(value["out"]) for value in computed.values()), "values")


if __name__ == "__main__":
    main()
