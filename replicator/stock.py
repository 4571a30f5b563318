"""Contents that a site can give to others: one group's files, by their digest.

Law: what is given is on the disk now, or was a moment ago; whoever takes it checks the digest.
"""

import os

from blake3 import blake3

from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.observation import Fingerprint

PATHS_MAX = 16
"""Files of one content that are tried when somebody asks for it."""
INLINE_BYTES_MAX = 256 * 1024
"""Larger bodies are pulled when their turn comes (design section 4)."""


class Stock:
    """One group's."""

    def __init__(self, group: str, tree: Tree, ledger: Ledger) -> None:
        self._group = group
        self._tree = tree
        self._ledger = ledger

    def small(self, entry: Entry) -> bytes | None:
        """The content of an entry that is small and still on the disk (checked)."""
        if entry.kind is not Kind.FILE or not 0 < entry.size <= INLINE_BYTES_MAX:
            return None
        body = self._read(entry.path, entry.size)
        return body if body is not None and blake3(body).digest() == entry.digest else None

    def _read(self, path: bytes, size: int) -> bytes | None:
        descriptor = self._opened(path)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            body = file.read(size + 1)
        return body if len(body) == size else None

    def open(self, digest: bytes) -> tuple[int | None, list[bytes]]:
        """An open file with that content, or None; and the paths met on the way that are not what the ledger says.

        A file that looks as it did when it landed is taken before one that only may have the content still. It may
        change under the reader, who checks the digest.
        """
        changed: list[bytes] = []
        try:
            for path, known in self._ledger.with_digest(self._group, digest, PATHS_MAX):
                if self._looks_like(path) == known and (descriptor := self._opened(path)) is not None:
                    return descriptor, changed
                changed.append(path)
        except AnycastleError:
            pass  # the ledger cannot be read
        return next((opened for path in changed if (opened := self._opened(path)) is not None), None), changed

    def _looks_like(self, path: bytes) -> Fingerprint | None:
        try:
            return self._tree.fingerprint(path)
        except AnycastleError:
            return None

    def _opened(self, path: bytes) -> int | None:
        try:
            return self._tree.open_body(path)
        except (AnycastleError, OSError):
            return None
