"""Where a member can die so that it matters: the moments before and after something becomes durable or visible.

Law: every commit point of the replicator is named here and passed through `reach`, so that a test can end the process
at each of them (tests/replicator/crash.py). Nothing is armed unless somebody calls `arm`; then `reach` is one
comparison.
"""

import enum
import os
import signal


class Point(enum.Enum):
    """In the order in which a change meets them."""

    OBSERVED = "a local change was hashed and is not journaled"
    COMMIT = "the ledger is about to commit"
    COMMITTED = "the ledger has committed, and nobody was told"
    JOURNALED = "our own change is journaled and not announced"
    RECORDED = "another's change is recorded and not acknowledged"
    STAGED = "content is in a temp file, its digest checked"
    SYNCED = "content and attributes are on the disk, under the temp's name"
    SWAPPED = "the new file is in place, the old one has the temp's name"
    PLACED = "the new file is in place, and its folder is not synced"
    REMOVED = "a file is out of its place, and its folder is not synced"
    LANDED = "content is in place, and the ledger does not know"
    KEPT = "the loser of a conflict was kept, and the ledger does not know"
    FENCED = "a write is fenced, and its success is not released"


class _Armed:
    point: Point | None = None
    left = 0


_armed = _Armed()


def arm(point: Point | None, times: int = 1) -> None:
    """End this process by SIGKILL when it reaches the point for the so-manieth time; None takes that back."""
    _armed.point, _armed.left = point, times


def reach(point: Point) -> None:
    """Called at the point."""
    if _armed.point is point:
        _armed.left -= 1
        if _armed.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
