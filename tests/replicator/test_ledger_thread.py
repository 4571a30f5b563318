"""Writes keep their order; a ledger that takes nothing is shown until it does."""

import asyncio
from pathlib import Path

import pytest

from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.schema import LedgerError, LedgerHole
from tests.replicator.tree_values import GROUP, file_entry, file_size_limit


async def test_writes_are_done_in_order() -> None:
    thread, done = LedgerThread(), []
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(thread.do(done.append, number))
    assert done == list(range(100))
    thread.close()


async def test_trouble_is_shown_until_a_write_succeeds(tmp_path: Path) -> None:
    thread = LedgerThread()
    ledger = Ledger.open(tmp_path / "ledger", member="ams", groups=(GROUP,))
    with file_size_limit(4096):
        with pytest.raises(LedgerError):
            await thread.do(ledger.put, "a", b"x" * 100_000)
        assert str(ledger.path) in thread.trouble
    await thread.do(ledger.put, "a", b"y")
    assert thread.trouble == ""
    thread.close()
    ledger.close()


async def test_a_hole_is_the_announcers_fault_and_no_trouble(tmp_path: Path) -> None:
    thread = LedgerThread()
    ledger = Ledger.open(tmp_path / "ledger", member="ams", groups=(GROUP,))
    with pytest.raises(LedgerHole):
        await thread.do(ledger.record, GROUP, [file_entry(b"a", seq=7)])
    assert thread.trouble == ""
    thread.close()
    ledger.close()
