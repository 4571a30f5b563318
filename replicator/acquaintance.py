"""Whether two members that meet are those who met before: a ledger that was lost or put back is found out.

Each life of a ledger (each opening) has a random number, and the ledger keeps the numbers of its lives. Members
remember the last life that they met of each other one, durably, and while they run what it said that it had recorded.

Law: a member whose ledger does not stem from the life that another one remembers, or holds less than that one was told,
would repeat sequence numbers, and does not know what it promised. The moment it finds out it has forgotten (`Memory`),
over restarts too, and the two do not talk until an operator says so (`anycastle resync`). A ledger that is new says it
by itself; whoever remembers another one tells it so at each meeting, until it says that it holds all again: else, after
a break, it would take itself for the first that anybody met.
"""

import contextlib
from collections.abc import Callable
from typing import Protocol

import msgspec

from anycastle.replicator.fence import covers
from anycastle.replicator.message import Hello, Vectors
from anycastle.replicator.schema import LedgerError

DISOWNED = b"disowned"
RESYNC = b"resync"


class Shelf(Protocol):
    """What a ledger keeps of this."""

    @property
    def lives(self) -> tuple[int, ...]: ...
    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, value: bytes) -> None: ...
    def recorded(self) -> Vectors: ...


class Acquaintance:
    """One member's."""

    def __init__(
        self,
        member: str,
        others: frozenset[str],
        ledger: Shelf,
        *,
        told: Callable[[str], Vectors],
        forget: Callable[[], None],
    ) -> None:
        """`told`: as `Controller.told`. `forget` is called when it is found out that the ledger was put back."""
        self.disowned = ""
        """Why others do not talk to us; the empty string while nobody said so."""
        self._member = member
        self._ledger = ledger
        self._told = told
        self._forget = forget
        self._knows = {
            other: int.from_bytes(found) for other in others if (found := ledger.get(f"life.{other}")) is not None
        }
        self._missed = {other for other in others if ledger.get(f"missed.{other}")}
        """Others that came with another ledger, and lack something still."""
        if ledger.get("forgot") == DISOWNED:
            self.disowned = _words("others")

    def resync(self) -> None:
        """An operator says that the ledger does not hold all, and that the others shall give it back."""
        self._ledger.put("forgot", RESYNC)
        self.disowned = ""

    def greet(self, hello: Hello, member: str) -> Hello:
        """Our Hello to the member, with what we remember now."""
        return msgspec.structs.replace(
            hello,
            lives=self._ledger.lives,
            knows=dict(self._knows),
            missed=member in self._missed,
            told=self._told(member),
            forgot=self._says_so(),
        )

    def _says_so(self) -> bool:
        return (self._ledger.get("forgot") or DISOWNED) != DISOWNED

    def fault(self, theirs: Hello) -> str:
        """Why there must be no link with the member; the empty string when there may, and then it is remembered."""
        if not theirs.lives:
            return ""
        if not self._says_so() and (self._is_unknown(theirs) or self._holds_less(theirs)):
            if not self.disowned:
                self.disowned = _words(theirs.member)
                with contextlib.suppress(LedgerError):  # a full disk: whoever disowned us does so again after a restart
                    self._ledger.put("forgot", DISOWNED)
                self._forget()
            return self.disowned
        known = self._knows.get(theirs.member)
        if known is not None and known not in theirs.lives and not theirs.forgot:
            return f"its ledger is not the one that was known: expected `anycastle resync` at {theirs.member}"
        with contextlib.suppress(LedgerError):  # a full disk: then an older life is remembered, which is no harm
            self._remember(theirs.member, theirs.lives[-1], missed=theirs.forgot and self._missing(theirs))
        return ""

    def _missing(self, theirs: Hello) -> bool:
        known = self._knows.get(theirs.member)
        return theirs.member in self._missed or (known is not None and known not in theirs.lives)

    def knew_another(self, theirs: Hello) -> bool:
        """The member remembers, or has known, a ledger of ours that is not this one."""
        return self._is_unknown(theirs) or theirs.missed

    def _is_unknown(self, theirs: Hello) -> bool:
        ours = theirs.knows.get(self._member)
        return ours is not None and ours not in self._ledger.lives

    def _holds_less(self, theirs: Hello) -> bool:
        mine = self._ledger.recorded()
        return not all(covers(mine[group], seqs) for group, seqs in theirs.told.items() if group in mine)

    def _remember(self, member: str, life: int, *, missed: bool) -> None:
        """Raises LedgerError. That it is another one is kept before it is taken for the one that is known."""
        new, was_missed = self._knows.get(member) != life, member in self._missed
        self._knows[member] = life
        (self._missed.add if missed else self._missed.discard)(member)
        if missed and not was_missed:
            self._ledger.put(f"missed.{member}", b"1")
        if new:
            self._ledger.put(f"life.{member}", life.to_bytes(8))
        if was_missed and not missed:
            self._ledger.put(f"missed.{member}", b"")


def _words(member: str) -> str:
    return f"this ledger is not the one that {member} knew: it was put back from a backup; run `anycastle resync` here"
