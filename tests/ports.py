"""Ports for programs that are told theirs before they start.

Law: none is handed out twice, and all are below the range from which the kernel takes ports for outgoing connections
and for port 0. So nobody takes one between its choice and its use.
"""

import itertools
import os
import socket

_FIRST, _COUNT = 10_000, 20_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count(os.getpid() * 101 + _WORKER * _COUNT // 2)
"""Tests that run beside each other begin far apart."""


def free_port(address: str = "127.0.0.1") -> int:
    """Free for TCP and UDP at this moment, and for as long as nobody else is told to use it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for number in itertools.islice(_numbers, _COUNT):
        port = _FIRST + number % _COUNT
        with socket.socket(family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((address, port))
                udp.bind((address, port))
            except OSError:
                continue
        return port
    raise AssertionError(f"no port of {address} is free")
