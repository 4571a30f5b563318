"""One conversation with ExaBGP through one connection of its bridge, or through its own pipes.

Law: one command at a time, each answered before the next: ExaBGP corrupts pipelined changes of one prefix, for good.
A conversation that goes wrong ends with `LinkLostError`; it is never repaired, the next one starts from nothing known.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

from anycastle.bgp import exabgp
from anycastle.bgp.route import BgpError

ALIVE_SECONDS = 1.0
"""The beat that keeps the bridge's dead man from acting."""
ANSWER_SECONDS = 5.0
"""ExaBGP answers in milliseconds; a whole table dump of 10,000 routes kept it busy for 5 s (nobody asks for one)."""
LINE_BYTES_MAX = 1024 * 1024


class LinkLostError(BgpError):
    """The conversation is over."""


class SilenceError(LinkLostError):
    """It is over because ExaBGP did not answer."""


class Link:
    """`run` converses until something breaks; meanwhile `tell` sends one command and waits for its answer."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hear: Callable[[exabgp.Answer], None],
        *,
        beats: bool = True,
    ) -> None:
        """`hear` is called with everything ExaBGP says but the answers to commands.

        `beats` says that there is a bridge, which wants to know that we live; the streams are then closed at the end.
        """
        self._reader = reader
        self._writer = writer
        self._hear = hear
        self._beats = beats
        self._answer: asyncio.Future[bool] | None = None

    async def run(self, talk: Callable[[Self], Awaitable[None]]) -> None:
        """Raises an ExceptionGroup of LinkLostError or OSError, sooner or later."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                if self._beats:
                    group.create_task(self._beat())
                await talk(self)
        finally:
            if self._beats:
                self._writer.close()
                with contextlib.suppress(OSError):
                    await self._writer.wait_closed()

    async def tell(self, command: exabgp.Command) -> bool:
        """True for "done", False for "error"."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._writer.write(command.text.encode("ascii") + b"\n")
                await self._writer.drain()
                return await self._answer
        except TimeoutError:
            raise SilenceError(f"no answer in {ANSWER_SECONDS:g} s to: {command.text}") from None
        finally:
            self._answer = None

    async def _beat(self) -> None:
        while True:
            self._writer.write(b"bridge alive\n")
            await self._writer.drain()
            await asyncio.sleep(ALIVE_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                line = await self._reader.readline()
            except ValueError:
                raise LinkLostError(f"a line of more than {LINE_BYTES_MAX} bytes from ExaBGP") from None
            if not line:
                raise LinkLostError("the bridge is gone")
            answer = exabgp.parse(line.decode("utf-8", "replace"))
            if not isinstance(answer, exabgp.Reply):
                self._hear(answer)
            elif self._answer is not None and not self._answer.done():
                self._answer.set_result(answer.done)
