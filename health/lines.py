"""A file of JSON objects, one a line, that only grows at its end: what must be found again after whatever happens.

Laws: what was appended is on the disk; the file takes a bounded amount of room, so the oldest goes first; a line torn
by a crash is left out, and costs no other one.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Some twenty thousand lines; then the file becomes `.1`, and what was there before it is dropped."""

Line = TypeVar("Line", bound=msgspec.Struct)


class Lines(Generic[Line]):
    """One file, written by one thread at a time."""

    def __init__(self, file: Path, kind: type[Line]) -> None:
        self.file = file
        self._kind = kind

    def append(self, lines: Iterable[Line]) -> None:
        """All of them, the newest last; or none, and OSError."""
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        if self.file.exists() and self.file.lstat().st_size + len(text) > FILE_BYTES_MAX:
            os.replace(self.file, self._older)
        opened = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _append(opened, text)
        finally:
            os.close(opened)

    @property
    def _older(self) -> Path:
        return self.file.with_name(self.file.name + ".1")

    def newest(self, limit: int, wanted: Callable[[Line], bool] = lambda line: True) -> list[Line]:
        """The newest first. Raises OSError."""
        found: list[Line] = []
        for file in (self.file, self._older):
            for text in reversed(file.read_bytes().splitlines() if file.exists() else []):
                try:
                    line = msgspec.json.decode(text, type=self._kind)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if wanted(line):
                    found.append(line)
                if len(found) >= limit:
                    return found
        return found


def _append(opened: int, text: bytes) -> None:
    size = os.fstat(opened).st_size
    if size and os.pread(opened, 1, size - 1) != b"\n":  # torn by a crash
        text = b"\n" + text
    try:
        if os.write(opened, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(opened)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(opened, size)
        raise
