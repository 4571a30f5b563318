"""What is dead elsewhere is buried here, and what nobody needs is compacted: on real SQLite files."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pyroaring import BitMap

from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.observation import Change, Fingerprint
from tests.replicator.tree_values import (
    GROUP,
    delete_entry,
    file_entry,
    fingerprint,
    folder_entry,
    made_folder,
    removed,
    wrote,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db", member="ams", groups=(GROUP,), wall=lambda: 1234.5)
    yield opened
    opened.close()


def land(ledger: Ledger, entry: Entry, found: Fingerprint | None) -> None:
    ledger.record(GROUP, [entry])
    ledger.landed(GROUP, [(entry, found)])


def seqs(ledger: Ledger, origin: str) -> list[int]:
    return [entry.seq for entry in ledger.entries(GROUP, origin, 0, 100)]


def compact(ledger: Ledger, origin: str, upto: int) -> int:
    return ledger.merge.compact(GROUP, origin, 0, upto)[1]


# Burying


def buried_folder(ledger: Ledger) -> Change:
    """Returns how it is found, still standing."""
    stands = made_folder(b"d", mode=0o755)
    land(ledger, folder_entry(b"d", mode=0o755), stands.fingerprint)
    assert ledger.merge.dead(GROUP, "nyc", 0, 1, BitMap()) == [b"d"]
    ledger.merge.bury(GROUP, [b"d"])
    return stands


def test_what_is_alive_elsewhere_is_not_dead(ledger: Ledger) -> None:
    for number in range(1, 4):
        land(ledger, file_entry(b"%d" % number, seq=number, lamport=number), fingerprint())
    assert ledger.merge.alive(GROUP, "nyc", 0, 3) == ({"nyc": 3}, BitMap([1, 2, 3]))
    assert ledger.merge.dead(GROUP, "nyc", 0, 3, BitMap([1, 3])) == [b"2"]
    assert ledger.merge.dead(GROUP, "nyc", 2, 3, BitMap([1])) == [b"3"]


def test_what_is_buried_waits_to_be_removed(ledger: Ledger) -> None:
    there = fingerprint()
    land(ledger, file_entry(b"a"), there)
    ledger.merge.bury(GROUP, [b"a"])
    (gone,) = ledger.unlanded(GROUP)
    assert (gone.path, gone.kind) == (b"a", Kind.ABSENT)
    local = ledger.local(GROUP, b"a")
    assert local is not None
    assert local.fingerprint == there, "what is removed is what was there"
    ledger.landed(GROUP, [(gone, None)])
    assert list(ledger.unlanded(GROUP)) == []


def test_a_look_at_a_buried_folder_does_not_bring_it_back(ledger: Ledger) -> None:
    stands = buried_folder(ledger)
    assert ledger.journal(GROUP, [stands]) == ()
    assert [entry.kind for entry in ledger.unlanded(GROUP)] == [Kind.ABSENT]


def test_a_buried_folder_that_somebody_changed_comes_back(ledger: Ledger) -> None:
    buried_folder(ledger)
    (entry,) = ledger.journal(GROUP, [made_folder(b"d", mode=0o700)])
    assert (entry.kind, entry.mode) == (Kind.FOLDER, 0o700)


def test_a_buried_file_that_somebody_changed_comes_back(ledger: Ledger) -> None:
    land(ledger, file_entry(b"a"), fingerprint())
    ledger.merge.bury(GROUP, [b"a"])
    (entry,) = ledger.journal(GROUP, [wrote(b"a", b"edited")])
    assert entry.size == len(b"edited")


# Compaction


def test_what_was_superseded_goes_and_the_newest_stays(ledger: Ledger) -> None:
    first = file_entry(b"a", b"1", seq=1, lamport=1)
    second = file_entry(b"a", b"2", seq=2, lamport=2, parent=first.version)
    for entry in (first, second):
        land(ledger, entry, fingerprint())
    assert compact(ledger, "nyc", 2) == 1
    assert seqs(ledger, "nyc") == [2]
    assert ledger.newest(GROUP, b"a") == second


def test_a_delete_that_is_done_goes_with_its_path(ledger: Ledger) -> None:
    land(ledger, file_entry(b"a", seq=1, lamport=1), fingerprint())
    land(ledger, delete_entry(b"a", seq=2, lamport=2), None)
    assert compact(ledger, "nyc", 2) == 2
    assert seqs(ledger, "nyc") == []
    assert ledger.known(GROUP, b"a") == (None, None)
    assert ledger.journal(GROUP, [removed(b"a")]) == (), "nobody knows it any more"


def test_nothing_beyond_the_cut_goes(ledger: Ledger) -> None:
    land(ledger, file_entry(b"a", seq=1, lamport=1), fingerprint())
    land(ledger, delete_entry(b"a", seq=2, lamport=2), None)
    assert compact(ledger, "nyc", 1) == 1
    assert seqs(ledger, "nyc") == [2]


def test_what_waits_to_land_holds_back_what_it_replaces(ledger: Ledger) -> None:
    first = file_entry(b"a", b"1", seq=1, lamport=1)
    land(ledger, first, fingerprint())
    gone = msgspec.structs.replace(delete_entry(b"a", seq=2, lamport=2), parent=first.version)
    ledger.record(GROUP, [gone])
    assert compact(ledger, "nyc", 2) == 0
    ledger.landed(GROUP, [(gone, None)])
    assert compact(ledger, "nyc", 2) == 2
