"""Damage is what changed without the kernel's knowing; made here below the filesystem, on the loop device's image."""

import asyncio
import os
from pathlib import Path

import pytest

from anycastle.replicator import scrub
from anycastle.replicator.gate import Forward, Serve
from anycastle.replicator.scrub_look import BATCH_BYTES
from tests.replicator.cluster import GROUP, Site, alike, cluster, conflicts_kept
from tests.replicator.disks import MIB, Disk, cluster_on_disk
from tests.replicator.members import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems")
MARK = b"<<this is where a bit will flip>>"


async def scrubbed(site: Site) -> scrub.Pass:
    site.content.scrub.ask()
    current = site.content.scrub.current
    assert current is not None
    await until(lambda: current.ended is not None, "scrubbed")
    return current


def rot(disk: Disk, file: Path) -> None:
    """Another byte on the device, behind the filesystem's back."""
    disk.forget_cached(file)
    before = file.stat()
    disk.flip(MARK)
    after = file.stat()
    assert (before.st_ctime_ns, before.st_size, before.st_ino) == (after.st_ctime_ns, after.st_size, after.st_ino)


def with_mark(size: int) -> bytes:
    return os.urandom(size // 2) + MARK + os.urandom(size - size // 2 - len(MARK))


async def test_damage_is_found_repaired_and_kept(tmp_path: Path) -> None:
    async with cluster_on_disk(tmp_path) as (disk, ams, nyc, sgp):
        content = with_mark(100_000)
        (nyc.root / "photo").write_bytes(content)
        for number in range(100):
            (ams.root / f"page-{number}").write_bytes(b"%d" % number)
        tree = await alike(ams, nyc, sgp)
        sound = await scrubbed(nyc)
        assert (sound.files, sound.damaged, sound.files_total) == (101, 0, 101)
        assert sound.bytes == sound.bytes_total == 100_000 + sum(len(b"%d" % number) for number in range(100))
        rot(disk, nyc.root / "photo")
        head = nyc.ledger.head(GROUP)
        found = await scrubbed(nyc)
        assert (found.files, found.damaged, found.repaired) == (101, 1, 1)
        assert (nyc.root / "photo").read_bytes() == content
        (damaged,) = conflicts_kept(nyc.root)
        assert len(damaged) == len(content)
        assert damaged != content
        assert await nyc.fence() is None
        assert nyc.ledger.head(GROUP) == head, "a repair is no change"
        assert await alike(ams, nyc, sgp) == tree, "mode, owner and times included"
        counters = nyc.replica.counters()
        assert (counters["scrub_damaged_files"], counters["scrub_repaired_files"]) == (1, 1)
        assert not nyc.content.scrub.damaged


async def test_what_nobody_can_repair_stays_known_and_is_not_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "AGAIN_SECONDS", 0.1)
    async with cluster_on_disk(tmp_path) as (disk, ams, nyc, sgp):
        content = with_mark(3 * BATCH_BYTES)
        (nyc.root / "film").write_bytes(content)
        await alike(ams, nyc, sgp)
        nothing = lambda group, digest: asyncio.sleep(0, None)  # noqa: E731
        honest = ams.links._bodies, sgp.links._bodies
        ams.links._bodies = sgp.links._bodies = nothing
        rot(disk, nyc.root / "film")
        found = await scrubbed(nyc)
        assert (found.damaged, found.repaired) == (1, 0)
        (trouble,) = nyc.replica.troubles()
        assert "1 files are damaged here and could not be repaired yet" in trouble.text
        assert "film" in trouble.text
        assert isinstance(await nyc.admit("film"), Forward)
        ams.links._bodies, sgp.links._bodies = honest
        await until(lambda: not nyc.content.scrub.damaged, "tried again, and repaired")
        assert (nyc.root / "film").read_bytes() == content
        assert isinstance(await nyc.admit("film"), Serve)


async def test_what_cannot_be_read_is_repaired_too(tmp_path: Path) -> None:
    async with cluster_on_disk(tmp_path) as (disk, ams, nyc, sgp):
        content = os.urandom(40 * MIB)
        (nyc.root / "film").write_bytes(content)
        await alike(ams, nyc, sgp)
        disk.forget_cached(nyc.root / "film")
        disk.ends_at(24 * MIB)
        found = await scrubbed(nyc)
        assert (found.damaged, found.repaired) == (1, 0), "no room on what is left of it"
        assert "cannot be read: Input/output error" in nyc.content.scrub.damaged[b"film"]
        disk.ends_at(0)
        assert (await scrubbed(nyc)).damaged == 0
        assert not nyc.content.scrub.damaged


async def test_an_edit_is_no_damage(tmp_path: Path) -> None:
    """Neither one that was not noticed yet, nor one under way through a mapping."""
    async with cluster(tmp_path) as (ams, nyc, sgp):
        for name in ("seen", "held"):
            (nyc.root / name).write_bytes(b"old" * 1000)
        await alike(ams, nyc, sgp)
        with (nyc.root / "held").open("r+b") as held:
            (nyc.root / "seen").write_bytes(b"new" * 1000)
            held.write(b"new")
            held.flush()
            found = await scrubbed(nyc)
            assert (found.files, found.damaged) == (2, 0)
        tree = await alike(ams, nyc, sgp)
        assert tree["seen"][-1] == b"new" * 1000
        assert tree["held"][-1] == b"new" + b"old" * 999
        assert conflicts_kept(nyc.root) == []


async def test_the_background_pass_keeps_its_rate_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "NOTE_SECONDS", 0.0)
    async with cluster(tmp_path, ("ams",), scrub_bytes_per_second=1_000_000) as (ams,):
        counters = ams.content.scrub.counters
        for number in range(200):
            (ams.root / f"{number:03}").write_bytes(os.urandom(20_000))
        assert await ams.fence() is None
        ams.ledger.put(f"scrub-began.{GROUP}", b"0")
        await ams.stop()
        await ams.start()
        counters = ams.content.scrub.counters
        began = ams.clock.now()
        await until(lambda: counters.bytes >= 2_400_000, "more than half")
        assert ams.clock.now() - began >= 1.0
        await until(lambda: ams.ledger.get(f"scrub-at.{GROUP}"), "noted")
        at = ams.ledger.get(f"scrub-at.{GROUP}")
        assert at is not None
        await ams.stop()
        await ams.start()
        counters = ams.content.scrub.counters
        await until(lambda: ams.content.scrub.current and ams.content.scrub.current.ended, "the rest")
        assert 0 < counters.files < 200 - int(at) + 64
        assert ams.ledger.get(f"scrub-at.{GROUP}") == b""
        assert ams.content.scrub._pause() > 3600
