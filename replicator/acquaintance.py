"""Whether two members that meet are those who met before: a ledger that was lost or put back is found out.

Each life of a ledger (each opening) has a random number, and the ledger keeps the numbers of its lives. Members
remember the last life that they met of each other one, durably.

Law: a member whose ledger does not stem from the life that another one remembers would repeat sequence numbers, and
does not know what it promised. They do not talk until it says itself that it has forgotten (a ledger that is new does;
one put back from a backup does after `anycastle resync`).
"""

import contextlib

import msgspec

from anycastle.replicator.ledger import Ledger
from anycastle.replicator.message import Hello
from anycastle.replicator.schema import LedgerError


class Acquaintance:
    """One member's."""

    def __init__(self, member: str, others: frozenset[str], ledger: Ledger) -> None:
        self.disowned = ""
        """Why others do not talk to us; the empty string while nobody said so."""
        self._member = member
        self._ledger = ledger
        self._knows = {
            other: int.from_bytes(found) for other in others if (found := ledger.get(f"life.{other}")) is not None
        }

    @property
    def forgot(self) -> str:
        """As in `Memory`."""
        return (self._ledger.get("forgot") or b"").decode()

    def greet(self, hello: Hello) -> Hello:
        """Our Hello, with what we remember now."""
        return msgspec.structs.replace(
            hello, lives=self._ledger.lives, knows=dict(self._knows), forgot=bool(self.forgot)
        )

    def fault(self, theirs: Hello) -> str:
        """Why there must be no link with the member; the empty string when there may, and then it is remembered."""
        if not theirs.lives:
            return ""
        ours = theirs.knows.get(self._member)
        if ours is not None and ours not in self._ledger.lives and not self.forgot:
            self.disowned = (
                f"this ledger is not the one that {theirs.member} knew: it was put back from a backup; "
                "run `anycastle resync` here"
            )
            return self.disowned
        known = self._knows.get(theirs.member)
        if known is not None and known not in theirs.lives and not theirs.forgot:
            return f"its ledger is not the one that was known: expected `anycastle resync` at {theirs.member}"
        self._remember(theirs.member, theirs.lives[-1])
        return ""

    def knew_another(self, theirs: Hello) -> bool:
        """The member remembers a ledger of ours that is not this one."""
        ours = theirs.knows.get(self._member)
        return ours is not None and ours not in self._ledger.lives

    def _remember(self, member: str, life: int) -> None:
        if self._knows.get(member) == life:
            return
        self._knows[member] = life
        with contextlib.suppress(LedgerError):  # a full disk: then an older life is remembered, which is no harm
            self._ledger.put(f"life.{member}", life.to_bytes(8))
