"""What the machine refuses is told with its cause, stops nothing else, and heals by itself: on the real kernel."""

import os
import sqlite3
from pathlib import Path

import pytest

from anycastle.replicator import ledger_thread, settle
from anycastle.replicator.gate import Serve
from anycastle.replicator.rebuild import set_aside
from anycastle.replicator.schema import LedgerDamaged, LedgerError
from anycastle.replicator.trouble import Found, Troubles, by_cause
from tests.replicator.cluster import GROUP, Site, alike, cluster, tmpfs
from tests.replicator.disks import MIB, cluster_on_disk, ext4, fill, run
from tests.replicator.members import until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems")


def told(site: Site) -> set[tuple[str, str]]:
    return {(each.found.what, each.found.cause) for each in site.replica.troubles()}


def test_each_path_is_counted_once_and_the_oldest_stands_first() -> None:
    troubles = Troubles()
    full = by_cause("g", "landing", {b"a": "ENOSPC", b"b": "ENOSPC", b"c": "EIO"}, {b"a": "x", b"b": "no room for b"})
    assert full == [Found("g", "landing", "EIO", 1, ""), Found("g", "landing", "ENOSPC", 2, "no room for b")]
    blind = Found("g", "watching", "", example="cannot see changes")
    assert [each.since for each in troubles.update([blind], now=1.0)] == [1.0]
    later = troubles.update([*full, blind], now=2.0)
    assert [(each.found.what, each.since) for each in later] == [("watching", 1.0), ("landing", 2.0), ("landing", 2.0)]
    assert "2 changes cannot land here: the disk is full (ENOSPC); no room for b" in later[2].text
    assert troubles.update([], now=3.0) == ()
    assert troubles.update([blind], now=4.0)[0].since == 4.0


@needs_root
async def test_a_full_disk(tmp_path: Path) -> None:
    async with cluster_on_disk(tmp_path, mib=16) as (_disk, ams, nyc, sgp):
        ballast = nyc.root / ".anycastle" / "ballast"
        fill(ballast)
        (ams.root / "photo").write_bytes(os.urandom(2 * MIB))
        assert await ams.fence() is None
        await until(lambda: sgp.has_landed("photo"), "the others go on")
        await until(lambda: ("landing", "ENOSPC") in told(nyc), "told")
        ballast.unlink()
        await until(lambda: nyc.has_landed("photo") and not told(nyc), "healed")


@needs_root
async def test_a_filesystem_that_becomes_read_only(tmp_path: Path) -> None:
    async with cluster_on_disk(tmp_path) as (disk, ams, nyc, sgp):
        (ams.root / "old").write_bytes(b"old")
        assert await ams.fence() is None
        await alike(ams, nyc, sgp)
        disk.remount("ro")
        await until(lambda: ("writing", "EROFS") in told(nyc), "told before anybody writes")
        (ams.root / "new").write_bytes(b"new")
        assert await ams.fence() is None, "nobody waits for it"
        await until(lambda: sgp.has_landed("new"), "the others go on")
        await until(lambda: told(nyc) == {("landing", "EROFS")}, "told with what waits")
        refused = await nyc.fence()
        assert refused is not None
        assert "Read-only file system" in refused.reason
        assert not nyc.reason(), "it still vouches for what it has"
        assert isinstance(await nyc.admit("old"), Serve)
        disk.remount("rw")
        await alike(ams, nyc, sgp)
        await until(lambda: not told(nyc), "healed")
        assert await nyc.fence() is None


@needs_root
async def test_a_disk_that_gives_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the device is gone: a file in it cannot be read, another can; then it is back."""
    monkeypatch.setattr(settle, "UNREADABLE_SECONDS", 0.2)
    with ext4(tmp_path / "disk") as disk:
        film = disk.point / "film"
        film.write_bytes(os.urandom(40 * MIB))
        disk.forget_cached(film)
        disk.ends_at(24 * MIB)
        async with cluster(tmp_path, each=lambda name: {"root": disk.point} if name == "nyc" else {}) as (
            ams,
            nyc,
            sgp,
        ):
            (nyc.root / "note").write_bytes(b"note")
            await until(lambda: ("reading", "EIO") in told(nyc), "told")
            await until(lambda: ams.has_landed("note") and sgp.has_landed("note"), "the rest goes on")
            (trouble,) = nyc.replica.troubles()
            assert trouble.text.startswith("blogs: 1 paths cannot be read here: the disk gives errors (EIO)")
            assert "film" in trouble.text
            disk.ends_at(0)
            await until(lambda: sgp.has_landed("film") and not told(nyc), "healed")
            await alike(ams, nyc, sgp)


@needs_root
async def test_a_folder_that_may_not_be_changed(tmp_path: Path) -> None:
    """As root nothing is forbidden by modes, so: the immutable flag."""
    async with cluster_on_disk(tmp_path) as (_disk, ams, nyc, sgp):
        (ams.root / "locked").mkdir()
        (ams.root / "free").mkdir()
        await alike(ams, nyc, sgp)
        run("chattr", "+i", str(nyc.root / "locked"))
        for folder in ("locked", "free"):
            (ams.root / folder / "a").write_bytes(b"a")
        assert await ams.fence() is None
        await until(lambda: nyc.has_landed("free/a"), "the rest goes on")
        await until(lambda: told(nyc) == {("landing", "EPERM")}, "told")
        run("chattr", "-i", str(nyc.root / "locked"))
        await alike(ams, nyc, sgp)
        await until(lambda: not told(nyc), "healed")


@needs_root
async def test_a_full_state_disk_heals_though_nothing_else_is_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_thread, "PROBE_SECONDS", 0.1)
    with tmpfs(tmp_path / "nyc", size="8m") as mounted:
        root = {"root": tmp_path / "elsewhere"}
        async with cluster(tmp_path, each=lambda name: root if name == "nyc" else {}) as (ams, nyc, sgp):
            ballast = mounted / "ballast"
            fill(ballast)
            for number in range(40):
                (ams.root / f"{number}").write_bytes(b"x" * 1000)
            assert await ams.fence() is None
            await until(lambda: sgp.has_landed("39"), "the others go on")
            await until(lambda: ("recording", "") in told(nyc), "told")
            assert "cannot record changes" in nyc.reason()
            assert "the disk is full" in nyc.reason()
            ballast.unlink()
            await alike(ams, nyc, sgp)
            await until(lambda: not told(nyc) and not nyc.reason(), "healed")


async def test_a_damaged_ledger_is_set_aside_by_command_only_and_rebuilt(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        for number in range(300):
            (nyc.root / f"page-{number}").write_bytes(b"%d" % number)
        before = await alike(ams, nyc, sgp)
        head = nyc.ledger.head(GROUP)
        await nyc.stop()
        file = nyc.state / "ledger.sqlite"
        with pytest.raises(LedgerError, match="is sound: expected a damaged one"):
            set_aside(file)
        garble(file)
        for _ in range(2):
            with pytest.raises(LedgerDamaged, match=r"is damaged .*`anycastle serve --rebuild-ledger` sets it aside"):
                nyc.open()
        aside = set_aside(file)
        assert aside is not None
        assert aside.read_bytes()
        assert set_aside(file) is None
        await nyc.start()
        (nyc.root / "new").write_bytes(b"new")
        await nyc.ready()
        assert await nyc.fence() is None
        after = await alike(ams, nyc, sgp)
        assert {name: after[name] for name in before} == before
        assert nyc.ledger.head(GROUP) == head + 1, "it went on where it was"


def garble(file: Path) -> None:
    """Pages in the middle of a database at rest."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = file.stat().st_size
    with file.open("r+b") as opened:
        for at in range(size // 4 // 4096 * 4096, size // 2, 4096):
            opened.seek(at)
            opened.write(os.urandom(200))


async def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Versions know no clock: leases are dropped and taken anew, nothing else."""
    async with cluster(tmp_path) as (ams, nyc, sgp):
        (nyc.root / "page").write_bytes(b"old")
        assert await nyc.fence() is None
        nyc.clock.wall_offset = -86_400.0
        await until(lambda: nyc.replica.counters()["clock_jumps"] == 1, "noticed")
        await nyc.ready()
        (nyc.root / "page").write_bytes(b"new")
        os.utime(nyc.root / "page", (1, 1))
        assert await nyc.fence() is None
        tree = await alike(ams, nyc, sgp)
        assert tree["page"][-1] == b"new"
