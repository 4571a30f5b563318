"""Passes on a real folder, and with a real cluster: they go before anything is acknowledged."""

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.edge_pass import AHEAD_TENTHS, SPARE_SECONDS, PassError, Passes
from anycastle.replicator.edge_recall import Answer, Recall
from tests.replicator.cluster import GROUP, Site, alike, cluster
from tests.replicator.members import until


@dataclass
class Time:
    """What the tests say it is."""

    seconds: float = 5.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds + 1_700_000_000.0


@dataclass
class World:
    time: Time
    until: float
    passes: Passes
    folder: Path

    def there(self) -> list[str]:
        return sorted(os.listdir(self.folder / "blogs"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    time = Time()
    made = World(time, 100.0, Passes(tmp_path / "p", ["blogs"], clock=time, clear_until=lambda _: made.until), tmp_path)
    made.folder = tmp_path / "p"
    made.passes.bind()
    return made


def test_a_pass_for_each_tenth_to_come(world: World) -> None:
    world.passes.renew("blogs")
    assert world.there() == [f"1700000005.{tenth}" for tenth in range(AHEAD_TENTHS + 1)]
    world.time.seconds += 0.2
    world.passes.renew("blogs")
    assert world.there()[0] == "1700000005.2"
    assert len(world.there()) == AHEAD_TENTHS + 1


def test_none_beyond_what_is_vouched_for(world: World) -> None:
    world.until = 5.2 + SPARE_SECONDS
    world.passes.renew("blogs")
    assert world.there() == ["1700000005.0", "1700000005.1"]
    world.until = -math.inf
    world.passes.renew("blogs")
    assert world.there() == []


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_pass_always_ends_before(start: float, left: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        time = Time(5.0 + start)
        passes = Passes(Path(folder) / "p", ["blogs"], clock=time, clear_until=lambda _: time.seconds + left)
        passes.bind()
        passes.renew("blogs")
        ends = [float(name) + 0.1 for name in os.listdir(Path(folder) / "p/blogs")]
        assert all(end <= time.wall() + left for end in ends)


def test_taken_back_all_at_once(world: World) -> None:
    world.passes.renew("blogs")
    world.passes.revoke("blogs")
    assert world.there() == []
    world.passes.revoke("blogs")
    world.passes.revoke("no such group")


def test_what_cannot_be_taken_back_is_no_secret(world: World) -> None:
    world.passes.renew("blogs")
    (world.folder / "blogs").rename(world.folder / "away")
    (world.folder / "blogs").write_text("something else")
    with pytest.raises(OSError, match="Not a directory"):
        world.passes.revoke("blogs")


def test_what_an_earlier_life_left_goes(world: World, tmp_path: Path) -> None:
    (world.folder / "blogs/1800000000.0").touch()
    world.passes.bind()
    assert world.there() == []
    world.passes.close()
    assert not world.folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(PassError, match="Not a directory"):
        Passes(tmp_path / "file/p", ["blogs"], clock=world.time, clear_until=lambda _: 0.0).bind()


# In a cluster


async def clear(site: Site) -> None:
    await until(lambda: site.replica.gate.clear_until(GROUP) > 0, "clear")


async def test_clear_only_while_nothing_is_under_way(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (ams.root / "a").write_bytes(b"1")
        await alike(ams, nyc, sgp)
        for site in (ams, nyc, sgp):
            await clear(site)
        now = nyc.clock.now()
        assert nyc.replica.gate.clear_until(GROUP) <= now + nyc.settings.lease.term_seconds
        with nyc.replica.gate.writing(GROUP):
            assert nyc.replica.gate.clear_until(GROUP) == -math.inf
        assert nyc.replica.gate.clear_until(GROUP) > now


async def test_passes_are_gone_before_anybody_is_told(tmp_path: Path) -> None:
    """At the moment that another's fence is over, no pass of the old content is left here, and no answer."""
    async with cluster(tmp_path) as (ams, nyc, sgp):
        folder = tmp_path / "passes"
        passes = Passes(folder, [GROUP], clock=nyc.clock, clear_until=nyc.replica.gate.clear_until)
        passes.bind()
        recall = Recall(clock=nyc.clock, clear_until=nyc.replica.gate.clear_until)
        answer = Answer(GROUP, "serve", b"the old one")

        def news(group: str) -> None:
            recall.news(group)
            passes.revoke(group)

        nyc.replica.on_news = news
        for number in range(20):
            await clear(nyc)
            passes.renew(GROUP)
            recall.keep(b"head", answer)
            assert os.listdir(folder / GROUP), "something to take back"
            assert recall.find(b"head") is answer
            (ams.root / "page").write_bytes(b"%d" % number)
            assert await ams.fence() is None
            assert not os.listdir(folder / GROUP)
            assert recall.find(b"head") is None
            await alike(ams, nyc, sgp)


async def test_what_changes_here_ends_them(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, _, _):
        told: list[str] = []
        await clear(ams)
        ams.replica.on_news = told.append
        (ams.root / "page").write_bytes(b"x")
        await until(lambda: GROUP in told, "noticed")
