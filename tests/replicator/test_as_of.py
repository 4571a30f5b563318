"""What was known when somebody asked is waited for, and not what comes meanwhile."""

import asyncio
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from anycastle.replicator.as_of import AsOf
from anycastle.replicator.flight import Flight
from anycastle.replicator.gate import Forward, Serve, Wait
from tests.replicator.cluster import GROUP, cluster
from tests.replicator.members import running, until
from tests.replicator.test_flight import NO_GAPS, flight
from tests.replicator.tree_values import file_entry


@dataclass
class Touched:
    """Paths that were touched and not journaled, with their epochs: what AsOf asks Settle and Controller for."""

    paths: dict[bytes, int] = field(default_factory=dict)
    epoch: int = 0
    fences: dict[str, int] = field(default_factory=dict)

    def begin_epoch(self) -> int:
        self.epoch += 1
        return self.epoch - 1

    def unsettled(self, prefix: bytes, *, upto: int) -> bool:
        return any(path.startswith(prefix) and epoch <= upto for path, epoch in self.paths.items())

    def fenced(self, group: str, origin: str) -> int:
        return self.fences.get(origin, 0)


def as_of(flying: Flight, touched: Touched) -> AsOf:
    return AsOf(b"alice/", member="ams", flight=flying, settle=cast(Any, touched))


def unfenced(asked: AsOf, touched: Touched) -> bool:
    return asked.unfenced(GROUP, cast(Any, touched))


def test_what_was_in_flight_is_waited_for_and_later_changes_are_not() -> None:
    flying, touched = flight(), Touched()
    flying.add(file_entry(b"alice/a", seq=1), now=1.0)
    asked = as_of(flying, touched)
    flying.add(file_entry(b"alice/b", seq=2), now=2.0)
    assert unfenced(asked, touched)
    assert asked.lacking("ams")
    touched.fences["nyc"] = 1
    assert not unfenced(asked, touched)
    flying.landed("ams", "nyc", 1, NO_GAPS, now=3.0)
    assert not asked.lacking("ams")
    later = as_of(flying, touched)
    assert later.lacking("ams")
    assert unfenced(later, touched)


def test_what_was_touched_is_waited_for_until_its_entries_are_fenced() -> None:
    flying, touched = flight(), Touched({b"alice/a": 0})
    asked = as_of(flying, touched)
    assert asked.unsettled()
    touched.paths = {b"alice/b": touched.epoch}  # the first was journaled, another touched
    flying.add(file_entry(b"alice/a", seq=1, origin="ams"), now=1.0)
    assert not asked.unsettled()
    assert unfenced(asked, touched), "its entry is not safe yet"
    touched.fences["ams"] = 1
    assert not unfenced(asked, touched)


def test_other_folders_are_not_waited_for() -> None:
    flying, touched = flight(), Touched({b"bob/a": 0})
    flying.add(file_entry(b"bob/b", seq=1), now=1.0)
    asked = as_of(flying, touched)
    assert not asked.unsettled()
    assert not unfenced(asked, touched)
    assert not asked.lacking("ams")


async def test_a_page_is_served_from_a_folder_that_is_written_all_the_time(tmp_path: Path) -> None:
    async with cluster(tmp_path, wait_max_seconds=5.0) as (ams, nyc, _):
        (ams.root / "alice").mkdir()
        async with running(_write_on(ams.root / "alice")):
            for site in (ams, nyc) * 10:
                asked = GROUP, b"alice/page", b"alice/"
                await until(lambda: isinstance(site.replica.gate.judge(*asked), Wait), "changes are under way")  # noqa: B023
                verdict = await site.replica.gate.admit(*asked, meanwhile=False)
                assert isinstance(verdict, Serve if site is ams else Serve | Forward)


async def _write_on(folder: Path) -> None:
    for number in itertools.count():
        (folder / f"{number}").write_bytes(b"x")
        await asyncio.sleep(0.002)
