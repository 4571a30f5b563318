"""Worker threads for what blocks: awaited, and never left behind.

Law: what a thread has begun is seen to its end, also when whoever waits for it is cancelled, so that nothing that a
thread works on is closed under it. What has not begun is taken back.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from anycastle.errors import AnycastleError

P = ParamSpec("P")
T = TypeVar("T")


class Stopped(AnycastleError):
    """The member stops: nothing new is begun."""


class Threads:
    """A fixed number of threads."""

    def __init__(self, count: int, name: str) -> None:
        self.stopping = False
        """Long work looks at it now and then, and ends early."""
        self._pool = ThreadPoolExecutor(count, name)

    async def do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run it in a thread; what it raises is raised here. Raises Stopped after `close`."""
        if self.stopping:
            raise Stopped("this member stops")
        begun = self._pool.submit(work, *arguments, **named)
        waiting = asyncio.wrap_future(begun)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not begun.cancel():
                await asyncio.wait([waiting])
            raise

    def stop(self) -> None:
        """Begin nothing new."""
        self.stopping = True

    def close(self) -> None:
        """Waits for what is under way. May be called twice."""
        self.stopping = True
        self._pool.shutdown(wait=True, cancel_futures=True)
