"""What is in flight in a group: entries that some site has not landed yet, and since when we know of them.

Law: every entry this member has recorded is either landed at a site or counted here for that site, so that
`pending(site)` never says less than is missing there. Steering, routes and the dashboard read nothing else.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyroaring import BitMap

from anycastle.health.view import WHOLE_GROUP, content_prefix
from anycastle.replicator.entry import Entry

ENTRIES_MAX = 200_000
"""In memory per group; beyond it a site counts as behind in the whole group until it has caught up."""

Key = tuple[str, int]
"""(origin, seq)."""


@dataclass(frozen=True, slots=True)
class Flying:
    """One entry on its way."""

    path: bytes
    prefix: bytes
    since: float
    """When this member learned of it, seconds of BOOTTIME."""


@dataclass(slots=True)
class _Site:
    """What one site has not landed; dictionaries keep the order of arrival, so the first value is the oldest."""

    by_prefix: dict[bytes, dict[Key, float]] = field(default_factory=dict)
    by_origin: dict[str, dict[int, bytes]] = field(default_factory=dict)
    overflow_since: float | None = None


class Flight:
    """One group's entries on their way to the sites."""

    def __init__(self, sites: tuple[str, ...], *, depth: int) -> None:
        self._depth = depth
        self._sites = {site: _Site() for site in sites}
        self._flying: dict[Key, Flying] = {}
        self._missing_at: dict[Key, int] = {}

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self._sites)

    def add(self, entry: Entry, *, now: float) -> None:
        """An entry was recorded here: no site is known to have landed it yet."""
        for site in self._sites:
            self.add_missing(site, (entry.origin, entry.seq), entry.path, now=now)

    def add_missing(self, name: str, key: Key, path: bytes, *, now: float) -> None:
        """One site is known to lack an entry."""
        site, (origin, seq) = self._sites[name], key
        if seq in site.by_origin.get(origin, {}):
            return
        if key not in self._flying:
            if len(self._flying) >= ENTRIES_MAX:
                site.overflow_since = site.overflow_since or now
                return
            self._flying[key] = Flying(path, content_prefix(path, self._depth), now)
            self._missing_at[key] = 0
        flying = self._flying[key]
        self._missing_at[key] += 1
        site.by_prefix.setdefault(flying.prefix, {})[key] = now
        site.by_origin.setdefault(origin, {})[seq] = flying.prefix

    def missing_count(self, name: str, origin: str) -> int:
        """Entries of one journal that a site is known to lack."""
        return len(self._sites[name].by_origin.get(origin, {}))

    def landed(self, name: str, origin: str, watermark: int, gaps: BitMap) -> bool:
        """`name` says it landed everything of `origin` up to `watermark` but for `gaps`; True when that is news."""
        site = self._sites.get(name)
        if site is None:
            return False
        waiting = site.by_origin.get(origin, {})
        done = [seq for seq in waiting if seq <= watermark and seq not in gaps]
        for seq in done:
            self._remove(site, (origin, seq), waiting.pop(seq))
        if len(self._flying) < ENTRIES_MAX:
            site.overflow_since = None  # What did not fit is learnt anew from what the site says it lacks.
        return bool(done)

    def pending(self, name: str) -> dict[bytes, float]:
        """Content prefix -> since when the oldest change below it has been missing at the site."""
        site = self._sites[name]
        found = {prefix: next(iter(keys.values())) for prefix, keys in site.by_prefix.items()}
        if site.overflow_since is not None:
            found[WHOLE_GROUP] = min(site.overflow_since, *found.values(), site.overflow_since)
        return found

    def missing(self, name: str, prefix: bytes) -> Iterator[tuple[Key, Flying]]:
        """What the site has not landed below a folder prefix."""
        for keys in self._sites[name].by_prefix.values():
            for key in keys:
                flying = self._flying[key]
                if flying.path.startswith(prefix) or prefix == flying.path + b"/":
                    yield key, flying

    def below(self, prefix: bytes) -> Iterator[tuple[Key, Flying]]:
        """Everything in flight below a folder prefix."""
        for key, flying in self._flying.items():
            if flying.path.startswith(prefix) or prefix == flying.path + b"/":
                yield key, flying

    def missing_total(self, name: str) -> int:
        """Entries of all journals that a site is known to lack."""
        return sum(len(seqs) for seqs in self._sites[name].by_origin.values())

    def since(self, name: str, origin: str) -> float | None:
        """Since when the oldest entry of one journal has been missing at a site."""
        seqs = self._sites[name].by_origin.get(origin)
        return self._flying[origin, next(iter(seqs))].since if seqs else None

    def oldest(self, limit: int) -> list[tuple[Key, Flying]]:
        """The first `limit` entries in flight, those longest known first."""
        return list(itertools.islice(self._flying.items(), limit))

    def missing_sites(self, key: Key) -> tuple[str, ...]:
        """The sites that have not landed one entry, as far as this member knows."""
        origin, seq = key
        return tuple(name for name, site in self._sites.items() if seq in site.by_origin.get(origin, {}))

    def __len__(self) -> int:
        return len(self._flying)

    def _remove(self, site: _Site, key: Key, prefix: bytes) -> None:
        keys = site.by_prefix[prefix]
        del keys[key]
        if not keys:
            del site.by_prefix[prefix]
        self._missing_at[key] -= 1
        if not self._missing_at[key]:
            del self._missing_at[key], self._flying[key]
