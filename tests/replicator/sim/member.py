"""One simulated member: the real controller and gate around a small disk, doing what the shell does.

What the shell does to the disk takes time and is lost in a crash before; what it sends waits for the disk.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from anycastle.replicator import event as e
from anycastle.replicator import gate
from anycastle.replicator.acquaintance import Acquaintance
from anycastle.replicator.controller import Controller
from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version
from anycastle.replicator.settings import Isolated
from anycastle.replicator.stable import passed
from tests.replicator.sim.checker import Violation
from tests.replicator.sim.disk import GROUP, Disk, prefix_of

if TYPE_CHECKING:
    from tests.replicator.sim.world import World

HOPS_MAX = 2
WAIT_MAX = 2.0
FENCE_TIMEOUT = 10.0


@dataclass(slots=True)
class Request:
    """One user's request, with what it must at least see."""

    path: bytes
    floor: tuple[Version, str]
    deadline: float
    hops: int = 0


class Member:
    """A site, or a witness, which is a member without content."""

    def __init__(self, world: "World", name: str, *, witness: bool) -> None:
        self.world = world
        self.name = name
        self.witness = witness
        begun = world.profile.begun
        self.disk = Disk(name, merged=begun, facts={} if begun else {"forgot": b"new"})
        self.backup: Disk | None = None
        self.up = False
        self.paused_until = 0.0
        self.rate = 1.0
        self.offset = 0.0
        self.controller: Controller

    # Life and time.

    def now(self) -> float:
        return self.offset + self.world.t * self.rate

    def boot(self, *, rosters: tuple[frozenset[str], ...], reboot: bool) -> None:
        if reboot:
            self.offset = -self.world.t * self.rate
        self.disk.incarnation += 1
        self.disk.lives = (*self.disk.lives, self.world.life())
        self.up = True
        self.scanned = False
        self.rosters = rosters
        self._work: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._working = False
        self._dirty: set[bytes] = set()
        self._landing: set[bytes] = set()
        self._renamed: set[bytes] = set()
        self._may_journal = self._yielding = False
        self.merging = not self.witness and not self.disk.merged
        self.world.tell(self.name, f"starts #{self.disk.incarnation}, rosters {[sorted(r) for r in rosters]}")
        self.controller = Controller(
            member=self.name,
            rosters=rosters,
            lease=self.world.profile.lease,
            incarnation=self.disk.incarnation,
            groups=(GROUP,),
            recorded=self.disk.recorded(),
            detailed=self.disk.detailed(),
            fenced={GROUP: dict(self.disk.fenced)},
            marks=self.disk.uncovered(),
            limits=self.world.profile.feed,
            sites=self.world.sites(),
            forgot=(self.disk.get("forgot") or b"").decode(),
            now=self.now(),
        )
        others = frozenset().union(*rosters) - {self.name}
        self.acquaintance = Acquaintance(
            self.name,
            others,
            self.disk,
            told=self.controller.told,
            forget=lambda: self.feed(e.Forgot()),
        )
        self._heard = dict.fromkeys(sorted(others), self.world.t)
        self._absent: frozenset[str] = frozenset()
        if self.merging:
            self.feed(e.Merging(GROUP, True, comparing=bool(self.disk.files)))
        self.later(0.0, self._tick)
        if not self.witness:
            self.later(self.world.profile.scan_seconds, self._scan)

    def crash(self) -> None:
        self.up = False
        self.world.tell(self.name, "crashes")

    def later(self, delay: float, do: Callable[..., None], *args: object) -> None:
        """Do it in this life, unless it ends before."""
        self.world.at(delay, self._if_alive, self.disk.incarnation, do, args)

    def _if_alive(self, incarnation: int, do: Callable[..., None], args: tuple[object, ...]) -> None:
        if not self.up or self.disk.incarnation != incarnation:
            return
        if self.paused_until > self.world.t:
            self.world.at(self.paused_until - self.world.t, self._if_alive, incarnation, do, args)
            return
        do(*args)

    def pause(self, seconds: float) -> None:
        """A machine that stands still, its clock with it; the first thing it does afterwards is to notice."""
        self.paused_until = self.world.t + seconds
        self.world.tell(self.name, f"is paused for {seconds:.3f}")
        self.later(seconds, self._resume, seconds)

    def _resume(self, seconds: float) -> None:
        self.offset -= seconds * self.rate
        self.feed(e.ClockJumped("simulated pause"))

    def _tick(self) -> None:
        self.feed(e.Tick())
        self._note_absent()
        if self.merging:
            self._merge()
        self.later(self.world.profile.tick_seconds, self._tick)

    # The controller and what it commands.

    def feed(self, event: e.Event) -> None:
        story = self.world.story
        if story.told:
            story.event(self.world.t, self.name, event)
        if isinstance(event, e.Forgot):
            self._may_journal = False
        for command in self.controller.step(event, now=self.now()):
            if story.told:
                story.command(self.world.t, self.name, command)
            self._carry_out(command)

    def _carry_out(self, command: e.Command) -> None:
        match command:
            case e.Send():
                self.world.send(self.name, command.member, command.message)
            case e.SendEntries():
                upto = min(command.upto, self.disk.head(command.origin))
                for message in self.disk.messages(command.origin, command.after, upto):
                    self.world.send(self.name, command.member, message)
            case e.Record():
                self.durably(self._record, command)
            case e.RecordMark():
                self.durably(self._record_mark, command)
            case e.StoreFenced():
                self.durably(self._store_fenced, command)
            case e.Compact():
                self.durably(self._compact, command)
            case e.Remembered():
                self.durably(self.disk.put, "forgot", b"")
                self._journal_if_whole()
            case e.CurrencyMoved():
                self._journal_if_whole()
            case e.FenceMoved() | e.PeerLanded() | e.GossipReceived():
                pass
            case _:
                assert_never(command)

    def durably(self, do: Callable[..., None], *args: object) -> None:
        """In order, some together after a moment; what was not done yet dies with the process."""
        self._work.append((do, args))
        if not self._working:
            self._working = True
            self.later(self.world.disk_delay(self.name), self._work_off)

    def _work_off(self) -> None:
        """A group commit: all that waits by now."""
        work, self._work = self._work, deque()
        self._working = False
        for do, args in work:
            do(*args)

    def _record(self, command: e.Record) -> None:
        self.disk.record(command.entries, command.after, command.upto, command.origin, lost=command.lost)
        if command.lost and command.origin == self.name:
            self.world.passed_over(self.name, command.after, command.upto)
        self.feed(e.Recorded(GROUP, command.origin, self.disk.head(command.origin)))
        self._after_change()

    def _record_mark(self, command: e.RecordMark) -> None:
        mark = command.mark
        if mark not in self.disk.marks:
            self.disk.marks.append(mark)
        self.feed(e.Marked(GROUP, mark.origin, mark.upto))

    def _store_fenced(self, command: e.StoreFenced) -> None:
        self.disk.fenced[command.origin] = max(command.upto, self.disk.fenced.get(command.origin, 0))

    def _compact(self, command: e.Compact) -> None:
        self.world.compacted += self.disk.compact(dict(command.upto))
        self.world.tell(self.name, f"compacts {dict(command.upto)}")

    # Members that come, go, and come back.

    def _note_absent(self) -> None:
        """As `Compaction`, whose notes are on the disk."""
        for member in self._heard:
            if self.world.linked(self.name, member):
                self._heard[member] = self.world.t
        retention = self.world.profile.retention_seconds
        absent = frozenset(member for member, at in self._heard.items() if self.world.t - at > retention)
        if absent != self._absent:
            self._absent = absent
            self.feed(e.Absent(GROUP, absent))

    def _journal_if_whole(self) -> None:
        """As `Content.journal_if_whole`."""
        if not self.merging and self.may_journal() and not self.controller.currency(GROUP, now=self.now()):
            self._may_journal = True
            self.durably(self._journal)

    def may_journal(self) -> bool:
        return self.controller.remembers()

    def resync(self) -> None:
        """What an operator does about a ledger that was put back, or a member that was away for too long."""
        self.world.tell(self.name, "anycastle resync")
        if self.acquaintance.disowned:
            self.acquaintance.resync()
            self.feed(e.Forgot())
        self.disk.merged, self.merging, self._may_journal = False, True, False
        self.feed(e.Merging(GROUP, True, comparing=bool(self.disk.files)))

    def _merge(self) -> None:
        """As `Merge`: it looks again with each tick."""
        if not self.may_journal() or self.controller.currency(GROUP, now=self.now()):
            return
        if not self._may_journal:
            if not self._bury_dead():
                return
            self._may_journal = self._yielding = True
            self._dirty |= set(self.disk.files) | set(self.disk.local) | set(self.disk.pending)
            self.durably(self._journal)
            self.durably(self._compared)
        linked = [name for name in self._heard if self.world.linked(self.name, name)]
        if all(self.controller.covers_peer(name, GROUP) for name in linked):
            self.durably(self._merged)

    def _compared(self) -> None:
        self._yielding = False

    def _merged(self) -> None:
        if self.merging:
            self.disk.merged, self.merging = True, False
            self.feed(e.Merging(GROUP, False))

    def _bury_dead(self) -> bool:
        """Whether what others know to be dead is; a listing takes no time here."""
        if not self.disk.local:
            return True
        linked = [name for name in self._heard if self.world.linked(self.name, name)]
        able = [name for name in linked if self.controller.peer_comparing(name, GROUP) is False]
        for name in able:
            recorded, alive = self.world.members[name].disk.alive()
            if all(self.disk.head(origin) >= seq for origin, seq in recorded.items()):
                self.disk.bury(recorded, alive)
                self._after_change()
                return True
        return bool(linked) and not able and all(self.controller.peer_comparing(name, GROUP) for name in linked)

    def _after_change(self) -> None:
        if self.witness:
            return
        for path in self.disk.pending:
            if path not in self._landing:
                self._landing.add(path)
                self.later(self.world.landing_delay(), self._land, path)
        self.feed(e.LandedHere(GROUP, self.disk.landed_upto()))

    # Landing: fetch, check that nobody edited meanwhile, rename, tell the ledger.

    def _land(self, path: bytes) -> None:
        entry = self.disk.pending.get(path)
        if entry is None:
            self._landing.discard(path)
        elif not self.disk.as_recorded(path):
            self._notice({path})
            self.later(self.world.landing_delay(), self._land, path)
        elif entry.kind is Kind.FILE and not self.world.fetchable(self.name, entry):
            if entry.origin == self.name and self.disk.local_version(path) == NO_VERSION:
                self.disk.local.pop(path, None)  # We announced it, and nobody fetched it before our ledger was lost.
                self._notice({path})
            self.later(0.5, self._land, path)
        else:
            if entry.kind is Kind.FILE:
                self.disk.files[path] = entry.digest
            else:
                self.disk.files.pop(path, None)
            self.world.tell(self.name, f"lands {path!r} {entry.version}")
            self._renamed.add(path)
            self.durably(self._landed, entry)

    def _landed(self, entry: Entry) -> None:
        if self.disk.files.get(entry.path) == (entry.digest or None):
            self.disk.land_recorded(entry)
        self._landing.discard(entry.path)
        self._renamed.discard(entry.path)
        self._after_change()

    # Local changes.

    def change(self, path: bytes, content: bytes | None) -> None:
        """The application, or a person, changes a file."""
        self.world.tell(self.name, f"file {path!r} becomes {content!r}")
        if content is None:
            self.disk.files.pop(path, None)
        else:
            self.disk.files[path] = content
        self.later(self.world.notice_delay(), self._notice, {path})

    def dirty(self) -> bool:
        """Whether a change on disk is not journaled."""
        return not all(self.disk.as_recorded(path) for path in {*self.disk.files, *self.disk.local})

    def _scan(self) -> None:
        self._notice(set(self.disk.files) | set(self.disk.local) | set(self.disk.pending))
        self.durably(self._scan_done)

    def _scan_done(self) -> None:
        self.scanned = True
        self._after_change()

    def _notice(self, paths: set[bytes]) -> None:
        self._dirty |= paths
        self.durably(self._journal)

    def _journal(self) -> None:
        if not self._may_journal:
            return
        paths, self._dirty = self._dirty, set()
        busy = {path for path in paths & self._landing if self._being_renamed(path)}
        entries = self.disk.journal(paths - busy, yielding=self._yielding)
        for entry in entries:
            self.world.tell(self.name, f"journals {entry.path!r} as {entry.version}, seq {entry.seq}")
            self.world.checker.journaled(entry, found=self._yielding)
        if entries:
            self.feed(e.Journaled(GROUP, entries[-1].seq, prefix_of(entries)))
        self._after_change()

    def _being_renamed(self, path: bytes) -> bool:
        """On disk already, in the ledger not yet: the next in line says so."""
        return path in self._renamed

    # Readers.

    def read(self, request: Request) -> None:
        if self.world.t > request.deadline:
            self.world.checker.gave_up += 1
            return
        match self._verdict(request.path):
            case gate.Serve(digest, _, reason):
                self._serve(request, digest, reason)
            case gate.Wait():
                newest = self.disk.newest.get(request.path)
                if newest is not None:
                    self.feed(e.FenceWanted(GROUP, newest.origin, newest.seq))
                self.later(0.1, self.read, request)
            case gate.Forward(sites, _) if request.hops < HOPS_MAX:
                request.hops += 1
                self.world.carry(self.name, sites[0], self.world.members[sites[0]].read, request)
            case _:
                self.world.checker.gave_up += 1

    def _verdict(self, path: bytes) -> gate.Verdict:
        newest = self.disk.newest.get(path)
        uncovered = self.controller.uncovered(GROUP, path)
        return self.judge(
            newest=newest,
            fenced=newest is None or self.controller.fenced(GROUP, newest.origin) >= newest.seq,
            landed_here=newest is None or self.disk.local_version(path) == newest.version,
            disk_as_recorded=self.disk.as_recorded(path),
            currency=self._not_current(),
            current_sites=self.current_sites(),
            landed_sites=self.controller.landed_sites(GROUP, newest.origin, newest.seq) if newest else (),
            isolated=Isolated.REFUSE,
            uncovered=uncovered,
            detailed_sites=self.controller.landed_sites(GROUP, *uncovered) if uncovered else (),
        )

    judge = staticmethod(gate.verdict)

    def _not_current(self) -> str:
        if self.merging or not self.scanned:
            return "what is here is being looked at"
        if outdated := self.controller.outdated(GROUP):
            return f"{outdated} has compacted what was missed here"
        return self.controller.currency(GROUP, now=self.now())

    def current_sites(self) -> tuple[str, ...]:
        return tuple(
            name
            for name, member in self.world.members.items()
            if member is not self
            and not member.witness
            and not self.controller.peer_current(name, GROUP, now=self.now())
        )

    def _serve(self, request: Request, digest: bytes | None, reason: str) -> None:
        path, content = request.path, self.disk.files.get(request.path)
        self.world.tell(self.name, f"serves {path!r}: {content!r} ({reason})")
        version = self.disk.local_version(path) if path not in self.disk.files else NO_VERSION
        self.world.checker.served(path, content, version, request.floor, f"a reader at {self.name}")
        if digest not in (None, content):
            raise Violation(f"a reader at {self.name} got {content!r} of {path!r}, said to be {digest!r}")

    # Writers.

    def write(self, request: Request, content: bytes | None) -> None:
        if self.name in self.world.drained:
            self.world.checker.gave_up += 1
            return
        uncovered = self.controller.uncovered_below(GROUP, b"")
        verdict = self.may_write(
            member=self.name,
            writes=self.world.profile.writes,
            currency=self._not_current(),
            current_sites=self.current_sites(),
            uncovered=uncovered,
            detailed_sites=self.controller.landed_sites(GROUP, *uncovered) if uncovered else (),
        )
        match verdict:
            case None if content is None and request.path not in self.disk.files:
                self.world.checker.gave_up += 1  # The application finds nothing to delete.
            case None:
                before = self.disk.local_version(request.path)
                self.change(request.path, content)
                self.later(self.world.notice_delay(), self._barrier, request, before)
            case gate.Forward(sites, _) if request.hops < HOPS_MAX:
                request.hops += 1
                self.world.carry(self.name, sites[0], self.world.members[sites[0]].write, request, content)
            case _:
                self.world.checker.gave_up += 1

    may_write = staticmethod(gate.write_verdict)

    def _barrier(self, request: Request, before: Version) -> None:
        """Everything changed until now is noticed now; then journaled; then fenced."""
        self._notice({request.path})
        self.durably(self._after_barrier, request, before)

    def _after_barrier(self, request: Request, before: Version) -> None:
        version = self.disk.local_version(request.path)
        if not self.disk.as_recorded(request.path):
            self.later(0.05, self._barrier, request, before)
        elif version == before or version.origin != self.name:
            self.world.checker.gave_up += 1  # Undone by another request before anybody looked: no change of ours.
        else:
            self._fence(request, self.disk.head(self.name), version)

    def _fence(self, request: Request, head: int, version: Version) -> None:
        if self.world.t > request.deadline:
            self.world.checker.gave_up += 1
        elif self.fence_done(head) and self.copied(head):
            self.world.tell(self.name, f"write of {request.path!r} as {version} succeeds")
            self.world.checker.succeeded(request.path, version, request.floor, f"a writer at {self.name}")
            self.world.succeeded(self.name)
        else:
            self.later(0.05, self._fence, request, head, version)

    def fence_done(self, head: int) -> bool:
        return self.controller.fenced(GROUP, self.name) >= head

    def copied(self, head: int) -> bool:
        """As `Content.copies`."""
        said = [self.controller.peer_landed(site, GROUP).get(self.name) for site in self.world.sites()]
        return 1 + sum(landed is not None and passed(landed) >= head for landed in said) >= self.world.profile.copies
