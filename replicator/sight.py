"""Seeing what changes below a root: one group's watcher, opened again when it goes blind.

Laws: while changes may go unseen there is a reason, and the site vouches for nothing; whoever opens a watcher again
scans everything before it vouches again. Another folder at the root's place is not the tree: an empty mount point is
never taken for deleted files.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import cast

from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import PRIVATE_FOLDER
from anycastle.replicator.threads import Threads
from anycastle.replicator.watch import Watcher, WatchError, WatchEvent, open_watcher
from anycastle.replicator.watch_event import CookieRefused

log = logging.getLogger("anycastle.replicator.sight")

REOPEN_SECONDS = 2.0


class Sight:
    """One group's watcher, whichever it is at the moment."""

    def __init__(
        self,
        group: str,
        tree: Tree,
        *,
        threads: Threads,
        see: Callable[[WatchEvent], Awaitable[None]],
        scan: Callable[[], Awaitable[None]],
        moved: Callable[[], None],
    ) -> None:
        """`scan` returns when all that differed is journaled. Raises WatchError when the root cannot be watched."""
        self.reason = "the first scan is under way"
        """Why changes may have gone unseen; the empty string when none can."""
        self._group = group
        self._tree = tree
        self._threads = threads
        self._see = see
        self._scan = scan
        self._moved = moved
        self._watcher: Watcher | None = open_watcher(tree)
        self._lost: asyncio.Future[str] | None = None
        self._heard = 0

    @property
    def heard(self) -> int:
        """What all watchers so far were told."""
        return self._heard + (self._watcher.heard if self._watcher is not None else 0)

    @property
    def watched_by(self) -> str:
        """Which kind of watcher, and why that one; for people."""
        watcher = self._watcher
        return "nothing" if watcher is None else f"{watcher.kind}: {watcher.reason}"

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._withhold(await self._watch())
            await self._open_again()

    async def _watch(self) -> str:
        """Until nothing can be seen any more; returns why."""
        self._lost = lost = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            works = [tasks.create_task(self._or_lose(work)) for work in (self._take_events(), self._scan_all())]
            reason: str = await lost
            for work in works:
                work.cancel()
        return reason

    async def _or_lose(self, work: Coroutine[None, None, None]) -> None:
        """Ends quietly by a fault, for a task group that ends by an error may swallow a cancellation of ours."""
        try:
            await work
        except AnycastleError as error:
            self.lose(str(error))

    def lose(self, reason: str) -> None:
        """Changes may go unseen: watch anew, and scan."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)
            self._withhold(reason)

    def drop_cookie(self) -> str:
        """As `Watcher.drop_cookie`. Raises WatchError: what went before may go unseen."""
        if self.reason or self._watcher is None:
            raise WatchError(self.reason)
        try:
            return self._watcher.drop_cookie()
        except CookieRefused:
            raise
        except WatchError as error:
            self.lose(str(error))
            raise

    def close(self) -> None:
        """May be called twice."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            self._heard += watcher.heard
            watcher.close()

    async def _take_events(self) -> None:
        assert self._watcher is not None
        batches = cast("AsyncGenerator[tuple[WatchEvent, ...], None]", self._watcher.batches())
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for event in batch:
                    await self._see(event)

    async def _scan_all(self) -> None:
        await self._scan()
        if self.reason.startswith("cannot"):
            log.warning("group=%s event=watching-again watcher=%r", self._group, self.watched_by)
        self.reason = ""
        self._moved()

    def _withhold(self, why: str) -> None:
        reason = f"cannot see changes: {why}"
        if reason != self.reason:
            log.warning("group=%s event=blind reason=%r", self._group, why)
            self.reason = reason
            self._moved()

    async def _open_again(self) -> None:
        self.close()
        while self._watcher is None:
            await asyncio.sleep(REOPEN_SECONDS)
            try:
                await self._threads.do(self._open)
            except AnycastleError as error:
                self._withhold(str(error))

    def _open(self) -> None:
        """In a thread, for inotify walks the tree. The watcher is ours at once, so that nothing is lost on the way."""
        root = self._tree.root
        try:
            found, known = os.stat(root), os.fstat(self._tree.descriptor)
        except OSError as error:
            raise WatchError(f"root {root}: {error.strerror}") from error
        if not os.path.samestat(found, known):
            raise WatchError(f"root {root} is another folder than at the start: put the old one back, or restart")
        self._remake_private()
        self._watcher = open_watcher(self._tree)

    def _remake_private(self) -> None:
        try:
            if self._tree.mend():
                log.warning("group=%s event=private-folder-remade folder=%s", self._group, PRIVATE_FOLDER.decode())
        except OSError as error:
            raise WatchError(f"{PRIVATE_FOLDER.decode()} cannot be made again: {error.strerror}") from error
