"""What this machine will not let the replicator do, by cause: for status, metrics and whoever is called at night.

Laws: every path that fails is counted under exactly one cause; a trouble is there as long as something fails by it, and
goes by itself. Nothing here decides anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

WORDS = {
    "ENOSPC": "the disk is full",
    "EDQUOT": "the quota is used up",
    "EROFS": "the filesystem is read-only",
    "EIO": "the disk gives errors",
    "EACCES": "it is not permitted",
    "EPERM": "it is not permitted",
    "ENAMETOOLONG": "the name is too long for this filesystem",
    "EFBIG": "the file is too large for this filesystem or a limit",
    "EMFILE": "too many open files",
}


@dataclass(frozen=True, slots=True)
class Found:
    """Something that does not work at the moment."""

    group: str
    """Empty for what concerns all."""
    what: str
    """`landing`, `reading`, `scrubbing`: of paths; `writing`, `watching`, `recording`: of all."""
    cause: str
    """The system's name for it (`ENOSPC`), or the empty string when it has none."""
    paths: int = 0
    example: str = ""
    """One of the paths and what was said of it, or what was said."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The same, and since when."""

    found: Found
    since: float
    """Seconds of BOOTTIME."""

    @property
    def text(self) -> str:
        """One sentence."""
        found = self.found
        why = f"{WORDS.get(found.cause, found.cause)} ({found.cause})" if found.cause else "see the example"
        where = f"{found.group}: " if found.group else ""
        match found.what:
            case "landing":
                return f"{where}{found.paths} changes cannot land here: {why}; {found.example}"
            case "reading":
                return f"{where}{found.paths} paths cannot be read here: {why}; {found.example}"
            case "scrubbing":
                return f"{where}{found.paths} files are damaged here and could not be repaired yet; {found.example}"
            case _:
                return f"{where}{found.example}"


@dataclass(slots=True)
class Troubles:
    """Remembers since when."""

    _since: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def update(self, found: Iterable[Found], *, now: float) -> tuple[Trouble, ...]:
        """What there is now, the oldest first."""
        by_key = {(each.group, each.what, each.cause): each for each in found}
        self._since = {key: self._since.get(key, now) for key in by_key}
        return tuple(Trouble(by_key[key], since) for key, since in sorted(self._since.items(), key=lambda one: one[1]))


def by_cause(group: str, what: str, causes: Mapping[bytes, str], said: Mapping[bytes, str]) -> list[Found]:
    """`causes`: path -> the system's name for why it fails; `said`: path -> in words."""
    counts = Counter(causes.values())
    examples = {cause: path for path, cause in causes.items()}
    return [
        Found(group, what, cause, count, said.get(examples[cause], "")[:300]) for cause, count in sorted(counts.items())
    ]
