"""Bodies that come before, after, twice or never."""

from collections.abc import Mapping

import pytest

from anycastle.replicator import following
from anycastle.replicator.entry import Entry
from anycastle.replicator.following import WAIT_SECONDS, Following
from tests.replicator.tree_values import file_entry

ONE, TWO = file_entry(b"a", b"1", seq=1, lamport=1), file_entry(b"b", b"22", seq=2, lamport=2)


class Site:
    """Remembers what was to land, and with which bodies."""

    def __init__(self) -> None:
        self.landed: list[tuple[bytes, bytes | None]] = []
        self.following = Following(self._land)

    def _land(self, entries: tuple[Entry, ...], bodies: Mapping[bytes, bytes]) -> None:
        self.landed += [(entry.path, bodies.get(entry.digest)) for entry in entries]

    def recorded(self, *entries: Entry, coming: bool = True, now: float = 0.0) -> None:
        self.following.recorded(entries, {}, [entry.digest for entry in entries] if coming else [], now=now)

    def came(self, entry: Entry, body: bytes, now: float = 0.0) -> None:
        self.following.came({entry.digest: body}, now=now)


def test_each_lands_when_its_body_is_here() -> None:
    site = Site()
    site.recorded(ONE, TWO)
    assert site.landed == []
    site.came(TWO, b"22")
    assert site.landed == [(b"b", b"22")]
    site.came(ONE, b"1")
    assert site.landed == [(b"b", b"22"), (b"a", b"1")]


def test_what_waits_for_nothing_lands_at_once() -> None:
    site = Site()
    site.recorded(ONE, coming=False)
    assert site.landed == [(b"a", None)]
    site.following.recorded((TWO,), {TWO.digest: b"22"}, [TWO.digest], now=0.0)
    assert site.landed == [(b"a", None), (b"b", b"22")], "it came along all the same"


def test_a_body_may_be_there_first() -> None:
    site = Site()
    site.came(ONE, b"1")
    site.recorded(ONE)
    site.recorded(ONE)
    assert site.landed == [(b"a", b"1")], "and is given once"


def test_what_never_comes_is_not_waited_for_for_ever() -> None:
    site = Site()
    site.recorded(ONE)
    site.recorded(TWO, now=1.0)
    site.following.expire(now=WAIT_SECONDS)
    assert site.landed == [(b"a", None)]
    site.came(ONE, b"1", now=WAIT_SECONDS)
    site.following.expire(now=2 * WAIT_SECONDS)
    site.recorded(ONE, now=2 * WAIT_SECONDS)
    site.following.expire(now=3 * WAIT_SECONDS)
    assert site.landed == [(b"a", None), (b"b", None), (b"a", None)], "nor is a body kept that nobody wants"


def test_an_older_version_does_not_land_after_a_newer_one() -> None:
    site = Site()
    site.recorded(ONE)
    newer = file_entry(b"a", b"333", seq=3, lamport=3)
    site.following.recorded((newer,), {newer.digest: b"333"}, [], now=0.0)
    site.came(ONE, b"1")
    site.following.expire(now=WAIT_SECONDS)
    assert site.landed == [(b"a", b"333")]


def test_two_paths_of_one_content_need_it_once() -> None:
    site = Site()
    twin = file_entry(b"c", b"1", seq=2, lamport=2)
    assert twin.digest == ONE.digest
    site.recorded(ONE, twin)
    site.came(ONE, b"1")
    assert site.landed == [(b"a", b"1"), (b"c", b"1")]


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WAITING_MAX", 1)
    monkeypatch.setattr(following, "EARLY_BYTES_MAX", 3)
    site = Site()
    site.recorded(ONE, TWO)
    assert site.landed == [(b"b", None)], "one waits, the other is pulled"
    early = [file_entry(b"%d" % n, b"%d" % n, seq=n, lamport=n) for n in range(10, 14)]
    for entry in early:
        site.came(entry, b"xx")
    for entry in early:
        site.recorded(entry)
    assert (b"13", b"xx") in site.landed
    assert (b"10", b"xx") not in site.landed
