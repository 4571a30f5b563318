"""The one thread that writes the ledger: writes keep their order, and no disk ever stops the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LedgerThread:
    """Awaited, a write is durable."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger")

    async def do(self, write: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run one write after those asked for before; what it raises is raised here."""
        return await asyncio.wrap_future(self._thread.submit(write, *arguments, **named))

    def close(self) -> None:
        """Waits for the writes under way."""
        self._thread.shutdown(wait=True)
