"""One look at paths, with a real tree and ledger: what is taken back is not forgotten."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import Kind
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.look import Look, Seen
from tests.replicator.tree_values import GROUP, removed


class World:
    def __init__(self, tree: Tree, ledger: Ledger) -> None:
        self.busy: set[bytes] = set()
        """What is being landed."""
        self.look = Look(GROUP, tree, ledger, landing=self.busy.__contains__, now=lambda: 0.0)


@pytest.fixture
def world(tree: Tree, tmp_path: Path) -> Iterator[World]:
    with contextlib.closing(Ledger.open(tmp_path / "ledger", member="ams", groups=(GROUP,))) as ledger:
        yield World(tree, ledger)


def changes(seen: Seen) -> list[tuple[bytes, Kind]]:
    return [(change.path, change.kind) for change in seen.changes]


def to_look_at(seen: Seen) -> list[bytes]:
    return sorted({*seen.again, *(path for found in seen.more.values() for path in found)})


@pytest.mark.parametrize("asked", [[b"f", b"f/x"], [b"f/x"]])
def test_a_folder_that_was_found_on_the_way_is_looked_at_again(world: World, root: Path, asked: list[bytes]) -> None:
    """What was asked for is gone the next time, so nothing leads from it to the folder."""
    (root / "f").mkdir()
    (root / "f/x").write_bytes(b"x")
    seen = world.look.observe(asked)
    assert set(changes(seen)) == {(b"f", Kind.FOLDER), (b"f/x", Kind.FILE)}
    world.busy.add(b"f")
    seen.leave_alone(world.busy.__contains__)
    assert changes(seen) == [], "the folder is being landed, so what is in it is not announced either"
    (root / "f/x").unlink()
    world.busy.clear()
    assert changes(world.look.observe(to_look_at(seen))) == [(b"f", Kind.FOLDER)]


def test_what_was_seen_in_a_folder_that_another_thread_saw_gone_is_looked_at_again(world: World, root: Path) -> None:
    (root / "f").mkdir()
    (root / "f/x").write_bytes(b"x")
    seen = world.look.observe([b"f/x"])
    seen.changes = [removed(b"f"), *(change for change in seen.changes if change.path != b"f")]
    seen.keep_whole()
    assert changes(seen) == [(b"f", Kind.ABSENT)]
    assert to_look_at(seen) == [b"f/x"]
