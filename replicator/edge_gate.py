"""What the edge asks of the rest of the member."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from anycastle.replicator.gate import Forward, Refuse, Serve

Eligible = Callable[[str, str, bytes], bool]
"""(site, group, prefix): whether users may be sent there; neither drained nor withheld."""


class GatePort(Protocol):
    """What the edge asks of the replicator."""

    async def admit(
        self, group: str, path: bytes | None, prefix: bytes, *, meanwhile: bool = True
    ) -> Serve | Forward | Refuse:
        """Judge a read; waits, within the group's bound, for what will soon be known.

        Without `meanwhile` only for what is known already: then ask again when the answer is made.
        """
        ...

    def may_write(self, group: str) -> Forward | Refuse | None:
        """Judge a write before it reaches the application; None lets it."""
        ...

    def others(self, group: str) -> tuple[str, ...]:
        """Other sites that may answer for a group: current ones, those that users are sent to first, then nearest."""
        ...

    async def before_write(self, group: str, prefix: bytes) -> Forward | Refuse | None:
        """Wait until what is known below the prefix is here, for software reads before it writes; None lets it."""
        ...

    def writing(self, group: str) -> AbstractContextManager[None]:
        """A write is with the application, or not fenced yet: meanwhile nothing is served unasked (`edge_pass`)."""
        ...

    async def fence(self, group: str) -> Refuse | None:
        """Wait until every change made so far in the group is fenced, and landed at as many sites as it asks for."""
        ...

    def waiting_for(self, group: str) -> str:
        """Why a fence takes so long, for people: the member that is waited for."""
        ...
