"""Setting a damaged ledger aside, so that the member takes its journal back from the others at the next start.

Laws: only a ledger that does not pass its check is set aside, for what is sound is not given up by a slip; nothing is
deleted.
"""

import os
from pathlib import Path

from anycastle.clock import SystemClock
from anycastle.replicator import schema
from anycastle.replicator.schema import LedgerError

PARTS = ("", "-wal", "-shm")


def set_aside(path: Path) -> Path | None:
    """Renames a damaged ledger; returns what it is called now, None when there is none. Raises LedgerError if sound."""
    if not path.exists():
        return None
    with schema.explained(path):
        locked = schema.lock(path)
        try:
            if not _damaged(path):
                raise LedgerError(f"ledger {path} is sound: expected a damaged one, to be set aside and rebuilt")
            aside = path.with_name(f"{path.name}.damaged-{SystemClock().wall():.0f}")
            for part in PARTS:
                if os.path.lexists(f"{path}{part}"):
                    os.rename(f"{path}{part}", f"{aside}{part}")
        finally:
            os.close(locked)
    return aside


def _damaged(path: Path) -> bool:
    try:
        connection, _ = schema.open_writer(path)
    except schema.DAMAGE:
        return True
    connection.close(True)
    return False
