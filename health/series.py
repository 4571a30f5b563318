"""The last hour in numbers: a ring of points per series, kept in memory only.

Laws: a point that was not taken is a gap and never a zero; what only grows is shown as what it grew by in a second;
however long a member runs and whatever it counts, there are at most SERIES_MAX rings of POINTS_MAX points.
"""

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

POINT_SECONDS = 5.0
"""Two blinks of an operator; an hour of it is 720 points, which a phone draws at once."""
POINTS_MAX = 720
SERIES_MAX = 200
"""Some tens of sites and what is counted here, with 720 floats each: below 5 MB."""

Key = tuple[str, str]
"""What, with its unit last (`lag_seconds`), and of whom (`ams`); of the member itself: the empty string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is known at one moment."""

    levels: Mapping[Key, float] = field(default_factory=dict)
    """As they stand."""
    counts: Mapping[Key, float] = field(default_factory=dict)
    """Only grow; shown per second."""
    means: Mapping[Key, tuple[float, float]] = field(default_factory=dict)
    """A sum and a number, which only grow; shown as the mean of what came since the last point, or a gap."""


class SeriesReport(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a chart."""

    name: str
    """With its unit last: `lag_seconds`, `dns_queries_per_second`."""
    label: str
    """A site; empty for the member itself."""
    values: tuple[float | None, ...]
    """The last is the newest; none where there is a gap."""


class HistoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """Points of all series; the newest of each are of one moment."""

    number: int
    """Of the newest point; grows by one each POINT_SECONDS, gaps included. 0 before the first."""
    wall: float
    """When the newest was taken; seconds since the epoch."""
    point_seconds: float
    points_max: int
    series: tuple[SeriesReport, ...]


class History:
    """The rings of one member."""

    def __init__(self) -> None:
        self._rings: dict[Key, deque[float | None]] = {}
        self._before: tuple[Sample, float] | None = None
        self._first_slot: int | None = None
        self._number = 0
        self._wall = 0.0

    def due(self, *, now: float) -> bool:
        """It is time for the next point."""
        return self._number_at(now) > self._number

    def take(self, sample: Sample, *, now: float, wall: float) -> None:
        """The next point: one that is not due is left out, those that were due meanwhile become gaps."""
        number = self._number_at(now)
        if number <= self._number:
            return
        values = _values(sample, *self._before, now=now) if self._before is not None else dict(sample.levels)
        for key in [key for key in values if key not in self._rings][: SERIES_MAX - len(self._rings)]:
            self._rings[key] = deque(maxlen=POINTS_MAX)
        gaps = min(number - self._number - 1, POINTS_MAX)
        for key, ring in self._rings.items():
            ring.extend(itertools.repeat(None, gaps))
            ring.append(values.get(key))
        self._rings = {key: ring for key, ring in self._rings.items() if any(value is not None for value in ring)}
        self._before, self._number, self._wall = (sample, now), number, wall

    def _number_at(self, now: float) -> int:
        slot = int(now // POINT_SECONDS)
        if self._first_slot is None:
            self._first_slot = slot
        return slot - self._first_slot + 1

    def report(self, points: int = POINTS_MAX) -> HistoryReport:
        """The newest so many of each series."""
        return HistoryReport(
            number=self._number,
            wall=self._wall,
            point_seconds=POINT_SECONDS,
            points_max=POINTS_MAX,
            series=tuple(
                SeriesReport(name=name, label=label, values=tuple(ring)[-points:])
                for (name, label), ring in sorted(self._rings.items())
            ),
        )


def _values(sample: Sample, before: Sample, then: float, *, now: float) -> dict[Key, float]:
    rates = {
        key: (count - before.counts[key]) / (now - then)
        for key, count in sample.counts.items()
        if count >= before.counts.get(key, count + 1)  # whoever counted was started anew, or is new: a gap
    }
    means = {
        key: (total - before.means[key][0]) / (count - before.means[key][1])
        for key, (total, count) in sample.means.items()
        if count > before.means.get(key, (0, count))[1]
    }
    return {key: float(f"{value:.4g}") for key, value in {**sample.levels, **rates, **means}.items()}
