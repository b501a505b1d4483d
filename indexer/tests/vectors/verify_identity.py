#!/usr/bin/env python3
"""Independent check of identity-1.json: every statement parsed, every signature verified, every set decided anew
by the rules of docs/design/0015-identity-and-authority.md, with hashlib and plain ed25519 alone.

    verify_identity.py          ends with "N sets, all as written", or says which differs
"""
import json
import os
import struct
import sys
from functools import lru_cache

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../feeds/tests/vectors"))
from verify_kinlog import BASE, D, HYPERCORE, L, P, add, compress, h, ns, times, uint  # noqa: E402
import hashlib  # noqa: E402

WRITE, ADD, REVOKE = 1, 2, 4


def decompress(point):
    number = int.from_bytes(point, "little")
    y, odd = number & (1 << 255) - 1, number >> 255
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - xx) % P:
        raise ValueError("no point of the curve")
    return (P - x if x & 1 != odd else x), y


@lru_cache(maxsize=None)
def is_signed(key, signature, message):
    """RFC 8032, strict: canonical numbers, without cofactor."""
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    right = add(decompress(signature[:32]), times(k, decompress(key)))
    return s < L and compress(times(s, BASE)) == compress(right)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("ends early")
        self.at += count
        return part

    def uint(self):
        first = self.take(1)[0]
        size = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first)
        number = first if size is None else int.from_bytes(self.take(size), "little")
        if uint(number) != self.data[self.at - 1 - (size or 0) : self.at]:
            raise ValueError("a number that is longer than it need be")
        return number

    def cut(self):
        has = self.take(1)[0]
        return {"length": self.uint(), "tree_hash": self.take(32).hex()} if has else None


class Statement:
    """u16 format | u8 kind | agent | signer | names | body | signature."""

    def __init__(self, data, format):
        reader = Reader(data)
        found, self.kind = struct.unpack("<HB", reader.take(3))
        if found != format:
            raise ValueError(f"format {found}")
        self.agent, self.signer = reader.take(32), reader.take(32)
        self.names = [reader.take(32) for _ in range(reader.uint())]
        if len(self.names) > 8 or self.names != sorted(set(self.names)):
            raise ValueError("names are not in order")
        if self.kind == 1:
            self.device, self.x25519, self.public, self.private = (reader.take(32) for _ in range(4))
            (self.powers,) = struct.unpack("<I", reader.take(4))
            self.name = reader.take(reader.uint()).decode()
            accepted = (ns("device-accept"), self.agent, self.device, self.x25519, self.public, self.private)
            self.accepts = [(self.device, reader.take(64), b"".join(accepted))]
            self.accepts += [self.claim(reader, feed) for feed in (self.public, self.private) if any(feed)]
            if len(self.accepts) == 2 or any(self.public) and self.public == self.private:
                raise ValueError("one directory")
            if self.powers & WRITE and not any(self.public):
                raise ValueError("writes nowhere")
        elif self.kind == 2:
            self.device, self.public, self.private = reader.take(32), reader.cut(), reader.cut()
            self.accepts = []
        elif self.kind == 3:
            self.root = reader.take(32)
            self.accepts = [(self.root, reader.take(64), ns("root-accept") + self.agent + self.root)]
        elif self.kind:
            reader.take(len(data) - reader.at - 64)
            self.accepts = []
        else:
            raise ValueError("kind 0")
        said = ns("statement") + data[: reader.at]
        self.hash = h(said)
        if not is_signed(self.signer, reader.take(64), said):
            raise ValueError("signature")
        if not all(is_signed(*one) for one in self.accepts):
            raise ValueError("acceptance or claim")
        if reader.at != len(data):
            raise ValueError("goes on")

    def claim(self, reader, feed):
        """The word of a directory's own key; the key of a feed is the hash of its manifest."""
        key, signature = reader.take(32), reader.take(64)
        if h(HYPERCORE[3], bytes([1, 0, 0, 1, 1, 0]) + HYPERCORE[4] + key) != feed:
            raise ValueError("claim of another feed")
        return key, signature, ns("feed-claim") + self.agent + self.agent + self.device + feed

    def target(self):
        """Whom it revokes: (is root, key)."""
        return {2: (False, getattr(self, "device", None)), 3: (True, self.signer)}.get(self.kind)

    def keys(self):
        return self.x25519, self.public, self.private


class Rules:
    def __init__(self, agent, statements):
        self.agent = agent
        self.all = {statement.hash: statement for statement in statements}
        self.judged, self.why = {}, {}
        whole = [hash for hash in self.all if self.depth(hash)]
        for hash in sorted(whole, key=lambda hash: (self.depth(hash), hash)):
            self.judged[hash] = self.judge(hash)

    @lru_cache(maxsize=None)
    def depth(self, hash):
        """0 while its past is not held whole, or what it says may be anything."""
        if hash not in self.all or 3 < self.all[hash].kind < 128:
            return 0
        depths = [self.depth(name) for name in self.all[hash].names]
        return 0 if 0 in depths else 1 + max(depths, default=0)

    @lru_cache(maxsize=None)
    def past(self, hash):
        past = set(self.all[hash].names)
        for name in self.all[hash].names:
            past |= self.past(name)
        return frozenset(past)

    def additions(self, key, counts):
        """Those that gave a device its keys and powers; another name gives nothing."""
        return {x for x in counts if self.all[x].kind == 1 and self.all[x].device == key and not self.judged[x]["name"]}

    def powers(self, additions):
        powers = 0
        for hash in additions:
            powers |= self.all[hash].powers
        return powers

    def roots(self, counts):
        roots = [self.agent]
        while True:
            next = [x for x in counts if self.all[x].target() == (True, roots[-1])]
            if not next:
                return roots
            roots.append(self.all[next[0]].root)

    def judge(self, hash):
        """Rule 1: who signs, and on what that stands; None where it is not authorised."""
        one, counts = self.all[hash], self.counts(self.past(hash))[0]
        roots = self.roots(counts)
        revoked = {self.all[x].target() for x in counts}
        is_root = one.signer == roots[-1]
        if is_root:
            by = {x for x in counts if self.all[x].kind == 3 and self.all[x].root == one.signer}
            ground = by if len(roots) > 1 else None
        else:
            ground = self.additions(one.signer, counts)
            if not ground or one.signer in roots or (False, one.signer) in revoked:
                return None
        is_name, needs = False, 0
        if one.kind == 1:
            if (False, one.device) in revoked:
                return None
            held = self.additions(one.device, counts)
            if held:
                is_name = True
                first = self.all[min(held, key=lambda x: (self.depth(x), x))]
                if first.keys() != one.keys() or self.powers(held) != one.powers:
                    return None
            needs = ADD | (one.powers & ~WRITE)
        elif one.kind == 2:
            needs = REVOKE
        elif one.kind == 3 and (not is_root or one.root in roots):
            return None
        needs = 0 if is_root else needs
        if ground is not None and not is_root and self.powers(ground) & needs != needs:
            return None
        return {"by": (is_root, one.signer), "needs": needs, "ground": ground, "name": is_name}

    def rank(self, hash):
        says = self.judged[hash]
        made = min(((self.depth(x), x) for x in says["ground"] or ()), default=(0, b""))
        return not says["by"][0], made, self.all[hash].target() != says["by"], hash

    def hangs_on(self, hash, other):
        ground = self.judged[hash]["ground"] or ()
        return other in ground or any(self.hangs_on(x, other) for x in ground)

    def counts(self, among):
        """Rules 2 and 3: what counts of a set with its past, and who voided what does not."""
        said = {x for x in among if self.judged[x]}
        revocations = sorted((x for x in said if self.all[x].target()), key=self.rank)
        lost = {}
        while True:
            void, counting = dict(lost), set()
            self.fall(said, void)
            undone = None
            for one in revocations:
                if one in void:
                    continue
                counting.add(one)
                target = self.all[one].target()
                taken = {x for x in said if self.judged[x]["by"] == target} - self.past(one) - counting - set(void)
                void.update({x: one for x in taken})
                self.fall(said, void)
                undone = counting & set(void)
                if undone:
                    lost.update({x: one for x in taken if any(self.hangs_on(u, x) for u in undone)})
                    break
            if not undone:
                return said - set(void), void

    def fall(self, said, void):
        """What lost its ground is void too, by what took the ground."""
        while True:
            fallen = {}
            for x in said - set(void):
                ground = self.judged[x]["ground"]
                if ground is None:
                    continue
                left = ground - set(void)
                if not left or (not self.judged[x]["by"][0] and self.powers(left) & self.judged[x]["needs"] != self.judged[x]["needs"]):
                    fallen[x] = void[min((g for g in ground if g in void), key=lambda g: (self.depth(g), g))]
            if not fallen:
                return
            void.update(fallen)

    def state(self):
        counts, void = self.counts(set(self.judged))
        shown = {}
        for hash in self.all:
            if not self.depth(hash):
                shown[hash.hex()] = "waits"
            elif not self.judged[hash]:
                shown[hash.hex()] = "not authorised"
            else:
                says = "counts" if self.all[hash].kind < 4 else "says nothing"
                shown[hash.hex()] = says if hash in counts else "voided by " + void[hash].hex()
        devices, revoked = [], []
        for key in sorted({self.all[x].device for x in counts if self.all[x].kind == 1}):
            additions = self.additions(key, counts)
            first = self.all[min(additions, key=lambda x: (self.depth(x), x))]
            names = [x for x in counts if self.all[x].kind == 1 and self.all[x].device == key]
            device = {
                "key": key.hex(),
                "x25519": first.x25519.hex(),
                "public_directory": first.public.hex(),
                "private_directory": first.private.hex(),
                "name": self.all[max(names, key=lambda x: (self.depth(x), x))].name,
                "powers": self.powers(additions),
                "added_by": first.signer.hex(),
                "added_in": first.hash.hex(),
            }
            ends = sorted(x for x in counts if self.all[x].target() == (False, key))
            if not ends:
                devices.append(device)
                continue
            cuts = {}
            for name in ("public", "private"):
                all_cuts = [getattr(self.all[x], name) for x in ends]
                smallest = min(all_cuts, key=lambda cut: (cut["length"], cut["tree_hash"]) if cut else (-1, ""))
                cuts[name + "_cut"] = smallest
            revoked.append({"device": device, **cuts, "revoked_in": [x.hex() for x in ends]})
        root = self.roots(counts)[-1].hex()
        return {"root": root, "devices": devices, "revoked": revoked, "statements": shown}


def safety(*sides):
    groups = []
    for agent, root in sorted(sides):
        digest = h(ns("safety"), agent, root)
        for _ in range(5199):
            digest = h(digest)
        groups += [int.from_bytes(digest[i : i + 5], "big") % 100_000 for i in range(0, 30, 5)]
    return " ".join(f"{group:05}" for group in groups)


def main():
    with open(os.path.join(HERE, "identity-1.json")) as file:
        golden = json.load(file)
    agent, wrong = bytes.fromhex(golden["agent"]), 0
    for case in golden["cases"]:
        data = [bytes.fromhex(text) for text in case["statements"]]
        statements = [Statement(one, golden["format"]) for one in data]
        hashes = [one.hash for one in statements]
        whole = uint(len(data)) + b"".join(uint(len(one)) + one for one in data)
        state = Rules(agent, statements).state()
        state["set_hash"] = h(ns("identity-set"), whole).hex()
        # Why something is not authorised is for people: it says nothing that others must say alike.
        said = {x: word.split(":")[0] for x, word in case["expected"]["statements"].items()}
        expected = {**case["expected"], "statements": said}
        if hashes != sorted(hashes) or whole.hex() != case["set"] or expected != state:
            wrong += 1
            print("differs:", case["name"], json.dumps(state, indent=1))
    sides = [[bytes.fromhex(golden["safety"][side][key]) for key in ("agent", "root")] for side in ("one", "two")]
    if safety(*sides) != golden["safety"]["number"]:
        wrong += 1
        print("differs: safety number", safety(*sides))
    print(f"{len(golden['cases'])} sets, " + (f"{wrong} differ" if wrong else "all as written"))
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
