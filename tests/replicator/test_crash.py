"""Real members ended by SIGKILL at their commit points: dozens of rounds here, thousands by `script/crash`."""

from pathlib import Path

import pytest

from anycastle.replicator import fault_point
from anycastle.replicator.fault_point import Point
from tests.replicator.crash import NAMES, Write, _overtaken, crashes, rounds


def test_what_was_overtaken_may_not_be_seen_again() -> None:
    first = Write("a", "1", began=0.0, ended=1.0)
    meanwhile = Write("a", "2", began=0.5, ended=3.0)
    lost = Write("a", "3", began=0.1)
    second = Write("a", "4", began=2.0, ended=4.0)
    history = [first, meanwhile, lost, second]
    assert [_overtaken(write, history) for write in history] == [True, False, False, False]


def test_nothing_is_armed_and_every_point_is_passed_through() -> None:
    """A point that nothing passes would be tested by nobody."""
    folder = Path(fault_point.__file__).parent
    source = "".join(file.read_text() for file in folder.glob("*.py"))
    assert [point for point in Point if f"reach(Point.{point.name})" not in source] == []
    for point in Point:
        fault_point.reach(point)


@pytest.mark.parametrize("seed", [1, 2])
async def test_death_at_every_commit_point(tmp_path: Path, seed: int) -> None:
    """Each point once, at one member or another."""
    with crashes(tmp_path, seed) as made:
        await rounds(made, len(Point), seed)
        assert made.reached.total() >= len(Point) // 2, "most died where they should"
        assert made.acknowledged > len(Point)
        assert len(NAMES) == 3
