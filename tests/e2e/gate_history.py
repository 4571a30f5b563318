"""What users saw, and whether it may be: a checker that knows nothing of the protocol.

Every write has content that never was before (its token), so who saw which write is plain. Two promises are checked,
for each path alone:

    stale    a request that begins after a write succeeded sees that write or one that is not before it
    atomic   there is one order of all writes and reads in which each read sees the write before it, and which agrees
             with the order of those that did not overlap (Herlihy and Wing); so nobody goes back, whoever asked

A write that was not answered with success may have been done, at any time from its beginning on, or never.
Atomicity of a register with unique writes needs no search (Gibbons and Korach, "Testing shared memories", 1997): a
write and its reads make a zone, from the first end among them to the last beginning. Zones that run forward may not
overlap, and one that runs backward may not lie within one that runs forward.
"""

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WINDOW_LINES = 30
"""Of a path's history around what is wrong."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, with seconds of one clock. `token` is what was written or read, None when nothing was there."""

    path: str
    kind: str
    """What was asked for, as it is counted: `upload`, `edit`, `file`, `page`."""
    door: str
    """`nginx` or `edge`."""
    site: str
    began: float
    ended: float
    status: int
    """0: no answer."""
    token: str | None = None
    verdict: str = ""

    @property
    def wrote(self) -> bool:
        return self.kind in ("upload", "edit")

    @property
    def served(self) -> bool:
        return 200 <= self.status < 300 or (self.status == 404 and not self.wrote)

    def line(self, zero: float) -> str:
        """For people."""
        what = f"{'writes' if self.wrote else 'reads'} {self.token or 'nothing'}"
        said = f"{self.status or 'no answer'} {self.verdict}".strip()
        return f"{self.began - zero:8.3f} to {self.ended - zero:8.3f}  {self.door} at {self.site} {what} ({said})"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A promise that was broken."""

    path: str
    why: str
    by: Seen


def by_path(history: Iterable[Seen]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = defaultdict(list)
    for seen in history:
        found[seen.path].append(seen)
    return dict(found)


def stale(path: Sequence[Seen]) -> list[Wrong]:
    """Reads of one path that saw less than what had succeeded before they began, or what nobody had written yet."""
    writes = {seen.token: seen for seen in path if seen.wrote}
    done = sorted((seen for seen in path if seen.wrote and seen.served), key=lambda seen: seen.ended)
    ends = [seen.ended for seen in done]
    newest: list[Seen] = []
    """The one that began last, of those that ended so early."""
    for seen in done:
        newest.append(seen if not newest or seen.began > newest[-1].began else newest[-1])
    wrong = []
    for read in path:
        if read.wrote or not read.served:
            continue
        before = bisect.bisect_left(ends, read.began)
        least = newest[before - 1] if before else None
        if read.token is None:
            if least:
                wrong.append(Wrong(read.path, f"missing, after {least.token} succeeded", read))
            continue
        write = writes.get(read.token)
        if write is None or write.began > read.ended:
            wrong.append(Wrong(read.path, f"{read.token} was never written before that", read))
        elif least and write.served and write.ended < least.began:
            wrong.append(Wrong(read.path, f"{read.token} is old: {least.token} succeeded", read))
    return wrong


@dataclass(frozen=True, slots=True)
class _Zone:
    """Of one token: the request that ended first, and the one that began last."""

    first: Seen | None
    """None: it was so before everything."""
    last: Seen

    @property
    def end(self) -> float:
        return self.first.ended if self.first else -math.inf

    @property
    def begin(self) -> float:
        return self.last.began


def atomic(path: Sequence[Seen]) -> list[Wrong]:
    """The first pair of zones of one path that cannot be put in order, if there is one."""
    zones = _zones(path)
    forward = sorted((zone for zone in zones if zone.end < zone.begin), key=lambda zone: zone.end)
    widest: _Zone | None = None
    for zone in forward:
        if widest and zone.end < widest.begin:
            return [_crossed(widest, zone)]
        if widest is None or zone.begin > widest.begin:
            widest = zone
    ends = [zone.end for zone in forward]
    for zone in zones:
        if zone.begin <= zone.end:
            around = bisect.bisect_left(ends, zone.begin) - 1
            if around >= 0 and zone.end < forward[around].begin:
                return [_crossed(forward[around], zone)]
    return []


def _zones(path: Sequence[Seen]) -> list[_Zone]:
    members: dict[str | None, list[Seen]] = defaultdict(list)
    for seen in path:
        if seen.wrote or seen.served:
            members[seen.token].append(seen)
    zones = []
    for token, group in members.items():
        ended = [seen for seen in group if seen.served]
        if not ended:
            continue  # perhaps it never happened
        first = min(ended, key=lambda seen: seen.ended) if token is not None else None
        zones.append(_Zone(first, max(group, key=lambda seen: seen.began)))
    return zones


def _crossed(old: _Zone, other: _Zone) -> Wrong:
    """The last of `old` came after somebody had been told of `other`, which in turn came after `old` was known."""
    told = f"{other.first.token} at {other.first.site}" if other.first else "nothing"
    return Wrong(old.last.path, f"{old.last.token or 'nothing'} again, after somebody was told of {told}", old.last)


def window(path: Sequence[Seen], wrong: Wrong, zero: float) -> list[str]:
    """The lines of the path's history before and after what is wrong."""
    ordered = sorted(path, key=lambda seen: seen.began)
    at = ordered.index(wrong.by)
    return [
        ("→ " if seen is wrong.by else "  ") + seen.line(zero)
        for seen in ordered[max(0, at - WINDOW_LINES) : at + WINDOW_LINES // 3]
    ]


def longest_gap(history: Iterable[Seen], began: float, ended: float) -> tuple[float, float]:
    """Seconds without a served request, and since when."""
    times = sorted({began, ended, *(seen.ended for seen in history if seen.served and began < seen.ended < ended)})
    return max((after - before, before) for before, after in itertools.pairwise(times))
