"""One file against what the ledger says of it, read from the disk and not from the cache. Runs in threads.

Law: None for a file that is as recorded; `Damaged` only where `stat` says before and after the reading what is
recorded, and nobody could have written meanwhile.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from anycastle.replicator.disk import Tree, TreeError
from anycastle.replicator.observation import Local, fingerprint_of
from anycastle.replicator.writers import is_held_for_writing

BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Damaged:
    """The kernel knows of no change, and the content is another, or cannot be read."""

    cause: str
    """The system's name for it, empty when the bytes came and are wrong."""
    reason: str


@dataclass(frozen=True, slots=True)
class Differs:
    """Somebody changed it, or is about to."""


Finding = Damaged | Differs | None


class ScrubLook:
    """Looks for one group."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def small(self, items: Sequence[tuple[bytes, Local]]) -> list[Finding]:
        """Whole files in one go; a damaged one is read twice."""
        found: list[Finding] = []
        for path, local in items:
            finding = self._examine(path, local)
            found.append(self._examine(path, local) if isinstance(finding, Damaged) else finding)
        return found

    def _examine(self, path: bytes, local: Local) -> Finding:
        opened = self.open(path, local)
        if not isinstance(opened, int):
            return opened
        digest, offset = blake3(), 0
        try:
            while count := self.read(opened, offset, digest):
                offset += count
            if fingerprint_of(os.fstat(opened)) != local.fingerprint:
                return Differs()
        except OSError as error:
            return self.unreadable(error)
        finally:
            os.close(opened)
        return None if digest.digest() == local.digest else Damaged("", "its bytes are not what was recorded")

    def open(self, path: bytes, local: Local) -> int | Finding:
        """A descriptor for reading, of a file that `stat` shows as recorded and that nobody writes."""
        try:
            if self._tree.fingerprint(path) != local.fingerprint:
                return Differs()
            opened = self._tree.open_body(path)
        except TreeError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.EIO:
                return self.unreadable(cause)
            return Differs()
        try:
            written = is_held_for_writing(opened)
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)  # drops what is clean in the cache
        except BaseException:
            os.close(opened)
            raise
        if written:
            os.close(opened)
            return Differs()
        return opened

    def read(self, descriptor: int, offset: int, digest: blake3) -> int:
        """Takes the next piece into the digest, and leaves the cache to others; 0 at the end. Raises OSError."""
        piece = os.pread(descriptor, BATCH_BYTES, offset)
        digest.update(piece)
        os.posix_fadvise(descriptor, offset, len(piece), os.POSIX_FADV_DONTNEED)
        return len(piece)

    def unreadable(self, error: OSError) -> Damaged:
        return Damaged(errno.errorcode.get(error.errno or 0, "EIO"), f"it cannot be read: {error.strerror}")
