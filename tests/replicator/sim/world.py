"""A world for the members: virtual time, clocks that drift, links that fail, disks that are slow, users and chaos.

Everything random comes from one seed and nothing depends on the order of sets, so a seed replays exactly, in any
process. At the end all faults are healed and everything must come to rest: every fence complete, every site alike.
"""

import heapq
import random
from collections.abc import Callable
from itertools import combinations, count

from anycastle.replicator import event as e
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.fence import majority, rosters_compatible
from anycastle.replicator.message import PROTOCOL, Hello, Message
from tests.replicator.sim.checker import Checker, Violation
from tests.replicator.sim.disk import GROUP, Disk
from tests.replicator.sim.member import FENCE_TIMEOUT, WAIT_MAX, Member, Request
from tests.replicator.sim.profile import PATHS, Profile, Step
from tests.replicator.sim.story import Story

SILENCE_SECONDS = 3.0
LINK_POLL_SECONDS = 0.25
HEALING_SECONDS = 60.0


class Unsettled(Violation):
    """After all faults were healed, the members did not come to rest."""


class World:
    """One run of one seed."""

    def __init__(self, profile: Profile, *, seed: int, told: bool = False, member: type[Member] = Member) -> None:
        self.profile = profile
        self.t = 0.0
        self.checker = Checker()
        self.story = Story(told=told)
        self.healed = False
        self.lost = 0
        """Ledgers."""
        self.lost_entries = 0
        """Of which others had heard by coarse marks, and that nobody had in detail when the ledger was lost."""
        self._once: dict[str, dict[int, Entry]] = {}
        """What members announced before they lost their ledgers."""
        self.compacted = 0
        """Entries."""
        self.operated = True
        """Somebody runs `anycastle resync` where `status` asks for it."""
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._ids = count()
        self._contents = count(1)
        self._lives = count(1)
        self._blocked: dict[tuple[str, str], float] = {}
        self._links: dict[tuple[str, str], tuple[int, int]] = {}
        self.members: dict[str, Member] = {}
        self.rosters = dict(profile.start)
        self.drained: frozenset[str] = frozenset()
        """Sites that are about to leave: no users, no changes."""
        self.destroyed = ""
        """A site that is gone for ever, with its disk and its ledger."""
        self._steps = profile.roster_steps
        for name in profile.names:
            self.members[name] = member(self, name, witness=name == profile.witness)
            self.members[name].rate = 1.0 + self._random.uniform(-0.5, 0.5) * profile.lease.drift
            if name in profile.populated and name != profile.witness:
                self.members[name].disk.files = {path: self.content() for path in PATHS[:2]}
            if name in self.rosters:
                self.at(self._random.uniform(0.0, 0.5), self._boot, name, True)
        self.at(0.1, self._poll_links)
        self.at(2.0, self._resync_who_asks)
        if profile.random_users:
            self.at(1.0, self._next_read)
            self.at(1.0, self._next_write)
        if profile.chaos_seconds:
            self.at(self._random.expovariate(1 / profile.chaos_seconds), self._chaos)
        if self._steps:
            self.at(self._random.uniform(4.0, 8.0), self._change_roster, 0)

    # Time.

    def at(self, delay: float, do: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._queue, (self.t + delay, next(self._ids), do, args))

    def run_until(self, t: float) -> None:
        while self._queue and self._queue[0][0] <= t:
            self.t, _, do, args = heapq.heappop(self._queue)
            do(*args)
        self.t = t

    def run(self) -> "World":
        """Raises Violation."""
        self.run_until(self.profile.seconds)
        self.heal()
        end = self.t + HEALING_SECONDS
        while self.unsettled():
            if self.t > end:
                raise Unsettled(f"{HEALING_SECONDS:.0f} s after all was healed: {self.unsettled()}")
            self._write_again()
            self.run_until(self.t + 1.0)
        self.checker.survived(self._contents_left())
        return self

    def tell(self, who: str, text: str) -> None:
        if self.story.told:
            self.story.tell(self.t, who, text)

    def life(self) -> int:
        return next(self._lives)

    def sites(self) -> tuple[str, ...]:
        """Members that hold content."""
        return tuple(name for name, member in self.members.items() if not member.witness)

    # Delays.

    def disk_delay(self, member: str) -> float:
        """Scenarios have their own ideas, here too."""
        return self._random.uniform(0.0005, self.profile.disk_seconds)

    def landing_delay(self) -> float:
        return self._random.uniform(0.001, 0.1 if self.healed else self.profile.landing_seconds)

    def notice_delay(self) -> float:
        return self._random.uniform(0.0, self.profile.notice_seconds)

    # Links.

    def send(self, source: str, target: str, message: Message) -> None:
        if not self.linked(source, target) or (source, target) in self._blocked:
            return
        chance = self._random.random()
        if not self.healed and chance < self.profile.loss:
            return
        for _ in range(2 if chance > 0.97 else 1):
            delay = self.delay(source, target, message)
            if delay is not None:
                self.at(delay, self._deliver, source, target, message, self.members[source].disk)

    def delay(self, source: str, target: str, message: Message) -> float | None:
        """How long a message takes, None for lost; scenarios have their own ideas."""
        return self._random.uniform(0.001, 0.05 if self.healed else self.profile.delay_seconds)

    def _deliver(self, source: str, target: str, message: Message, disk: Disk) -> None:
        """Late ones too, but from before a ledger was lost: links are streams, so what was sent on one stays on it."""
        member = self.members[target]
        if member.up and self.linked(source, target) and self.members[source].disk is disk:
            member.later(0.0, member.feed, e.Received(source, message))

    def carry(self, source: str, target: str, do: Callable[..., None], request: Request, *args: object) -> None:
        """A request forwarded to another site's edge."""
        member = self.members[target]
        if member.up and (source, target) not in self._blocked and (target, source) not in self._blocked:
            member.later(self._random.uniform(0.001, 0.1), do, request, *args)
        else:
            self.checker.gave_up += 1

    def linked(self, source: str, target: str) -> bool:
        return (min(source, target), max(source, target)) in self._links

    def fetchable(self, site: str, entry: Entry) -> bool:
        """Whether some reachable member has the bytes."""
        return any(
            other.disk.files.get(entry.path) == entry.digest
            for name, other in self.members.items()
            if other.up and self.linked(site, name) and (name, site) not in self._blocked
        )

    def _poll_links(self) -> None:
        self.at(LINK_POLL_SECONDS, self._poll_links)
        for one, other in combinations(sorted(self.members), 2):
            self._poll_link(one, other)

    def _poll_link(self, one: str, other: str) -> None:
        a, b = self.members[one], self.members[other]
        lives = (a.disk.incarnation, b.disk.incarnation)
        blocked = [self._blocked[edge] for edge in ((one, other), (other, one)) if edge in self._blocked]
        known = self._links.get((one, other))
        if known is not None:
            silent = any(self.t - since > SILENCE_SECONDS for since in blocked)
            if silent or known != lives or not (a.up and b.up):
                del self._links[one, other]
                for member, peer, life in ((a, other, known[0]), (b, one, known[1])):
                    if member.up and member.disk.incarnation == life:
                        member.later(0.0, member.feed, e.LinkDown(peer))
        elif a.up and b.up and not blocked and self._may_link(a, b):
            hello_a, hello_b = _hello(a, other), _hello(b, one)
            faults = (a.acquaintance.fault(hello_b), b.acquaintance.fault(hello_a))
            if any(faults):
                self.tell(one, f"no link with {other}: {faults}")
                return
            self._links[one, other] = lives
            knew_a, knew_b = a.acquaintance.knew_another(hello_b), b.acquaintance.knew_another(hello_a)
            a.later(self._random.uniform(0.0, 0.05), a.feed, e.LinkUp(other, lives[1], knew_a))
            b.later(self._random.uniform(0.0, 0.05), b.feed, e.LinkUp(one, lives[0], knew_b))

    def _may_link(self, a: Member, b: Member) -> bool:
        mine, theirs = ((*member.rosters, frozenset[str]())[:2] for member in (a, b))
        return not rosters_compatible(*mine, *theirs)

    # Users.

    def _site(self) -> Member | None:
        up = [m for m in self.members.values() if m.up and not m.witness and m.name not in self.drained]
        return self._random.choice(up) if up else None

    def _next_read(self) -> None:
        if not self.healed:
            self.at(self._random.expovariate(self.profile.reads_per_second), self._next_read)
        site = self._site()
        if site is not None:
            self.read(site.name, self._random.choice(PATHS))

    def read(self, site: str, path: bytes) -> None:
        member = self.members[site]
        member.later(0.0, member.read, Request(path, self.checker.floor(path), self.t + WAIT_MAX))

    def _next_write(self) -> None:
        if self.healed:
            return
        self.at(self._random.expovariate(self.profile.writes_per_second), self._next_write)
        site = self._site()
        if site is None:
            return
        kind, path = self._random.random(), self._random.choice(PATHS)
        if kind < 0.7:
            self.write(site.name, path, delete=self._random.random() < 0.15)
        elif site.merging:
            pass  # what is put there now gives way to what was announced, which may have been nowhere else
        elif kind < 0.9 or not self.profile.bulk:
            site.change(path, self.content())
        else:
            for number in range(self.profile.bulk):
                site.change(b"bulk/%d" % number, self.content())
                site.change(PATHS[0], self.content())

    def content(self) -> bytes:
        return b"content %d" % next(self._contents)

    def write(self, site: str, path: bytes, *, delete: bool = False) -> None:
        """Through the edge of a site."""
        member = self.members[site]
        request = Request(path, self.checker.floor(path), self.t + FENCE_TIMEOUT)
        member.later(0.0, member.write, request, None if delete else self.content())

    # Chaos.

    def _chaos(self) -> None:
        if self.healed:
            return
        self.at(self._random.expovariate(1 / self.profile.chaos_seconds), self._chaos)
        pick = self._random.random()
        name = self._random.choice(list(self.members))
        if pick < 0.35:
            others = [other for other in self.members if other != name]
            edges = [edge for other in others for edge in ((name, other), (other, name)) if self._random.random() < 0.7]
            self.block(*edges)
        elif pick < 0.65:
            self._blocked.clear()
            self.tell("", "the network heals")
        elif pick < 0.9:
            if self.members[name].up:
                self.crash(name, self._random.uniform(0.1, 6.0), reboot=self._random.random() < 0.5)
                if self._random.random() < self.profile.lost_share and self._may_lose(name):
                    self.lose(name)
        elif self.members[name].up and self.members[name].paused_until <= self.t:
            self.members[name].pause(self._random.uniform(0.2, 5.0))

    def block(self, *edges: tuple[str, str]) -> None:
        """Nothing passes from the first to the second."""
        self.tell("", "cut: " + ", ".join(f"{source}->{target}" for source, target in edges))
        for edge in edges:
            self._blocked.setdefault(edge, self.t)

    def unblock(self) -> None:
        self._blocked.clear()

    def crash(self, name: str, seconds: float, *, reboot: bool) -> None:
        self.members[name].crash()
        self.at(seconds, self._boot, name, reboot)

    def lose(self, name: str, backup: Disk | None = None) -> None:
        """The ledger of a member that is down: gone, or an older one."""
        member = self.members[name]
        self.tell(name, "loses its ledger" if backup is None else "gets an older ledger back")
        self._once.setdefault(name, {}).update(member.disk.journals.get(name, {}))
        member.disk = member.disk.put_back(backup)
        self.lost += 1

    def passed_over(self, name: str, after: int, upto: int) -> None:
        """Nobody has these entries of the member's journal, and it goes on behind them."""
        gone = [entry for seq, entry in self._once.get(name, {}).items() if after < seq <= upto]
        self.tell(name, f"has lost {[entry.version for entry in gone]}")
        self.lost_entries += len(gone)
        self.checker.lost({entry.version for entry in gone}, copies=self.profile.copies)

    def _may_lose(self, name: str) -> bool:
        """Nobody can keep what was lost by a majority at once.

        And what an application changed after the last entry gives way to that entry, which nobody may have yet.
        """
        disks = {other: member.disk for other, member in self.members.items()}
        forgot = {other for other, disk in disks.items() if disk.get("forgot")} | {name, self.destroyed}
        few = all(len(forgot & roster) < majority(roster) for roster in self.members[name].rosters)
        return few and not self.members[name].dirty()

    def _resync_who_asks(self) -> None:
        """Somebody looks at `status` now and then."""
        self.at(2.0, self._resync_who_asks)
        for member in self.members.values() if self.operated else ():
            if member.up and (member.acquaintance.disowned or member.controller.outdated(GROUP)):
                member.resync()

    def _boot(self, name: str, reboot: bool) -> None:
        member = self.members[name]
        if not member.up and name in self.rosters:
            member.boot(rosters=self.rosters[name], reboot=reboot)

    def heal(self) -> None:
        self.tell("", "everything is healed")
        self.healed = True
        self._blocked.clear()
        for name, member in self.members.items():
            if not member.up:
                self._boot(name, False)

    # Roster changes: each member is restarted with the next configuration, when the rule of the step allows it.

    def _change_roster(self, number: int) -> None:
        if number >= len(self._steps):
            return
        step = self._steps[number]
        waiting = [name for name in step.rosters if self.rosters.get(name) != step.rosters[name]]
        leaving = [name for name in self.rosters if name not in step.rosters]
        self.drained = frozenset(leaving)
        if not waiting:
            for name in leaving:
                self.tell(name, "leaves for good")
                self.members[name].crash()
                del self.rosters[name]
            self.at(self._random.uniform(0.5, 3.0), self._change_roster, number + 1)
            return
        if len(waiting) < len(step.rosters) or self._step_allowed(step, leaving):
            name = self._random.choice(waiting)
            self.rosters[name] = step.rosters[name]
            if self.members[name].up:
                self.members[name].crash()
            self.at(self._random.uniform(0.05, 1.0), self._boot, name, False)
        self.at(self._random.uniform(0.5, 5.0), self._change_roster, number)

    def _step_allowed(self, step: Step, leaving: list[str]) -> bool:
        """All that stay must be current, and hold all that those who go have made."""
        if not step.after_current:
            return True
        staying = [self.members[name] for name in step.after_current]
        going = [self.members[name] for name in leaving]
        return (
            all(m.up and not m.controller.currency(GROUP, now=m.now()) for m in staying)
            and all(m.up and not m.dirty() for m in going)
            and all(m.disk.head(gone.name) == gone.disk.head(gone.name) for m in staying for gone in going)
            and not any(m.disk.pending for m in staying if not m.witness and going)
        )

    # A site that is gone for ever.

    def succeeded(self, site: str) -> None:
        """A writer was told that it is safe: the worst moment for the site to burn down."""
        if 0.0 < self.profile.destroyed_at <= self.t and not self.destroyed and self._may_destroy(site):
            self.at(self._random.uniform(0.0, 0.1), self._destroy, site)

    def _may_destroy(self, name: str) -> bool:
        """If others know of it by coarse marks only, those entries are nowhere, until there is another in its place."""
        others = [member.disk for other, member in self.members.items() if other != name]
        held = max(disk.head(name) for disk in others)
        marked = any(disk.recorded()[GROUP].get(name, 0) > held for disk in others)
        may = not marked or self.profile.afterwards == "replaced"
        return may and not any(disk.get("forgot") for disk in others)

    def _destroy(self, name: str) -> None:
        if self.destroyed or not self._may_destroy(name):
            return
        self.tell(name, "is destroyed")
        self.destroyed = name
        self.members[name].crash()
        self.members[name].disk.files = {}
        self.lose(name)
        if self.profile.afterwards == "replaced":
            self.at(self._random.uniform(1.0, 5.0), self._boot, name, True)
            return
        old = self.rosters.pop(name)[0]
        if self.profile.afterwards == "taken out":
            new = old - {name}
            last = dict.fromkeys(sorted(new), (new,))
            self._steps = (Step(dict.fromkeys(last, (new, old))), Step(last, after_current=tuple(last)))
            self.at(self._random.uniform(1.0, 5.0), self._change_roster, 0)

    def _left(self) -> list[Member]:
        return [m for m in self.members.values() if m.name in self.rosters and not m.witness]

    def _contents_left(self) -> dict[bytes, set[bytes | None]]:
        paths = dict.fromkeys((*PATHS, *(path for site in self._left() for path in site.disk.files)))
        return {path: {site.disk.files.get(path) for site in self._left()} for path in paths}

    def _write_again(self) -> None:
        """What the destroyed site announced, and nobody fetched, is nowhere: somebody uploads it again."""
        left = self._left()
        if not self.destroyed or any(site.dirty() or site.merging for site in left):
            return
        here = self._contents_left()
        gone = [
            path
            for path, entry in left[0].disk.pending.items()
            if entry.kind is Kind.FILE
            and entry.digest not in here.get(path, ())
            and all(site.disk.newest.get(path) == entry for site in left)
        ]
        if gone:
            self.checker.survived(here)
        for path in gone:
            left[0].change(path, self.content())

    # At the end.

    def unsettled(self) -> str:
        """What has not come to rest; the empty string when all has."""
        alive = [member for member in self.members.values() if member.name in self.rosters]
        heads = {origin for member in alive for origin, head in member.disk.heads.items() if head}
        for member in alive:
            if not member.up or member.controller.currency(GROUP, now=member.now()):
                return f"{member.name} is not current"
            for origin in sorted(heads):
                seqs = {member.disk.head(origin), member.controller.recorded(GROUP, origin)}
                seqs |= {member.controller.detailed(GROUP, origin), member.controller.fenced(GROUP, origin)}
                if len(seqs) > 1 or member.disk.head(origin) < max(m.disk.head(origin) for m in alive):
                    return f"{member.name} has {origin} at {sorted(seqs)}"
        sites = [member for member in alive if not member.witness]
        for site in sites:
            if site.disk.pending or site.dirty() or site.merging:
                return f"{site.name} has not landed, journaled or compared everything"
            if site.disk.files != sites[0].disk.files:
                raise Violation(f"{site.name} and {sites[0].name} came to rest with different files")
        return ""


def _hello(member: Member, to: str) -> Hello:
    return member.acquaintance.greet(Hello(member.name, PROTOCOL, member.disk.incarnation, (), ()), to)
