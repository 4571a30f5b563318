"""Small bodies that follow their announcement on the link: entries wait for them, recorded and acknowledged meanwhile.

Law: a fence costs a round trip of a few bytes whatever was uploaded, for what it needs is the announcement alone. What
waits here is bounded in number, in bytes and in time; whatever does not come is pulled like any other body.
"""

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from anycastle.replicator.entry import Entry

WAIT_SECONDS = 2.0
"""An entry is landed without its body then; a body that nobody asked for is forgotten."""
WAITING_MAX = 10_000
EARLY_BYTES_MAX = 16 * 1024 * 1024


@dataclass(slots=True)
class _Waiting:
    since: float
    entries: dict[bytes, Entry] = field(default_factory=dict)
    """By path."""


@dataclass(slots=True)
class _Early:
    since: float
    body: bytes


class Following:
    """One group's, at one site."""

    def __init__(self, land: Callable[[tuple[Entry, ...], Mapping[bytes, bytes]], None]) -> None:
        """`land` takes entries that wait for nothing more, with the bodies that came."""
        self._land = land
        self._waiting: dict[bytes, _Waiting] = {}
        """By digest, the oldest first."""
        self._paths: dict[bytes, bytes] = {}
        """Path -> digest that it waits for."""
        self._early: dict[bytes, _Early] = {}
        """What came before its entries were recorded; the oldest first."""
        self.early_bytes = 0
        self.dropped = 0
        """Bodies for which there was no room; they are pulled."""

    def recorded(
        self, entries: tuple[Entry, ...], bodies: Mapping[bytes, bytes], coming: Collection[bytes], *, now: float
    ) -> None:
        """Land these, the newest of their paths, as soon as those of the bodies that are `coming` are here."""
        ready: list[Entry] = []
        found = dict(bodies)
        for entry in entries:
            self._stop_waiting(entry.path)  # for an older version of it
            if (early := self._early.get(entry.digest)) is not None:
                found[entry.digest] = early.body
            if entry.digest in coming and entry.digest not in found and len(self._paths) < WAITING_MAX:
                self._waiting.setdefault(entry.digest, _Waiting(now)).entries[entry.path] = entry
                self._paths[entry.path] = entry.digest
            else:
                ready.append(entry)
        for digest in found:
            self._forget_early(digest)
        self._land(tuple(ready), found)

    def came(self, bodies: Mapping[bytes, bytes], *, now: float) -> None:
        """Bodies are here; whoever lands them checks them."""
        ready: list[Entry] = []
        for digest, body in bodies.items():
            if digest in self._waiting:
                ready += self._take(digest)
            else:
                self._keep_early(digest, body, now=now)
        if ready:
            self._land(tuple(ready), bodies)

    def expire(self, *, now: float) -> None:
        """Wait no longer for what is late."""
        late = [entry for digest in _older(self._waiting, now - WAIT_SECONDS) for entry in self._take(digest)]
        for digest in _older(self._early, now - WAIT_SECONDS):
            self._forget_early(digest)
        if late:
            self._land(tuple(late), {})

    def _take(self, digest: bytes) -> list[Entry]:
        entries = self._waiting.pop(digest).entries
        for path in entries:
            del self._paths[path]
        return list(entries.values())

    def _stop_waiting(self, path: bytes) -> None:
        digest = self._paths.pop(path, None)
        if digest is None:
            return
        entries = self._waiting[digest].entries
        del entries[path]
        if not entries:
            del self._waiting[digest]

    def _keep_early(self, digest: bytes, body: bytes, *, now: float) -> None:
        self._forget_early(digest)
        self._early[digest] = _Early(now, body)
        self.early_bytes += len(body)
        while self.early_bytes > EARLY_BYTES_MAX:
            self.dropped += 1
            self._forget_early(next(iter(self._early)))

    def _forget_early(self, digest: bytes) -> None:
        early = self._early.pop(digest, None)
        if early is not None:
            self.early_bytes -= len(early.body)


def _older(kept: Mapping[bytes, _Waiting | _Early], since: float) -> list[bytes]:
    """The keys of those that begin a mapping and are that old."""
    return list(itertools.takewhile(lambda digest: kept[digest].since <= since, kept))
