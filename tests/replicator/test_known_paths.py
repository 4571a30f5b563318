"""What is kept of the ledger is what the ledger says, after every kind of write and beside a writer."""

import random
import threading
from pathlib import Path

import pytest

from anycastle.replicator import known_paths
from anycastle.replicator.known_paths import Known, KnownPaths
from anycastle.replicator.ledger import Ledger
from tests.replicator.tree_values import GROUP, delete_entry, file_entry, fingerprint, removed, wrote

PATHS = (b"a", b"b", b"never")


def open_ledger(path: Path) -> Ledger:
    return Ledger.open(path, member="ams", groups=(GROUP,), wall=lambda: 1234.5)


def check(ledger: Ledger) -> None:
    for path in PATHS:
        asked = (ledger.newest(GROUP, path), ledger.local(GROUP, path))
        assert ledger.known(GROUP, path) == asked
        assert ledger.known(GROUP, path) == asked, "and again, from memory"


@pytest.mark.parametrize("seed", range(10))
def test_the_same_as_asking_the_ledger(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    ledger = open_ledger(tmp_path / "ledger.db")
    seq = 0
    waiting = []
    for number in range(60):
        check(ledger)
        path = source.choice(PATHS[:2])
        content = b"%d" % number
        match source.randrange(5):
            case 0:
                ledger.journal(GROUP, [wrote(path, content)])
            case 1:
                ledger.journal(GROUP, [removed(path)])
            case 2:  # only its fingerprint is news
                ledger.journal(GROUP, [wrote(path, b"same"), wrote(path, b"same")])
            case 3:
                seq += 1
                entry = file_entry(path, content, seq=seq, lamport=number + 1)
                if source.random() < 0.3:
                    entry = delete_entry(path, seq=seq, lamport=number + 1)
                waiting += ledger.record(GROUP, [entry])
            case _ if waiting:
                entry = waiting.pop(source.randrange(len(waiting)))
                ledger.landed(GROUP, [(entry, fingerprint() if entry.digest else None)])
    check(ledger)
    ledger.close()
    again = open_ledger(tmp_path / "ledger.db")
    check(again)
    again.close()


def test_nothing_older_is_given_once_a_write_has_returned(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db")
    over = threading.Event()
    faults: list[str] = []

    def ask() -> None:
        while not over.is_set():
            ledger.known(GROUP, b"a")

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(300):
        (entry,) = ledger.journal(GROUP, [wrote(b"a", b"%d" % number)])
        if ledger.known(GROUP, b"a")[0] != entry:
            faults.append(f"write {number} was forgotten")
    over.set()
    for reader in readers:
        reader.join()
    ledger.close()
    assert not faults


def test_who_reads_across_a_commit_keeps_nothing() -> None:
    kept = KnownPaths()
    old: Known = (file_entry(b"a", b"old"), None)

    def read() -> Known:
        kept.forget(GROUP, [b"other"])
        return old

    assert kept.put(GROUP, b"a", read) == old
    assert kept.get(GROUP, b"a") is None
    assert kept.put(GROUP, b"a", lambda: old) == old
    assert kept.get(GROUP, b"a") == old


def test_it_is_bounded_and_keeps_nothing_of_what_nobody_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_paths, "PATHS_MAX", 2)
    kept = KnownPaths()
    for path in (b"a", b"b", b"c"):
        kept.put(GROUP, path, lambda: (file_entry(b"x"), None))
    assert [path for path in (b"a", b"b", b"c") if kept.get(GROUP, path)] == [b"c"]
    kept.put(GROUP, b"d", lambda: (None, None))
    assert kept.get(GROUP, b"d") is None
