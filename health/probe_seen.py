"""What one look of a probe comes to, whatever it looked at.

Law: texts hold no measured times or amounts, so that an unchanged state reads the same twice.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

REASON_CHARACTERS_MAX = 200


class ProbeFailed(Exception):
    """The target is not as a healthy one is. Caught by the prober."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A healthy target."""

    text: str
    warning: str = ""
    """What an operator should see to before it becomes a failure."""


Look = Callable[[], Awaitable[Seen]]
"""One look. Raises ProbeFailed or OSError; may hang, since whoever calls it sets a limit."""


def one_line(text: str) -> str:
    """Fit for a reason: what the target says may be anything."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(plain.split())[:REASON_CHARACTERS_MAX]
