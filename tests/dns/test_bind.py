"""The queue that the kernel keeps for a worker: bounded, and what does not fit is counted."""

import socket

import pytest

from anycastle.dns.bind import bind_all

QUERY = bytes(60)
QUEUED_MAX = 3000


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_queue_is_short_and_what_is_too_much_is_counted(address: str) -> None:
    _, (sockets,) = bind_all(((address, 0),), 1)
    (udp,) = sockets.udp
    sent = QUEUED_MAX * 3
    with socket.socket(udp.family, socket.SOCK_DGRAM) as client:
        assert sockets.udp_dropped() == 0
        for _ in range(sent):
            client.sendto(QUERY, udp.getsockname())
    queued = 0
    while True:
        try:
            udp.recv(100)
        except BlockingIOError:
            break
        queued += 1
    assert 100 < queued < QUEUED_MAX
    assert sockets.udp_dropped() == sent - queued
    sockets.close()
