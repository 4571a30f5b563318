"""All interleavings of a small world: three members, one path, two writes, a few ticks, every message at any time.

Where the simulator draws, this tries everything within its bounds: each message that was ever sent may be delivered
now, later, twice or never, in any order and also to the next life of a member; a disk finishes when it likes; members
die and come back; leases are asked for at any time. The members are the real controllers. Two worlds that look alike
are one, and what one member does with one event is worked out once, so millions of steps take seconds.
"""

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass

from anycastle.replicator import event as e
from anycastle.replicator import gate
from anycastle.replicator.controller import Controller
from anycastle.replicator.entry import NO_VERSION, Version
from anycastle.replicator.feed import FeedLimits
from anycastle.replicator.message import Entries, Fenced, FenceQuery, Gossip, Landed, LeaseGrant, LeaseRequest, Message
from anycastle.replicator.settings import Isolated, Lease
from tests.replicator.sim.checker import Violation
from tests.replicator.sim.disk import GROUP, Disk

MEMBERS = ("a", "b", "c")
PATH = b"photo"
TICK_SECONDS = 1.0
DRIFT = 0.25
"""Not two hundredths, so that a slow clock is slower by a part of a tick."""
NEVER_NEEDED = (FenceQuery, Landed, Fenced, Gossip)
"""Messages that only ask again, or spread news sooner: here they are always lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of each may happen, in ticks of a clock that is right."""

    writers: tuple[str, ...] = ("a",)
    """Each writes once at most."""
    term: int = 1
    """Of leases."""
    ticks: int = 2
    requests: int = 0
    """Lease requests that are heard."""
    askers: tuple[str, ...] = ("c",)
    """Whose."""
    restarts: int = 0
    marks: bool = False
    """Coarse marks go before entries that a tick has passed."""
    slow: str = ""
    """Whose clock is as slow as is allowed."""


BOUNDS = {
    "lease": Bounds(requests=1),
    "restart": Bounds(requests=1, restarts=1, ticks=1),
    "two_writers": Bounds(writers=("a", "b"), term=2, ticks=1),
    "marks": Bounds(marks=True, term=2),
    "slow_reader": Bounds(requests=1, slow="c"),
}


@dataclass(slots=True)
class Node:
    """One member: what is in memory, what is on the disk, and what is on its way there."""

    name: str
    disk: Disk
    bounds: Bounds
    now: float = 0.0
    controller: Controller = field(init=False)
    underway: list[e.Record | e.RecordMark | e.StoreFenced] = field(default_factory=list)
    out: list[tuple[str, Message]] = field(default_factory=list)

    def boot(self) -> None:
        """Start, with what the disk holds."""
        self.disk.incarnation += 1
        self.underway.clear()
        self.controller = Controller(
            member=self.name,
            rosters=(frozenset(MEMBERS),),
            lease=Lease(
                term_seconds=self.bounds.term * TICK_SECONDS,
                renewal_seconds=TICK_SECONDS,
                drift=DRIFT if self.bounds.slow else 0.0,
            ),
            incarnation=self.disk.incarnation,
            groups=(GROUP,),
            recorded=self.disk.recorded(),
            detailed=self.disk.detailed(),
            fenced={GROUP: dict(self.disk.fenced)},
            marks=self.disk.uncovered(),
            limits=FeedLimits(retry_seconds=math.inf, mark_after_seconds=0.0 if self.bounds.marks else math.inf),
            now=self.now,
        )

    def feed(self, event: e.Event) -> None:
        for command in self.controller.step(event, now=self.now):
            match command:
                case e.Send():
                    self._send(command.member, command.message)
                case e.SendEntries():
                    entries = self.disk.stretch(command.origin, command.after, command.upto)
                    self._send(command.member, Entries(GROUP, command.origin, entries))
                case e.Record() | e.RecordMark() | e.StoreFenced():
                    self.underway.append(command)
                case _:
                    pass
        self.controller.ignored.clear()

    def _send(self, member: str, message: Message) -> None:
        if not isinstance(message, NEVER_NEEDED):
            self.out.append((member, message))

    def tick(self) -> None:
        self.now += TICK_SECONDS * (1.0 - DRIFT if self.name == self.bounds.slow else 1.0)
        for other in MEMBERS:
            if other != self.name:
                self.answered(other)
        self.feed(e.Tick())

    def answered(self, member: str) -> None:
        """An answer that vouches for no group, always in time: no ledger is lost here, so all acks count."""
        sent, incarnation = self.now, self.disk.incarnation
        self.feed(e.Received(member, LeaseGrant(sent, incarnation, {}, {}, self.bounds.term * TICK_SECONDS)))

    def sync(self) -> None:
        """The disk has done all that it was told."""
        underway, self.underway = self.underway, []
        for command in underway:
            match command:
                case e.Record():
                    self.disk.record(command.entries, command.after, command.upto, command.origin)
                    self.feed(e.Recorded(GROUP, command.origin, self.disk.head(command.origin)))
                case e.RecordMark():
                    self.disk.marks.append(command.mark)
                    self.feed(e.Marked(GROUP, command.mark.origin, command.mark.upto))
                case e.StoreFenced():
                    self.disk.fenced[command.origin] = command.upto

    def write(self) -> None:
        """An application changes the file, and that is journaled."""
        self.disk.files[PATH] = self.name.encode()
        (entry,) = self.disk.journal({PATH})
        self.feed(e.Journaled(GROUP, entry.seq, PATH))

    # What users would get.

    def current(self) -> str:
        return self.controller.currency(GROUP, now=self.now)

    def may_write(self) -> bool:
        return (
            gate.write_verdict(
                member=self.name,
                writes=(),
                currency=self.current(),
                current_sites=(),
                uncovered=self.controller.uncovered_below(GROUP, b""),
            )
            is None
        )

    def served(self) -> Version | None:
        """The version that a reader would get, for whom everything recorded has landed; None when none is served."""
        newest = self.disk.newest.get(PATH)
        verdict = gate.verdict(
            newest=newest,
            fenced=newest is None or self.controller.fenced(GROUP, newest.origin) >= newest.seq,
            landed_here=True,
            disk_as_recorded=True,
            currency=self.current(),
            current_sites=(),
            landed_sites=(),
            isolated=Isolated.REFUSE,
            uncovered=self.controller.uncovered(GROUP, PATH),
            detailed_sites=(),
        )
        if not isinstance(verdict, gate.Serve):
            return None
        return newest.version if newest else NO_VERSION

    def succeeded(self) -> Version | None:
        """The version of our own write, once its success may be released."""
        own = self.disk.journals.get(self.name, {})
        return own[1].version if own and self.controller.fenced(GROUP, self.name) >= 1 else None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checker looks at in one state of one member."""

    may_write: bool
    lamport: int
    served: Version | None
    succeeded: Version | None
    busy: bool
    incarnation: int


Do = tuple[str, int]
"""What happens to a member: its name, and the number of a message or of a member."""


class States:
    """States of single members by number, and what becomes of them. Each step is worked out once."""

    def __init__(self) -> None:
        self.facts: list[Facts] = []
        self.messages: list[tuple[int, int, Message]] = []
        """(from, to, what)"""
        self.asking = dict.fromkeys(MEMBERS, 0)
        """Lease requests among the messages, as bits, by who asks."""
        self._pickled: list[bytes] = []
        self._ids: dict[str, int] = {}
        self._message_ids: dict[str, int] = {}
        self._steps: dict[tuple[int, str, int, int], tuple[int, int]] = {}

    def add(self, node: Node) -> int:
        key = _key(node)
        known = self._ids.get(key)
        if known is None:
            known = self._ids[key] = len(self._pickled)
            self._pickled.append(pickle.dumps(node))
            self.facts.append(
                Facts(
                    node.may_write(),
                    node.disk.lamport,
                    node.served(),
                    node.succeeded(),
                    bool(node.underway),
                    node.disk.incarnation,
                )
            )
        return known

    def step(self, state: int, do: str, argument: int = 0, incarnation: int = 0) -> tuple[int, int]:
        """The next state of the member, and the messages it sends, as bits."""
        key = (state, do, argument, incarnation)
        found = self._steps.get(key)
        if found is None:
            node: Node = pickle.loads(self._pickled[state])
            self._do(node, do, argument, incarnation)
            sent = self._sent(node)
            found = self._steps[key] = (self.add(node), sent)
        return found

    def _do(self, node: Node, do: str, argument: int, incarnation: int) -> None:
        match do:
            case "hear":
                source, _, message = self.messages[argument]
                node.feed(e.Received(MEMBERS[source], message))
            case "tick":
                node.tick()
            case "sync":
                node.sync()
            case "write":
                node.write()
            case "restart":
                node.boot()
            case "link":
                node.feed(e.LinkDown(MEMBERS[argument]))
                node.feed(e.LinkUp(MEMBERS[argument], incarnation))
                node.answered(MEMBERS[argument])
            case _:
                raise ValueError(do)

    def _sent(self, node: Node) -> int:
        out, node.out = node.out, []
        bits = 0
        for target, message in out:
            item = (MEMBERS.index(node.name), MEMBERS.index(target), message)
            key = _key(item)
            number = self._message_ids.get(key)
            if number is None:
                number = self._message_ids[key] = len(self.messages)
                self.messages.append(item)
                if isinstance(message, LeaseRequest):
                    self.asking[node.name] |= 1 << number
            bits |= 1 << number
        return bits


World = tuple[tuple[int, ...], int, int, int, int, int, Version]
"""States of the members; messages ever sent, as bits; writers that wrote, as bits; ticks, requests and restarts left;
the greatest version that anybody was served or told to be safe."""


class Search:
    """Everything that can happen within the bounds. Raises Violation."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.states = States()
        self.worlds: set[World] = set()
        self.steps = 0
        self.served = self.succeeded = 0
        """Worlds in which somebody is served a version that was written, and in which both writes have succeeded."""

    def run(self) -> "Search":
        start = self._start()
        self.worlds.add(start)
        waiting = [start]
        while waiting:
            for world in self._next(waiting.pop()):
                self.steps += 1
                if world not in self.worlds:
                    self.worlds.add(world)
                    waiting.append(world)
        return self

    def _start(self) -> World:
        """Everybody is up for longer than a term, and has just been given leases by everybody."""
        nodes = [Node(name, Disk(name), self.bounds) for name in MEMBERS]
        for node in nodes:
            node.boot()
        ids = [self.states.add(node) for node in nodes]
        sent = 0
        for this in range(len(ids)):
            for other in range(len(ids)):
                if this != other:
                    ids[this], more = self.states.step(ids[this], "link", other, 1)
                    sent |= more
        heard = 0
        for _ in range(self.bounds.term + 1):
            for this in range(len(ids)):
                ids[this], more = self.states.step(ids[this], "tick")
                sent |= more
            while fresh := sent & ~heard:
                number = fresh.bit_length() - 1
                heard |= 1 << number
                target = self.states.messages[number][1]
                ids[target], more = self.states.step(ids[target], "hear", number)
                sent |= more
        bounds = self.bounds
        return tuple(ids), 0, 0, bounds.ticks, bounds.requests, bounds.restarts, NO_VERSION

    def _next(self, world: World) -> Iterator[World]:
        ids, sent, wrote, ticks, requests, restarts, floor = world
        states = self.states
        for this, state in enumerate(ids):
            facts = states.facts[state]
            if facts.busy:
                after, more = states.step(state, "sync")
                yield self._checked((_with(ids, this, after), sent | more, wrote, ticks, requests, restarts, floor))
            if MEMBERS[this] in self.bounds.writers and not wrote >> this & 1 and facts.may_write:
                if facts.lamport < floor.lamport:
                    raise Violation(f"{MEMBERS[this]} takes a write that would not come after {floor}")
                after, more = states.step(state, "write")
                yield self._checked(
                    (_with(ids, this, after), sent | more, wrote | 1 << this, ticks, requests, restarts, floor)
                )
            if restarts:
                yield self._checked(self._restart(world, this))
        for number in _bits(sent):
            _, target, message = states.messages[number]
            asks = isinstance(message, LeaseRequest)
            after, more = states.step(ids[target], "hear", number)
            if after != ids[target] or more & ~sent:
                left = requests - asks
                yield self._checked((_with(ids, target, after), sent | more, wrote, ticks, left, restarts, floor))
        if ticks:
            moved = [states.step(state, "tick") for state in ids]
            for _, more in moved:
                sent |= more
            yield self._checked((tuple(after for after, _ in moved), sent, wrote, ticks - 1, requests, restarts, floor))

    def _restart(self, world: World, this: int) -> World:
        ids, sent, wrote, ticks, requests, restarts, floor = world
        states = self.states
        fresh = list(ids)
        fresh[this], _ = states.step(ids[this], "restart")
        incarnation = states.facts[fresh[this]].incarnation
        for other in range(len(ids)):
            if other != this:
                theirs = states.facts[fresh[other]].incarnation
                fresh[this], more = states.step(fresh[this], "link", other, theirs)
                sent |= more
                fresh[other], more = states.step(fresh[other], "link", this, incarnation)
                sent |= more
        return tuple(fresh), sent, wrote, ticks, requests, restarts - 1, floor

    def _unheard(self, requests: int) -> int:
        """Lease requests that are lost."""
        heard = self.bounds.askers if requests else ()
        return sum(bits for name, bits in self.states.asking.items() if name not in heard)

    def _checked(self, world: World) -> World:
        """The same, with what its readers and writers see now. Raises Violation."""
        facts = [self.states.facts[state] for state in world[0]]
        seen = [each.served for each in facts if each.served is not None]
        done = [each.succeeded for each in facts if each.succeeded is not None]
        floor = max(world[6], *seen, *done) if seen or done else world[6]
        for each, name in zip(facts, MEMBERS, strict=True):
            if each.served is not None and each.served < floor:
                raise Violation(f"a reader at {name} got {each.served} where {floor} was promised")
        sent = world[1] & ~self._unheard(world[4])
        self.served += bool(seen and max(seen) > NO_VERSION)
        self.succeeded += len(done) == len(self.bounds.writers)
        return (world[0], sent, *world[2:6], floor)


def _plain(value: object) -> object:
    """Equal for what is equal, in whatever order and by whatever history it came to be."""
    match value:
        case dict():
            return sorted((repr(key), _plain(each)) for key, each in value.items())
        case set() | frozenset():
            return sorted(map(repr, value))
        case list() | tuple():
            return [_plain(each) for each in value]
        case str() | bytes() | int() | float() | None:
            return value
        case _ if is_dataclass(value):
            return [_plain(getattr(value, each.name)) for each in fields(value)]
        case _ if hasattr(value, "__dict__"):
            return [type(value).__name__, _plain(vars(value))]
    return repr(value)


def _key(value: object) -> str:
    return repr(_plain(value))


def _with(ids: tuple[int, ...], this: int, state: int) -> tuple[int, ...]:
    return (*ids[:this], state, *ids[this + 1 :])


def _bits(number: int) -> Iterator[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low
