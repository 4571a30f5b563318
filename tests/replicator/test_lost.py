"""What was lost at one site, its disk or its ledger, must not become a loss everywhere."""

import asyncio
import shutil
from pathlib import Path

import pytest

from anycastle.replicator.disk import TreeError
from anycastle.replicator.gate import Serve
from tests.replicator.cluster import GROUP, LEASE, Site, alike, cluster
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
        lose_ledger(nyc)
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


def lose_ledger(site: Site) -> None:
    for file in site.state.glob("ledger.sqlite*"):
        file.unlink()


async def remembers(site: Site) -> None:
    await until(lambda: not site.ledger.get("forgot"), f"it is kept that {site.name} remembers")


def currency(site: Site) -> str:
    return site.replica.controller.currency(GROUP, now=site.clock.now())


async def test_a_new_cluster_journals_nothing_before_all_have_met(tmp_path: Path) -> None:
    """Nobody can know otherwise that it is new: a member that is down may remember more."""
    async with cluster(tmp_path, start=False) as (ams, nyc, sgp):
        (ams.root / "a").write_bytes(b"alone")
        await ams.start()
        await nyc.start()
        await until(lambda: ams.links.connected() == {"nyc"}, "ams and nyc have met")
        assert "does not vote before it knows what these do: nyc, sgp" in currency(ams)
        assert ams.ledger.head(GROUP) == 0
        await sgp.start()
        await ams.ready()
        assert ams.ledger.head(GROUP) == 1
        await alike(ams, nyc, sgp)
        await remembers(ams)
        await sgp.stop()
        await ams.stop()
        await ams.start()
        await ams.ready()


async def test_a_lost_ledger_waits_for_the_member_that_may_know_more(tmp_path: Path) -> None:
    """sgp alone knows what nyc announced last, and it is down when nyc comes back without a ledger."""
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (ams.root / "a").write_bytes(b"a")
        await alike(ams, nyc, sgp)
        await ams.stop()
        (nyc.root / "b").write_bytes(b"known to sgp alone")
        await until(lambda: nyc.ledger.head(GROUP) == 1, "journaled")
        await alike(nyc, sgp)
        await sgp.stop()
        await nyc.stop()
        lose_ledger(nyc)
        await nyc.start()
        await ams.start()
        await until(lambda: nyc.links.connected() == {"ams"}, "linked")
        (nyc.root / "c").write_bytes(b"new")
        await asyncio.sleep(2 * LEASE.term_seconds)  # what it waits in any case
        assert currency(ams), "without a memory it gives no leases: two of three would be current without b"
        assert currency(nyc)
        assert nyc.ledger.head(GROUP) == 0, "and numbers none of its changes"
        await sgp.start()
        await until(lambda: nyc.ledger.head(GROUP) == 2, "journaled after what sgp gave back")
        await nyc.ready()
        assert (await alike(ams, nyc, sgp)).keys() == {"a", "b", "c"}
        await remembers(nyc)


async def test_a_ledger_lost_while_the_others_knew_coarse_marks_only(tmp_path: Path) -> None:
    """Nobody has those entries: the member goes on behind them, and announces anew what is on its disk."""
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (nyc.root / "a").write_bytes(b"known everywhere")
        await alike(ams, nyc, sgp)
        nyc.replica._courier.ask = lambda command: None  # type: ignore[method-assign]  # a link that carries no more
        (nyc.root / "a").write_bytes(b"changed again")
        (nyc.root / "d").mkdir()
        (nyc.root / "d" / "b").write_bytes(b"told, and not shown")
        assert await nyc.fence() is None, "a mark is enough for that"
        head = nyc.ledger.head(GROUP)
        for other in (ams, sgp):
            await until(lambda other=other: other.ledger.recorded()[GROUP]["nyc"] == head, "marked")
            assert other.ledger.detailed()[GROUP]["nyc"] == 1
        await nyc.stop()
        lose_ledger(nyc)
        await nyc.start()
        for site in (nyc, ams, sgp):
            await site.ready()
        after = await alike(ams, nyc, sgp)
        assert after.keys() == {"a", "d", "d/b"}
        assert not ams.replica.controller.outdated(GROUP)
        assert ams.ledger.lost_beyond(GROUP, "nyc", 0) == (1, head)
        assert nyc.ledger.head(GROUP) > head
        assert isinstance(await sgp.admit("d/b"), Serve)
        assert (sgp.root / "a").read_bytes() == b"known everywhere", "what was announced goes over what was found"
        assert [conflict.path for conflict in nyc.ledger.conflicts()] == [b"a"], "which is kept"


async def test_a_ledger_restored_from_a_backup_takes_back_what_it_said_since(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (nyc.root / "a").write_bytes(b"1")
        await alike(ams, nyc, sgp)
        await remembers(nyc)
        await nyc.stop()
        shutil.copy(nyc.state / "ledger.sqlite", tmp_path / "backup")
        await nyc.start()
        await nyc.ready()
        (nyc.root / "b").write_bytes(b"2")
        await alike(ams, nyc, sgp)
        await nyc.stop()
        lose_ledger(nyc)
        shutil.copy(tmp_path / "backup", nyc.state / "ledger.sqlite")
        await nyc.start()
        (nyc.root / "c").write_bytes(b"3")
        await until(lambda: "run `anycastle resync` here" in nyc.reason(), "told")
        assert not nyc.links.connected()
        assert nyc.ledger.head(GROUP) == 1
        await nyc.replica.resync([GROUP])
        await nyc.ready()
        assert await nyc.fence() is None
        after = await alike(ams, nyc, sgp)
        assert after.keys() == {"a", "b", "c"}
        assert nyc.ledger.head(GROUP) == ams.ledger.detailed()[GROUP]["nyc"] == 3
