"""What the other members said they have landed, and whether they are current.

Law: it steers and counts copies, it never decides freshness: whoever is asked for content judges by its own gate.
"""

import math
from dataclasses import dataclass, field

from pyroaring import BitMap

from anycastle.errors import AnycastleError
from anycastle.replicator.message import LandedUpto

GAPS_BYTES_MAX = 1024 * 1024
"""A million scattered gaps take about that; more is not plausible of a site that is catching up."""
NO_GAPS = BitMap()


class LandedError(AnycastleError):
    """A state of landing that cannot be."""


@dataclass(frozen=True, slots=True)
class Landing:
    """A LandedUpto, read."""

    said: LandedUpto
    gaps: BitMap

    def holds(self, seq: int) -> bool:
        return seq <= self.said.watermark and seq not in self.gaps


def read_landed(said: LandedUpto) -> Landing:
    """Raises LandedError when the gaps are no bitmap of numbers from 1 to the watermark."""
    if not 0 <= said.watermark < 2**63:
        raise LandedError(f"landed up to {said.watermark}: expected a sequence number")
    if len(said.gaps) > GAPS_BYTES_MAX:
        raise LandedError(f"gaps of {len(said.gaps)} bytes: expected at most {GAPS_BYTES_MAX}")
    if not said.gaps:
        return Landing(said, NO_GAPS)
    try:
        gaps = BitMap.deserialize(said.gaps)
    except (ValueError, IndexError) as error:
        raise LandedError(f"gaps of {len(said.gaps)} bytes are no roaring bitmap") from error
    if gaps and not 1 <= gaps.min() <= gaps.max() <= said.watermark:
        raise LandedError(f"gaps {gaps.min()} to {gaps.max()}: expected 1 to {said.watermark}")
    return Landing(said, gaps)


@dataclass(slots=True)
class _Said:
    linked: bool = False
    heard_at: float = -math.inf
    current: dict[str, str] = field(default_factory=dict)
    landed: dict[str, dict[str, Landing]] = field(default_factory=dict)


class LandedBoard:
    """One line for each other member."""

    def __init__(self, members: frozenset[str], groups: tuple[str, ...], *, silence_seconds: float) -> None:
        self._said = {member: _Said() for member in members}
        self._groups = groups
        self._silence_seconds = silence_seconds

    def linked(self, member: str, up: bool) -> None:
        self._said[member].linked = up

    def hear(
        self, member: str, landed: dict[str, dict[str, LandedUpto]], current: dict[str, str], *, now: float
    ) -> tuple[str, ...]:
        """Take a Landed; returns the groups about which it is news. Raises LandedError and then changes nothing."""
        read = {
            group: {origin: read_landed(upto) for origin, upto in origins.items()}
            for group, origins in landed.items()
            if group in self._groups
        }
        said = self._said[member]
        silent = now - said.heard_at > self._silence_seconds
        news = [
            group
            for group in self._groups
            if silent or group in read or current.get(group, said.current.get(group)) != said.current.get(group)
        ]
        for group, origins in read.items():
            said.landed.setdefault(group, {}).update(origins)
        said.current.update({group: reason for group, reason in current.items() if group in self._groups})
        said.heard_at = now
        return tuple(news)

    def sites(self, group: str, origin: str, seq: int) -> frozenset[str]:
        """Who has landed an entry."""
        return frozenset(member for member in self._said if self._holds(member, group, origin, seq))

    def _holds(self, member: str, group: str, origin: str, seq: int) -> bool:
        landing = self._said[member].landed.get(group, {}).get(origin)
        return landing is not None and landing.holds(seq)

    def landed(self, member: str, group: str) -> dict[str, LandedUpto]:
        said = self._said.get(member)
        return {} if said is None else {o: landing.said for o, landing in said.landed.get(group, {}).items()}

    def current(self, member: str, group: str, *, now: float) -> str:
        """Why the member cannot be counted on for the group; the empty string when it says it is current."""
        said = self._said.get(member)
        if said is None:
            return "not in the roster"
        if not said.linked:
            return "no link"
        age = now - said.heard_at
        if age > self._silence_seconds:
            return "not heard of yet" if math.isinf(age) else f"not heard of for {age:.0f} s"
        return said.current.get(group, "does not know the group")
