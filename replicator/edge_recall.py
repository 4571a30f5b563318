"""Answers of the verdict socket, given again without judging while nothing is under way in their group.

Laws: those of passes (`edge_pass`): an answer is given again only while this site is current, everything known of the
group is fenced and has landed here, and no write is under way at this edge; all answers of a group are dropped before
anything newer of it is acknowledged. What is kept is the answer to one request head, byte for byte.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from anycastle.clock import Clock

KEPT_BYTES_MAX = 32 * 1024 * 1024
"""Of heads and answers; then all are forgotten."""
CLEAR_SECONDS_MAX = 0.1
"""How long the group's state is believed; as long as passes go without renewal."""
UNCLEAR_SECONDS = 0.02
"""Where something is under way, the state is not asked for with each request, which would cost more than it spares."""
_UNKNOWN = (False, -math.inf)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to a request that may be served."""

    group: str
    verdict: str
    text: bytes


class Recall:
    """One site's, for all its groups."""

    def __init__(self, *, clock: Clock, clear_until: Callable[[str], float]) -> None:
        """`clear_until`: as in `Passes`."""
        self._clock = clock
        self._clear_until = clear_until
        self._answers: dict[bytes, tuple[int, Answer]] = {}
        self._bytes = 0
        self._news: defaultdict[str, int] = defaultdict(int)
        """Group -> how often there was news; answers of an earlier count are not given any more."""
        self._believed: dict[str, tuple[bool, float]] = {}
        """Group -> whether it is clear, and until when that is believed."""

    def news(self, group: str) -> None:
        """Something is known that may not be served yet. Before that is acknowledged to anybody."""
        self._news[group] += 1
        if self._believed.get(group, _UNKNOWN)[0]:
            del self._believed[group]

    def find(self, head: bytes) -> Answer | None:
        """The answer that was given to the same head, if it would be given again. One look-up."""
        count, answer = self._answers.get(head, (0, None))
        if answer is None or count != self._news[answer.group] or not self._is_clear(answer.group):
            return None
        return answer

    def keep(self, head: bytes, answer: Answer) -> None:
        """It is from this moment."""
        if not self._is_clear(answer.group):
            return
        if head not in self._answers:
            self._bytes += len(head) + len(answer.text)
        if self._bytes > KEPT_BYTES_MAX:
            self._answers.clear()
            self._bytes = len(head) + len(answer.text)
        self._answers[head] = (self._news[answer.group], answer)

    def _is_clear(self, group: str) -> bool:
        now = self._clock.now()
        clear, until = self._believed.get(group, _UNKNOWN)
        if now >= until:
            until = min(self._clear_until(group), now + CLEAR_SECONDS_MAX)
            clear = now < until
            self._believed[group] = clear, until if clear else now + UNCLEAR_SECONDS
        return clear
