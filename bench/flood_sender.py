"""A flood with forged sources on loopback: `python -m bench.flood_sender PORT RATE SECONDS everywhere|network`.

Law: what leaves is bound to the loopback device, at RATE a second at most, for SECONDS and no longer; answers fall into
a socket of ours that nobody reads. Prints how many queries were sent, and how many answers came. All of 127.0.0.0/8 is
this machine, so a source needs no forging: IP_PKTINFO names it for each packet. Packets are made beforehand and handed
over 64 in one call.
"""

import ctypes
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Sequence

from bench.dns_load import A, names

PACKETS = 16_384
BATCH = 64
SEED = 5
NETWORK = bytes((127, 9, 9))
"""The network that `network` floods in the name of."""
SLEEP_SECONDS = 0.0002
SETTLE_SECONDS = 0.5
"""For the last answers to come."""

_CONTROL = struct.Struct("=Qiii4s4s4x")
"""struct cmsghdr and struct in_pktinfo, 64-bit Linux."""
_IP_PKTINFO = 8
_SO_MEMINFO, _MEMINFO, _MEMINFO_DROPS = 55, struct.Struct("=9I"), 8
"""What found no room in the socket, which has next to none: all answers but one or two."""


class _Part(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.POINTER(_Part)),
        ("parts_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class Packets:
    """Messages for sendmmsg(2), with the memory that they point to."""

    def __init__(self, packets: Sequence[tuple[bytes, bytes]], port: int) -> None:
        """`packets` are (source address, query)."""
        self._to = ctypes.create_string_buffer(
            struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, bytes((127, 0, 0, 1)))
        )
        self._queries = [ctypes.create_string_buffer(query, len(query)) for _, query in packets]
        self._controls = [
            ctypes.create_string_buffer(
                _CONTROL.pack(28, socket.IPPROTO_IP, _IP_PKTINFO, 0, source, bytes(4)), _CONTROL.size
            )
            for source, _ in packets
        ]
        self._parts = (_Part * len(packets))()
        self._messages = (_Message * len(packets))()
        for part, message, query, control in zip(
            self._parts, self._messages, self._queries, self._controls, strict=True
        ):
            part.base, part.length = ctypes.addressof(query), len(query)
            header = message.header
            header.name, header.name_length = ctypes.addressof(self._to), 16
            header.parts, header.parts_count = ctypes.pointer(part), 1
            header.control, header.control_length = ctypes.addressof(control), _CONTROL.size
        self._libc = ctypes.CDLL(None, use_errno=True)

    def send(self, sock: socket.socket, first: int, count: int) -> int:
        """How many left. Raises OSError."""
        done = self._libc.sendmmsg(sock.fileno(), ctypes.byref(self._messages[first]), count, 0)
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(done)


def encode_plain(name: str, number: int) -> bytes:
    """A query for A as a stub sends it, without EDNS."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", A, 1)


def make_packets(kind: str) -> list[tuple[bytes, bytes]]:
    """`everywhere`: any source, any name. `network`: one name, as whoever reflects answers picks the largest."""
    chance = random.Random(SEED)
    every = names()
    packets = []
    for number in range(PACKETS):
        if kind == "network":
            source, name = NETWORK + bytes((chance.randrange(1, 255),)), every[0]
        else:
            source = bytes((127, chance.randrange(1, 255), chance.randrange(256), chance.randrange(1, 255)))
            name = chance.choice(every)
        packets.append((source, encode_plain(name, number)))
    return packets


def flood(port: int, rate: float, seconds: float, kind: str) -> tuple[int, int]:
    """How many queries were sent, and how many answers came to the forged addresses."""
    packets = Packets(make_packets(kind), port)
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind(("0.0.0.0", 0))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            if sent >= passed * rate:
                time.sleep(SLEEP_SECONDS)
                continue
            sent += packets.send(sock, sent % PACKETS, min(BATCH, PACKETS - sent % PACKETS))
        time.sleep(SETTLE_SECONDS)
        told = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return sent, _MEMINFO.unpack(told)[_MEMINFO_DROPS]


def main() -> None:
    """The process."""
    port, rate, seconds, kind = sys.argv[1:]
    print(*flood(int(port), float(rate), float(seconds), kind))


if __name__ == "__main__":
    main()
