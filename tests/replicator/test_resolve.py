"""A conflict is over when an operator says which version stays; the other is gone, everywhere alike."""

from pathlib import Path

import pytest

from anycastle.replicator.disk import TreeError
from tests.replicator.cluster import GROUP, Site, alike, cluster, conflicts_kept
from tests.replicator.members import until


async def in_conflict(ams: Site, nyc: Site) -> Site:
    """Both edit while they are apart; the site that has the loser."""
    (ams.root / "d").mkdir()
    (ams.root / "d/page").write_bytes(b"before")
    (ams.root / "d/page").chmod(0o640)
    await alike(ams, nyc)
    await nyc.stop()
    (ams.root / "d/page").write_bytes(b"by ams")
    await until(lambda: ams.ledger.head(GROUP) == 3, "journaled")
    (nyc.root / "d/page").write_bytes(b"by nyc")
    await nyc.start()
    await alike(ams, nyc)
    await until(lambda: ams.ledger.conflicts() or nyc.ledger.conflicts(), "a conflict")
    return ams if ams.ledger.conflicts() else nyc


@pytest.mark.parametrize("back", [True, False], ids=["theirs", "current"])
async def test_one_of_the_two_stays(tmp_path: Path, back: bool) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (ams, nyc):
        site = await in_conflict(ams, nyc)
        current = (site.root / "d/page").read_bytes()
        (kept,) = conflicts_kept(site.root)
        ((number, conflict),) = site.ledger.conflicts_by_id().items()
        await site.content.end_conflict(number, conflict, put_back=back)
        wanted = kept if back else current
        await until(lambda: (ams.root / "d/page").read_bytes() == (nyc.root / "d/page").read_bytes() == wanted, "there")
        tree = await alike(ams, nyc)
        assert tree["d/page"][1] == 0o640, "with the mode that the file has"
        assert conflicts_kept(site.root) == []
        assert list((site.root / ".anycastle/conflicts").iterdir()) == []
        assert site.ledger.conflicts() == ()


async def test_over_a_folder_nothing_is_put_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (ams, nyc):
        site = await in_conflict(ams, nyc)
        ((number, conflict),) = site.ledger.conflicts_by_id().items()
        (site.root / "d/page").unlink()
        (site.root / "d/page").mkdir()
        with pytest.raises(TreeError, match=r"is a folder now|was changed since it won"):
            await site.content.end_conflict(number, conflict, put_back=True)
        assert len(conflicts_kept(site.root)) == 1
        assert len(site.ledger.conflicts()) == 1


async def test_what_was_written_since_is_not_replaced(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (ams, nyc):
        site = await in_conflict(ams, nyc)
        ((number, conflict),) = site.ledger.conflicts_by_id().items()
        (site.root / "d/page").write_bytes(b"later")
        await alike(ams, nyc)
        with pytest.raises(TreeError, match="was changed since it won"):
            await site.content.end_conflict(number, conflict, put_back=True)
        assert (site.root / "d/page").read_bytes() == b"later"
        assert len(conflicts_kept(site.root)) == 1
        await site.content.end_conflict(number, conflict, put_back=False)
        assert conflicts_kept(site.root) == []
