"""Who was away for longer than the retention, by a clock that the test sets; and cuts that are carried out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator.compaction import Compaction
from anycastle.replicator.event import Absent, Compact, Event
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from tests.replicator.cluster import SettableClock
from tests.replicator.members import running, until
from tests.replicator.tree_values import GROUP, delete_entry, file_entry

RETENTION_SECONDS = 1000.0


class Member:
    """ams, and whom it is linked with."""

    def __init__(self, folder: Path) -> None:
        self.linked = {"nyc", "sgp"}
        self.clock = SettableClock()
        self.told: list[Event] = []
        self.ledger = Ledger.open(folder / "ledger.sqlite", member="ams", groups=(GROUP,))
        self.thread = LedgerThread()
        self.compaction = self.again()

    def again(self) -> Compaction:
        """As after a restart."""
        self.compaction = Compaction(
            self.ledger,
            self.thread,
            clock=self.clock,
            members=frozenset({"nyc", "sgp"}),
            retention_seconds={GROUP: RETENTION_SECONDS},
            connected=lambda: frozenset(self.linked),
            feed=self.told.append,
        )
        return self.compaction


@pytest.fixture
def ams(tmp_path: Path) -> Iterator[Member]:
    member = Member(tmp_path)
    yield member
    member.thread.close()
    member.ledger.close()


async def test_a_member_is_given_up_after_the_retention_and_counts_again_when_it_is_back(ams: Member) -> None:
    await ams.compaction._note()
    ams.linked.remove("sgp")
    ams.clock.wall_offset += RETENTION_SECONDS - 1
    await ams.compaction._note()
    assert ams.told == []
    ams.clock.wall_offset += 2
    await ams.compaction._note()
    await ams.compaction._note()
    assert ams.told == [Absent(GROUP, frozenset({"sgp"}))]
    ams.linked.add("sgp")
    await ams.compaction._note()
    assert ams.told[1:] == [Absent(GROUP, frozenset())]


async def test_how_long_somebody_is_away_is_known_over_restarts(ams: Member) -> None:
    await ams.compaction._note()
    ams.linked.remove("sgp")
    ams.clock.wall_offset += RETENTION_SECONDS + 1
    await ams.again()._note()
    assert ams.told == [Absent(GROUP, frozenset({"sgp"}))]


async def test_whom_we_never_met_is_waited_for_from_now_on(ams: Member) -> None:
    ams.linked.clear()
    await ams.compaction._note()
    ams.clock.wall_offset += RETENTION_SECONDS - 1
    await ams.compaction._note()
    assert ams.told == []


async def test_a_cut_is_carried_out(ams: Member) -> None:
    for entry in (file_entry(b"a", seq=1, lamport=1), delete_entry(b"a", seq=2, lamport=2)):
        ams.ledger.record(GROUP, [entry])
        ams.ledger.landed(GROUP, [(entry, None)])
    async with running(ams.compaction.run()):
        ams.compaction.ask(Compact(GROUP, {"nyc": 2}))
        await until(lambda: ams.compaction.compacted == 2, "both went")
    assert ams.ledger.entries(GROUP, "nyc", 0, 10) == ()
