"""An hour of noise, and an outage after it, in simulated time: three members, each observing every site.

The members' own pacing (`pause_seconds`), rise and fall, words to each other and judgement are the real ones; only the
looks are made up: each is lost with a chance of one in a hundred, whatever it looks at.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from anycastle.health.judge import Judge
from anycastle.health.observe import Result, Streak, pause_seconds
from anycastle.health.settings import HealthSettings, Probe, TcpCheck
from anycastle.health.view import Health

SITES = ("ams", "nyc", "sgp")
HOUR = 3600.0
LOST = 0.01
TALK_SECONDS = 0.5
DEFAULT = Probe(site="ams", name="http", check=TcpCheck(host="192.0.2.10", port=80))
FAST = replace(DEFAULT, interval_seconds=0.2, timeout_seconds=0.15, fall=4)
HASTY = replace(FAST, fall=1)


@dataclass(frozen=True)
class Change:
    """A member holds a site to be something else."""

    at: float
    member: str
    site: str
    health: Health


class World:
    """Members that look, tell each other at once what is news and else twice a second, and judge."""

    def __init__(self, profile: Probe, seed: int, answers: Callable[[str, str, float], bool]) -> None:
        """`answers(member, site, now)`: whether a look would succeed if it is not lost."""
        self._random = random.Random(seed)
        self._answers = answers
        self._probes = tuple(replace(profile, site=site) for site in SITES)
        settings = {name: HealthSettings(member=name, sites=SITES, probes=self._probes) for name in SITES}
        self.judges = {name: Judge(settings[name], now=0.0) for name in SITES}
        self._streaks = dict.fromkeys(itertools.product(SITES, SITES), Streak())
        self._held = dict.fromkeys(itertools.product(SITES, SITES), Health.UNKNOWN)
        self._news = False
        """Words were told: nothing else moves a judgement within the age that words may have."""
        self.silent: frozenset[str] = frozenset()
        """Say nothing to the others."""
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[float], float]]] = []
        for name in SITES:
            self.judges[name].links(SITES)
            for probe in self._probes:
                self._later(0.0, lambda now, name=name, probe=probe: self._look(name, probe, now))  # type: ignore[misc]
            self._later(0.0, lambda now, name=name: self._talk(name, now))  # type: ignore[misc]

    def _later(self, at: float, event: Callable[[float], float]) -> None:
        heapq.heappush(self._queue, (at, next(self._order), event))

    def run(self, until: float) -> Iterator[Change]:
        """What changes up to then, in order."""
        while self._queue[0][0] <= until:
            now, _, event = heapq.heappop(self._queue)
            self._news = False
            self._later(event(now), event)
            if self._news:
                yield from self._judged(now)

    def _judged(self, now: float) -> Iterator[Change]:
        for name in SITES:
            for site, judged in self.judges[name].judgements(now=now).items():
                if judged.health is not self._held[name, site]:
                    self._held[name, site] = judged.health
                    yield Change(now, name, site, judged.health)

    def _look(self, member: str, probe: Probe, now: float) -> float:
        """A look at `now` is over at once when it succeeds, else after its timeout; returns when the next begins."""
        reaches = self._answers(member, probe.site, now)
        ok = reaches and self._random.random() >= LOST
        result = Result(site=probe.site, probe=probe.name, ok=ok, reason="so", took_seconds=0.0)
        key = (member, probe.site)
        before = self._streaks[key]
        self._streaks[key] = self._streaks[key].after(result, rise=probe.rise, fall=probe.fall, now=now)
        self.judges[member].observe(result, now=now)
        if self._streaks[key].health is not before.health:
            self._tell(member, now)
        pause = pause_seconds(probe, self._streaks[key], stretch=self._random.random())
        return now + max(pause, 0.0 if ok else probe.timeout_seconds)

    def _talk(self, member: str, now: float) -> float:
        self._tell(member, now)
        return now + TALK_SECONDS

    def _tell(self, member: str, now: float) -> None:
        self._news = True
        words = self.judges[member].observations(now=now)
        for other in SITES:
            if other != member and member not in self.silent:
                self.judges[other].hear(member, words, now=now)


def always(member: str, site: str, now: float) -> bool:
    return True


@pytest.mark.parametrize("profile", [DEFAULT, FAST], ids=["default", "fast"])
def test_an_hour_of_noise_makes_nothing_flap(profile: Probe) -> None:
    world = World(profile, 1, always)
    assert {change.health for change in world.run(30.0)} == {Health.UP}
    assert list(world.run(HOUR)) == []


def test_the_same_noise_makes_a_hasty_profile_flap() -> None:
    world = World(HASTY, 1, always)
    changes = [change for change in world.run(60.0) if change.health is Health.DOWN]
    assert len(changes) > 3


@pytest.mark.parametrize(("profile", "goal_seconds"), [(DEFAULT, 3.0), (FAST, 1.0)], ids=["default", "fast"])
def test_a_site_that_dies_is_down_for_all_others_in_time(profile: Probe, goal_seconds: float) -> None:
    """All of it: no look at it is answered and it says nothing; whenever in a round it happens, noise and all."""
    for seed in range(20):
        dies = 60.0 + 0.07 * seed
        world = World(profile, seed, lambda member, site, now, dies=dies: now < dies or "sgp" not in (member, site))
        list(world.run(dies))
        for name in ("ams", "nyc"):
            world.judges[name].links({"ams", "nyc"} - {name})
        world.judges["sgp"].links(())
        world.silent = frozenset({"sgp"})
        found = [change for change in world.run(dies + 6.0) if change.member != "sgp"]
        assert {change.site for change in found} == {"sgp"}, seed
        down = {change.member: change.at - dies for change in found}
        timeouts = profile.timeout_seconds  # the last look is a failure only when its time is up
        assert set(down) == {"ams", "nyc"}, seed
        assert max(down.values()) + timeouts < goal_seconds, (seed, down)
