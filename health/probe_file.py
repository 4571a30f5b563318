"""Probes of this machine's files: one file, the room on a filesystem.

Law: whatever may hang (a network filesystem whose server is gone) is done aside.
"""

import os
import stat
from pathlib import Path

from anycastle.clock import Clock
from anycastle.health.aside import Aside
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.settings import DiskCheck, FileCheck

FILE_BYTES_MAX = 256 * 1024
"""Read of a file in search of `contains`."""
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


async def look_file(check: FileCheck, aside: Aside[Seen], *, clock: Clock) -> Seen:
    return await aside.run(lambda: _file(check, clock.wall()))


async def look_disk(check: DiskCheck, aside: Aside[Seen]) -> Seen:
    return await aside.run(lambda: _disk(check))


def _file(check: FileCheck, wall: float) -> Seen:
    # Not blocking: else a pipe in its place would be waited for.
    descriptor = os.open(check.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ProbeFailed("is no regular file")
        limit = check.age_max_seconds
        if limit is not None and wall - found.st_mtime > limit:
            raise ProbeFailed(f"was last modified more than {limit:g} s ago")
        if check.contains is not None and check.contains.encode() not in _beginning(descriptor):
            raise ProbeFailed(f"does not hold the text {check.contains!r}")
    finally:
        os.close(descriptor)
    return Seen("is there")


def _beginning(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(FILE_BYTES_MAX)


def _disk(check: DiskCheck) -> Seen:
    found = os.statvfs(check.folder)
    free = found.f_bavail * found.f_frsize
    usable = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    if free < check.free_min_bytes:
        raise ProbeFailed(f"less than {_size(check.free_min_bytes)} is free")
    if free < check.free_min_share * usable:
        raise ProbeFailed(f"less than {100 * check.free_min_share:g} % is free")
    if found.f_favail < check.files_min_share * found.f_files:
        raise ProbeFailed(f"less than {100 * check.files_min_share:g} % of its files (inodes) are free")
    return Seen("has room")


def _size(count: int) -> str:
    return next((f"{count / unit:g} {name}" for name, unit in _UNITS if count >= unit), f"{count} bytes")


def read_short(file: Path, what: str) -> str:
    """The one line of a small file of the operator's. Raises ProbeFailed."""
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read(FILE_BYTES_MAX).strip()
    except OSError as error:
        raise ProbeFailed(f"{what} {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProbeFailed(f"{what} {file} is not UTF-8") from error
