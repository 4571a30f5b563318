"""What the control process and its DNS workers say to each other, over a socketpair.

Law: a frame is its length (4 bytes, without itself), one byte for the kind, and the payload. Both ends are ours and of
one version, so tables may be a pickle; nothing from the network ever enters here.
"""

import enum
import struct
from collections.abc import Iterator

import msgspec

FRAME_BYTES_MAX = 1 << 30
"""Tables of several million records; a larger length means a broken stream."""

_LENGTH = struct.Struct("!I")


class Kind(enum.IntEnum):
    """To the worker: SETUP once, TABLES as often as they change, VIEW first and then each CHANGE of it, RTT at times.

    RTT is an `anycastle.dns.fastest.Overlay` over the map of the last TABLES, which take the one before off. BEAT has
    nothing in it: the control process lives. From the worker: REPORT, as its heartbeat.
    """

    SETUP = 1
    TABLES = 2
    VIEW = 3
    REPORT = 4
    CHANGE = 5
    RTT = 6
    BEAT = 7


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of SETUP: inherited descriptors, and limits."""

    number: int
    udp_descriptors: tuple[int, ...]
    tcp_descriptors: tuple[int, ...]
    tcp_connections_max: int
    tcp_connections_per_client_max: int
    tcp_idle_seconds: float
    responses_per_second_max: float
    silence_seconds_max: float
    """Of the control process; then the site itself is held to be unknown."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of REPORT; only sent once there are tables and a view."""

    counters: dict[str, int]
    view_generation: int
    tables_taken: int = 0
    """How many TABLES frames this process has taken up."""


def encode_frame(kind: Kind, payload: bytes) -> bytes:
    """One frame."""
    return _LENGTH.pack(1 + len(payload)) + bytes((kind,)) + payload


class FrameBuffer:
    """Bytes in any pieces to whole frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The frames that `data` completes."""
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            assert 0 < length <= FRAME_BYTES_MAX, "the stream between control process and worker is broken"
            end = _LENGTH.size + length
            if len(self._bytes) < end:
                return
            with memoryview(self._bytes) as whole:  # large tables are copied once, not twice
                kind, payload = Kind(whole[_LENGTH.size]), bytes(whole[_LENGTH.size + 1 : end])
            del self._bytes[:end]
            yield kind, payload
