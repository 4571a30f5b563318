"""How far a replica is behind, in seconds of our own clock: since when it has known of something it has not applied.

Laws: no clock but the caller's, so differing clocks of two servers do not matter, and an idle primary is no lag; what
was there before the first look is as old as the server says. A primary that sends nothing at all is not seen here.
"""

from collections import deque

MARKS_MAX = 3600
"""Looks remembered while nothing is applied; beyond, the oldest still tells the lag."""


class Backlog:
    """Positions in a log, each with when it was first known."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()
        self._looked = False

    def lag_seconds(self, known: int, applied: int, *, told_seconds: float, now: float) -> float:
        """`known` and `applied` are positions (bytes); `told_seconds` is what the server says, used at first only."""
        if self._marks and known < self._marks[-1][0]:
            self._marks.clear()  # another log: it was made anew
        since = now if self._looked else now - max(0.0, told_seconds)
        self._looked = True
        if len(self._marks) < MARKS_MAX and (not self._marks or known > self._marks[-1][0]):
            self._marks.append((known, since))
        while self._marks and self._marks[0][0] <= applied:
            self._marks.popleft()
        return now - self._marks[0][1] if self._marks else 0.0
