#!/usr/bin/env python3
"""Independent check of rooms-1.json: every block opened, every act verified, every room evaluated anew by the rules of
docs/design/0015-identity-and-authority.md (the names below are its words), from hashlib and plain arithmetic alone.

    verify_rooms.py [FILE]      ends with "N rooms, all as written", or says the first that differs

Slow and plain on purpose: what a set of acts comes to is a function of the set, and each act is judged by what its past
comes to. Sets are remembered; nothing else is.
"""
import json
import os
import sys
from functools import lru_cache

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../feeds/tests/vectors"))
from room_blocks import (  # noqa: E402
    ADMIT, BODIES, DELETE, EDIT, EPOCH, GENESIS, GENESIS_BODY, GRANT, INVITE, JOIN, LEAVE, MESSAGE, REMOVE, FORMAT, REVOKE,
    ROLE, SAID, TOMBSTONE, UNGRANT, UNINVITE, Entry, act_schema, decode, encode, open_block,
)
from verify_identity import WRITE, Reader, Rules, Statement, is_signed  # noqa: E402
from verify_kinlog import HYPERCORE, h, ns, u64  # noqa: E402

GUEST, MEMBER, ADMIN, OWNER = range(4)
ROLES = ["guest", "member", "admin", "owner"]
MEMBERS, DEVICES, EVALUATED, PASSES = 256, 512, 8192, 16


# What an act carries: identity sets and memberships.


@lru_cache(maxsize=None)
def read_set(data):
    """The statements of an identity set, each verified; uint n | n x buffer, in the order of the hashes."""
    reader = Reader(data)
    statements = [statement(reader.take(reader.uint())) for _ in range(reader.uint())]
    hashes = [one.hash for one in statements]
    if reader.at != len(data) or hashes != sorted(set(hashes)) or len(hashes) > 256:
        raise ValueError("no identity set")
    return frozenset(statements)


@lru_cache(maxsize=None)
def statement(data):
    return Statement(data, FORMAT)


class Identity:
    """What the statements of one agent come to: the devices that write and those that are revoked."""

    def __init__(self, agent, statements):
        rules = Rules(agent, statements)
        counts, _ = rules.counts(set(rules.judged))
        added = {rules.all[x].device for x in counts if rules.all[x].kind == 1}
        # The device and the depth of the earliest statement that revokes it.
        self.revoked = {}
        for x in sorted((x for x in counts if rules.all[x].kind == 2), key=lambda x: -rules.depth(x)):
            if rules.all[x].device in added:
                self.revoked[rules.all[x].device] = rules.depth(x)
        self.writers = set()
        for device in added - set(self.revoked):
            additions = rules.additions(device, counts)
            first = rules.all[min(additions, key=lambda x: (rules.depth(x), x))]
            if rules.powers(additions) & WRITE and any(first.public) and any(first.private):
                self.writers.add(device)

    def knows(self, device):
        return device in self.writers or device in self.revoked


@lru_cache(maxsize=None)
def identity(agent, statements):
    return Identity(agent, statements)


def feed_key(public_key):
    return h(HYPERCORE[3], bytes([1, 0, 0, 1, 1, 0]) + HYPERCORE[4] + public_key)


@lru_cache(maxsize=None)
def verifies(key, signature, message):
    try:
        return len(key) == 32 and len(signature) == 64 and is_signed(key, signature, message)
    except ValueError:
        return False


def claimed(member, room, label):
    hash = h(ns("identity-set"), member["identity_set"])
    feeds = member["entries_feed"] + member["blobs_feed"]
    return ns(label) + room + member["agent"] + member["device_key"] + feeds + hash


def is_membership(member, room):
    """Every word of it: the sets, both feeds' claims, the device's."""
    if member is None or not is_set(member["agent"], member["identity_set"]):
        return False
    for name in ("entries", "blobs"):
        claim, feed = member[name + "_claim"], member[name + "_feed"]
        said = ns("feed-claim") + room + member["agent"] + member["device_key"] + feed
        if claim is None or feed_key(claim["public_key"]) != feed:
            return False
        if not verifies(claim["public_key"], claim["signature"], said):
            return False
    if member["device_key"] not in identity(member["agent"], read_set(member["identity_set"])).writers:
        return False
    return verifies(member["device_key"], member["claim"], claimed(member, room, "room-claim"))


def is_set(agent, data):
    try:
        return all(one.agent == agent for one in read_set(data))
    except ValueError:
        return False


# Acts.


class Act:
    def __init__(self, room, feed, index, sealed_under, entry):
        message = decode(act_schema(entry.tag), entry.body)
        self.feed, self.index, self.entry, self.tag = feed, index, entry, entry.tag
        self.sealed_under, self.ms = sealed_under, entry.ms
        self.parents, self.seq, said = message["parents"], message["seq"], message["said"]
        self.hash = h(ns("act-hash"), room, feed, u64(index), entry.data)
        self.is_known = entry.format == FORMAT and said is not None
        self.is_known &= encode(act_schema(entry.tag), message) == entry.body
        self.is_known &= self.parents == sorted(set(self.parents)) and len(self.parents) <= 16
        self.said, self.member, self.begins = said, None, None
        if self.is_known and self.tag == GENESIS:
            self.begins = decode(GENESIS_BODY, said["body"])
            self.is_known = encode(GENESIS_BODY, self.begins) == said["body"]
            self.member = signed_by_owner(self.begins["owner"], said)
        elif self.is_known and self.tag in (ADMIT, JOIN):
            self.member = said["member" if self.tag == ADMIT else "device"]
        self.is_admission = self.member is not None
        self.is_of_device = self.tag not in (REMOVE, LEAVE)
        # Filled in by `Room`: what it reaches, and what its author is there.
        self.depth, self.past, self.ground = 0, frozenset(), None

    def carries(self):
        """(agent, identity set), of an act that carries one."""
        if self.member:
            return self.member["agent"], self.member["identity_set"]
        return (self.said["agent"], self.said["identity_set"]) if self.tag == REVOKE else None

    def cut_of(self, feed):
        """The length that it accepts of a feed: nothing of one that it does not name."""
        cuts = self.said.get("cuts", [])
        return min((cut["length"] for cut in cuts if cut["feed"] == feed), default=0)


def signed_by_owner(owner, said):
    """The membership of the genesis, whose signatures stand beside the body."""
    if owner is None or owner["entries_claim"] is None or owner["blobs_claim"] is None:
        return None
    claim = lambda name: {**owner[name + "_claim"], "signature": said[name + "_signature"]}
    return {**owner, "claim": said["claim"], "entries_claim": claim("entries"), "blobs_claim": claim("blobs")}


class Ground:
    """What an authorised act stands on: its author, the role it is done in, and the acts that gave them."""

    def __init__(self, agent, device, role, giver, brought, gives_role):
        self.agent, self.device, self.role, self.giver = agent, device, role, giver
        self.brought, self.gives_role = brought, gives_role
        # Of an admission by an invite: that, and how often it was used before. Of a change of role: the
        # admissions of its target that it vouches for.
        self.invite, self.used, self.vouched = None, 0, []


def age(act):
    return act.depth, act.hash


def rank(role, giver):
    """Smaller is higher."""
    return -role, age(giver)


def is_of(revocation, admission):
    """Whether it revokes the device that was let in."""
    named = revocation.said["agent"], revocation.said["device_key"]
    return named == (admission.member["agent"], admission.member["device_key"])


class State:
    """What a set of authorised acts comes to."""

    def __init__(self, room, acts, counts, aside):
        self.room, self.set, self.counts, self.aside = room, acts, counts, aside
        self.acts = sorted(map(room.acts.get, counts), key=age)
        self.roles_of = {}

    def of(self, *tags):
        return [act for act in self.acts if act.tag in tags]

    def about(self, agent):
        """The counting acts that say which role an agent has, and the newest of them."""
        about = [act for act in self.acts if self.room.role_given(act, agent) is not None]
        is_newest = lambda act: not any(act.hash in x.past or self.is_of_stay_before(act, x) for x in about)
        return [act for act in about if is_newest(act)]

    def is_of_stay_before(self, act, admission):
        """Whether a change of role or leaving does not know of an ending that an admission of its agent knows."""
        if not admission.is_admission or act.tag not in (ROLE, LEAVE) or admission.hash in act.past:
            return False
        agent = admission.member["agent"]
        ends = [x for x in self.of(REMOVE, LEAVE) if self.room.role_given(x, agent) is not None]
        return any(x.hash in admission.past and self.room.concurrent(x, act) for x in ends)

    def newest(self, agent):
        """Rule 4: the role of an agent and the act that gave it; (None, None) of whom nobody spoke."""
        if agent not in self.roles_of:
            newest = [(act, self.room.role_given(act, agent)) for act in self.about(agent)]
            said = [(act, role) for act, role in newest if not act.is_admission]
            role = min(role for _, role in said) if said else max((role for _, role in newest), default=None)
            givers = [act for act, gives in said or newest if gives == role]
            self.roles_of[agent] = role, min(givers, key=age, default=None)
        return self.roles_of[agent]

    def role(self, agent):
        role, _ = self.newest(agent)
        return None if role is None or role < 0 else role

    def rank(self, agent):
        return rank(*self.newest(agent))

    def admissions(self):
        return [act for act in self.acts if act.is_admission]

    def agents(self):
        return sorted({act.member["agent"] for act in self.admissions()})

    def owners(self):
        return [agent for agent in self.agents() if self.role(agent) == OWNER]

    def brought(self, feed):
        """The oldest admission of a feed."""
        return next((act for act in self.admissions() if act.member["entries_feed"] == feed), None)

    def ends(self, admission):
        """What ends a device, none of which its admission comes after: removals and leavings of its agent,
        revocations of it, and acts that say that it never was one."""
        agent = admission.member["agent"]
        ends = [act for act in self.of(REMOVE, LEAVE) if self.room.role_given(act, agent) is not None]
        ends = [act for act in ends if not self.is_of_stay_before(act, admission)]
        ends += [act for act in self.of(REVOKE) if is_of(act, admission)]
        return [act for act in ends if act.hash not in admission.past] + self.room.words(self.set, admission)

    def inside(self):
        """The admissions of the devices that are in the room."""
        return [act for act in self.admissions() if not self.ends(act)]

    def cut(self, admission):
        """The length from which on the feed of a device is hidden, None where it is not."""
        ends = self.ends(admission)
        own = [act for act in ends if act.is_of_device and act.ground.agent == admission.member["agent"]]
        ends = [act for act in ends if not own or act in own or not act.is_of_device]
        return min((act.cut_of(admission.member["entries_feed"]) for act in ends), default=None)


class Room:
    def __init__(self, id, acts):
        self.id, self.acts = id, {act.hash: act for act in acts}
        self.genesis, self.states, self.known_words, self.verdicts = None, {}, {}, {}
        for act in acts:
            self.walk(act)
        for act in sorted(acts, key=lambda act: (act.depth, act.hash)):
            if not act.depth:
                self.verdicts[act.hash] = "waits"
                continue
            act.ground = self.judge(act)
            if act.ground is None:
                self.verdicts[act.hash] = "refused"
            elif act.tag == GENESIS:
                self.genesis = act
        self.state = self.evaluate()

    def walk(self, act):
        """Depth and past; depth 0 of what is not held whole."""
        if act.depth or not act.is_known or any(name not in self.acts for name in act.parents):
            return act.depth
        parents = [self.acts[name] for name in act.parents]
        depths = [self.walk(parent) for parent in parents]
        if 0 not in depths:
            act.depth = 1 + max(depths, default=0)
            act.past = frozenset(act.parents).union(*(parent.past for parent in parents))
        return act.depth

    def concurrent(self, one, other):
        return one is not other and one.hash not in other.past and other.hash not in one.past

    # Identity sets.

    def statements(self, acts, agent):
        sets = [self.acts[x].carries() for x in acts]
        return frozenset().union(*(read_set(data) for who, data in filter(None, sets) if who == agent))

    def identity(self, acts, agent, *more):
        together = self.statements(acts, agent).union(*map(read_set, more))
        if len({one.hash for one in together}) > 256:
            raise ValueError("more statements than a set holds: what is kept of them is not written here")
        return identity(agent, together)

    def words(self, acts, admission):
        """Rule 3: the acts of a set that say of a device that it never was one."""
        if (acts, admission) not in self.known_words:
            self.known_words[acts, admission] = self.find_words(acts, admission)
        return self.known_words[acts, admission]

    def find_words(self, acts, admission):
        agent, device = admission.member["agent"], admission.member["device_key"]
        if admission.tag == GENESIS or self.identity(acts, agent).knows(device):
            return []
        words = []
        for word in sorted(map(self.acts.get, acts - admission.past - {admission.hash}), key=age):
            who, carried = word.carries() or (None, None)
            if who == agent:
                says = self.identity(word.past, agent, carried, admission.member["identity_set"])
                words += [] if says.knows(device) else [word]
        return words

    def role_given(self, act, agent):
        """The role that an act gives an agent, -1 for none; None where it says nothing of it."""
        if act.is_admission:
            is_about = act.ground.gives_role and act.member["agent"] == agent
            return (OWNER if act.tag == GENESIS else act.said["role"]) if is_about else None
        if act.tag in (ROLE, REMOVE):
            return act.said.get("role", -1) if act.said["agent"] == agent else None
        return -1 if act.tag == LEAVE and act.ground.agent == agent else None

    # Rule 1.

    def judge(self, act):
        """What it stands on in what its past comes to; None where it is not authorised."""
        if any(self.acts[x].ground is None for x in act.past):
            return None
        own = sorted((x for x in map(self.acts.get, act.past) if x.feed == act.feed), key=lambda x: x.seq)
        if [x.seq for x in own] != list(range(act.seq)) or any(x.index >= act.index for x in own):
            return None
        if act.tag == GENESIS:
            return self.judge_genesis(act)
        if self.genesis is None or self.genesis.hash not in act.past:
            return None
        state = self.outcome(act.past)
        brought = state.brought(act.feed)
        if brought is None or state.ends(brought):
            return None
        agent, device = brought.member["agent"], brought.member["device_key"]
        role, giver = state.newest(agent)
        announced = {x.said["act_id"] for x in state.of(EPOCH)} | {self.genesis.sealed_under}
        if role is None or role < 0 or act.sealed_under not in announced:
            return None
        if act.seq >= (4096 if role >= ADMIN else 512) and act.tag != LEAVE:
            return None
        gives_role = act.tag == ADMIT and act.member is not None and state.role(act.member["agent"]) is None
        ground = Ground(agent, device, role, giver, brought, gives_role)
        return ground if self.may(act, ground, state) else None

    def judge_genesis(self, act):
        if act.past or act.seq or act.index or self.genesis is not None:
            return None
        if h(ns("genesis"), act.said["body"]) != self.id:
            return None
        if act.begins["rules"] != 1 or act.member is None or act.feed != act.member["entries_feed"]:
            return None
        member = act.member
        if not is_membership(member, self.id):
            return None
        return Ground(member["agent"], member["device_key"], OWNER, act, act, True)

    def may(self, act, ground, state):
        check = {
            **{ADMIT: self.may_admit, JOIN: self.may_join, INVITE: self.may_invite, ROLE: self.may_give},
            **{REMOVE: self.may_remove, LEAVE: self.may_leave, REVOKE: self.may_revoke},
            **{UNINVITE: self.may_uninvite, EPOCH: self.may_announce, GRANT: self.may_grant},
            **{UNGRANT: self.may_ungrant, DELETE: self.may_delete},
        }
        return check[act.tag](act, ground, state)

    def may_give(self, act, ground, state):
        target, gives = act.said["agent"], act.said["role"]
        role = state.role(target)
        if role is None or ground.role < max(ADMIN, role, gives):
            return False
        is_own = target == ground.agent
        is_above = not is_own and state.rank(target) < state.rank(ground.agent)
        if gives >= role and is_own or gives <= role and is_above or gives < role and state.owners() == [target]:
            return False
        ground.vouched = [x for x in state.inside() if x.member["agent"] == target]
        return True

    def may_remove(self, act, ground, state):
        target = act.said["agent"]
        if ground.role < ADMIN or target == ground.agent or state.owners() == [target]:
            return False
        if state.role(target) is not None:
            return state.rank(ground.agent) < state.rank(target)
        # Who left can still be removed, by whom it could be before.
        left = [x.ground for x in state.about(target) if x.tag == LEAVE]
        ranks = [rank(x.role, x.giver) for x in left]
        return bool(ranks) and state.rank(ground.agent) < min(ranks)

    def may_leave(self, act, ground, state):
        return state.owners() != [ground.agent]

    def may_come_in(self, act, state):
        member = act.member
        if not is_membership(member, self.id) or state.brought(member["entries_feed"]):
            return False
        if any(is_of(x, act) for x in state.of(REVOKE)):
            return False
        inside = [(x.member["agent"], x.member["device_key"]) for x in state.inside()]
        agents = {x for x in state.agents() if state.role(x) is not None}
        if (member["agent"], member["device_key"]) in inside or len(inside) >= DEVICES:
            return False
        if member["agent"] not in agents and len(agents) >= MEMBERS:
            return False
        says = self.identity(act.past, member["agent"], member["identity_set"])
        return member["device_key"] in says.writers

    def may_admit(self, act, ground, state):
        said = act.said
        if act.member is None or not self.may_come_in(act, state):
            return False
        if ground.gives_role and said["role"] > ground.role:
            return False
        if not said["invite_key"]:
            return ground.role >= ADMIN
        invite = self.invite(said["invite_key"], said["invite_act"], state)
        if ground.role < MEMBER or invite is None or said["role"] > invite.said["role"]:
            return False
        if any(x.said["invite_act"] == invite.hash for x in state.of(UNINVITE)):
            return False
        ground.invite, ground.used = invite, len(self.admitted_by(invite, state.acts))
        if invite.said["expires_at"] and act.ms > invite.said["expires_at"]:
            return False
        if invite.said["uses"] and ground.used >= invite.said["uses"]:
            return False
        asked = claimed(act.member, self.id, "join-request")
        return verifies(said["invite_key"], said["invite_signature"], asked)

    def invite(self, key, act, state):
        """The counting invite that is named by key and act."""
        named = [x for x in state.of(INVITE) if x.hash == act and x.said["public_key"] == key]
        return named[0] if named else None

    def admitted_by(self, invite, acts):
        return [x for x in acts if x.tag == ADMIT and x.ground.invite is invite]

    def may_join(self, act, ground, state):
        return act.member is not None and act.member["agent"] == ground.agent and self.may_come_in(act, state)

    def may_invite(self, act, ground, state):
        known = {x.said["public_key"] for x in state.of(INVITE)}
        return max(MEMBER, act.said["role"]) <= ground.role and act.said["public_key"] not in known

    def may_uninvite(self, act, ground, state):
        invite = self.invite(act.said["public_key"], act.said["invite_act"], state)
        return invite is not None and (ground.role >= ADMIN or invite.ground.agent == ground.agent)

    def may_revoke(self, act, ground, state):
        agent, device = act.said["agent"], act.said["device_key"]
        if not is_set(agent, act.said["identity_set"]):
            return False
        if device not in identity(agent, read_set(act.said["identity_set"])).revoked:
            return False
        if agent != ground.agent:
            inside = any(is_of(act, x) for x in state.inside())
            return inside and ground.role >= ADMIN and state.rank(ground.agent) < state.rank(agent)
        same = [x for x in state.of(REVOKE) if (x.said["agent"], x.said["device_key"]) == (agent, device)]
        came_in = any(is_of(act, x) for x in state.admissions())
        return came_in and not any(x.ground.agent == agent for x in same)

    def may_announce(self, act, ground, state):
        known = {x.said[id] for x in state.of(EPOCH) for id in ("epoch_id", "act_id")} | {self.genesis.sealed_under}
        return not known & {act.said["epoch_id"], act.said["act_id"]}

    def may_grant(self, act, ground, state):
        known = {x.said["grant_hash"] for x in state.of(GRANT)}
        return ground.role >= MEMBER and act.said["grant_hash"] not in known

    def may_ungrant(self, act, ground, state):
        grants = [x for x in state.of(GRANT) if x.said["grant_hash"] == act.said["grant_hash"]]
        return any(ground.role >= ADMIN or x.ground.agent == ground.agent for x in grants)

    def may_delete(self, act, ground, state):
        places = [(x["entry"]["feed"], x["entry"]["index"]) for x in act.said["deleted"]]
        return ground.role >= ADMIN and 1 <= len(places) <= 32 and places == sorted(set(places))

    # Rules 2 to 6.

    def outcome(self, acts):
        if acts not in self.states:
            self.states[acts] = self.decide_all(acts)
        return self.states[acts]

    def decide_all(self, acts):
        """Rule 6: a single head is decided after the rest; the last owner stays."""
        if not acts:
            return State(self, acts, acts, acts)
        ordered = sorted(map(self.acts.get, acts), key=age)
        settles = [x for x in ordered if not any(self.concurrent(x, y) for y in ordered)]
        last = settles[-1] if settles else None
        is_head = last is ordered[-1]
        before = frozenset() if last is None else last.past if is_head else last.past | {last.hash}
        then = self.outcome(before)
        state = State(self, acts, Pass(self, acts, then.aside).counts(), then.aside)
        if state.owners() or is_head or not then.owners():
            return state
        stays = min(then.owners(), key=then.rank)
        roles = {x.hash: self.role_given(x, stays) for x in ordered if x.hash not in before}
        aside = then.aside | {x for x, role in roles.items() if role is not None and role < OWNER}
        return State(self, acts, Pass(self, acts, aside).counts(), aside)

    def in_line(self, acts):
        """Of each feed the first act, and each that has the last one in line in its past."""
        line, last = set(), {}
        for act in sorted(map(self.acts.get, acts), key=lambda act: (act.feed, act.index, act.hash)):
            if act.feed not in last or last[act.feed] in act.past:
                line.add(act.hash)
                last[act.feed] = act.hash
        return line

    def evaluate(self):
        """Rule 7: what is in line, and what that reaches."""
        authorised = [act for act in self.acts.values() if act.ground]
        line = self.in_line({act.hash for act in authorised})
        among = line.union(*(self.acts[x].past for x in line))
        if len(among) > EVALUATED:
            raise ValueError("more acts than these vectors are made for: rule 7 takes the first of them")
        state = self.outcome(frozenset(among))
        for act in authorised:
            self.verdicts[act.hash] = "counts" if act.hash in state.counts else "void"
        return state


class Pass:
    """Rules 2, 3 and 5: the acts of a set decided one after another, in the order of rank."""

    def __init__(self, room, acts, aside):
        self.room, self.all, self.line = room, acts, room.in_line(acts)
        # What own words do not take back, own revocations that another's took, and what agents said of themselves
        # that was set aside where they went on: found by the passes before.
        self.freed, self.dropped, self.stayed = set(), set(), set()
        ordered = sorted(map(room.acts.get, acts), key=self.order)
        for _ in range(PASSES):
            known = len(self.freed) + len(self.dropped) + len(self.stayed)
            self.run(ordered, aside)
            if len(self.freed) + len(self.dropped) + len(self.stayed) == known:
                break

    def run(self, ordered, aside):
        # What was decided: "counts" or "void".
        self.fate = dict.fromkeys(aside | self.dropped | self.stayed, "void")
        for act in ordered:
            self.take_turn(act, at_the_end=False)
        still_open = [act for act in ordered if act.hash not in self.fate]
        for act in still_open:
            self.take_turn(act, at_the_end=True)
        self.freed |= {act.hash for act in still_open if self.does_count(act)}
        self.dropped |= {act.hash for act in ordered if self.does_count(act) and self.is_dropped(act)}

        for act in ordered:
            if self.does_count(act):
                aside = [self.room.acts[x] for x in self.room.outcome(act.past).aside]
                said = [x for x in aside if self.is_of_oneself(x) and x.ground.agent == act.ground.agent]
                self.stayed |= {x.hash for x in said}

    def take_turn(self, act, at_the_end):
        if act.hash not in self.fate:
            self.decide(act, at_the_end)
        if act.tag == ROLE and self.does_count(act):
            self.vouch(act)

    def is_dropped(self, act):
        """Whether an own revocation is by a device that another's counting revocation took, and that was revoked
        before the one of which it speaks."""
        if not self.is_own_revocation(act):
            return False
        by, revoked = act.ground, self.room.identity(self.all, act.ground.agent).revoked
        latest = lambda device: (-revoked[device], device)
        if by.device not in revoked or latest(act.said["device_key"]) >= latest(by.device):
            return False
        counting = [self.room.acts[x] for x in self.counts() if self.room.acts[x].tag == REVOKE]
        others = [x for x in counting if x.ground.agent != by.agent and self.takes_back(x, act)]
        return any(self.room.concurrent(x, act) for x in others)

    def counts(self):
        return frozenset(x for x, fate in self.fate.items() if fate == "counts")

    def does_count(self, act):
        return self.fate.get(act.hash) == "counts"

    def order(self, act):
        first = (0,) if act.tag == GENESIS else (2,)
        if self.is_own_revocation(act):
            # Devices that are revoked themselves come after those that are not, the latest first.
            by, revoked = act.ground, self.room.identity(self.all, act.ground.agent).revoked
            first = (1, 1, -revoked[by.device], by.device) if by.device in revoked else (1, 0)
        return first, rank(act.ground.role, act.ground.giver), not self.is_of_oneself(act), age(act)

    def is_of_oneself(self, act):
        return act.tag == LEAVE or act.tag == ROLE and act.said["agent"] == act.ground.agent

    def is_own_revocation(self, act):
        return act.tag == REVOKE and act.said["agent"] == act.ground.agent

    def is_own_word(self, act):
        if act.tag == UNINVITE:
            return self.room.acts[act.said["invite_act"]].ground.agent == act.ground.agent
        return self.is_of_oneself(act) or self.is_own_revocation(act)

    def decide(self, act, at_the_end):
        if self.is_void(act, by_own_words=False):
            self.fate[act.hash] = "void"
        elif self.is_void(act, by_own_words=True):
            # What nothing but own words take back stays open: somebody may vouch for what it stands on.
            if at_the_end:
                self.fate[act.hash] = "void"
        else:
            vouched = act.ground.vouched
            counts = self.has_room(act) and (not vouched or any(self.may_count(x) for x in vouched))
            self.fate[act.hash] = "counts" if counts else "void"

    def may_count(self, admission):
        if self.is_void(admission, by_own_words=False):
            return False
        return admission.hash in self.fate or self.has_room(admission)

    def vouch(self, act):
        for admission in act.ground.vouched:
            if admission.hash not in self.fate and self.may_count(admission):
                self.fate[admission.hash] = "counts"

    def is_void(self, act, by_own_words, top=None):
        """Whether what is decided by now ends an act, on which `top` stands, or what it stands on; what is decided
        stays."""
        top = top or act
        if act.hash in self.fate:
            return self.fate[act.hash] == "void"
        if act.tag == GENESIS:
            return False
        if act.hash not in self.line or act.tag == REVOKE and not self.is_revoked_by_sets(act):
            return True
        counting = [self.room.acts[x] for x in self.counts()]
        if self.is_own_revocation(act):
            ends = lambda x: self.is_own_revocation(x) and self.takes_back(x, act) and self.room.concurrent(x, act)
            return bool(self.never_words(act)) or any(ends(x) for x in counting)
        for word, agent in self.never_words(act):
            if word.tag == REVOKE and word.ground.agent != agent and self.does_count(word):
                return True
            if by_own_words and act.hash not in self.freed and not self.is_sealed(act, word, agent, counting):
                return True
        for other in counting:
            if self.room.concurrent(act, other):
                ends = self.takes_back(other, act)
                if ends and self.is_own_word(other):
                    own = other.ground.agent
                    ends = by_own_words and act.hash not in self.freed and not self.is_sealed(act, other, own, counting)
                if ends or self.raises(other, act):
                    return True
        if by_own_words and act.hash not in self.freed:
            endings = [x for x in counting if self.knew_as_void(x, act) and not self.knew_as_counting(x, top)]
            if any(not self.is_sealed(act, x, act.ground.agent, counting) for x in endings):
                return True
        ground = act.ground
        stands_on = [x for x in (ground.giver, ground.brought, ground.invite) if x]
        return any(self.is_void(x, by_own_words, top) for x in stands_on)

    def knew_as_counting(self, later, act):
        return act.hash in later.past and act.hash in self.room.outcome(later.past).counts

    def knew_as_void(self, ending, act):
        """Whether another's removal or demotion of an act's author has it in its past, and void there: a demotion
        what ends or lowers somebody, and nothing that counted where its author got its role."""
        if ending.tag not in (ROLE, REMOVE) or ending.ground.agent == act.ground.agent:
            return False
        gives = self.room.role_given(ending, act.ground.agent)
        ends = gives is not None and gives < act.ground.role
        if not ends or ending.tag == ROLE and act.tag not in (ROLE, REMOVE, REVOKE):
            return False
        known = act.hash in ending.past and not self.knew_as_counting(ending, act)
        return known and not self.knew_as_counting(ending.ground.giver, act)

    def is_revoked_by_sets(self, act):
        revoked = self.room.identity(self.all, act.said["agent"]).revoked
        return act.said["device_key"] in revoked

    def never_words(self, act):
        """Rule 3: the acts that say that the device never was one which does an act, or is brought in by it, and
        whose device, of those that do not know this act."""
        brought = [act.ground.brought] + ([act] if act.is_admission else [])
        words = [(word, x.member["agent"]) for x in brought for word in self.room.words(self.all, x)]
        return [(word, agent) for word, agent in words if act.hash not in word.past]

    def takes_back(self, other, act):
        """Whether a counting act ends what another says at the same time."""
        by = act.ground
        if other.tag == UNINVITE:
            return act.tag == ADMIT and by.invite is not None and by.invite.hash == other.said["invite_act"]
        if other.tag == REVOKE:
            return (other.said["agent"], other.said["device_key"]) == (by.agent, by.device)
        if self.is_of_oneself(other) and self.is_of_oneself(act):
            return False
        gives = self.room.role_given(other, by.agent)
        return not other.is_admission and gives is not None and gives < by.role

    def is_sealed(self, act, word, agent, counting):
        """Whether a removal or demotion by another of the agent whose word it is, or of words about oneself another
        leaving, knew that an act counts."""
        for ending in counting:
            knows = self.knew_as_counting(ending, act)
            by_another = ending.tag in (ROLE, REMOVE) and ending.ground.agent != agent
            if knows and (by_another or ending.tag == LEAVE and self.is_of_oneself(word)):
                # Of two who knew it otherwise the higher rank is right.
                is_right = not self.knew_as_void(word, act) or self.order(ending) < self.order(word)
                gives = self.room.role_given(ending, agent)
                if is_right and gives is not None and gives < act.ground.role:
                    return True
        return False

    def raises(self, other, act):
        """Whether another's `other` gave whom `act` is about a rank above the one in which `act` is done."""
        if act.tag not in (REMOVE, ROLE, LEAVE):
            return False
        agent = act.ground.agent if act.tag == LEAVE else act.said["agent"]
        gives = self.room.role_given(other, agent)
        if gives is None or gives < 0 or other.ground.agent == agent:
            return False
        return rank(gives, other) < rank(act.ground.role, act.ground.giver)

    def has_room(self, act):
        """Whether nothing that counts by now has the feed for another device, or the last use of the invite."""
        beside = [x for x in map(self.room.acts.get, self.counts()) if self.room.concurrent(act, x)]
        for other in beside if act.is_admission else ():
            if other.is_admission and other.member["entries_feed"] == act.member["entries_feed"]:
                names = [(x.member["agent"], x.member["device_key"]) for x in (act, other)]
                if names[0] != names[1]:
                    return False
        invite = act.ground.invite
        if invite is None or not invite.said["uses"]:
            return True
        return act.ground.used + len(self.room.admitted_by(invite, beside)) < invite.said["uses"]


# What a room shows.


class Timeline:
    """Entries that are no acts, as they stand."""

    def __init__(self, room, entries):
        self.room, self.state = room, room.state
        self.held = {(act.feed, act.index): act.entry for act in room.acts.values()} | entries
        self.tags = {h(ns("link-tag"), feed, key=room.id)[:8]: feed for feed, _ in self.held}
        self.author = {act.member["entries_feed"]: act.member["agent"] for act in self.state.admissions()}
        self.cuts = {feed: self.state.cut(self.state.brought(feed)) for feed in self.author}
        self.entries = {place: entry for place, entry in entries.items() if self.is_shown(*place)}
        self.said = {}
        for place, entry in self.entries.items():
            self.read(place, entry)
        self.deleted = set(self.find_deleted())

    def read(self, place, entry):
        if entry.tag in SAID and entry.format == FORMAT:
            self.said[place] = decode(SAID[entry.tag], entry.body)

    def is_shown(self, feed, index):
        return feed in self.author and (self.cuts[feed] is None or index < self.cuts[feed])

    def order(self, place):
        """Depth (what is stated, or one more than is stated by what it links to), clock, place."""
        entry, (feed, index) = self.entries[place], place
        seen = [(self.tags.get(tag), linked) for tag, linked, _ in entry.links] + [(feed, index - 1)]
        depth = max([self.held[x].stated + 1 for x in seen if x in self.held] + [entry.stated])
        return depth, entry.ms, entry.counter, place

    def of(self, tag):
        return [place for place in sorted(self.said, key=self.order) if self.entries[place].tag == tag]

    def find_deleted(self):
        """What its author's agent or a counting act deletes; of a block that is not here the head says the rest."""
        marks = [(self.author[feed], self.said[feed, index]) for feed, index in self.of(TOMBSTONE)]
        marks += [(None, act.said) for act in self.state.of(DELETE)]
        for by, mark in marks:
            for one in mark["deleted"]:
                place, head = (one["entry"]["feed"], one["entry"]["index"]), one["head"]
                if not self.is_shown(*place) or by not in (None, self.author[place[0]]):
                    continue
                if place not in self.held:
                    self.held[place] = self.entries[place] = Entry(head)
                    self.read(place, self.held[place])
                if place in self.said and self.entries[place].head == head:
                    yield place

    def text(self, place):
        """What a message says by the newest edit of its author's agent; nothing when it is deleted."""
        text = self.said[place]["text"].decode()
        for edit in self.of(EDIT):
            target = self.said[edit]["target"]
            is_own = self.author[edit[0]] == self.author[place[0]]
            if is_own and edit not in self.deleted and (target["feed"], target["index"]) == place:
                text = self.said[edit]["text"].decode()
        return "" if place in self.deleted else text

    def messages(self):
        return [[place[0].hex(), place[1], self.text(place)] for place in self.of(MESSAGE)]


# Epochs.


class Epochs:
    """The epoch that the room began with, and those that counting acts announce."""

    def __init__(self, room, first):
        self.state, self.first, self.announced = room.state, first, {}
        for act in self.state.of(EPOCH):
            self.announced.setdefault(act.said["epoch_id"], []).append(act)
        inside = [act.member for act in self.state.inside()]
        self.devices = {x["device_key"] for x in inside if self.state.role(x["agent"]) is not None}

    def oldest(self, id):
        return age(self.announced[id][0]) if id in self.announced else (0, b"")

    def parents(self, id):
        named = {parent for act in self.announced.get(id, []) for parent in act.said["parents"]}
        return sorted(x for x in named if self.oldest(x) < self.oldest(id))

    def recipients(self, id):
        """By copy, because it made the secret, or because it was given when it came in."""
        admissions = self.state.admissions()
        given = {x.member["device_key"] for x in admissions if x.tag != GENESIS and id in x.said["epochs"]}
        for act in self.announced.get(id, []):
            given |= {act.ground.device} | {copy["device_key"] for copy in act.said["copies"]}
        return given | ({x.ground.device for x in admissions if x.tag == GENESIS} if id == self.first else set())

    def as_taken(self):
        """By who has them, then the deepest first."""
        newest_first = sorted(set(self.announced) | {self.first}, key=self.oldest, reverse=True)
        rest = lambda id: (self.recipients(id) != self.devices, not self.recipients(id) <= self.devices)
        return sorted(newest_first, key=rest)

    def told(self):
        followed = {parent for id in self.announced for parent in self.parents(id)}
        texts = lambda ids: [id.hex() for id in sorted(ids)]
        rows = [(x, texts(self.parents(x)), texts(self.recipients(x)), x not in followed) for x in self.as_taken()]
        return [[id.hex(), *row] for id, *row in rows]


# The vectors.


def read_room(golden):
    id = bytes.fromhex(golden["room"])
    keys = {h(ns("epoch-id"), key)[:16]: key for key in map(bytes.fromhex, golden["keys"])}
    acts, entries = [], {}
    for feed, blocks in golden["feeds"].items():
        feed = bytes.fromhex(feed)
        for index, block in enumerate(blocks):
            opened = open_block(keys, feed, index, bytes.fromhex(block))
            if opened is not None and opened[1].tag in BODIES:
                acts.append(Act(id, feed, index, *opened))
            elif opened is not None:
                entries[feed, index] = opened[1]
    return Room(id, acts), entries


def first_epoch(room, golden):
    """That whose act key sealed the genesis; each act key stands behind its content key."""
    ids = [h(ns("epoch-id"), key)[:16] for key in map(bytes.fromhex, golden["keys"])]
    return ids[ids.index(room.genesis.sealed_under) - 1]


def told(golden):
    room, entries = read_room(golden)
    acts = [room.acts[x] for x in sorted(room.acts)]
    timeline = Timeline(room, entries)
    shown = {feed.hex(): cut for feed, cut in timeline.cuts.items()}
    roles = {agent.hex(): room.state.role(agent) for agent in room.state.agents()}
    return {
        "acts": [[x.hash.hex(), x.feed.hex(), x.index, x.tag, x.depth, room.verdicts[x.hash]] for x in acts],
        "roles": {agent: ROLES[role] for agent, role in roles.items() if role is not None},
        "shown": dict(sorted(shown.items())),
        "messages": timeline.messages(),
        "epochs": Epochs(room, first_epoch(room, golden)).told(),
    }


def differences(number, golden):
    actual = told(golden)
    for part, found in actual.items():
        written = golden[part]
        if found == written:
            continue
        keys = sorted(set(found) | set(written)) if isinstance(found, dict) else range(max(len(found), len(written)))
        for key in keys:
            get = found.get if isinstance(found, dict) else lambda i: found[i] if i < len(found) else None
            was = written.get if isinstance(found, dict) else lambda i: written[i] if i < len(written) else None
            if get(key) != was(key):
                yield f"room {number}, {part}, {key}: written {was(key)}, here {get(key)}"


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "rooms-1.json")
    with open(path) as file:
        held = json.load(file)
    rooms = [{**room, "epochs": epochs} for room, epochs in zip(held["rooms"], held["epochs"])]
    for number, golden in enumerate(rooms):
        for difference in differences(number, golden):
            print(difference)
            return 1
    print(f"{len(rooms)} rooms, all as written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
