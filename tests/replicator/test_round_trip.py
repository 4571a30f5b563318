"""Round trips as the kernel tells them: bytes of every length, and a real edge at the end of a line with a real lag."""

import asyncio
import http.client
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.gate import Refuse
from anycastle.replicator.round_trip import round_trip_seconds
from tests.lag import CLIENT, NEEDED, entered, inside, line
from tests.replicator.edge_site import ALICE, Application, Site, application_server, site
from tests.replicator.members import running

UNKNOWN = 0xFFFFFFFF


def tcp_info(state: int = 1, *, mean: int = 50_000, least: int = 40_000, size: int = 240) -> bytes:
    """As <linux/tcp.h> lays it out."""
    return struct.pack("=B67xI76xI88x", state, mean, least)[:size]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (tcp_info(), 0.04),
        (tcp_info(size=152), 0.04),
        (tcp_info(size=151), 0.05),
        (tcp_info(size=104), 0.05),
        (tcp_info(size=72), 0.05),
        (tcp_info(size=71), None),
        (tcp_info(size=1), None),
        (b"", None),
        (tcp_info(least=UNKNOWN), 0.05),
        (tcp_info(least=0), 0.05),
        (tcp_info(least=UNKNOWN, mean=0), None),
        (tcp_info(8), 0.04),  # CLOSE_WAIT: the client has ended its side, and was there
        (tcp_info(2), None),  # SYN_SENT
        (tcp_info(7), None),  # CLOSE
    ],
)
def test_the_least_that_was_seen_else_the_mean_else_nothing(info: bytes, expected: float | None) -> None:
    assert round_trip_seconds(info) == expected


@given(st.binary(max_size=300))
def test_no_bytes_give_an_impossible_number(info: bytes) -> None:
    found = round_trip_seconds(info)
    assert found is None or 0 < found < 4295


def test_this_kernel_tells_it_where_we_look() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"x")
            accepted.recv(1)
            info = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    assert len(info) >= 152
    found = round_trip_seconds(info)
    assert found is not None
    assert 0 < found < 0.5


def ask(host: str, port: int, times: int) -> list[int]:
    """Statuses, all over one connection."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    statuses = []
    for _ in range(times):
        connection.request("GET", "/a.jpg", headers={"Host": ALICE, "X-Forwarded-For": "203.0.113.9"})
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


@NEEDED
async def test_an_edge_measures_the_line_to_its_clients() -> None:
    heard: list[tuple[str, float]] = []
    application = Application()
    with line({"198.18.0.1": 0.04}) as ends:
        async with application_server(application) as origin:
            made = Site("ams", origin, application, listen=(("198.18.0.1", 0),), heard_round_trip=heard)
            with entered(ends.servers):
                made.edge.bind()
            async with running(made.edge.run()):
                host, port = made.edge.addresses[0]
                for _ in range(3):
                    asked = asyncio.to_thread(inside, ends.clients, lambda: ask(host, port, 4))
                    assert await asked == [200] * 4
                assert made.edge.round_trips.sampled == 3
    # One for each connection, of the address that the kernel saw.
    assert [address for address, _ in heard] == [CLIENT] * 3
    assert all(0.04 <= seconds < 0.09 for _, seconds in heard), heard


async def test_a_refused_client_is_measured_too_and_what_members_pass_on_is_not() -> None:
    heard: list[tuple[str, float]] = []
    async with site(heard_round_trip=heard) as made:
        made.gate.read = Refuse("not today", 1)
        host, port = made.edge.addresses[0]
        assert await asyncio.to_thread(ask, host, port, 2) == [503, 503]
        assert [address for address, _ in heard] == ["127.0.0.1"]
        async with application_server(application=made.edge.handle_forwarded) as passed_on:  # type: ignore[arg-type]
            port = int(passed_on.rpartition(":")[2])
            assert await asyncio.to_thread(ask, host, port, 2) == [503, 503]
        assert len(heard) == 1
