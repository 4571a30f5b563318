"""One transaction of the ledger: what of a change is news, and what the totals are when it is committed.

Laws: nothing is announced for what others know already; an entry that no honest member can have made is refused whole.
"""

from dataclasses import dataclass, field

import apsw

from anycastle.replicator import place, spent
from anycastle.replicator.entry import NO_VERSION, Entry, EntryError, Kind, Version, check_path
from anycastle.replicator.observation import Change, says_the_same
from anycastle.replicator.progress import Progress

LAMPORT_MAX = 2**53
"""No honest journal gets there; beyond it a member could push everybody's numbers out of SQLite's range."""
SEQ_MAX = 2**32 - 1
"""Range of the bitmaps of gaps."""


@dataclass(slots=True)
class Step:
    """What one transaction changes in the totals, told when it is committed."""

    group: str
    lamport: int
    detailed: dict[str, int] = field(default_factory=dict)
    lamports: dict[str, int] = field(default_factory=dict)
    opened: list[tuple[str, int]] = field(default_factory=list)
    closed: list[tuple[str, int]] = field(default_factory=list)

    def recorded(self, entry: Entry) -> None:
        self.lamport = max(self.lamport, entry.lamport)
        self.detailed[entry.origin] = entry.seq
        self.lamports[entry.origin] = max(self.lamports.get(entry.origin, 0), entry.lamport)

    def reached(self, origin: str, after: int, upto: int, detailed: int) -> None:
        """Nothing is left of a journal between its last entry here and `upto`."""
        have = self.detailed.get(origin) or detailed
        if after <= have < upto:
            self.detailed[origin] = upto

    def landed(self, db: apsw.Connection, grp: int, path: bytes, version: Version) -> None:
        """This stands at the path now: nothing that is older waits any longer."""
        self.closed += place.caught_up(db, grp, path, version)

    def superseded(self, db: apsw.Connection, grp: int, known: place.Place | None, version: Version) -> None:
        """As `landed`, of a path that waited for something, and no longer does."""
        if known is not None and known.pending:
            self.closed.append((known.newest.origin, known.newest.seq))
            if known.overtaken:
                self.landed(db, grp, known.newest.path, version)

    def tell(self, progress: Progress) -> None:
        for origin in {*self.detailed, *(origin for origin, _ in self.opened + self.closed)}:
            progress.advance(
                self.group,
                origin,
                detailed=self.detailed.get(origin, 0),
                opened=(seq for name, seq in self.opened if name == origin),
                closed=(seq for name, seq in self.closed if name == origin),
            )


def nothing_new(db: apsw.Connection, grp: int, change: Change, known: place.Place | None, step: Step) -> bool:
    """True when there is nothing to announce; what was learnt all the same is written."""
    if known is None:
        return change.kind is Kind.ABSENT
    if known.local is not None and says_the_same(change, known.local):
        place.set_fingerprint(db, grp, change.path, change.fingerprint)
        return True
    if change.kind is Kind.ABSENT and known.local is None:
        place.forget_found(db, grp, change.path)
        return True
    if not known.pending:
        return False
    if says_the_same(change, known.newest):
        place.set_local(db, grp, known.origin, known.newest, change.fingerprint, pending=False)
        step.superseded(db, grp, known, known.newest.version)
        return True
    landed = _landed_unnoticed(db, grp, change, known)
    if landed is not None:
        place.set_local(db, grp, *landed, change.fingerprint, pending=True)
        step.landed(db, grp, change.path, landed[1].version)
        return True
    if known.local is not None or change.kind is not Kind.FOLDER or change.fingerprint is None:
        return False
    # A folder made on the way to something in it: its own entry is here and will set its attributes. Or one that is to
    # give way, and does not yet: a look at a folder always tells what is there.
    return known.newest.kind is Kind.FOLDER or place.stands_as_found(db, grp, change.path, change.fingerprint)


def stays(db: apsw.Connection, grp: int, member: str, change: Change, known: place.Place | None) -> bool:
    """A folder here, where the newest entry wants none, while others want something in it: somebody put that there
    without knowing that the folder was to go. Both cannot be; the folder wins, and no bytes of either are lost.

    And what was found after our ledger was lost, where we ourselves announced something that nobody has.
    """
    if known is None or not known.pending:
        return False
    found = known.local is not None and known.local.version == Version(0, member)
    if found and known.newest.origin == member and change.kind is not Kind.ABSENT:
        return True
    wants_none = known.newest.kind is not Kind.FOLDER
    return wants_none and change.kind is Kind.FOLDER and place.is_wanted_below(db, grp, change.path)


def note_spent(db: apsw.Connection, grp: int, origin: int, entry: Entry, before: tuple[int, int] | None) -> None:
    """What the entry supersedes, (origin, seq), may go one day, and so may the entry itself if it is a delete."""
    if before is not None:
        spent.note(db, grp, *before)
    if entry.kind is Kind.ABSENT:
        spent.note(db, grp, origin, entry.seq)


def _landed_unnoticed(db: apsw.Connection, grp: int, change: Change, known: place.Place) -> tuple[int, Entry] | None:
    """An entry that another overtook while it waited, and that is what is on the disk: landed by us before a crash.

    Announced as a change, it would come back over the newest, everywhere.
    """
    if not known.overtaken:
        return None
    oldest = known.local.version if known.local is not None else NO_VERSION
    for origin, entry in place.overtaken(db, grp, change.path):
        if entry.version > oldest and says_the_same(change, entry):
            return origin, entry
    return None


def check_entry(entry: Entry, group: str) -> None:
    """Raises EntryError for an entry that cannot have been made by an honest member."""
    check_path(entry.path)
    if entry.group != group:
        raise EntryError(f"an entry of group {entry.group} came as one of {group}")
    if not 0 < entry.lamport <= LAMPORT_MAX or entry.seq > SEQ_MAX:
        raise EntryError(f"journal {group}/{entry.origin}: lamport {entry.lamport} or seq {entry.seq} is out of range")
    if entry.parent >= entry.version:
        raise EntryError(f"journal {group}/{entry.origin}: entry {entry.seq} is not newer than what it replaces")
