"""Whose ledger it is, and which of its lives this is.

Law: each opening is another life, with a greater number than the one before and a random name of its own, so that a
ledger that was lost or put back can be told from the one that others knew (`acquaintance`).
"""

import secrets
from pathlib import Path

import apsw

from anycastle.replicator.schema import LedgerError, fact, set_fact

LIVES_MAX = 1000
"""Openings remembered; whoever was away for more of them takes this ledger for another one."""


def begin_life(db: apsw.Connection, *, new: bool) -> tuple[int, ...]:
    kept = (fact(db, "ledger.lives") or b"")[-8 * LIVES_MAX :] + secrets.randbits(63).to_bytes(8)
    set_fact(db, "ledger.lives", kept)
    if new:
        set_fact(db, "fact.forgot", b"new")
    return tuple(int.from_bytes(kept[start : start + 8]) for start in range(0, len(kept), 8))


def own(db: apsw.Connection, path: Path, member: str) -> int:
    """Claims the ledger for `member`; returns the new incarnation."""
    owner = fact(db, "ledger.member") or member.encode()
    if owner != member.encode():
        raise LedgerError(f"ledger {path} belongs to member {owner.decode()}: expected {member}")
    incarnation = int(fact(db, "ledger.incarnation") or b"0") + 1
    set_fact(db, "ledger.member", owner)
    set_fact(db, "ledger.incarnation", b"%d" % incarnation)
    return incarnation
