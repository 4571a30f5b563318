"""What cannot both be: a folder that goes, or becomes a file, while somebody else puts something in it."""

import os
import shutil
from pathlib import Path

from tests.replicator.cluster import Site, alike, cluster, conflicts_kept
from tests.replicator.watching import needs_root

pytestmark = needs_root
TWO = ("ams", "nyc")
SECRET = 0o2750
OWNER = 33


async def _shared(one: Site, other: Site) -> None:
    """A folder that is not for everybody, at both sites; then `one` is away."""
    (one.root / "d").mkdir()
    (one.root / "d/old").write_bytes(b"old")
    os.chown(one.root / "d", OWNER, OWNER)
    (one.root / "d").chmod(SECRET)
    assert await one.fence() is None
    await alike(one, other)


def _is_as_it_was(folder: Path) -> bool:
    it = folder.stat()
    return (it.st_mode & 0o7777, it.st_uid, it.st_gid) == (SECRET, OWNER, OWNER)


async def test_a_folder_removed_while_something_is_put_in_it_stays_with_its_attributes(tmp_path: Path) -> None:
    async with cluster(tmp_path, TWO) as (one, other):
        await _shared(one, other)
        await one.stop()
        shutil.rmtree(one.root / "d")
        (other.root / "d/new").write_bytes(b"new")
        await one.start()
        tree = await alike(one, other)
        assert set(tree) == {"d", "d/new"}
        assert _is_as_it_was(one.root / "d")
        assert _is_as_it_was(other.root / "d")


async def test_a_file_in_the_place_of_a_folder_in_use_is_kept_aside(tmp_path: Path) -> None:
    async with cluster(tmp_path, TWO) as (one, other):
        await _shared(one, other)
        await one.stop()
        shutil.rmtree(one.root / "d")
        (one.root / "d").write_bytes(b"a file now")
        (other.root / "d/new").write_bytes(b"new")
        await one.start()
        tree = await alike(one, other)
        assert set(tree) == {"d", "d/new"}
        assert _is_as_it_was(one.root / "d")
        assert b"a file now" in conflicts_kept(one.root) + conflicts_kept(other.root)


async def test_a_deep_tree_goes_in_one_pass(tmp_path: Path) -> None:
    """Each folder waits for what is in it, and is tried again the moment that is gone."""
    async with cluster(tmp_path, TWO) as (one, other):
        deep = one.root.joinpath(*(f"{level}" for level in range(80)))
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(b"x")
        assert await one.fence() is None
        await alike(one, other)
        shutil.rmtree(one.root / "0")
        assert await one.fence() is None
        assert await alike(one, other) == {}
