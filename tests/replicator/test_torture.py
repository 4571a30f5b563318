"""Everything an application may do to files, at one site and at three at once: trees are equal when it is over."""

import functools
from pathlib import Path

import pytest

from anycastle.replicator import sight
from anycastle.replicator.watch import open_watcher
from tests.replicator.torture import torture
from tests.replicator.watching import needs_root

pytestmark = [needs_root, pytest.mark.timeout(240)]


@pytest.mark.parametrize("seed", range(2))
async def test_one_site_in_a_storm(tmp_path: Path, seed: int) -> None:
    outcome = await torture(tmp_path, seed, steps=300, at=1)
    assert outcome.entries > 100


@pytest.mark.parametrize("seed", range(2, 5))
async def test_three_sites_in_storms_of_their_own(tmp_path: Path, seed: int) -> None:
    outcome = await torture(tmp_path, seed, steps=150, at=3)
    assert outcome.concurrent > 0, "they wrote at the same places"


async def test_three_sites_that_watch_by_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "open_watcher", functools.partial(open_watcher, prefer="inotify"))
    outcome = await torture(tmp_path, 7, steps=150, at=3)
    assert outcome.concurrent > 0, "they wrote at the same places"
