"""One process of a member gives way to the next, which takes over its listening sockets: both sides of what they say.

    before   starts the next process, with copies of its sockets, and serves on
    after    reads configuration, files and zones, and says `prepared`; or says `refused` and why, and nothing happened
    before   ends its member: routes, requests under way, links, ledger; its DNS workers go on answering. Says `yours`
    after    opens the ledger, makes the links, serves, and says `ready`; or `refused`, and the one before begins anew
    before   ends its DNS workers, tells systemd who is to be watched, and ends

Laws: the sockets are the very same, so nothing that waits in one is lost; at no moment are there two members, for the
ledger has one owner; whoever hears nothing of the other any more goes on by itself.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, MutableMapping

from anycastle.errors import AnycastleError

VARIABLE = "ANYCASTLE_PREDECESSOR"
"""Descriptors for the next process: the one to talk over, and the sockets, which say themselves what they are."""
REFUSED_WORDS = "the last restart was refused: "
"""A note that begins so says why, and is gone with the next restart."""
PREPARE_SECONDS_MAX = 600.0
"""For large zones; nobody waits for it but who asked for the restart."""
GIVE_WAY_SECONDS_MAX = 600.0
"""Routes have 7 s to be withdrawn, and requests under way the edge's `drain`, which is the operator's choice."""
START_SECONDS_MAX = 120.0
"""For the DNS workers to take large tables; users of the edge wait for a small part of it."""
GOODBYE_SECONDS_MAX = 10.0
KILL_SECONDS = 5.0
LINE_BYTES_MAX = 2000
_PREPARED, _YOURS, _READY, _REFUSED = "prepared", "yours", "ready", "refused"
_ONCE = "--rebuild-ledger"
"""What a start was told to do once."""


class TakeoverError(AnycastleError):
    """The next process cannot take over; the one before serves on."""


class Inheritance:
    """The sockets of the process before, until somebody takes them."""

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._sockets = list(sockets)

    def take(self, kind: socket.SocketKind, address: tuple[str, int]) -> tuple[socket.socket, ...]:
        """Those on an address, which are the caller's from now on."""
        found = self._on(kind, address)
        self._sockets = [each for each in self._sockets if each not in found]
        return tuple(found)

    def has(self, kind: socket.SocketKind, address: tuple[str, int]) -> bool:
        return bool(self._on(kind, address))

    def take_unix(self, path: str) -> socket.socket | None:
        """The one that was bound to a path."""
        for each in self._sockets:
            if each.family == socket.AF_UNIX and each.getsockname() == path:
                self._sockets.remove(each)
                return each
        return None

    def close(self) -> None:
        """What nobody took: its address has left the configuration."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def _on(self, kind: socket.SocketKind, address: tuple[str, int]) -> list[socket.socket]:
        internet = (socket.AF_INET, socket.AF_INET6)
        return [
            each
            for each in self._sockets
            if each.family in internet and each.type == kind and _same(each.getsockname()[:2], address)
        ]


def _same(one: tuple[str, int], other: tuple[str, int]) -> bool:
    return one[1] == other[1] and ipaddress.ip_address(one[0]) == ipaddress.ip_address(other[0])


class _Channel:
    """Lines, both ways."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours
        self._received = b""

    def say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody hears it: then the other side has gone, and is found to have
            self._socket.send(line.replace("\n", " ").encode()[: LINE_BYTES_MAX - 1] + b"\n")

    async def hear(self) -> str:
        """The next line; empty when the other side has gone."""
        while b"\n" not in self._received:
            try:
                data = await asyncio.get_running_loop().sock_recv(self._socket, LINE_BYTES_MAX)
            except OSError:
                data = b""
            if not data:
                return ""
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("utf-8", "replace")

    def close(self) -> None:
        self._socket.close()


class Successor:
    """The next process, as the one before sees it."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: _Channel, kept: list[socket.socket]) -> None:
        self._process = process
        self._channel = channel
        self._kept = kept

    @classmethod
    def start(cls, sockets: Iterable[socket.socket], environment: Mapping[str, str]) -> "Successor":
        """By the command that started us, as the same account, with the same rights. Raises TakeoverError."""
        with contextlib.ExitStack() as undo:
            ours, theirs = map(undo.enter_context, socket.socketpair())
            kept = [undo.enter_context(each.dup()) for each in sockets]
            numbers = [each.fileno() for each in (theirs, *kept)]
            handed = {VARIABLE: ",".join(map(str, numbers))}
            try:
                process = subprocess.Popen(
                    [word for word in sys.orig_argv if word != _ONCE],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **environment, **handed},
                    pass_fds=numbers,
                )
            except OSError as error:
                raise TakeoverError(f"cannot start the next process: {error.strerror}") from error
            undo.pop_all()
        theirs.close()
        return cls(process, _Channel(ours), kept)

    @property
    def process(self) -> int:
        """Its id."""
        return self._process.pid

    async def prepared(self) -> None:
        """Waits until it has read all it needs. Raises TakeoverError, and then it has ended."""
        if refusal := await self._hear(_PREPARED, PREPARE_SECONDS_MAX):
            raise TakeoverError(refusal)

    async def takes_over(self) -> str:
        """Tells it that all is its own now, and waits until users are served; why not, and then it has ended."""
        self._channel.say(_YOURS)
        return await self._hear(_READY, START_SECONDS_MAX)

    def inheritance(self) -> Inheritance:
        """The sockets back, when it did not take over."""
        kept, self._kept = self._kept, []
        return Inheritance(kept)

    def release(self) -> None:
        """It is told that it is alone now."""
        self._channel.close()
        for each in self._kept:
            each.close()
        self._kept.clear()

    async def stop(self) -> None:
        """Ends it, by force if it must be."""
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends it now; for when nobody may wait."""
        self._process.kill()
        self._process.wait()

    async def _hear(self, wanted: str, seconds_max: float) -> str:
        """Empty when it said what was wanted; else why it did not, and then it has ended."""
        try:
            async with asyncio.timeout(seconds_max):
                said = await self._channel.hear()
        except TimeoutError:
            said = f"{_REFUSED} it said nothing within {seconds_max:.0f} s"
        if said == wanted:
            return ""
        await self.stop()
        word, _, why = said.partition(" ")
        if word == _REFUSED:
            return why
        return f"it ended with status {self._process.returncode}; what it said is in the log"


class Predecessor:
    """The process before, as the next one sees it."""

    def __init__(self, channel: _Channel, inheritance: Inheritance) -> None:
        self.inheritance = inheritance
        self._channel = channel
        self._process = os.getppid()

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> "Predecessor | None":
        """Takes its variable out; None when nobody was before. Raises TakeoverError."""
        text = environment.pop(VARIABLE, "")
        if not text:
            return None
        try:
            talking, *sockets = (socket.socket(fileno=int(number)) for number in text.split(","))
        except (OSError, ValueError) as error:
            raise TakeoverError(f"{VARIABLE} is {text!r}: expected descriptors of sockets: {error}") from error
        for each in (talking, *sockets):
            each.set_inheritable(False)
            each.setblocking(False)  # as it is; Python would have its copies block, and with them all others
        return cls(_Channel(talking), Inheritance(sockets))

    def refused(self, why: str) -> None:
        """We cannot start."""
        self._channel.say(f"{_REFUSED} {why}")

    async def gives_way(self) -> None:
        """Waits until nothing is the other's any more, or it is dead. Raises TakeoverError."""
        self._channel.say(_PREPARED)
        try:
            async with asyncio.timeout(GIVE_WAY_SECONDS_MAX):
                if await self._channel.hear():
                    return
                # It is dying, and holds its ledger up to the end; the kernel tells nobody of that moment.
                while os.getppid() == self._process:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TakeoverError(f"the process before did not give way within {GIVE_WAY_SECONDS_MAX:.0f} s") from None

    async def goes(self) -> None:
        """Tells it that users are served, and waits until it has told systemd so."""
        self._channel.say(_READY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS_MAX):
                await self._channel.hear()
        self._channel.close()
