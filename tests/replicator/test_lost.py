"""What was lost at one site, its disk or its ledger, must not become a loss everywhere."""

import shutil
from pathlib import Path

import pytest

from anycastle.replicator.disk import TreeError
from tests.replicator.cluster import alike, cluster
from tests.replicator.members import until


async def test_an_empty_root_under_a_full_ledger_is_refused(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (ams.root / "a").write_bytes(b"precious")
        await alike(ams, nyc, sgp)
        await nyc.stop()
        nyc.root.rename(tmp_path / "unmounted")
        nyc.root.mkdir()
        for _ in range(2):  # The first refusal must not make the second start pass.
            with pytest.raises(TreeError, match="expected its disk to be mounted"):
                nyc.open()
            nyc.ledger.close()
        assert (ams.root / "a").read_bytes() == b"precious"
        nyc.root.rmdir()
        (tmp_path / "unmounted").rename(nyc.root)
        await nyc.start()
        await nyc.ready()
        await alike(ams, nyc, sgp)


@pytest.mark.parametrize("disk_too", [False, True], ids=["ledger lost", "ledger and disk lost"])
async def test_a_lost_ledger_goes_on_where_the_others_know_it_was(tmp_path: Path, disk_too: bool) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        for i in range(20):
            (nyc.root / f"{i}").write_bytes(b"%d" % i)
        before = await alike(ams, nyc, sgp)
        await nyc.stop()
        for file in nyc.state.glob("ledger.sqlite*"):
            file.unlink()
        if disk_too:
            shutil.rmtree(nyc.root)
            nyc.root.mkdir()
        await nyc.start()
        (nyc.root / "new").write_bytes(b"written before it knows anything")
        await nyc.ready()
        (nyc.root / "newer").write_bytes(b"and after")
        assert await nyc.fence() is None
        after = await alike(ams, nyc, sgp)
        assert {name: after[name] for name in before} == before, "nothing was lost, nothing resurrected"
        assert after.keys() - before.keys() == {"new", "newer"}


async def test_a_new_ledger_journals_nothing_before_a_majority_spoke(tmp_path: Path) -> None:
    async with cluster(tmp_path, start=False) as (ams, nyc, sgp):
        (ams.root / "a").write_bytes(b"alone")
        await ams.start()
        await until(lambda: ams.content.settle.survey.looked > 0, "ams has scanned")
        assert ams.ledger.head("blogs") == 0
        await nyc.start()
        await ams.ready()
        assert ams.ledger.head("blogs") == 1
        await sgp.start()
        await alike(ams, nyc, sgp)


async def test_a_ledger_restored_from_a_backup_takes_back_what_it_said_since(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (nyc.root / "a").write_bytes(b"1")
        await alike(ams, nyc, sgp)
        await nyc.stop()
        shutil.copy(nyc.state / "ledger.sqlite", tmp_path / "backup")
        await nyc.start()
        await nyc.ready()
        (nyc.root / "b").write_bytes(b"2")
        await alike(ams, nyc, sgp)
        await nyc.stop()
        for file in nyc.state.glob("ledger.sqlite*"):
            file.unlink()
        shutil.copy(tmp_path / "backup", nyc.state / "ledger.sqlite")
        await nyc.start()
        (nyc.root / "c").write_bytes(b"3")
        await nyc.ready()
        assert await nyc.fence() is None
        after = await alike(ams, nyc, sgp)
        assert after.keys() == {"a", "b", "c"}
        assert nyc.ledger.head("blogs") == ams.ledger.detailed()["blogs"]["nyc"]
