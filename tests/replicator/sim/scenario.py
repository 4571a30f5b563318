"""Directed stories for rules whose windows are narrow: two sites and a reader that is cut off at the right moment.

In all of them ams writes, nyc votes, and sgp reads. In most, ams and sgp never see each other, so that sgp is current
by a lease of nyc alone; what matters is when that lease ends, on whose clock.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

from anycastle.replicator.feed import FeedLimits
from anycastle.replicator.message import Entries, LeaseGrant, LeaseRequest, Mark, Message
from anycastle.replicator.settings import Lease
from tests.replicator.sim.checker import Violation
from tests.replicator.sim.profile import PATHS, Profile, calm
from tests.replicator.sim.world import World

PATH = PATHS[0]
FINE: dict[str, Any] = {"random_users": False, "tick_seconds": 0.01, "delay_seconds": 0.002, "disk_seconds": 0.001}


class Scripted(World):
    """A world in which a scenario decides which messages are late or lost."""

    intercept: Callable[[str, str, Message], float | None] | None = None
    """Returns the delay, None for lost, or a negative number for "as usual"."""
    slow_disk = ""
    """A member whose disk takes `slow_seconds` from now on."""
    slow_seconds = 15.0

    def disk_delay(self, member: str) -> float:
        return self.slow_seconds if member == self.slow_disk else super().disk_delay(member)

    def delay(self, source: str, target: str, message: Message) -> float | None:
        delay = self.intercept(source, target, message) if self.intercept else -1.0
        return super().delay(source, target, message) if delay is not None and delay < 0 else delay

    def cut(self, one: str, other: str) -> None:
        self.block((one, other), (other, one))


def triangle(*, seed: int = 1, told: bool = False, drift: float = 0.02, **rates: float) -> Scripted:
    """Three members, ams and sgp cut off from each other, all leases of the beginning long over."""
    world = Scripted(calm(3, lease=Lease(drift=drift), begun=True, **FINE), seed=seed, told=told)
    for name, rate in rates.items():
        world.members[name].rate = rate
    world.cut("ams", "sgp")
    return world


def reads_at_sgp(world: World, start: float, end: float) -> None:
    """Somebody asks sgp all the time."""
    while start < end:
        world.at(start - world.t, world.read, "sgp", PATH)
        start += 0.02


def late_grant(**how: bool) -> World:
    """Rule 1, counted from sending: a grant travels for 2.5 s, its grantor stops counting 0.5 s later."""
    world = triangle(**how)
    world.run_until(5.0)
    world.intercept = _only_grants_of_nyc(after=2.5, until=5.9)
    world.run_until(7.0)
    world.cut("nyc", "sgp")
    world.unblock()
    world.block(("sgp", "nyc"), ("ams", "sgp"), ("sgp", "ams"))
    world.run_until(9.2)
    world.write("ams", PATH)
    reads_at_sgp(world, 9.3, 12.0)
    world.run_until(16.0)
    return world


def _only_grants_of_nyc(*, after: float, until: float) -> Callable[[str, str, Message], float | None]:
    """Leases of nyc for sgp: late, and one only."""
    asked = [0]

    def intercept(source: str, target: str, message: Message) -> float | None:
        if (source, target) == ("nyc", "sgp") and isinstance(message, LeaseGrant):
            asked[0] += 1
            return after if asked[0] == 1 else None
        return -1.0

    return intercept


def slow_reader(**how: bool) -> World:
    """Rule 1, the drift: the clock of the reader is slow, that of the grantor fast."""
    world = triangle(drift=0.2, sgp=0.905, nyc=1.1, **how)
    world.run_until(6.0)
    granted = _last_grant_to_sgp(world)
    world.run_until(granted + 2.75)
    world.write("ams", PATH)
    reads_at_sgp(world, granted + 2.8, granted + 5.0)
    world.run_until(granted + 9.0)
    return world


def _last_grant_to_sgp(world: Scripted) -> float:
    """Let nyc grant one more lease to sgp, then cut them off; returns when it was granted."""
    granted: list[float] = []

    def intercept(source: str, target: str, message: Message) -> float | None:
        if isinstance(message, LeaseRequest) and source == "sgp":
            return None if granted else -1.0
        if isinstance(message, LeaseGrant) and target == "sgp":
            granted.append(world.t)
        return None if granted and not isinstance(message, LeaseGrant) and "sgp" in (source, target) else -1.0

    world.intercept = intercept
    while not granted:
        world.run_until(world.t + 0.01)
    world.run_until(world.t + 0.01)
    return granted[0]


def reborn_reader(**how: bool) -> World:
    """Rule 1, the incarnation: a grant for a life before the reboot arrives when the new clock has come to its time."""
    world = triangle(**how)
    late: list[float] = []

    def intercept(source: str, target: str, message: Message) -> float | None:
        if isinstance(message, LeaseGrant) and target == "sgp" and source == "nyc":
            if world.t < 2.0:
                return -1.0
            late.append(world.t)
            return 4.0 if len(late) == 1 else None
        if isinstance(message, LeaseRequest) and source == "sgp" and world.t > 4.0:
            return None
        return -1.0

    world.intercept = intercept
    world.run_until(4.0)
    world.crash("sgp", 0.1, reboot=True)
    world.run_until(6.2)
    world.write("ams", PATH)
    reads_at_sgp(world, 6.4, 9.0)
    world.run_until(14.0)
    return world


def reborn_grantor(**how: bool) -> World:
    """Rule 3, after a restart: the grantor has forgotten the lease that the reader still holds."""
    world = triangle(**how)
    world.run_until(6.0)
    _last_grant_to_sgp(world)
    world.crash("nyc", 0.05, reboot=False)
    world.run_until(world.t + 0.6)
    world.write("ams", PATH)
    reads_at_sgp(world, world.t, world.t + 3.0)
    world.run_until(world.t + 9.0)
    return world


def hasty_runner(**how: bool) -> World:
    """Rule 4, the stretch: whoever waits has a fast clock, more so than the drift allows."""
    world = triangle(drift=0.2, ams=1.38, nyc=1.0, sgp=1.0, **how)
    world.run_until(6.0)
    granted = _last_grant_to_sgp(world)
    world.write("ams", PATH)
    reads_at_sgp(world, granted + 2.0, granted + 3.0)
    world.run_until(granted + 9.0)
    return world


def during(old: frozenset[str], new: frozenset[str], *, moved: bool) -> tuple[frozenset[str], ...]:
    """Rule 8: what a member knows in the middle of a change, whether it had its turn already or not."""
    return (new, old)


def half_moved(**how: bool) -> World:
    """Rule 8: two members of the old roster can hear each other, and two of the new one, and no others."""
    old, new = frozenset({"ams", "nyc", "gru"}), frozenset({"nyc", "sgp", "gru"})
    start = {name: during(old, new, moved=name in ("sgp", "gru")) for name in ("ams", "nyc", "sgp", "gru")}
    world = Scripted(Profile(names=tuple(start), start=start, **FINE), seed=1, **how)
    world.run_until(4.5)
    for one, other in product(("ams", "nyc"), ("sgp", "gru")):
        world.cut(one, other)
    world.write("ams", PATH)
    reads_at_sgp(world, 4.7, 11.5)
    world.run_until(11.5)
    world.unblock()
    world.run_until(18.0)
    return world


def _known_to_two(**how: Any) -> Scripted:
    """ams and nyc fenced a write that sgp, cut off, never heard of; then ams is cut off from both."""
    world = Scripted(calm(how.pop("members", 3), **FINE, **how.pop("profile", {})), seed=1, **how)
    world.run_until(5.0)
    world.cut("ams", "sgp")
    world.cut("nyc", "sgp")
    world.run_until(9.0)
    world.write("ams", PATH)
    world.run_until(12.0)
    return world


def lost_voter(**how: Any) -> World:
    """nyc loses its ledger, and meets only sgp, which knows as little: the two are a majority."""
    world = _known_to_two(**how)
    world.crash("nyc", 0.5, reboot=False)
    world.lose("nyc")
    world.unblock()
    world.cut("ams", "sgp")
    world.cut("ams", "nyc")
    reads_at_sgp(world, world.t + 0.5, world.t + 20.0)
    world.run_until(world.t + 20.0)
    world.unblock()
    world.run_until(world.t + 10.0)
    return world


def lost_voters(**how: Any) -> World:
    """Of five ams, nyc and gru fenced a write, nyc and gru lose their ledgers, and ams is cut off.

    Both hear three others, and of those only sgp and jnb have forgotten nothing: those who never knew.
    """
    world = Scripted(calm(5, **FINE), seed=1, **how)
    world.run_until(5.0)
    for one, other in product(("ams", "nyc", "gru"), ("sgp", "jnb")):
        world.cut(one, other)
    world.run_until(9.0)
    world.write("ams", PATH)
    world.run_until(13.0)
    for name in ("nyc", "gru"):
        world.crash(name, 0.5, reboot=False)
        world.lose(name)
    world.unblock()
    for other in ("nyc", "gru", "sgp", "jnb"):
        world.cut("ams", other)
    reads_at_sgp(world, world.t + 0.5, world.t + 20.0)
    world.run_until(world.t + 20.0)
    world.unblock()
    world.run_until(world.t + 12.0)
    return world


def forgetful_acker(**how: Any) -> World:
    """nyc acknowledged a write of ams, lost its ledger, and votes again; then gru's ack seems to make a majority."""
    world = Scripted(calm(5, **FINE), seed=1, **how)
    world.run_until(5.0)
    for one, other in product(("ams", "nyc"), ("gru", "sgp", "jnb")):
        world.cut(one, other)
    world.write("ams", PATH)
    world.run_until(5.5)
    world.crash("nyc", 0.1, reboot=False)
    world.lose("nyc")
    world.unblock()
    for other in ("nyc", "gru", "sgp", "jnb"):
        world.cut("ams", other)
    world.run_until(10.0)
    for other in ("nyc", "sgp", "jnb"):
        world.cut("gru", other)
    world.run_until(13.5)
    world.unblock()
    for one, other in product(("ams", "gru"), ("nyc", "sgp", "jnb")):
        world.cut(one, other)
    reads_at_sgp(world, 13.0, 20.0)
    world.run_until(20.0)
    world.unblock()
    world.run_until(35.0)
    _at_rest(world)
    return world


def hasty_writer(**how: Any) -> World:
    """sgp alone knows what nyc announced last; nyc loses its ledger, and would number its next change the same."""
    world = Scripted(calm(4, **FINE), seed=1, **how)
    world.run_until(5.0)
    for other in ("ams", "gru"):
        world.cut("nyc", other)
        world.cut("sgp", other)
    world.members["nyc"].change(PATH, world.content())
    world.run_until(6.0)
    world.crash("nyc", 0.5, reboot=False)
    world.crash("sgp", 25.0, reboot=False)
    world.lose("nyc")
    world.members["nyc"].disk.files[PATH] = world.content()
    world.unblock()
    world.run_until(45.0)
    _at_rest(world)
    return world


def _lost(*kinds: type[Message], source: str = "", target: str = "") -> Callable[[str, str, Message], float | None]:
    """Messages of these kinds do not arrive, from there or to there."""

    def intercept(one: str, other: str, message: Message) -> float | None:
        there = source in ("", one) and target in ("", other)
        return None if there and isinstance(message, kinds) else -1.0

    return intercept


def _at_rest(world: World) -> None:
    if fault := world.unsettled():
        raise Violation(f"never at rest: {fault}")


def put_back(**how: Any) -> World:
    """nyc is put back, from a copy made while it ran; what ams, which knows better, sends it is lost."""
    world = Scripted(calm(3, **FINE), seed=1, **how)
    world.run_until(5.0)
    older = world.members["nyc"].disk.backup()
    world.cut("ams", "sgp")
    world.cut("nyc", "sgp")
    world.run_until(9.0)
    world.write("ams", PATH)
    world.run_until(12.0)
    world.crash("nyc", 0.5, reboot=False)
    world.lose("nyc", older)
    world.members["nyc"].disk.files.clear()
    world.operated = False
    world.unblock()
    world.cut("ams", "sgp")
    world.intercept = _lost(Entries, Mark, source="ams", target="nyc")
    reads_at_sgp(world, 13.0, 25.0)
    world.run_until(25.0)
    world.unblock()
    world.intercept, world.operated = None, True
    world.run_until(45.0)
    _at_rest(world)
    return world


def long_absent(**how: Any) -> World:
    """A file is deleted and the delete forgotten while sgp, which has the file, is away for too long."""
    world = Scripted(calm(3, retention_seconds=6.0, **FINE), seed=1, **how)
    world.run_until(5.0)
    world.write("ams", PATH)
    world.run_until(9.0)
    world.crash("sgp", 40.0, reboot=False)
    world.run_until(10.0)
    world.write("ams", PATH, delete=True)
    world.run_until(48.0)
    reads_at_sgp(world, 49.0, 75.0)
    world.run_until(75.0)
    _at_rest(world)
    return world


def lagging_listing(**how: Any) -> World:
    """sgp compares with nyc, which has not recorded the newest yet."""
    world = Scripted(calm(3, **FINE), seed=1, **how)
    world.run_until(5.0)
    world.cut("ams", "nyc")
    world.cut("nyc", "sgp")
    world.run_until(9.0)
    world.write("ams", PATH)
    world.run_until(12.0)
    world.cut("ams", "sgp")
    world.run_until(16.0)
    world.unblock()
    world.cut("ams", "sgp")
    world.cut("ams", "nyc")
    world.intercept = _lost(Entries, source="sgp", target="nyc")
    world.members["sgp"].resync()
    world.run_until(24.0)
    world.intercept = None
    world.unblock()
    reads_at_sgp(world, 25.0, 30.0)
    world.run_until(40.0)
    _at_rest(world)
    return world


def slow_deleter(**how: Any) -> World:
    """A delete goes when all have done it: sgp is back, and what it missed takes a while to reach it."""
    world = Scripted(calm(3, **FINE), seed=1, **how)
    world.operated = False
    world.run_until(5.0)
    world.write("ams", PATH)
    world.run_until(9.0)
    world.crash("sgp", 6.0, reboot=False)
    world.run_until(10.0)
    world.write("ams", PATH, delete=True)
    world.intercept = _lost(Entries, target="sgp")
    world.run_until(30.0)
    world.intercept = None
    world.run_until(45.0)
    _at_rest(world)
    return world


def older_edit(**how: Any) -> World:
    """nyc edited what ams deleted meanwhile; all have done the delete before ams hears of the edit, which is older."""
    world = Scripted(calm(3, **FINE), seed=1, **how)
    world.run_until(5.0)
    world.write("ams", PATH)
    world.run_until(9.0)
    world.cut("nyc", "ams")
    world.cut("nyc", "sgp")
    world.members["nyc"].change(PATH, world.content())
    world.members["ams"].change(PATHS[1], world.content())
    world.run_until(10.0)
    world.members["ams"].change(PATH, None)
    world.run_until(12.0)
    world.intercept = _lost(Entries, Mark, source="nyc")
    world.unblock()
    world.run_until(30.0)
    world.intercept = None
    world.run_until(45.0)
    _at_rest(world)
    return world


def lost_import(**how: Any) -> World:
    """Of what nyc wrote, the others know by coarse marks only; then nyc loses its ledger. Nobody has those entries."""
    world = Scripted(calm(3, feed=FeedLimits(backlog_entries_max=0), **FINE), seed=1, **how)
    world.run_until(5.0)
    world.intercept = _lost(Entries, source="nyc")
    for _ in range(3):
        world.write("nyc", PATH)
        world.run_until(world.t + 1.0)
    world.crash("nyc", 0.5, reboot=False)
    world.lose("nyc")
    world.intercept = None
    world.run_until(20.0)
    world.write("nyc", PATH)
    reads_at_sgp(world, 21.0, 25.0)
    world.run_until(30.0)
    _at_rest(world)
    return world


def slow_recorder(**how: Any) -> World:
    """nyc deletes a file, and sgp alone hears of it in detail, whose disk is slow; then nyc loses its ledger."""
    world = Scripted(calm(3, feed=FeedLimits(backlog_entries_max=0), **FINE), seed=1, **how)
    world.run_until(5.0)
    world.write("nyc", PATH)
    world.run_until(8.0)
    world.slow_disk = "sgp"
    world.intercept = _lost(Entries, source="nyc", target="ams")
    world.write("nyc", PATH, delete=True)
    world.run_until(9.0)
    world.crash("nyc", 0.5, reboot=False)
    world.lose("nyc")
    world.intercept = None
    world.run_until(22.0)
    world.slow_disk = ""
    world.run_until(60.0)
    _at_rest(world)
    return world


def met_again(**how: Any) -> World:
    """nyc loses its ledger, and meets both others twice before ams, which alone knows what it forgot, tells it."""
    world = Scripted(calm(3, **FINE), seed=1, **how)
    world.run_until(5.0)
    world.cut("ams", "sgp")
    world.cut("nyc", "sgp")
    world.run_until(9.0)
    world.write("nyc", PATH)
    world.run_until(12.0)
    world.crash("nyc", 0.5, reboot=False)
    world.lose("nyc")
    world.intercept = _lost(Entries, source="ams")
    world.unblock()
    world.run_until(18.0)
    world.cut("nyc", "ams")
    world.cut("nyc", "sgp")
    world.run_until(23.0)
    world.unblock()
    world.run_until(24.0)
    world.cut("ams", "nyc")
    world.cut("ams", "sgp")
    reads_at_sgp(world, 24.0, 40.0)
    world.run_until(40.0)
    world.intercept = None
    world.unblock()
    world.run_until(60.0)
    _at_rest(world)
    return world


COMEBACKS: dict[str, Callable[..., World]] = {
    "lost_votes_at_once": lost_voter,
    "forgotten_answers_count": lost_voters,
    "acks_outlive_their_giver": forgetful_acker,
    "lost_numbers_at_once": hasty_writer,
    "lost_is_no_stranger": met_again,
    "lost_is_waited_for": lost_import,
    "lost_may_turn_up": slow_recorder,
    "disowned_votes": put_back,
    "told_is_not_compared": put_back,
    "absent_takes_holes": long_absent,
    "listing_beyond_record": lagging_listing,
    "cut_before_landed": slow_deleter,
    "cut_not_asked_again": older_edit,
}
"""Members that come back with less than they had, by the mutant that each of them catches."""

SCENARIOS: dict[str, Callable[..., World]] = {
    "lease_from_receipt": late_grant,
    "lease_undrifted": slow_reader,
    "lease_any_incarnation": reborn_reader,
    "restart_forgets_grants": reborn_grantor,
    "unstretched": hasty_runner,
    "roster_direct": half_moved,
}
"""By the mutant that each of them catches."""
