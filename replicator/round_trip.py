"""How long a client's packets take, from what the kernel knows of its connection: no packet is sent for it.

Law: one number for each connection, of the peer that the kernel names, never of one that a header names. It is the
least that the kernel has seen (a handshake at least, which waits for no application), or its running mean where the
kernel does not tell the least. A kernel that tells less than expected gives no number, never a wrong one.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from weakref import WeakSet

INFO_BYTES_MAX = 256
"""More than struct tcp_info has ever had; a kernel writes as much of its own as fits."""

_STATE, _ESTABLISHED, _CLOSE_WAIT = 0, 1, 8
_MEAN = struct.Struct("=68xI")
_LEAST = struct.Struct("=148xI")
"""tcpi_rtt and tcpi_min_rtt (Linux 4.6) in struct tcp_info of <linux/tcp.h>, both in microseconds."""
_UNKNOWN = (0, 0xFFFFFFFF)

OnRoundTrip = Callable[[str, float], None]
"""Hears the address of a client, as text, and the seconds that a packet takes to it and back."""


def round_trip_seconds(info: bytes) -> float | None:
    """The round trip in a struct tcp_info of any length; None when it tells none."""
    if not info or info[_STATE] not in (_ESTABLISHED, _CLOSE_WAIT):
        return None
    for field in (_LEAST, _MEAN):
        if len(info) >= field.size:
            (microseconds,) = field.unpack_from(info)
            if microseconds not in _UNKNOWN:
                return float(microseconds) / 1e6
    return None


class RoundTrips:
    """Looks at each connection once."""

    def __init__(self, on_round_trip: OnRoundTrip) -> None:
        self.sampled = 0
        self._on_round_trip = on_round_trip
        self._seen: WeakSet[asyncio.BaseTransport] = WeakSet()

    def look(self, transport: asyncio.BaseTransport | None) -> None:
        """At a connection over which a client has been answered; again costs nothing."""
        if transport is None or transport in self._seen:
            return
        self._seen.add(transport)
        connection = transport.get_extra_info("socket")
        peer = transport.get_extra_info("peername")
        if connection is None or not peer:
            return
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES_MAX)
        except OSError:  # it is gone
            return
        seconds = round_trip_seconds(info)
        if seconds is not None:
            self.sampled += 1
            self._on_round_trip(peer[0].partition("%")[0], seconds)
