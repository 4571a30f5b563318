"""Which paths an operator left out.

Law: a path is left out when a pattern matches it or a folder above it; `.anycastle` always is. Patterns are fnmatch's
on the whole path (`*` also matches `/`); a last slash, written to say "folder", changes nothing: what is left out at
a name is left out whatever stands there, so that the answer needs no look at the disk.
"""

import fnmatch
import os
import re

from anycastle.replicator.entry import PRIVATE_FOLDER


class Exclude:
    """Compiled patterns: `Exclude(("*.tmp", "cache/"))(path)`."""

    __slots__ = ("_pattern",)

    def __init__(self, patterns: tuple[str, ...]) -> None:
        translated = [fnmatch.translate(pattern.rstrip("/")).removesuffix(r"\Z") for pattern in patterns]
        self._pattern = re.compile(f"(?:{'|'.join(translated)})(?:/.*)?", re.DOTALL) if patterns else None

    def __call__(self, path: bytes) -> bool:
        if path.startswith(PRIVATE_FOLDER) and path[len(PRIVATE_FOLDER) :][:1] in (b"", b"/"):
            return True
        return self._pattern is not None and self._pattern.fullmatch(os.fsdecode(path)) is not None
