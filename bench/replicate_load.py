"""What is done to the two folders, and how it is seen at the other side: by its names and sizes, from outside.

Law: whatever is measured is put in place by one rename or one close, so that the clock starts at one moment; what
begins with a dot is somebody's temp file and has not arrived.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.process import BenchError

FOLDER_FILES = 1000
POLL_SECONDS = 0.0003
SLOW_POLL_SECONDS = 0.02
WRITE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tree:
    """So many small files, FOLDER_FILES in each folder, below one folder."""

    files: int
    file_bytes: int

    def make(self, folder: Path, seed: int) -> None:
        """Unlike contents, so that nobody can save a transfer."""
        source = random.Random(seed)
        for start in range(0, self.files, FOLDER_FILES):
            inner = folder / f"f{start // FOLDER_FILES:04}"
            inner.mkdir(parents=True)
            for number in range(start, min(self.files, start + FOLDER_FILES)):
                (inner / f"{number:07}").write_bytes(source.randbytes(self.file_bytes))

    def arrived(self, folder: Path) -> Callable[[], bool]:
        """Whether all of it is there; what was complete once is not looked at again."""
        missing = [(folder / f"f{s // FOLDER_FILES:04}", min(FOLDER_FILES, self.files - s)) for s in self._starts()]

        def look() -> bool:
            while missing and _names(missing[-1][0]) >= missing[-1][1]:
                missing.pop()
            return not missing

        return look

    def _starts(self) -> range:
        return range(0, self.files, FOLDER_FILES)


def _names(folder: Path) -> int:
    try:
        return sum(not name.startswith(".") for name in os.listdir(folder))
    except OSError:
        return 0


def make_file(path: Path, size: int, seed: int) -> None:
    """A file of bytes that no two seeds share."""
    block = bytearray(random.Random(seed).randbytes(WRITE_BYTES))
    with path.open("wb") as file:
        for number in range(0, size, WRITE_BYTES):
            block[:8] = number.to_bytes(8, "big")
            file.write(block[: size - number])


def has_bytes(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def wait_for(arrived: Callable[[], bool], began: float, seconds_max: float, poll_seconds: float) -> float:
    """Seconds from `began` until it has arrived. Raises BenchError."""
    while not arrived():
        if time.perf_counter() - began > seconds_max:
            raise BenchError(f"not within {seconds_max:.0f} s")
        time.sleep(poll_seconds)
    return time.perf_counter() - began


def upload(one: Path, other: Path, name: str, content: bytes, seconds_max: float) -> float:
    """Write and close one file; seconds from the close until it is whole at the other side."""
    with (one / name).open("wb") as file:
        file.write(content)
    began = time.perf_counter()
    target = other / name
    return wait_for(lambda: has_bytes(target, len(content)), began, seconds_max, POLL_SECONDS)
