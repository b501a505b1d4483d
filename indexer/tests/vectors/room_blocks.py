"""Blocks of rooms, opened and decoded (docs/formats.md, "Entries" and "Acts"): XChaCha20-Poly1305, the envelope, and the
protobuf bodies of `indexer/proto/entry.proto`, by hand. `verify_rooms.py` uses it.
"""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../feeds/tests/vectors"))
from verify_identity import Reader  # noqa: E402
from verify_kinlog import ns, u64  # noqa: E402

GENESIS, ADMIT, MESSAGE, INVITE, ROLE, REMOVE, LEAVE, JOIN = 16, 17, 18, 20, 21, 22, 23, 24
REVOKE, UNINVITE, EPOCH, GRANT, UNGRANT, EDIT, TOMBSTONE, DELETE = 25, 26, 27, 28, 29, 32, 33, 39
FORMAT = 1


# XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha, RFC 8439).


COLUMNS = [(i, i + 4, i + 8, i + 12) for i in range(4)]
DIAGONALS = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]


def rounds(state):
    s, low = list(state), 0xFFFFFFFF
    for a, b, c, d in 10 * (COLUMNS + DIAGONALS):
        for left, right in ((16, 12), (8, 7)):
            s[a] = (s[a] + s[b]) & low
            mixed = s[d] ^ s[a]
            s[d] = (mixed << left | mixed >> (32 - left)) & low
            s[c] = (s[c] + s[d]) & low
            mixed = s[b] ^ s[c]
            s[b] = (mixed << right | mixed >> (32 - right)) & low
    return s


def chacha(key, counter, nonce):
    state = struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce)
    mixed = zip(rounds(state), state)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in mixed))


def poly1305(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(data), 16):
        total = (total + int.from_bytes(data[i : i + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) & (1 << 128) - 1).to_bytes(16, "little")


def open_sealed(key, nonce, sealed, associated):
    mixed = rounds(struct.unpack("<16I", b"expand 32-byte k" + key + nonce[:16]))
    key, nonce = struct.pack("<8I", *mixed[:4], *mixed[12:]), bytes(4) + nonce[16:]
    sealed, tag = sealed[:-16], sealed[-16:]
    padded = lambda data: data + bytes(-len(data) % 16)
    checked = padded(associated) + padded(sealed) + u64(len(associated)) + u64(len(sealed))
    if poly1305(chacha(key, 0, nonce)[:32], checked) != tag:
        raise ValueError("does not open")
    stream = b"".join(chacha(key, 1 + i, nonce) for i in range((len(sealed) + 63) // 64))
    return bytes(a ^ b for a, b in zip(sealed, stream))


# Protobuf (indexer/proto/entry.proto): of each message the fields by number, as (name, sort).
# A sort is "uint", "bytes", "text" or another message; "*" before it: repeated.

REF = {1: ("feed", "bytes"), 2: ("index", "uint")}
CLAIM = {1: ("public_key", "bytes"), 2: ("signature", "bytes")}
CUT = {1: ("feed", "bytes"), 2: ("length", "uint"), 3: ("tree_hash", "bytes")}
COPY = {1: ("device_key", "bytes"), 2: ("sealed", "bytes")}
MEMBERSHIP = {
    **{1: ("agent", "bytes"), 2: ("identity_set", "bytes"), 3: ("device_key", "bytes")},
    **{4: ("entries_feed", "bytes"), 5: ("blobs_feed", "bytes"), 6: ("claim", "bytes")},
    **{7: ("entries_claim", CLAIM), 8: ("blobs_claim", CLAIM)},
}
GENESIS_BODY = {
    **{1: ("rules", "uint"), 2: ("name", "text"), 3: ("history", "uint"), 4: ("history_days", "uint")},
    **{5: ("random", "bytes"), 6: ("epoch_commitment", "bytes"), 7: ("owner", MEMBERSHIP)},
}
DELETED = {1: ("entry", REF), 2: ("head", "bytes")}
TOMBSTONES = {2: ("reason", "text"), 3: ("deleted", ("*", DELETED))}
BODIES = {
    GENESIS: {
        **{1: ("body", "bytes"), 2: ("claim", "bytes")},
        **{3: ("entries_signature", "bytes"), 4: ("blobs_signature", "bytes")},
    },
    ADMIT: {
        **{1: ("member", MEMBERSHIP), 2: ("role", "uint"), 3: ("invite_key", "bytes")},
        **{4: ("invite_signature", "bytes"), 5: ("epochs", "*bytes"), 6: ("invite_act", "bytes")},
    },
    INVITE: {1: ("public_key", "bytes"), 2: ("role", "uint"), 3: ("expires_at", "uint"), 4: ("uses", "uint")},
    ROLE: {1: ("agent", "bytes"), 2: ("role", "uint")},
    REMOVE: {1: ("agent", "bytes"), 2: ("cuts", ("*", CUT)), 3: ("reason", "text")},
    LEAVE: {1: ("cuts", ("*", CUT))},
    JOIN: {1: ("device", MEMBERSHIP), 2: ("epochs", "*bytes")},
    REVOKE: {
        **{1: ("agent", "bytes"), 2: ("device_key", "bytes"), 3: ("identity_set", "bytes")},
        **{4: ("cuts", ("*", CUT))},
    },
    UNINVITE: {1: ("public_key", "bytes"), 2: ("invite_act", "bytes")},
    EPOCH: {
        **{1: ("epoch_id", "bytes"), 2: ("act_id", "bytes"), 3: ("parents", "*bytes")},
        **{4: ("copies", ("*", COPY)), 5: ("commitment", "bytes")},
    },
    GRANT: {
        **{1: ("seeder", "bytes"), 2: ("expires_at", "uint"), 3: ("quota_class", "uint")},
        **{4: ("grant_hash", "bytes")},
    },
    UNGRANT: {1: ("grant_hash", "bytes")},
    DELETE: TOMBSTONES,
}
ACT_FIELDS = {GENESIS: 2, ADMIT: 3, INVITE: 4, ROLE: 5, REMOVE: 6, LEAVE: 7, JOIN: 8, REVOKE: 9}
ACT_FIELDS |= {UNINVITE: 10, EPOCH: 11, GRANT: 12, UNGRANT: 13, DELETE: 15}
SAID = {
    MESSAGE: {1: ("text", "text"), 2: ("reply", REF), 3: ("mentions", "*bytes")},
    EDIT: {1: ("target", REF), 2: ("text", "text"), 3: ("mentions", "*bytes")},
    TOMBSTONE: TOMBSTONES,
}


def act_schema(tag):
    return {1: ("parents", "*bytes"), 14: ("seq", "uint"), ACT_FIELDS[tag]: ("said", BODIES[tag])}


def varint(number):
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def read_varint(reader):
    number, shift = 0, 0
    while True:
        byte = reader.take(1)[0]
        number, shift = number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return number


def element(sort):
    """(whether it is repeated, the sort of one)."""
    if isinstance(sort, tuple):
        return True, sort[1]
    if isinstance(sort, str) and sort[0] == "*":
        return True, sort[1:]
    return False, sort


def encode(schema, message):
    """The one form: fields in the order of their numbers, none that is empty."""
    out = b""
    for number in sorted(schema):
        name, sort = schema[number]
        repeated, sort = element(sort)
        for value in message[name] if repeated else [message[name]]:
            if sort == "uint":
                out += varint(number << 3) + varint(value) if value else b""
            elif value is not None and (value or repeated or isinstance(sort, dict)):
                data = encode(sort, value) if isinstance(sort, dict) else value
                out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(schema, data):
    message = {}
    for name, sort in schema.values():
        repeated, sort = element(sort)
        message[name] = [] if repeated else 0 if sort == "uint" else None if isinstance(sort, dict) else b""
    reader = Reader(data)
    while reader.at < len(data):
        key = read_varint(reader)
        name, sort = schema.get(key >> 3, (None, "bytes"))
        repeated, sort = element(sort)
        if key & 7 == 0:
            value = read_varint(reader)
        elif key & 7 == 2:
            value = reader.take(read_varint(reader))
            if isinstance(sort, dict):
                value = decode(sort, value)
        else:
            raise ValueError("a sort of field that no body has")
        if name is None or (sort == "uint") != (key & 7 == 0):
            raise ValueError("a field of a newer build")
        message[name] = message[name] + [value] if repeated else value
    return message


# Entries.


class Entry:
    """u8 version | uint flags | uint n | links | uint depth | u64 ms | uint counter | uint tag | uint format | body."""

    def __init__(self, data):
        reader = Reader(data)
        if reader.take(1) != b"\x01":
            raise ValueError("a newer version")
        reader.uint()
        self.links = [(reader.take(8), reader.uint(), reader.take(12)) for _ in range(reader.uint())]
        self.stated, self.ms = reader.uint(), struct.unpack("<Q", reader.take(8))[0]
        self.counter, self.tag, self.format = reader.uint(), reader.uint(), reader.uint()
        self.data, self.head, self.body = data, data[: reader.at], data[reader.at :]


def open_block(keys, feed, index, block):
    """(id of the key or None, entry); None of what no key opens."""
    if block[:1] == b"\x00":
        return None, Entry(block[1:])
    id, nonce = block[1:17], block[17:41]
    if block[:1] != b"\x01" or id not in keys:
        return None
    plain = open_sealed(keys[id], nonce, block[41:], ns("seal") + feed + u64(index) + id)
    (size,) = struct.unpack("<I", plain[:4])
    if any(plain[4 + size :]):
        raise ValueError("padded with something")
    return id, Entry(plain[4 : 4 + size])
