"""What one member sees of each site with its own probes: rise and fall per probe, then one word per site.

Laws: three-valued, and UNKNOWN is the lack of knowledge, never a mild DOWN; a probe that has not decided cannot make
a site UP; results of a probe that is no longer configured count for nothing, and those of a probe that gates groups
nothing for the site. Table of a site, first row that fits:

    any probe DOWN                  → DOWN, with that probe's reason
    no probe at all, any UNKNOWN    → UNKNOWN
    every probe UP                  → UP

A group is gated at this member's own site unless each probe that the group requires is UP and reports in time.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from anycastle.health.settings import Probe
from anycastle.health.view import Health

DOUBT = 0.5
"""Share of the interval after which a probe looks again that was UP and has just failed: DOWN is found out sooner, and
as many failures in a row make it as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One round of one probe."""

    site: str
    probe: str
    """`Probe.name`."""
    ok: bool
    reason: str
    """What was seen; without measured times, so that an unchanged state reads the same twice."""
    took_seconds: float
    warning: str = ""
    """What an operator should see to, though it is healthy: a certificate that ends soon."""


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """What `observer` sees of `site`. Crosses links, so it carries an age and never a timestamp."""

    observer: str
    site: str
    health: Health
    reason: str
    age_seconds: float
    """For how long nothing has confirmed it; 0.0 while its probes report in time."""


@dataclass(frozen=True, slots=True)
class Streak:
    """One probe's state: decided by `rise` successes or `fall` failures in a row, until then what it was before."""

    health: Health = Health.UNKNOWN
    reason: str = "no result yet"
    successes: int = 0
    failures: int = 0
    heard_at: float | None = None
    warning: str = ""
    """Of the last success."""

    def after(self, result: Result, *, rise: int, fall: int, now: float) -> "Streak":
        successes = self.successes + 1 if result.ok else 0
        failures = 0 if result.ok else self.failures + 1
        if successes >= rise:
            return Streak(Health.UP, result.reason, successes, 0, now, result.warning)
        if failures >= fall:
            return Streak(Health.DOWN, result.reason, 0, failures, now)
        reason = result.reason if self.health is Health.UNKNOWN else self.reason
        return Streak(self.health, reason, successes, failures, now, self.warning)


def pause_seconds(probe: Probe, streak: Streak, *, stretch: float) -> float:
    """From the beginning of one look to the next; `stretch` is a random share, 0.0 to 1.0, of the jitter."""
    doubt = streak.health is Health.UP and streak.failures > 0
    return probe.interval_seconds * (1.0 + probe.jitter * stretch) * (DOUBT if doubt else 1.0)


@dataclass(frozen=True, slots=True)
class Watched:
    """One probe, and what its rounds come to."""

    probe: Probe
    streak: Streak
    overdue_seconds: float


class Observer:
    """The streaks of all probes of one member."""

    def __init__(self, member: str, probes: tuple[Probe, ...]) -> None:
        self.member = member
        self.results_ignored = 0
        """Results of probes that are not configured (any more)."""
        self._probes: dict[tuple[str, str], Probe] = {}
        self._streaks: dict[tuple[str, str], Streak] = {}
        self._of_site: dict[str, list[tuple[str, str]]] = {}
        self.configure(probes)

    def configure(self, probes: tuple[Probe, ...]) -> None:
        """Take a new set of probes; a probe that did not change keeps what it knows."""
        fresh = {(probe.site, probe.name): probe for probe in probes}
        self._streaks = {
            key: self._streaks[key] if self._probes.get(key) == probe else Streak() for key, probe in fresh.items()
        }
        self._probes = fresh
        self._of_site = {probe.site: [] for probe in probes}
        for key, probe in fresh.items():
            if not probe.gates_only:
                self._of_site[key[0]].append(key)

    def observe(self, result: Result, *, now: float) -> None:
        key = (result.site, result.probe)
        probe = self._probes.get(key)
        if probe is None:
            self.results_ignored += 1
            return
        self._streaks[key] = self._streaks[key].after(result, rise=probe.rise, fall=probe.fall, now=now)

    def observation(self, site: str, *, now: float) -> Observation:
        """This member's own word on `site`; O(probes of that site)."""
        mine = [(self._probes[key], self._streaks[key]) for key in self._of_site.get(site, ())]
        health, reason = _site_health(mine)
        age_seconds = max((_overdue_seconds(probe, streak, now) for probe, streak in mine), default=0.0)
        return Observation(self.member, site, health, reason, age_seconds)

    def watched(self, *, now: float) -> tuple[Watched, ...]:
        """Every probe, by site and name."""
        return tuple(
            Watched(self._probes[key], streak, _overdue_seconds(self._probes[key], streak, now))
            for key, streak in sorted(self._streaks.items(), key=lambda one: one[0])
        )

    def missing(self, required: Iterable[str], *, age_max_seconds: float, now: float) -> str:
        """Why a group that requires these probes of the own site may have no users there; empty when it may."""
        for name in required:
            probe, streak = self._probes.get((self.member, name)), self._streaks.get((self.member, name))
            if probe is None or streak is None:
                return f"requires {name}, which is not configured"
            if streak.health is not Health.UP:
                return f"requires {name}: {streak.reason}"
            if _overdue_seconds(probe, streak, now) > age_max_seconds:
                return f"requires {name}, which does not report"
        return ""


def _site_health(probes: list[tuple[Probe, Streak]]) -> tuple[Health, str]:
    if not probes:
        return Health.UNKNOWN, "no probe is configured"
    for health in (Health.DOWN, Health.UNKNOWN):
        for probe, streak in probes:
            if streak.health is health:
                return health, f"{probe.name}: {streak.reason}"
    well = "its probe succeeds" if len(probes) == 1 else f"all {len(probes)} probes succeed"
    warnings = [f"{probe.name}: {streak.warning}" for probe, streak in probes if streak.warning]
    return Health.UP, "; ".join([well, *warnings])


def _overdue_seconds(probe: Probe, streak: Streak, now: float) -> float:
    """How long past its time the probe is; waiting for the next round is not silence."""
    if streak.heard_at is None:
        return 0.0  # undecided anyway: its health is UNKNOWN
    allowed = probe.interval_seconds * (1.0 + probe.jitter) + probe.timeout_seconds
    return max(0.0, now - streak.heard_at - allowed)
