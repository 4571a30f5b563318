"""Patterns that leave paths out."""

import pytest

from anycastle.replicator.exclude import Exclude


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        ((), b".anycastle", True),
        ((), b".anycastle/tmp/x", True),
        ((), b".anycastle2", False),
        ((), b"a/.anycastle", False),
        ((), b"anything", False),
        (("*.tmp",), b"a.tmp", True),
        (("*.tmp",), b"d/a.tmp", True),
        (("*.tmp",), b"d.tmp/a", True),
        (("*.tmp",), b"a.tmpx", False),
        (("cache/",), b"cache", True),
        (("cache/",), b"cache/a/b", True),
        (("cache/",), b"cachex/a", False),
        (("cache/",), b"d/cache/a", False),
        (("*/cache/",), b"d/cache/a", True),
        (("[ab]?",), b"ax", True),
        (("[ab]?",), b"cx", False),
        (("caf\udce9",), b"caf\xe9", True),
        (("*.tmp",), b"new\nline.tmp", True),
        (("a", "b"), b"b/c", True),
        (("a|b",), b"a", False),
    ],
)
def test_exclude(patterns: tuple[str, ...], path: bytes, excluded: bool) -> None:
    assert Exclude(patterns)(path) is excluded
