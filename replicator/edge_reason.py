"""A verdict's reason in one word, for counters: texts hold versions and names, and would never end. Pure.

Law: the words are few and fixed; a text that none of them fits is `other`. The tests hold them against what the gate
and the replicator really say.
"""

import re
from functools import lru_cache

_WORDS = (
    ("isolated", re.compile(r"^isolated, served by policy")),
    ("hop", re.compile(r"^passed on by ")),
    ("copies", re.compile(r"^a write needs \d+ copies")),
    ("no_answer", re.compile(r": (no link with|no other site has it|\S+ (refused|cannot be reached|did not))")),
    ("not_current", re.compile(r"^not current|lease|not heard of|catching up|clock|majority")),
    ("coarse_mark", re.compile(r"^below a coarse change|^the details of ")),
    ("not_announced", re.compile(r"on disk is not announced")),
    ("not_fenced", re.compile(r"not fenced|could not be fenced")),
    ("not_landed", re.compile(r"not landed|^it has landed at ")),
    ("writer", re.compile(r"^writes go to ")),
    ("changing", re.compile(r"^it changed each time")),
    ("application", re.compile(r"^the application of ")),
    ("affinity", re.compile(r"^at home there$")),
)


@lru_cache(1024)
def word(reason: str) -> str:
    """One of a dozen words, for metrics."""
    return next((name for name, pattern in _WORDS if pattern.search(reason)), "other")
