"""How applications write: half of a file is nobody's change, however long it takes and whoever waits meanwhile."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anycastle.replicator.entry import Kind
from tests.replicator.cluster import GROUP, Site, alike, cluster, tmpfs
from tests.replicator.watching import needs_root


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with cluster(tmp_path, ("ams",)) as (made,):
        yield made


def sizes(site: Site, path: bytes) -> list[int]:
    return [entry.size for entry in site.ledger.entries(GROUP, "ams", 0, 1000) if entry.path == path]


async def write_slowly(site: Site, path: Path, pieces: int) -> None:
    """With somebody else's barrier after each piece."""
    with path.open("wb", buffering=0) as file:
        for _ in range(pieces):
            file.write(b"." * 1000)
            await site.content.settle.barrier()


async def test_an_editor_that_truncates_and_writes_in_place(site: Site) -> None:
    (site.root / "page.txt").write_bytes(b"x" * 500)
    await site.content.settle.barrier()
    await write_slowly(site, site.root / "page.txt", 5)
    await site.content.settle.barrier()
    assert sizes(site, b"page.txt") == [500, 5000]


@needs_root
async def test_an_upload_moved_in_from_another_filesystem(site: Site, tmp_path: Path) -> None:
    """PHP's move_uploaded_file then copies to the final name, sets the mode, and unlinks."""
    with tmpfs(tmp_path / "uploads") as uploads:
        (uploads / "php123").write_bytes(b"." * 4000)
        await write_slowly(site, site.root / "photo.jpg", 4)
        (site.root / "photo.jpg").chmod(0o644)
        (uploads / "php123").unlink()
        await site.content.settle.barrier()
    assert set(sizes(site, b"photo.jpg")) == {4000}


async def test_lock_folders_leave_nothing_behind(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (one, other):
        for number in range(50):
            (one.root / "lock").mkdir()
            (one.root / "page").write_bytes(b"%d" % number)
            (one.root / "lock").rmdir()
            if number % 10 == 0:
                await one.content.settle.barrier()
        assert await one.fence() is None
        tree = await alike(one, other)
        assert set(tree) == {"page"}
        known = other.ledger.newest(GROUP, b"lock")
        assert known is None or known.kind is Kind.ABSENT


async def test_a_writer_that_dies_leaves_what_it_wrote(site: Site) -> None:
    """There is no close but the kernel's, at its death."""
    child = os.fork()
    if child == 0:
        file = os.open(site.root / "half", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"half")
        os._exit(1)
    os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
    await site.content.settle.barrier()
    assert sizes(site, b"half") == [4]
