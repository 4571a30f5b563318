"""One worker process by itself, spoken to as the control process does."""

import math
import pickle
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.edns
import dns.message
import msgspec
import pytest

from anycastle.clock import SystemClock
from anycastle.dns.bind import WorkerSockets, bind_all
from anycastle.dns.fastest import lay
from anycastle.dns.frame import FrameBuffer, Kind, Report, Setup, encode_frame
from anycastle.dns.settings import Policy, SteeredName
from tests.dns.world import make_tables, make_view

DEADLINE_SECONDS = 15.0


@contextmanager
def worker(silence_seconds_max: float = 60.0) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, WorkerSockets]]:
    _, (sockets,) = bind_all((("127.0.0.1", 0),), 1)
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_SECONDS)
    descriptors = [sock.fileno() for sock in (*sockets.udp, *sockets.tcp)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "anycastle.dns.worker", str(theirs.fileno())],
        pass_fds=(theirs.fileno(), *descriptors),
    )
    theirs.close()
    setup = Setup(
        number=0,
        udp_descriptors=(sockets.udp[0].fileno(),),
        tcp_descriptors=(sockets.tcp[0].fileno(),),
        tcp_connections_max=4,
        tcp_connections_per_client_max=4,
        tcp_idle_seconds=0.2,
        responses_per_second_max=0.0,
        silence_seconds_max=silence_seconds_max,
    )
    ours.sendall(encode_frame(Kind.SETUP, msgspec.msgpack.encode(setup)))
    try:
        yield process, ours, sockets
    finally:
        ours.close()
        process.kill()
        process.wait()
        sockets.close()


def read_report(control: socket.socket, buffer: FrameBuffer) -> Report:
    while True:
        for kind, payload in buffer.feed(control.recv(65536)):
            assert kind is Kind.REPORT
            return msgspec.msgpack.decode(payload, type=Report)


def view_frame(generation: int) -> bytes:
    view = make_view(now=SystemClock().now(), generation=generation)
    return encode_frame(Kind.VIEW, msgspec.msgpack.encode(view))


@pytest.mark.parametrize("view_first", [False, True])
def test_early_queries_wait_for_tables_and_view_then_the_process_ends_with_its_control(
    tmp_path: Path, view_first: bool
) -> None:
    tables = encode_frame(Kind.TABLES, pickle.dumps(make_tables(tmp_path)))
    first, second = (view_frame(1), tables) if view_first else (tables, view_frame(1))
    with worker() as (process, control, sockets), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_SECONDS)
        query = dns.message.make_query("www.example.com", "A")
        client.sendto(query.to_wire(), sockets.udp[0].getsockname())
        control.sendall(first)
        # Long enough for a worker to be up and to answer, if it did what it must not.
        assert select.select([client, control], [], [], 1.0)[0] == []
        control.sendall(second)
        assert query.is_response(dns.message.from_wire(client.recv(4096)))
        buffer = FrameBuffer()
        assert read_report(control, buffer).view_generation == 1
        control.sendall(view_frame(2))
        while (report := read_report(control, buffer)).view_generation != 2:
            pass
        assert report.counters["queries"] == 1
        control.close()
        assert process.wait(DEADLINE_SECONDS) == 0


def test_idle_connections_are_closed_and_a_hostile_packet_harms_nobody(tmp_path: Path) -> None:
    with worker() as (process, control, sockets), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        control.sendall(encode_frame(Kind.TABLES, pickle.dumps(make_tables(tmp_path))) + view_frame(1))
        with socket.create_connection(sockets.tcp[0].getsockname(), DEADLINE_SECONDS) as idle:
            assert idle.recv(1) == b""
        client.settimeout(DEADLINE_SECONDS)
        address = sockets.udp[0].getsockname()
        for hostile in (b"", b"\x00", b"\xff" * 512, bytes(9000)):
            client.sendto(hostile, address)
        query = dns.message.make_query("www.example.com", "A")
        client.sendto(query.to_wire(), address)
        while (reply := client.recv(4096))[:2] != query.to_wire()[:2]:
            pass
        assert query.is_response(dns.message.from_wire(reply))
        assert process.poll() is None


def test_measured_networks_are_taken_up_and_new_tables_take_them_off(tmp_path: Path) -> None:
    rule = SteeredName(name="shop.example.com", policy=Policy.FASTEST)
    tables = make_tables(tmp_path, names=(rule,))
    known = {
        site: {bytes((10, 1, 7)): (math.log(seconds), 50.0, 0.0)} for site, seconds in (("ams", 0.09), ("nyc", 0.01))
    }
    overlay, _ = lay(tables.steering.geo, known, now=0.0)
    tables_frame = encode_frame(Kind.TABLES, pickle.dumps(tables))
    overlay_frame = encode_frame(Kind.RTT, msgspec.msgpack.encode(overlay))
    with worker() as (_, control, sockets), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_SECONDS)

        def told(network: str) -> tuple[str, int]:
            """The address, and the scope."""
            option = dns.edns.ECSOption(network, 24)
            query = dns.message.make_query("shop.example.com", "A", use_edns=0, options=[option])
            client.sendto(query.to_wire(), sockets.udp[0].getsockname())
            reply = dns.message.from_wire(client.recv(4096))
            scope = next(each.scopelen for each in reply.options if isinstance(each, dns.edns.ECSOption))
            return str(reply.answer[0][0]), scope

        def until(expected: tuple[str, int]) -> None:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while told("10.1.7.0") != expected:
                assert time.monotonic() < deadline, expected

        control.sendall(tables_frame + view_frame(1))
        until(("192.0.2.10", 15))
        control.sendall(overlay_frame)
        until(("192.0.2.20", 24))
        assert told("10.1.8.0") == ("192.0.2.10", 21)
        control.sendall(view_frame(2))
        assert told("10.1.7.0") == ("192.0.2.20", 24)
        control.sendall(tables_frame)
        until(("192.0.2.10", 15))
        control.sendall(tables_frame + overlay_frame)
        until(("192.0.2.20", 24))


def test_a_silent_control_process_takes_its_own_site_out_of_the_answers_until_it_is_heard_again(tmp_path: Path) -> None:
    """The edge is the same process: users that are sent there would find nobody."""
    tables = encode_frame(Kind.TABLES, pickle.dumps(make_tables(tmp_path)))
    with (
        worker(silence_seconds_max=0.3) as (_, control, sockets),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(DEADLINE_SECONDS)
        client.connect(sockets.udp[0].getsockname())
        control.sendall(tables + view_frame(1))
        query = dns.message.make_query("shop.example.com", "A")

        def answered() -> str:
            client.send(query.to_wire())
            return str(dns.message.from_wire(client.recv(4096)).answer[0][0])

        def until(address: str, *, beating: bool) -> None:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while answered() != address:
                assert time.monotonic() < deadline
                if beating:
                    control.sendall(encode_frame(Kind.BEAT, b""))

        until("192.0.2.10", beating=True)  # ams, the closest, whose worker this is
        until("192.0.2.20", beating=False)
        until("192.0.2.10", beating=True)
