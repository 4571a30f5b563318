"""The one thread that writes the ledger: writes keep their order, and no disk ever stops the event loop."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from anycastle.errors import AnycastleError
from anycastle.replicator.schema import LedgerError, LedgerHole
from anycastle.replicator.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

PROBE_SECONDS = 2.0
RETRY_SECONDS = 0.5
"""A write that the ledger would not take (its disk is full) is tried again, by whoever asked for it."""


class LedgerThread:
    """Awaited, a write is durable."""

    def __init__(self) -> None:
        self.trouble = ""
        """Why the last write was not taken; the empty string when it was."""
        self._thread = Threads(1, "ledger")

    async def do(self, write: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run one write after those asked for before; what it raises is raised here."""
        try:
            result = await self._thread.do(write, *arguments, **named)
        except LedgerHole:
            raise
        except LedgerError as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return result

    async def heal(self, probe: Callable[[], None]) -> None:
        """While the last write was refused, try a harmless one now and then: nothing else may be there to write."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if self.trouble:
                with contextlib.suppress(AnycastleError):
                    await self.do(probe)

    def close(self) -> None:
        """Waits for the writes under way. May be called twice."""
        self._thread.close()
