"""Landing in a thread, one or many: what must be true of tree and ledger at the last moment is looked up there.

Laws: first content is checked and written, then it and its attributes are on the disk, then it is renamed into place,
then the renames are on the disk; only then is anything reported as landed. A crash between any two leaves temps, which
the next start removes, and things in place that the ledger does not know, which the next scan finds equal to what
waits. Many share the syncs (syncfs); a few have their own (fsync), quicker for them, and not held up by what others
write to the filesystem.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anycastle.errors import AnycastleError
from anycastle.replicator.disk import LandError, Staged, Tree
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.landing_queue import Job
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.observation import Fingerprint, Local
from anycastle.replicator.stage import landing

SHARED_SYNC_MIN = 4
"""Measured on ext4: from there on one syncfs beats as many fsyncs by three to ten times."""

Content = Staged | bytes
"""A checked temp file, or bytes still to be checked. The empty bytes for what has no content."""


class Superseded(AnycastleError):
    """There is a newer entry of the path, or it landed already."""


class Loses(AnycastleError):
    """What is here was made without knowing of the entry, and has to be kept."""

    def __init__(self, local: Local) -> None:
        super().__init__("a conflict")
        self.local = local


@dataclass(frozen=True, slots=True)
class Landed:
    """It is in place."""

    fingerprint: Fingerprint | None


Outcome = Landed | AnycastleError | OSError


@dataclass(slots=True)
class _Work:
    """One job under way."""

    job: Job
    staged: Staged | None = None
    expected: Fingerprint | None = None
    outcome: Outcome | None = None

    @property
    def entry(self) -> Entry:
        return self.job.entry

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """What goes wrong with one is that one's alone."""
        try:
            yield
        except (AnycastleError, OSError) as error:
            self.outcome = error
            if not isinstance(error, Loses):
                self.abort()

    def abort(self) -> None:
        if self.staged is not None:
            self.staged.abort()


class Lander:
    """Lands one group's entries, in whichever thread it is called; each path in one call at a time."""

    def __init__(self, group: str, tree: Tree, ledger: Ledger) -> None:
        self._group = group
        self._tree = tree
        self._ledger = ledger
        self._turn = threading.Lock()
        """Of whoever lands many: two at once would only wait for the interpreter and for the folder of temps. But one
        works while another syncs."""

    def land(self, items: Sequence[tuple[Job, Content]]) -> list[Outcome]:
        """What became of each. `Loses` leaves a temp as it is, any other failure ends it."""
        works = [_Work(job, content if isinstance(content, Staged) else None) for job, content in items]
        try:
            with self._turn if len(works) >= SHARED_SYNC_MIN else contextlib.nullcontext():
                for work, (_, content) in zip(works, items, strict=True):
                    with work.noting():
                        self._prepare(work, content)
                ready = [work for work in works if work.outcome is None]
                shared = len(ready) >= SHARED_SYNC_MIN
                if shared:
                    self._dress(ready)
            if shared and self._sync():
                self._rename_and_sync([work for work in ready if work.outcome is None])
            else:
                for work in ready:
                    if work.outcome is None:
                        self._place(work, durable=True)
        except BaseException:
            for work in works:
                work.abort()
            raise
        return [work.outcome for work in works if work.outcome is not None]

    def _prepare(self, work: _Work, content: Content) -> None:
        entry = work.entry
        newest, local = self._ledger.known_now(self._group, entry.path)
        if newest != entry or (local and local.version == entry.version):
            raise Superseded
        if local is not None and work.job.kept != local.version and self._conflicts(local, entry):
            raise Loses(local)
        work.expected = local.fingerprint if local else None
        if entry.kind is Kind.FILE and isinstance(content, bytes):
            work.staged = self._tree.stage(entry)
            work.staged.write(content)
            work.staged.finish()

    def _conflicts(self, local: Local, entry: Entry) -> bool:
        """What is here holds bytes, and is neither what the entry replaced nor anything before that."""
        if local.kind in (Kind.ABSENT, Kind.FOLDER) or local.version == entry.parent:
            return False
        if local.kind is entry.kind and local.digest == entry.digest and local.kind is Kind.FILE:
            return False
        return not self._ledger.is_ancestor(self._group, local.version, entry)

    def _dress(self, works: list[_Work]) -> None:
        for work in works:
            if work.staged is not None:
                with work.noting():
                    self._tree.dress(work.staged)

    def _sync(self) -> bool:
        """False when the filesystem cannot be synced as a whole: then each file says for itself what is wrong."""
        try:
            self._tree.sync()
        except OSError:
            return False
        return True

    def _rename_and_sync(self, works: list[_Work]) -> None:
        with self._turn:
            for work in works:
                self._place(work, durable=False)
        try:
            with landing(works[0].entry.path if works else b""):
                self._tree.sync()
        except LandError as error:  # Tried again, each is found in place, or landed anew.
            for work in works:
                if isinstance(work.outcome, Landed):
                    work.outcome = error

    def _place(self, work: _Work, *, durable: bool) -> None:
        with work.noting():
            work.outcome = Landed(self._tree.land(work.entry, work.staged, work.expected, durable=durable))
