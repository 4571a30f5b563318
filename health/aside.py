"""Calls that block (the C library's resolver, a filesystem that hangs) beside the event loop.

Laws: one call at a time for each `Aside`, so what hangs holds one thread and not one more each second; the thread is a
daemon, because what hangs must not hold up the end of the process, as the threads of an executor would.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """One thread at most, that comes with a call and goes with its end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: asyncio.Future[T] | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises; of the call before this one, when that has not ended yet.

        Cancelling leaves the call to itself, and its result to the next who asks while it is under way.
        """
        if self._under_way is None or self._under_way.done():
            loop = asyncio.get_running_loop()
            self._under_way = loop.create_future()
            self._under_way.add_done_callback(_seen)
            arguments = (loop, self._under_way, call)
            threading.Thread(target=_work, args=arguments, name=self._name, daemon=True).start()
        return await asyncio.shield(self._under_way)


def _work(loop: asyncio.AbstractEventLoop, result: "asyncio.Future[T]", call: Callable[[], T]) -> None:
    try:
        settle = partial(result.set_result, call())
    except Exception as error:  # handed to whoever waits
        settle = partial(result.set_exception, error)
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
        loop.call_soon_threadsafe(settle)


def _seen(result: "asyncio.Future[T]") -> None:
    """Nobody may be left to hear of an error, and that is no fault."""
    if not result.cancelled():
        result.exception()
