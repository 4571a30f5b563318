"""One group at one site: bodies it gives away, verdicts on what is not replicated, roots it refuses."""

import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from anycastle.replicator.content import INLINE_BYTES_MAX, common_prefix
from anycastle.replicator.disk import TreeError
from anycastle.replicator.gate import Refuse, Serve
from tests.replicator.cluster import GROUP, Site, cluster
from tests.replicator.tree_values import delete_entry, file_entry


def body_of(site: Site, content: bytes) -> bytes | None:
    descriptor = site.content.open_body(blake3(content).digest())
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


async def test_bodies_are_given_by_digest_and_small_ones_travel(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        big = b"b" * (INLINE_BYTES_MAX + 1)
        (site.root / "big").write_bytes(big)
        (site.root / "small").write_bytes(b"small")
        (site.root / "empty").write_bytes(b"")
        assert await site.fence() is None
        entries = {entry.path: entry for entry in site.ledger.entries(GROUP, "ams", 0, 10)}
        assert body_of(site, big) == big
        assert body_of(site, b"unknown") is None
        assert site.content.small_body(entries[b"small"]) == b"small"
        assert site.content.small_body(entries[b"big"]) is None
        assert site.content.small_body(entries[b"empty"]) is None
        assert site.content.small_body(file_entry(b"small", b"Small")) is None, "it is something else by now"
        assert site.content.small_body(file_entry(b"gone")) is None
        (site.root / "big").unlink()
        assert body_of(site, big) is None


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
