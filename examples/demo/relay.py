"""The wires of the demo: what members say to each other passes here, so that links can be slowed down and cut.

Each pair of members shares one wire per direction, with a rate: all its connections take turns in small pieces, as on a
real line. A cut wire drops its connections and accepts none.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

PIECE_BYTES = 16 * 1024
Address = tuple[str, int]


@dataclass(slots=True)
class Wire:
    """One direction between two members."""

    bytes_per_second: float | None = None
    cut: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def carry(self, size: int) -> None:
        """Take the time that `size` bytes need; connections queue for the wire in the order they ask."""
        rate = self.bytes_per_second
        if rate is None:
            return
        async with self._turn:
            await asyncio.sleep(size / rate)


class Relays:
    """Listens in front of every member's link port. Members are told apart by the address they connect from."""

    def __init__(self, members: dict[str, str], *, port: int, behind: int) -> None:
        """`members`: name -> address; connections to `port` there go on to port `behind`."""
        self._names = {address: name for name, address in members.items()}
        self._port, self._behind = port, behind
        self.wires = {(a, b): Wire() for a in members for b in members if a != b}
        self._writers: dict[tuple[str, str], set[asyncio.StreamWriter]] = {pair: set() for pair in self.wires}
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        for address in self._names:
            server = await asyncio.start_server(self._accept, address, self._port)
            self._servers.append(server)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for pair in self._writers:
            self._drop(pair)

    def slow_down(self, member: str, bytes_per_second: float | None) -> None:
        """Limit what leaves `member`; None lifts the limit."""
        for (source, _), wire in self.wires.items():
            if source == member:
                wire.bytes_per_second = bytes_per_second

    def cut(self, member: str, is_cut: bool) -> None:
        """Separate `member` from all others, or heal it."""
        for pair, wire in self.wires.items():
            if member in pair:
                wire.cut = is_cut
                if is_cut:
                    self._drop(pair)

    def _drop(self, pair: tuple[str, str]) -> None:
        for writer in self._writers[pair]:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = self._names.get(writer.get_extra_info("peername")[0], "")
        host = writer.get_extra_info("sockname")[0]
        target = self._names[host]
        there, back = (source, target), (target, source)
        if there not in self.wires or self.wires[there].cut:
            writer.transport.abort()
            return
        # Cancelled only when the demo ends.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection(host, self._behind)
            self._writers[there] |= {writer, far_writer}
            try:
                await asyncio.gather(
                    _pump(reader, far_writer, self.wires[there]), _pump(far_reader, writer, self.wires[back])
                )
            finally:
                self._writers[there] -= {writer, far_writer}
                far_writer.transport.abort()
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            await wire.carry(len(piece))
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof() if writer.can_write_eof() else None
