"""What is done to the sites while users are there: a plan from a seed, and the hands that carry it out.

Law: one thing at a time, each longer than a lease's term and healed again, so a majority is always up and can talk.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from tests.e2e.gate_sites import MEMBERS, TERM_SECONDS, USERS, GateSites

LONGER_SECONDS = (1.0, 2.5)
"""Than a term, from and to."""
PEACE_SECONDS = (3.0, 5.0)
"""Between one and the next; a member starts in about as much."""


class Kind(Enum):
    KILLED = "is ended by SIGKILL, and started again"
    STOPPED = "is stopped by SIGSTOP"
    ALONE = "hears and reaches no other site, but users"
    DEAF = "hears no other site, but is heard"
    APART = "has lost its line to the site before it; the third hears both"
    AWAY = "is reached by nobody"


@dataclass(frozen=True, slots=True)
class Fault:
    """Seconds are counted from the beginning of the run."""

    at: float
    kind: Kind
    site: str
    seconds: float

    def line(self) -> str:
        return f"{self.at:8.3f} for {self.seconds:6.3f} s  {self.site} {self.kind.value}"


def plan(seed: int, seconds: float) -> list[Fault]:
    """Each kind once in some order, and again, for as long as they fit."""
    chance, found = random.Random(seed), list[Fault]()
    at = chance.uniform(*PEACE_SECONDS)
    for kind in _endless(chance):
        fault = Fault(at, kind, chance.choice(MEMBERS), TERM_SECONDS + chance.uniform(*LONGER_SECONDS))
        at += fault.seconds + chance.uniform(*PEACE_SECONDS)
        if at > seconds:
            return found
        found.append(fault)
    raise AssertionError


def _endless(chance: random.Random) -> Iterator[Kind]:
    while True:
        yield from chance.sample(list(Kind), len(Kind))


def carry_out(faults: list[Fault], sites: GateSites, zero: float) -> None:
    """At its time each; `zero` is the beginning, as `time.monotonic`."""
    for fault in faults:
        _sleep_until(zero + fault.at)
        _begin(fault, sites)
        try:
            _sleep_until(zero + fault.at + fault.seconds)
        finally:
            _heal(fault, sites)


def _begin(fault: Fault, sites: GateSites) -> None:
    site = fault.site
    others = [member for member in MEMBERS if member != site]
    into = {(other, site) for other in others}
    out = {(site, other) for other in others}
    match fault.kind:
        case Kind.KILLED:
            sites.kill(site)
        case Kind.STOPPED:
            sites.pause(site)
        case Kind.ALONE:
            sites.wire.cut = frozenset(into | out)
        case Kind.DEAF:
            sites.wire.cut = frozenset(into)
        case Kind.APART:
            before = MEMBERS[MEMBERS.index(site) - 1]
            sites.wire.cut = frozenset({(site, before), (before, site)})
        case Kind.AWAY:
            sites.wire.cut = frozenset(into | out | {(site, USERS), (USERS, site)})
        case _:
            assert_never(fault.kind)


def _heal(fault: Fault, sites: GateSites) -> None:
    match fault.kind:
        case Kind.KILLED:
            sites.start(fault.site)
        case Kind.STOPPED:
            sites.resume(fault.site)
        case _:
            sites.wire.cut = frozenset()


def _sleep_until(then: float) -> None:
    time.sleep(max(0.0, then - time.monotonic()))
