"""Cursors: what of a journal to send to whom, and when to send it again.

Laws: a cursor never holds an entry, only numbers, so a journal of any length costs nothing here; at most
`inflight_entries_max` are unconfirmed per journal and member; what is lost is sent again, ever more seldom while
nothing arrives; when more waits than a link carries soon, coarse marks go first (rule 4).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLimits:
    """How much, how soon, how often."""

    batch_entries_max: int = 256
    """In one SendEntries: with paths of the greatest length still a quarter of a frame."""
    inflight_entries_max: int = 2048
    """Sent to a member and not confirmed: 20,000 entries/s at a round trip of 100 ms."""
    backlog_entries_max: int = 4096
    """With more than that waiting for a member, it gets coarse marks first."""
    mark_after_seconds: float = 0.75
    """Also when nothing of what is waiting was confirmed for that long: a thin link."""
    retry_seconds: float = 1.0
    """First repetition; doubled each time nothing came of it."""
    retry_seconds_max: float = 15.0
    segments_max: int = 64
    """Folder prefixes remembered of the own journal, and so the most marks sent at once."""


@dataclass(slots=True)
class Feed:
    """One journal on its way to one member."""

    have: int
    """How far the member holds the entries, as far as it told us."""
    known: int
    """How far it has recorded, coarse marks included."""
    sent: int
    marked: int
    moved_at: float
    patience: float

    @classmethod
    def start(cls, have: int, known: int, *, now: float, limits: FeedLimits) -> "Feed":
        return cls(have, known, have, known, now, limits.retry_seconds)

    def confirm(self, have: int, known: int, *, now: float, limits: FeedLimits) -> None:
        """The member told how far it is; late and repeated news are harmless."""
        if have > self.have or known > self.known:
            self.moved_at, self.patience = now, limits.retry_seconds
        self.have = max(self.have, have)
        self.known = max(self.known, known, self.have)
        self.sent = max(self.sent, self.have)
        self.marked = max(self.marked, self.known)

    def rewind_if_stuck(self, *, now: float, limits: FeedLimits) -> None:
        """Nothing confirmed for long: take it as lost."""
        waiting = self.sent > self.have or self.marked > self.known
        if waiting and now - self.moved_at >= self.patience:
            self.sent, self.marked = self.have, self.known
            self.moved_at = now
            self.patience = min(2 * self.patience, limits.retry_seconds_max)

    def batches(self, head: int, *, now: float, limits: FeedLimits) -> Iterator[tuple[int, int]]:
        """What to send now, as (after, upto); counts as sent."""
        if self.sent == self.have < head:
            self.moved_at = now
        while self.sent < head and self.sent - self.have < limits.inflight_entries_max:
            after, self.sent = self.sent, min(head, self.sent + limits.batch_entries_max)
            yield after, self.sent

    def wants_mark(self, head: int, *, now: float, limits: FeedLimits) -> bool:
        """Rule 4: whether the member should hear of a coarse change before the entries reach it."""
        if head <= max(self.known, self.marked):
            return False
        slow = self.sent > self.have and now - self.moved_at >= limits.mark_after_seconds
        return slow or head - self.have > limits.backlog_entries_max


def common_folder(one: bytes, other: bytes) -> bytes:
    """The deepest folder that holds both prefixes.

    >>> common_folder(b"a/b/", b"a/bc/"), common_folder(b"a/b/", b"a/b/c/"), common_folder(b"a/", b"")
    (b'a/', b'a/b/', b'')
    """
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return one[: one.rfind(b"/", 0, length) + 1]


@dataclass(slots=True)
class Prefixes:
    """Below which folders the own journal changed, in stretches; old stretches blur into common folders."""

    start: int
    """Nothing is known of the journal up to here: it counts as the whole group."""
    _stretches: list[tuple[int, bytes]] = field(default_factory=list)
    """(upto, prefix), ascending."""

    def add(self, upto: int, prefix: bytes, *, segments_max: int) -> None:
        """The journal grew up to `upto`, below `prefix`."""
        if self._stretches and self._stretches[-1][1] == prefix:
            self._stretches[-1] = (upto, prefix)
            return
        self._stretches.append((upto, prefix))
        if len(self._stretches) > segments_max:
            (_, first), (end, second) = self._stretches[:2]
            self._stretches[:2] = [(end, common_folder(first, second))]

    def between(self, after: int, upto: int) -> Iterator[tuple[int, int, bytes]]:
        """Stretches (after, upto, prefix) that together cover what lies between, without holes."""
        for end, prefix in [(self.start, b""), *self._stretches]:
            if end > after and after < upto:
                yield after, min(end, upto), prefix
                after = min(end, upto)
        if after < upto:
            yield after, upto, b""
