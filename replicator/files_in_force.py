"""Files that are loaded at the start, and again whenever they have changed.

Law: files that cannot be used (a renewal half done) change nothing: what was loaded before stays in force, and why is
told until they can.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from anycastle.errors import AnycastleError

Stamp = tuple[int, int, int]


class FilesInForce(ABC):
    """What some files say; `look` from time to time."""

    def __init__(self, files: Iterable[Path], words: str) -> None:
        """Loads them; `words` name them in a trouble. Raises what `load` raises."""
        self.trouble = ""
        """Why the files as they are now are not in force; the empty string when they are."""
        self.reloads = 0
        self._files = tuple(files)
        self._words = words
        self._seen = self._stamps()
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Put into force what the files say, all of it or nothing. Raises AnycastleError."""

    def look(self) -> bool:
        """Load the files if they have changed; True when something else is in force now. Blocks for milliseconds."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        try:
            self.load()
        except AnycastleError as error:
            self.trouble = f"{self._words} have changed and cannot be used, what was loaded before stays: {error}"
            return False
        self._seen, self.trouble = stamps, ""
        self.reloads += 1
        return True

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(stamp_of, self._files))


def stamp_of(path: Path) -> Stamp:
    """What is different when a file has changed; zeros when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
