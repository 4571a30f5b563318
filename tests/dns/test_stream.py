"""DNS over TCP, with real sockets and a clock of our own."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from anycastle.dns.stream import LEAVE_SECONDS, QUERY_BYTES_MAX, Streams, client_of

IDLE_SECONDS = 10.0
CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX = 5, 3
BIG_BYTES = 60000


class Room:
    """A listener, its `Streams`, and clients."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.streams = Streams(
            self.poller,
            connections_max=CONNECTIONS_MAX,
            connections_per_client_max=CONNECTIONS_PER_CLIENT_MAX,
            idle_seconds=IDLE_SECONDS,
            answer=self.answer,
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.streams.listen(self.listener)
        self.clients: list[socket.socket] = []
        self.asked = 0

    def answer(self, query: bytes, source: bytes) -> bytes | None:
        """Echo with the source; `big` is answered at length, `end` with silence."""
        self.asked += 1
        if query == b"end":
            return None
        return bytes(BIG_BYTES) if query == b"big" else query + source

    def connect(self, now: float, host: int = 1) -> socket.socket:
        client = socket.socket()
        client.bind((f"127.0.0.{host}", 0))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5.0)
        client.connect(self.listener.getsockname())
        self.clients.append(client)
        self.work(now)
        return client

    def work(self, now: float) -> None:
        """Everything that is ready."""
        while events := self.poller.poll(0.05):
            for descriptor, _ in events:
                self.streams.ready(descriptor, now)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.streams.close()
        self.listener.close()
        self.poller.close()


@pytest.fixture
def room() -> Iterator[Room]:
    found = Room()
    yield found
    found.close()


def framed(*queries: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(query)) + query for query in queries)


SOURCE = bytes((127, 0, 0, 1))


def test_rfc7766_8_a_length_prefix_in_pieces_and_answers_in_order(room: Room) -> None:
    client = room.connect(0.0)
    stream = framed(b"one", b"two", b"three")
    for byte in stream:
        client.sendall(bytes((byte,)))
        room.work(1.0)
    client.sendall(stream)
    room.work(1.0)
    expected = framed(b"one" + SOURCE, b"two" + SOURCE, b"three" + SOURCE) * 2
    assert client.recv(len(expected), socket.MSG_WAITALL) == expected


@pytest.mark.parametrize("sent", [framed(b"end"), struct.pack("!H", QUERY_BYTES_MAX + 1)])
def test_what_deserves_no_answer_ends_the_connection(room: Room, sent: bytes) -> None:
    client = room.connect(0.0)
    client.sendall(framed(b"first") + sent)
    room.work(1.0)
    expected = framed(b"first" + SOURCE)
    assert client.recv(100, socket.MSG_WAITALL) == expected
    assert room.streams.count() == 0


def test_rfc7766_6_2_1_a_connection_is_used_again(room: Room) -> None:
    client = room.connect(0.0)
    for number in range(50):
        client.sendall(framed(b"%d" % number))
        room.work(float(number) / 10)
        expected = framed(b"%d" % number + SOURCE)
        assert client.recv(len(expected), socket.MSG_WAITALL) == expected
    assert room.streams.count() == 1


def test_rfc7766_6_2_1_1_queries_are_not_held_back_for_answers(room: Room) -> None:
    """All are answered though the client reads nothing yet."""
    client = room.connect(0.0)
    queries = [b"%d" % number for number in range(100)]
    client.sendall(framed(*queries))
    room.work(1.0)
    assert room.asked == 100
    expected = framed(*(query + SOURCE for query in queries))
    assert client.recv(len(expected), socket.MSG_WAITALL) == expected


def test_rfc7766_6_2_1_1_a_query_in_pieces_holds_back_nobody_else(room: Room) -> None:
    slow, quick = room.connect(0.0), room.connect(0.0)
    slow.sendall(framed(b"slow")[:3])
    room.work(1.0)
    quick.sendall(framed(b"quick"))
    room.work(2.0)
    assert quick.recv(100) == framed(b"quick" + SOURCE)
    slow.sendall(framed(b"slow")[3:])
    room.work(3.0)
    assert slow.recv(100) == framed(b"slow" + SOURCE)


def test_rfc7766_6_2_4_who_says_that_no_query_follows_still_gets_the_answers(room: Room) -> None:
    client = room.connect(0.0)
    client.sendall(framed(b"last"))
    client.shutdown(socket.SHUT_WR)
    room.work(1.0)
    expected = framed(b"last" + SOURCE)
    assert client.recv(len(expected), socket.MSG_WAITALL) == expected
    assert client.recv(1) == b""
    assert room.streams.count() == 0


def test_rfc7766_6_2_3_idle_connections_end_and_only_a_complete_query_moves_the_deadline(room: Room) -> None:
    asks, dribbles = room.connect(0.0), room.connect(0.0)
    asks.sendall(framed(b"one"))
    dribbles.sendall(framed(b"one")[:2])
    room.work(9.0)
    dribbles.sendall(b"o")
    room.work(9.5)
    room.streams.close_idle(9.9)
    assert room.streams.count() == 2
    room.streams.close_idle(10.0)
    assert room.streams.count() == 1
    assert dribbles.recv(1) == b""
    room.streams.close_idle(19.0)
    assert room.streams.count() == 0


def test_rfc7766_6_2_3_a_new_client_takes_the_place_of_the_longest_idle(room: Room) -> None:
    clients = [room.connect(float(host), host) for host in range(1, CONNECTIONS_MAX + 1)]
    clients[0].sendall(framed(b"one"))
    room.work(6.0)
    room.connect(7.0, 99)
    assert room.streams.count() == CONNECTIONS_MAX
    assert clients[1].recv(1) == b""
    assert clients[0].recv(100) == framed(b"one" + SOURCE)
    clients[2].sendall(framed(b"two"))
    room.work(8.0)
    assert clients[2].recv(100) == framed(b"two" + bytes((127, 0, 0, 3)))


def test_rfc7766_6_2_2_one_client_cannot_push_out_the_others(room: Room) -> None:
    quiet = room.connect(0.0, 2)
    greedy = [room.connect(1.0 + number, 1) for number in range(20)]
    assert room.streams.count() == 1 + CONNECTIONS_PER_CLIENT_MAX
    assert all(client.recv(1) == b"" for client in greedy[:-CONNECTIONS_PER_CLIENT_MAX])
    for client in (quiet, *greedy[-CONNECTIONS_PER_CLIENT_MAX:]):
        client.sendall(framed(b"one"))
        room.work(21.0)
        assert client.recv(100)[2:5] == b"one"


def test_a_client_may_connect_again_when_its_connections_have_ended(room: Room) -> None:
    for number in range(10):
        room.connect(float(number)).close()
        room.work(float(number))
    assert room.streams.count() == 0
    kept = [room.connect(11.0) for _ in range(CONNECTIONS_PER_CLIENT_MAX)]
    for client in kept:
        client.sendall(framed(b"one"))
        room.work(12.0)
        assert client.recv(100) == framed(b"one" + SOURCE)


def test_a_client_is_an_ipv4_address_or_an_ipv6_64() -> None:
    host = bytes.fromhex("20010db800000001")
    assert client_of(host + bytes(8)) == client_of(host + b"\xff" * 8)
    assert client_of(host + bytes(8)) != client_of(b"\x20" * 16)
    assert client_of(SOURCE) != client_of(bytes((127, 0, 0, 2)))


def test_a_client_that_does_not_read_stops_being_answered(room: Room) -> None:
    """A thousand queries in 5 kB ask for 60 MB; only what the kernel takes, and two answers more, are ever made."""
    client = room.connect(0.0)
    client.sendall(framed(*[b"big"] * 1000))
    room.work(1.0)
    room.work(2.0)
    assert 1 <= room.asked < 500
    got = 0
    client.setblocking(False)
    deadline = time.monotonic() + 20.0
    while got < 1000 * (2 + BIG_BYTES):
        assert time.monotonic() < deadline
        for descriptor, _ in room.poller.poll(0):
            room.streams.ready(descriptor, 3.0)
        with contextlib.suppress(BlockingIOError):
            got += len(client.recv(1 << 20))
    assert room.asked == 1000


def test_at_the_end_everybody_gets_the_answers_and_nobody_is_reset(room: Room) -> None:
    asks, piece, idle = room.connect(0.0), room.connect(0.0), room.connect(0.0)
    asks.sendall(framed(b"one", b"two"))
    piece.sendall(framed(b"three")[:3])
    room.streams.leave(1.0)
    assert room.listener.fileno() == -1, "nobody is let in"
    room.work(1.0)
    expected = framed(b"one" + SOURCE, b"two" + SOURCE)
    assert asks.recv(len(expected), socket.MSG_WAITALL) == expected
    assert asks.recv(1) == b"", "no more answers come"
    asks.sendall(framed(b"too late"))
    room.work(1.1)
    assert room.asked == 2
    piece.sendall(framed(b"three")[3:])
    room.work(1.2)
    expected = framed(b"three" + SOURCE)
    assert piece.recv(len(expected), socket.MSG_WAITALL) == expected
    piece.close()
    room.work(1.3)
    assert room.streams.count() == 2
    room.streams.close_idle(1.0 + LEAVE_SECONDS)
    assert idle.recv(1) == b""
    assert asks.recv(1) == b"", "it was not reset, though what it sent last was not answered"
    room.streams.close_idle(1.2 + LEAVE_SECONDS)
    assert room.streams.count() == 0


def test_at_the_end_answers_under_way_are_finished(room: Room) -> None:
    client = room.connect(0.0)
    client.sendall(framed(*[b"big"] * 4))
    room.work(0.0)
    room.streams.leave(0.1)
    room.work(0.1)
    received = bytearray()
    while len(received) < 4 * (BIG_BYTES + 2):
        received += client.recv(65536)
        room.work(0.2)
    room.streams.close_idle(0.2 + LEAVE_SECONDS)
    assert client.recv(1) == b""
