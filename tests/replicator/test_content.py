"""One group at one site: verdicts on what is not replicated, roots it refuses."""

import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from anycastle.replicator.content import common_prefix
from anycastle.replicator.disk import TreeError
from anycastle.replicator.gate import Refuse, Serve
from anycastle.replicator.stock import INLINE_BYTES_MAX
from tests.replicator.cluster import GROUP, alike, cluster
from tests.replicator.members import until
from tests.replicator.tree_values import delete_entry


async def test_content_that_is_here_is_copied_though_its_first_place_changed(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (one, other):
        big = b"b" * (INLINE_BYTES_MAX + 1)
        for name in ("1", "2"):
            (one.root / name).write_bytes(big)
        assert await one.fence() is None
        await alike(one, other)
        fetched = other.content.landing.pulls.fetched_bytes
        first = other.ledger.with_digest(GROUP, blake3(big).digest(), 9)[0][0].decode()
        other.content.settle.look = lambda paths: None  # type: ignore[method-assign]
        (other.root / first).write_bytes(b"else")
        (one.root / "3").write_bytes(big)
        assert await one.fence() is None
        await until(lambda: other.has_landed("3"), "the copy landed")
        assert (other.root / "3").read_bytes() == big
        assert other.content.landing.pulls.fetched_bytes == fetched, "nothing was transferred again"


async def test_what_nobody_announced_yet_is_waited_for_and_a_true_404_is_served(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",), wait_max_seconds=5.0) as (site,):
        (site.root / "d").mkdir()
        (site.root / "d/new").write_bytes(b"new")
        verdict = await site.admit("d/new")
        assert isinstance(verdict, Serve)
        assert site.ledger.newest(GROUP, b"d/new") is not None, "it was journaled before it was served"
        assert isinstance(await site.admit("d/never"), Serve)
        assert isinstance(await site.admit("d/" + "n" * 256), Refuse)


async def test_a_root_that_was_never_seen_is_refused_where_the_ledger_knows_files(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        (site.root / "a").write_bytes(b"a")
        assert await site.fence() is None
        await site.stop()
        shutil.rmtree(site.root)
        site.root.mkdir()
        with pytest.raises(TreeError, match="expected its disk to be mounted"):
            site.open()
        assert list(site.root.iterdir()) == []
        site.ledger.close()


def test_the_common_prefix_of_entries() -> None:
    def prefix(*paths: bytes) -> bytes:
        return common_prefix([delete_entry(path) for path in paths])

    assert prefix(b"a/b/c") == b"a/b/"
    assert prefix(b"a/b/c", b"a/b/d", b"a/bb") == b"a/"
    assert prefix(b"a", b"b/c") == b""
