"""What one path, one content or one entry costs the ledger does not grow with the tree: counted in SQLite's steps."""

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from anycastle.replicator.entry import Entry
from anycastle.replicator.ledger import Ledger
from tests.replicator.tree_values import GROUP, file_entry, fingerprint, wrote

FEW, MANY = 50, 1000
GREATEST_GROWTH = 2
"""One more level of a B-tree, and no more."""


@pytest.fixture
def steps() -> Iterator[list[int]]:
    """Of every statement that ends on a connection opened meanwhile."""
    counted: list[int] = []

    def count(event: dict[str, dict[str, int]]) -> None:
        counted.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])

    def watch(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, count)

    apsw.connection_hooks.append(watch)
    yield counted
    apsw.connection_hooks.remove(watch)


def content(number: int) -> bytes:
    return b"content %d" % number


def path(number: int) -> bytes:
    return b"folder/%05d" % number


def announced(number: int, seq: int) -> Entry:
    return file_entry(path(number), content(number), seq=seq, lamport=seq)


CASES: dict[str, Callable[[Ledger, int], object]] = {
    "newest": lambda ledger, n: ledger.newest(GROUP, path(n)),
    "local": lambda ledger, n: ledger.local(GROUP, path(n)),
    "known": lambda ledger, n: ledger.known_now(GROUP, path(n)),
    "with_digest": lambda ledger, n: ledger.with_digest(GROUP, announced(n, 1).digest, 4),
    "with_digest, nowhere": lambda ledger, n: ledger.with_digest(GROUP, bytes(32), 4),
    "paths_of_inode": lambda ledger, n: ledger.paths_of_inode(GROUP, n),
    "entries": lambda ledger, n: ledger.entries(GROUP, "nyc", n, 1),
    "paths": lambda ledger, n: list(ledger.paths(GROUP, "nyc", [n])),
    "last_folder": lambda ledger, n: ledger.last_folder(GROUP, path(n)),
    "journal": lambda ledger, n: ledger.journal(GROUP, [wrote(path(n), b"other")]),
    "record": lambda ledger, n: ledger.record(GROUP, [announced(n, ledger.detailed()[GROUP]["nyc"] + 1)]),
}


def steps_of(case: Callable[[Ledger, int], object], folder: Path, files: int, steps: list[int]) -> int:
    folder.mkdir()
    ledger = Ledger.open(folder / "ledger.sqlite", member="ams", groups=(GROUP,))
    try:
        entries = [announced(number, number) for number in range(1, files + 1)]
        ledger.record(GROUP, entries)
        ledger.landed(GROUP, [(entry, fingerprint(size=entry.size)) for entry in entries])
        steps.clear()
        case(ledger, files // 2)
        return sum(steps)
    finally:
        ledger.close()


@pytest.mark.parametrize("name", CASES)
def test_one_thing_costs_the_same_in_a_large_tree(tmp_path: Path, steps: list[int], name: str) -> None:
    few = steps_of(CASES[name], tmp_path / "few", FEW, steps)
    many = steps_of(CASES[name], tmp_path / "many", MANY, steps)
    assert 0 < many <= GREATEST_GROWTH * few, (few, many)
