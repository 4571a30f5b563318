"""What people do to a root while it is replicated: mounts over it, our own folder removed, floods of events."""

import asyncio
import ctypes
import mmap
import os
import shutil
from pathlib import Path

import pytest

from anycastle.replicator.entry import Kind
from anycastle.replicator.watch_event import Overflow
from tests.replicator.cluster import GROUP, alike, cluster, tmpfs
from tests.replicator.members import until
from tests.replicator.watching import needs_root

pytestmark = needs_root
TWO = ("ams", "nyc")


async def test_a_mount_over_a_folder_deletes_nothing_and_heals(tmp_path: Path) -> None:
    async with cluster(tmp_path, TWO) as (one, other):
        (one.root / "d/inner").mkdir(parents=True)
        (one.root / "d/inner/file").write_bytes(b"precious")
        assert await one.fence() is None
        await alike(one, other)
        with tmpfs(one.root / "d"):
            (one.root / "d/not-ours").write_bytes(b"x")
            one.content.settle.look((b"d", b"d/inner/file", b"d/not-ours"))
            await until(lambda: b"d" in one.content.settle.looks.failed, "it is named")
            assert "something else is mounted there" in one.content.settle.looks.failed[b"d"]
            await one.stop()
            await one.start()  # a whole scan, with the mount in its way
            await one.ready()
            assert (other.root / "d/inner/file").read_bytes() == b"precious"
            (other.root / "d/inner/file").write_bytes(b"new")
            assert await other.fence() is None
            await until(lambda: one.content.landing.failed, "it waits, with its cause")
        tree = await alike(one, other)
        assert tree["d/inner/file"][-1] == b"new"
        newest = one.ledger.newest(GROUP, b"d/not-ours")
        assert newest is None


async def test_our_folder_removed_is_made_again_and_landing_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, TWO) as (one, other):
        (one.root / "a").write_bytes(b"a")
        await alike(one, other)
        shutil.rmtree(other.root / ".anycastle")
        await until(lambda: other.replica.counters()["private_folder_remade"] == 1, "made again")
        await other.ready()
        (one.root / "b").write_bytes(b"b")
        (other.root / "c").write_bytes(b"c")
        assert await other.fence() is None
        tree = await alike(one, other)
        assert set(tree) == {"a", "b", "c"}


async def test_an_overflow_is_repaired_while_other_changes_go_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (one,):
        settle = one.content.settle
        scanning, go_on = asyncio.Event(), asyncio.Event()
        walk = settle.survey._walk

        async def slow(below: bytes) -> None:
            scanning.set()
            await go_on.wait()
            await walk(below)

        settle.survey._walk = slow  # type: ignore[method-assign]
        await settle._take(Overflow("as if"))
        await asyncio.wait_for(scanning.wait(), 10)
        (one.root / "meanwhile").write_bytes(b"x")
        await until(lambda: one.ledger.newest(GROUP, b"meanwhile"), "announced while the scan is under way")
        async with asyncio.TaskGroup() as tasks:
            barrier = tasks.create_task(settle.barrier())
            await until(lambda: settle._cookies and not settle.sight.reason, "it is under way")
            (one.root / "later").write_bytes(b"x")
            await until(lambda: one.ledger.newest(GROUP, b"later"), "and its cookie was taken")
            assert not barrier.done(), "what was lost may have come before it"
            go_on.set()
        assert barrier.result() >= 1


async def test_stores_through_a_mapping_are_announced_when_it_is_unmapped(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (one,):
        (one.root / "mapped").write_bytes(b"." * 4096)
        assert await one.content.settle.barrier() == 1
        with (one.root / "mapped").open("r+b") as file:
            mapping = mmap.mmap(file.fileno(), 4096)
        mapping[0:5] = b"store"
        mapping.close()
        assert await one.content.settle.barrier() == 2
        local = one.ledger.local(GROUP, b"mapped")
        assert local is not None
        assert local.fingerprint == one.content.tree.fingerprint(b"mapped")


async def test_a_container_writes_into_the_root_through_its_overlay(tmp_path: Path) -> None:
    """The root is the upper layer of an overlay filesystem."""
    with tmpfs(tmp_path / "mount") as point:
        for name in ("lower", "upper", "work", "merged"):
            (point / name).mkdir()
        (point / "lower/from-image").write_bytes(b"image")
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"lowerdir={point}/lower,upperdir={point}/upper,workdir={point}/work"
        merged = point / "merged"
        if libc.mount(b"overlay", os.fsencode(merged), b"overlay", 0, options.encode()) != 0:
            pytest.skip(f"this kernel has no overlayfs: {os.strerror(ctypes.get_errno())}")
        try:
            async with cluster(tmp_path, ("ams",), root=point / "upper") as (one,):
                assert one.content.settle.sight.watched_by.startswith("fanotify")
                (merged / "new").write_bytes(b"new")
                (merged / "folder").mkdir()
                (merged / "from-image").write_bytes(b"changed")
                await one.content.settle.barrier()
                known = {path: local.kind for path, local in one.ledger.locals_below(GROUP, b"")}
                assert known == {b"new": Kind.FILE, b"folder": Kind.FOLDER, b"from-image": Kind.FILE}
        finally:
            assert libc.umount2(os.fsencode(merged), 0) == 0


async def test_a_root_on_an_overlay_is_watched_and_landed_in(tmp_path: Path) -> None:
    """As inside a container without a volume."""
    with tmpfs(tmp_path / "mount") as point:
        for name in ("lower", "upper", "work", "merged"):
            (point / name).mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"lowerdir={point}/lower,upperdir={point}/upper,workdir={point}/work"
        merged = point / "merged"
        if libc.mount(b"overlay", os.fsencode(merged), b"overlay", 0, options.encode()) != 0:
            pytest.skip(f"this kernel has no overlayfs: {os.strerror(ctypes.get_errno())}")
        try:
            roots = {"ams": {"root": merged}, "nyc": {}}
            async with cluster(tmp_path, TWO, each=lambda name: roots[name]) as (one, other):
                assert one.content.settle.sight.watched_by.startswith("inotify")
                (one.root / "d/e").mkdir(parents=True)
                (one.root / "d/e/up").write_bytes(b"up")
                (other.root / "down").write_bytes(b"down")
                assert await one.fence() is None
                await until(lambda: len(list(other.ledger.locals_below(GROUP, b""))) == 4, "all known")
                assert set(await alike(one, other)) == {"d", "d/e", "d/e/up", "down"}
        finally:
            assert libc.umount2(os.fsencode(merged), 2) == 0
