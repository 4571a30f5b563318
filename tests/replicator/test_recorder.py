"""What waits for the ledger is bounded in bytes, contents go first, and all of it comes in the end."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from anycastle.replicator import courier, following, recorder
from anycastle.replicator import event as e
from anycastle.replicator.entry import Entry
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.recorder import ENTRY_BYTES, Recorder
from anycastle.replicator.schema import LedgerError
from tests.replicator.cluster import GROUP, alike, cluster
from tests.replicator.members import running, until
from tests.replicator.tree_values import file_entry

BODY = b"b" * 10_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.sqlite", member="ams", groups=(GROUP,))
    yield opened
    opened.close()


def record(seq: int) -> e.Record:
    entry = file_entry(b"%03d" % seq, BODY, seq=seq, lamport=seq)
    return e.Record(GROUP, "nyc", (entry,), {entry.digest: BODY}, seq - 1, seq)


async def test_contents_are_dropped_first_then_announcements(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ENTRY_BYTES + 3
    large = small + len(BODY)
    monkeypatch.setattr(recorder, "BODIES_WAITING_BYTES_MAX", 4 * large)
    monkeypatch.setattr(recorder, "WAITING_BYTES_MAX", 4 * large + 30 * small)
    came: dict[bytes, int] = {}

    def recorded(
        entries: tuple[Entry, ...], to_land: tuple[Entry, ...], bodies: Mapping[bytes, bytes], coming: tuple[bytes, ...]
    ) -> None:
        came.update({entry.path: len(bodies) for entry in entries})

    thread = LedgerThread()
    made = Recorder(ledger, thread, feed=lambda event: None, recorded={GROUP: recorded})
    for seq in range(1, 101):
        made.ask(record(seq))
    assert made.waiting_bytes == 4 * large + 30 * small
    assert (made.bodies_dropped, made.dropped) == (96, 66)
    async with running(made.run()):
        await until(lambda: not made.waiting_bytes, "what waited is durable")
        made.ask(record(35))
        await until(lambda: len(came) == 35, "there is room again")
    thread.close()
    assert [sum(came[b"%03d" % seq] for seq in part) for part in (range(1, 5), range(5, 35), (35,))] == [4, 0, 1]


async def test_a_ledger_that_takes_nothing_holds_back_the_sender_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "BODIES_WAITING_BYTES_MAX", 500_000)
    monkeypatch.setattr(recorder, "WAITING_BYTES_MAX", 600_000)
    monkeypatch.setattr(courier, "ALONG_BYTES_MAX", 1_000_000)
    async with cluster(tmp_path, ("ams", "nyc")) as (ams, nyc):
        record = nyc.ledger.record
        most = 0

        def refuse(*given: object, **named: object) -> tuple[Entry, ...]:
            raise LedgerError("the disk is full")

        def full() -> bool:
            nonlocal most
            waiting = nyc.replica.levels()["announcements_waiting_bytes"]
            most = max(most, waiting)
            return nyc.replica.counters()["announced_bodies_dropped"] > 0

        monkeypatch.setattr(nyc.ledger, "record", refuse)
        for number in range(100):
            (ams.root / str(number)).write_bytes(os.urandom(50_000))
        await until(full, "contents were dropped")
        assert 0 < most <= 600_000
        assert ams.links.connected() == {"nyc"}
        monkeypatch.setattr(nyc.ledger, "record", record)
        assert len(await alike(ams, nyc)) == 100
        assert nyc.replica.levels()["announcements_waiting_bytes"] == 0


async def test_bodies_that_follow_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EARLY_BYTES_MAX", 500_000)
    async with cluster(tmp_path, ("ams", "nyc")) as (ams, nyc):
        record = nyc.ledger.record

        def refuse(*given: object, **named: object) -> tuple[Entry, ...]:
            raise LedgerError("the disk is full")

        monkeypatch.setattr(nyc.ledger, "record", refuse)
        for number in range(30):
            (ams.root / str(number)).write_bytes(os.urandom(50_000))
        await until(lambda: nyc.replica.counters()["announced_bodies_dropped"] > 0, "contents were dropped")
        assert nyc.replica.levels()["announcements_waiting_bytes"] < 600_000
        monkeypatch.setattr(nyc.ledger, "record", record)
        assert len(await alike(ams, nyc)) == 30
