"""Content on its way to its place: a temp file in the tree's private folder.

Law: nothing leaves this module as finished whose size and BLAKE3 are not the entry's; a temp that failed is removed.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator

from blake3 import blake3

from anycastle.replicator.beneath import TreeError, start_writing
from anycastle.replicator.entry import Entry
from anycastle.replicator.fault_point import Point, reach

COPY_BYTES = 8 * 1024 * 1024
READ_BYTES = 1024 * 1024
FLUSH_BYTES = 16 * 1024 * 1024
"""Of a large file, so much goes to the disk while the rest still comes: its fsync then waits for the last part only."""
DIRECT_BYTES_MIN = 64 * 1024 * 1024
"""Larger files go past the page cache (open(2), O_DIRECT) where the filesystem and the pieces allow it."""


class LandError(TreeError):
    """The system would not let something land; `cause` is its error name (`ENOSPC`), or what is in the way."""

    def __init__(self, path: bytes, cause: str, detail: str = "") -> None:
        super().__init__(f"cannot land {path[:200]!r}: {cause}{f' ({detail})' if detail else ''}")
        self.cause = cause


class DigestMismatch(TreeError):
    """The bytes that came are not those that were announced."""


class Staged:
    """One temp file. Ends with `abort`, or by landing."""

    def __init__(self, folder: int, entry: Entry) -> None:
        self.entry = entry
        self.folder = folder
        self.name = secrets.token_hex(12).encode()
        self.finished = False
        self.written = 0
        self._over = False
        self._direct = False
        self._hash = blake3()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with landing(entry.path):
            self.descriptor = os.open(self.name, flags, 0o600, dir_fd=folder)

    def write(self, chunk: bytes | memoryview) -> None:
        """Appends. Raises LandError (disk full), DigestMismatch (more than was announced); the temp is then gone."""
        if self.written + len(chunk) > self.entry.size:
            self._refuse(f"more than {self.entry.size} bytes")
        try:
            with landing(self.entry.path):
                self._append(memoryview(chunk))
        except LandError:
            self.abort()
            raise
        self._hash.update(chunk)
        before, self.written = self.written, self.written + len(chunk)
        if before // FLUSH_BYTES != self.written // FLUSH_BYTES and not self._direct:
            start_writing(self.descriptor)

    def _append(self, view: memoryview) -> None:
        if not self.written and self.entry.size >= DIRECT_BYTES_MIN:
            self._direct = _go_past_cache(self.descriptor, past=True)
        while view:
            try:
                view = view[os.write(self.descriptor, view) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                # Not a whole number of blocks: the end of it, or what came in odd pieces.
                self._direct = _go_past_cache(self.descriptor, past=False)

    def copy(self, source: int) -> None:
        """Appends all of an open file, shared with it where the filesystem can (copy_file_range)."""
        with landing(self.entry.path):
            copy_file(source, self.descriptor)
            self._hash, self.written = hash_file(self.descriptor)

    def finish(self) -> None:
        """Raises DigestMismatch unless exactly the announced content was written; the temp is then gone."""
        if self.written != self.entry.size:
            self._refuse(f"{self.written} bytes, expected {self.entry.size}")
        digest = self._hash.digest()
        if digest != self.entry.digest:
            self._refuse(f"BLAKE3 {digest.hex()}, expected {self.entry.digest.hex()}")
        self.finished = True
        reach(Point.STAGED)

    def abort(self) -> None:
        """Removes the temp. Does nothing once it has landed or was aborted."""
        if not self._over:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self.folder)
            self.release()

    def release(self) -> None:
        """The temp has become something else (it landed)."""
        self.close()
        self._over = True
        self.finished = False

    def open(self) -> int:
        """Its descriptor; opened again if need be."""
        if self.descriptor < 0:
            self.descriptor = os.open(self.name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        return self.descriptor

    def close(self) -> None:
        """All was written. Closed before it lands, it is closed in our private folder, where no watcher listens."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _refuse(self, found: str) -> None:
        self.abort()
        raise DigestMismatch(f"content for {self.entry.path[:200]!r}: {found}")


def _go_past_cache(descriptor: int, *, past: bool) -> bool:
    """Whether it does. Of what a filesystem cannot do nothing changes."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if past else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return past


@contextlib.contextmanager
def landing(path: bytes) -> Iterator[None]:
    """Gives what the system refuses its name; what no system call takes (a size, a NUL in a target) is refused too."""
    try:
        yield
    except OSError as error:
        raise LandError(path, errno.errorcode.get(error.errno or 0, "error"), error.strerror or str(error)) from error
    except (OverflowError, ValueError) as error:
        raise LandError(path, "EINVAL", str(error)) from error


def copy_file(source: int, target: int) -> None:
    """All of one file to the end of another; falls back to reading and writing where the kernel cannot copy."""
    offset = 0
    try:
        while copied := os.copy_file_range(source, target, COPY_BYTES, offset):
            offset += copied
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        while chunk := os.pread(source, READ_BYTES, offset):
            offset += os.write(target, chunk)


def hash_file(descriptor: int) -> tuple[blake3, int]:
    """BLAKE3 and length of a file's content. Read in pieces: a file cut short under a mapping would end the process."""
    digest, offset = blake3(), 0
    size = os.fstat(descriptor).st_size
    if size < READ_BYTES and len(whole := os.pread(descriptor, size + 1, 0)) <= size:  # a short read is the end
        return digest.update(whole), len(whole)
    buffer = bytearray(min(READ_BYTES, size + 1))
    while count := os.preadv(descriptor, [buffer], offset):
        digest.update(memoryview(buffer)[:count])
        offset += count
    return digest, offset
