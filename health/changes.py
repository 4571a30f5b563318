"""A number that grows with every change, and a way to wait for the next one without missing any."""

import asyncio


class Changes:
    """For one event loop."""

    def __init__(self) -> None:
        self.generation = 0
        self._next = asyncio.Event()

    def bump(self) -> None:
        """Something that is shown has changed."""
        self.generation += 1
        self._next.set()
        self._next = asyncio.Event()

    async def after(self, seen: int) -> int:
        """Returns the generation as soon as it is not `seen` any more: at once when it moved on meanwhile."""
        while self.generation == seen:
            await self._next.wait()
        return self.generation
