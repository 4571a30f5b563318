"""What is in flight in a group: entries that some site has not landed yet, and since when we know of them.

Law: every entry this member has recorded is either landed at a site or counted here for that site, so that
`pending(site)` never says less than is missing there. Steering, routes and the dashboard read nothing else. Where too
much is missing to hold it by its path, or the paths were not looked up yet, the site is behind in the whole group.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pyroaring import BitMap

from anycastle.health.view import WHOLE_GROUP, content_prefix
from anycastle.replicator.entry import Entry

ENTRIES_MAX = 200_000
"""In memory by path, per group."""

Key = tuple[str, int]
"""(origin, seq)."""

T = TypeVar("T")


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
    named: dict[str, BitMap] = field(default_factory=dict)
    """Origin -> seqs that are in `by_prefix` too."""
    unnamed: dict[str, BitMap] = field(default_factory=dict)
    """Origin -> seqs of which the path is not known here; never an empty set."""
    unnamed_since: float | None = None

    def put_unnamed(self, origin: str, seqs: BitMap, *, now: float) -> None:
        if seqs:
            self.unnamed[origin] = seqs
        else:
            self.unnamed.pop(origin, None)
        self.unnamed_since = (self.unnamed_since if self.unnamed_since is not None else now) if self.unnamed else None


class Flight:
    """One group's entries on their way to the sites."""

    def __init__(self, sites: tuple[str, ...], *, depth: int, heads: Mapping[str, int], entries_max: int = ENTRIES_MAX):
        """`heads`: how far each journal is held at the start."""
        self._depth = depth
        self._entries_max = entries_max
        self._heads = dict(heads)
        self._sites = {site: _Site() for site in sites}
        self._flying: dict[Key, Flying] = {}
        self._missing_at: dict[Key, int] = {}
        self._by_prefix: dict[bytes, dict[Key, None]] = {}
        self._void: dict[str, BitMap] = {}
        """Origin -> seqs that were compacted: nobody can lack them."""

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self._sites)

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(self._heads)

    def __len__(self) -> int:
        """Entries held by path."""
        return len(self._flying)

    # What happens

    def add(self, entry: Entry, *, now: float) -> None:
        """An entry was recorded here: no site is known to have landed it yet."""
        self._heads[entry.origin] = max(entry.seq, self._heads.get(entry.origin, 0))
        for site in self._sites.values():
            if not self._add_named(site, (entry.origin, entry.seq), entry.path, now=now):
                seqs = site.unnamed.get(entry.origin, BitMap()) | BitMap([entry.seq])
                site.put_unnamed(entry.origin, seqs, now=now)

    def landed(self, name: str, origin: str, watermark: int, gaps: BitMap, *, now: float) -> None:
        """`name` says it landed all of `origin` up to `watermark` but for `gaps`: forget that, learn the rest."""
        site, head = self._sites[name], self._heads.get(origin, 0)
        missing = gaps & BitMap(range(head + 1)) if gaps else BitMap()
        if watermark < head:
            missing |= BitMap(range(watermark + 1, head + 1))
        missing -= self._void.get(origin, BitMap())
        named = site.named.get(origin)
        if named:
            for seq in named - missing:
                self._remove(site, (origin, seq))
            missing -= named
        if missing or origin in site.unnamed:
            site.put_unnamed(origin, missing, now=now)

    def unnamed(self, limit: int) -> tuple[str, list[int]] | None:
        """An origin and seqs whose paths are wanted, the oldest first; None without such, or without room."""
        room = min(limit, self._entries_max - len(self._flying))
        for site in self._sites.values():
            for origin, seqs in site.unnamed.items():
                return (origin, list(itertools.islice(seqs, room))) if room > 0 else None
        return None

    def name(self, origin: str, asked: Iterable[int], paths: Mapping[int, bytes], *, now: float) -> None:
        """The paths of what was `unnamed`; what has none is no entry here and is forgotten."""
        done = BitMap(asked)
        self._void[origin] = self._void.get(origin, BitMap()) | (done - BitMap(paths))
        for site in self._sites.values():
            wanted = site.unnamed.get(origin)
            if not wanted:
                continue
            since = site.unnamed_since if site.unnamed_since is not None else now
            kept = BitMap()
            for seq in wanted & done:
                if seq in paths and not self._add_named(site, (origin, seq), paths[seq], now=since):
                    kept.add(seq)
            site.put_unnamed(origin, (wanted - done) | kept, now=now)

    def _add_named(self, site: _Site, key: Key, path: bytes, *, now: float) -> bool:
        """False when there is no room."""
        origin, seq = key
        named = site.named.setdefault(origin, BitMap())
        if seq in named:
            return True
        if key not in self._flying:
            if len(self._flying) >= self._entries_max:
                return False
            prefix = content_prefix(path, self._depth)
            self._flying[key] = Flying(path, prefix, now)
            self._by_prefix.setdefault(prefix, {})[key] = None
            self._missing_at[key] = 0
        self._missing_at[key] += 1
        site.by_prefix.setdefault(self._flying[key].prefix, {})[key] = now
        named.add(seq)
        return True

    def _remove(self, site: _Site, key: Key) -> None:
        origin, seq = key
        prefix = self._flying[key].prefix
        site.named[origin].discard(seq)
        _drop(site.by_prefix, prefix, key)
        self._missing_at[key] -= 1
        if not self._missing_at[key]:
            _drop(self._by_prefix, prefix, key)
            del self._missing_at[key], self._flying[key]

    # What is asked

    def pending(self, name: str) -> dict[bytes, float]:
        """Content prefix -> since when the oldest change below it has been missing at the site."""
        site = self._sites[name]
        found = {prefix: next(iter(keys.values())) for prefix, keys in site.by_prefix.items()}
        if site.unnamed_since is not None:
            found[WHOLE_GROUP] = min(site.unnamed_since, *found.values(), site.unnamed_since)
        return found

    def heads_lacking(self, name: str, prefix: bytes) -> dict[str, int]:
        """Per origin the greatest seq that the site has not landed below a folder prefix, or may not have."""
        site = self._sites[name]
        found = {origin: seqs.max() for origin, seqs in site.unnamed.items()}
        for (origin, seq), _ in self._matching(site.by_prefix, prefix):
            found[origin] = max(seq, found.get(origin, 0))
        return found

    def lacks_up_to(self, name: str, prefix: bytes, heads: Mapping[str, int]) -> bool:
        """The site has not landed something below a folder prefix and not newer than these heads, or may not have."""
        site = self._sites[name]
        if any(seqs.min() <= heads.get(origin, 0) for origin, seqs in site.unnamed.items()):
            return True
        return any(seq <= heads.get(origin, 0) for (origin, seq), _ in self._matching(site.by_prefix, prefix))

    def below(self, prefix: bytes) -> Iterator[tuple[Key, Flying]]:
        """Everything in flight below a folder prefix, so far as it is known by path."""
        return self._matching(self._by_prefix, prefix)

    def heads_below(self, prefix: bytes) -> dict[str, int]:
        """Per origin the greatest seq in flight below a folder prefix, or whose path is not known: it may be there."""
        found: dict[str, int] = {}
        for site in self._sites.values():
            for origin, seqs in site.unnamed.items():
                found[origin] = max(found.get(origin, 0), seqs.max())
        for (origin, seq), _ in self.below(prefix):
            found[origin] = max(found.get(origin, 0), seq)
        return found

    def _matching(self, index: Mapping[bytes, Mapping[Key, object]], prefix: bytes) -> Iterator[tuple[Key, Flying]]:
        """All that is below a folder prefix has its content prefix, or one that begins with it when that is longer."""
        if prefix.count(b"/") >= self._depth:
            buckets = [index.get(content_prefix(prefix.removesuffix(b"/"), self._depth), {})]
        else:
            buckets = [keys for key, keys in index.items() if key.startswith(prefix)]
        for key in itertools.chain.from_iterable(buckets):
            flying = self._flying[key]
            if flying.path.startswith(prefix) or prefix == flying.path + b"/":
                yield key, flying

    def missing_total(self, name: str) -> int:
        """Entries of all journals that a site is known to lack."""
        site = self._sites[name]
        return sum(len(seqs) for seqs in itertools.chain(site.named.values(), site.unnamed.values()))

    def since(self, name: str, origin: str) -> float | None:
        """Since when the oldest entry of one journal has been missing at a site."""
        site = self._sites[name]
        named = site.named.get(origin)
        times = [self._flying[origin, named.min()].since] if named else []
        if origin in site.unnamed and site.unnamed_since is not None:
            times.append(site.unnamed_since)
        return min(times, default=None)

    def oldest(self, limit: int) -> list[tuple[Key, Flying]]:
        """The first `limit` entries in flight, those longest known first."""
        return list(itertools.islice(self._flying.items(), limit))

    def missing_sites(self, key: Key) -> tuple[str, ...]:
        """The sites that have not landed one entry, as far as this member knows."""
        origin, seq = key
        return tuple(
            name
            for name, site in self._sites.items()
            if seq in site.named.get(origin, ()) or seq in site.unnamed.get(origin, ())
        )


def _drop(index: dict[bytes, dict[Key, T]], prefix: bytes, key: Key) -> None:
    keys = index[prefix]
    del keys[key]
    if not keys:
        del index[prefix]
