"""Bodies that other members hold, pulled into a temp file.

Law: only content of the announced digest leaves here; a holder that breaks off is followed by the next one from the
same byte on, one that gave other bytes by the next one from the start, and it is counted.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from anycastle.errors import AnycastleError
from anycastle.replicator.disk import DigestMismatch, Staged, Tree, TreeError
from anycastle.replicator.entry import Entry
from anycastle.replicator.threads import Threads


class Source(Protocol):
    """Where bodies come from: the links, in the product."""

    def holders(self, entry: Entry) -> tuple[str, ...]:
        """Connected members that can be asked for this content, best first."""
        ...

    def fetch(self, member: str, entry: Entry, offset: int) -> AsyncGenerator[bytes | memoryview, None]:
        """The content from `offset` on. Raises AnycastleError when the member cannot give it."""
        ...

    async def fetch_small(self, member: str, group: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many small contents at once, as many as the member has, unchecked. Raises AnycastleError."""
        ...


class NobodyHasIt(AnycastleError):
    """No connected member holds this content at the moment."""


class Puller:
    """Pulls for one group."""

    def __init__(self, tree: Tree, source: Source, threads: Threads) -> None:
        self.fetched_bytes = 0
        self.mismatches = 0
        """Contents that were not what was announced."""
        self._tree = tree
        self._source = source
        self._threads = threads

    async def pull(self, entry: Entry) -> Staged:
        """Finished content. Raises NobodyHasIt, LandError (the disk is full)."""
        problems: list[str] = []
        staged = await self._threads.do(self._tree.stage, entry)
        try:
            for member in self._source.holders(entry):
                while True:
                    alone = not staged.written
                    try:
                        await self._pull_from(member, staged)
                        await self._threads.do(staged.finish)
                        return staged
                    except DigestMismatch as error:
                        self.mismatches += 1
                        problems.append(f"{member}: {error}")
                        staged = await self._threads.do(self._tree.stage, entry)
                        if alone:
                            break  # it is this member's; else perhaps of one before: ask this one for all of it
                    except TreeError:
                        raise
                    except AnycastleError as error:
                        problems.append(f"{member}: {error}")
                        break
            raise NobodyHasIt("; ".join(problems) or "no connected member holds this content")
        except BaseException:
            staged.abort()
            raise

    async def pull_small(self, entries: Sequence[Entry]) -> dict[bytes, bytes]:
        """What the best holder of the first of these has of all of them, by digest and unchecked. May be nothing."""
        members = self._source.holders(entries[0])
        if not members:
            return {}
        digests = list(dict.fromkeys(entry.digest for entry in entries))
        try:
            found = await self._source.fetch_small(members[0], entries[0].group, digests)
        except AnycastleError:
            return {}
        self.fetched_bytes += sum(map(len, found.values()))
        return found

    async def _pull_from(self, member: str, staged: Staged) -> None:
        if staged.written == staged.entry.size:
            return
        async with contextlib.aclosing(self._source.fetch(member, staged.entry, staged.written)) as chunks:
            async for chunk in chunks:
                await self._threads.do(staged.write, chunk)
                self.fetched_bytes += len(chunk)
