"""Datagrams in and out: what a shelf can answer is answered here, the rest is handed up.

Law: one call serves one readiness of one socket and never waits. The compiled twin (`hot`) is used where it is built;
then datagrams are received and sent in batches, by one system call each.
"""

import socket
from typing import Any, Protocol, TypeAlias

from anycastle.dns.limit import Limiter, Verdict
from anycastle.dns.shelf import Shelf
from anycastle.dns.tables import Tables
from anycastle.dns.template import Keeper

try:
    from anycastle.dns import hot
except ImportError:  # there was no compiler when it was installed
    hot = None  # type: ignore[assignment]

IS_COMPILED = hot is not None
AnyLimiter: TypeAlias = "Limiter | hot.HotLimiter"

BATCH_MAX = 64
"""Datagrams read from one socket in one go, so that the others and the control socket get their turn."""
QUERY_BYTES_MAX = 65535

Waiting = tuple[bytes, bytes, Any, Verdict]
"""A packet that goes the whole way, the address it came from (4 or 16 bytes), where `send` sends to, and what the
limiter said."""


class UdpPath(Protocol):
    """What both ways have in common."""

    @property
    def shelf(self) -> Keeper: ...

    def serve(self, udp: socket.socket, *, now: float, wall: float) -> list[Waiting]:
        """What is left to be answered of what is there to be read."""
        ...

    def send(self, udp: socket.socket, reply: bytes, address: Any) -> None:
        """One answer; a client that cannot be reached is counted."""
        ...

    def collect(self, counters: dict[str, int]) -> None:
        """Adds what was counted since the last time."""
        ...


def make_limiter(per_second_max: float, key: int) -> AnyLimiter:
    """For `make_path`; it lives on when the tables are replaced."""
    return hot.HotLimiter(per_second_max, key=key) if hot is not None else Limiter(per_second_max, key=key)


def make_path(tables: Tables, limiter: AnyLimiter) -> UdpPath:
    """The compiled one, where it is built."""
    if isinstance(limiter, Limiter):
        return PlainUdp(tables, limiter)
    return hot.HotShelf(tables, limiter)


class PlainUdp:
    """One system call for each datagram."""

    def __init__(self, tables: Tables, limiter: Limiter) -> None:
        self.shelf = Shelf(tables, limiter)
        self._send_failed = 0

    def serve(self, udp: socket.socket, *, now: float, wall: float) -> list[Waiting]:
        waiting: list[Waiting] = []
        family = udp.family
        for _ in range(BATCH_MAX):
            try:
                packet, address = udp.recvfrom(QUERY_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error for an earlier answer
                continue
            source = socket.inet_pton(family, address[0].partition("%")[0])
            reply = self.shelf.take(packet, source, now=now, wall=wall)
            if isinstance(reply, Verdict):
                waiting.append((packet, source, address, reply))
            elif reply is not None:
                self.send(udp, reply, address)
        return waiting

    def send(self, udp: socket.socket, reply: bytes, address: Any) -> None:
        try:
            udp.sendto(reply, address)
        except OSError:
            self._send_failed += 1

    def collect(self, counters: dict[str, int]) -> None:
        self.shelf.collect(counters)
        counters["send_failed"] += self._send_failed
        self._send_failed = 0
