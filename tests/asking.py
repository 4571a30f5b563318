"""Clients that ask without a pause, and count what they did not get: for tests of what must not lose a request.

Law: nothing is asked twice but what a client may ask again by the rules of its protocol (a query on a connection that
the server had closed in order, RFC 7766 section 6.2.4), and that is counted by itself.
"""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import dns.message

ANSWER_SECONDS_MAX = 20.0
"""Longer than anything here may take: who gives up sooner measures its own patience."""
PAUSE_SECONDS = 0.002
"""Some 100 questions a second from each: this machine has other things to do."""

_LENGTH = struct.Struct("!H")


class Asking:
    """What all clients got; each kind of client has its own count."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.asked_again: Counter[str] = Counter()
        self.lost: list[str] = []
        self.slowest_seconds: dict[str, float] = {}
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._kept = contextlib.ExitStack()

    def begin(self, kind: str, once: Callable[[], None], clients: int) -> None:
        """So many threads that call `once` again and again; OSError and HTTPException from it are losses."""
        for _ in range(clients):
            thread = threading.Thread(target=self._ask, args=(kind, once))
            thread.start()
            self._threads.append(thread)

    def _ask(self, kind: str, once: Callable[[], None]) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            began = time.monotonic()
            try:
                once()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{kind} after {time.monotonic() - began:.3f} s: {error!r}")
            else:
                self.answered[kind] += 1
            self.slowest_seconds[kind] = max(self.slowest_seconds.get(kind, 0.0), time.monotonic() - began)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._kept.close()

    # -- DNS ----------------------------------------------------------------------------------------------------------

    def ask_dns(self, address: tuple[str, int], name: str, *, clients: int = 4) -> None:
        """Over UDP from a new port each time, over a new TCP connection each time, and over a kept one."""
        query = dns.message.make_query(name, "A").to_wire()
        kept = threading.local()

        def udp() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(ANSWER_SECONDS_MAX)
                asking.connect(address)
                asking.send(query)
                _check(asking.recv(4096), query)

        def tcp() -> None:
            with socket.create_connection(address, ANSWER_SECONDS_MAX) as asking:
                asking.sendall(_LENGTH.pack(len(query)) + query)
                _check(_message(asking), query)

        def kept_tcp() -> None:
            if getattr(kept, "socket", None) is None:
                kept.socket = self._kept.enter_context(socket.create_connection(address, ANSWER_SECONDS_MAX))
            try:
                kept.socket.sendall(_LENGTH.pack(len(query)) + query)
                _check(_message(kept.socket), query)
            except _ClosedInOrder:
                self.asked_again["kept tcp"] += 1
                kept.socket.close()
                kept.socket = None
                kept_tcp()

        self.begin("udp", udp, clients)
        self.begin("tcp", tcp, 1)
        self.begin("kept tcp", kept_tcp, 1)

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def ask_http(self, address: tuple[str, int], host: str, path: str, body: bytes, *, clients: int = 2) -> None:
        """Over a new connection each time, and over a kept one; anything but 200 with the body is a loss."""
        kept = threading.local()

        def get(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            received = response.read()
            if (response.status, received) != (200, body):
                raise OSError(f"{response.status} {received[:200]!r} {dict(response.headers)}")
            return response

        def new() -> None:
            with contextlib.closing(http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS_MAX)) as connection:
                get(connection)

        def again() -> None:
            if getattr(kept, "connection", None) is None:
                kept.connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS_MAX)
                self._kept.callback(kept.connection.close)
            if get(kept.connection).will_close:
                self.asked_again["kept http"] += 1
                kept.connection.close()
                kept.connection = None

        self.begin("http", new, clients)
        self.begin("kept http", again, clients)


class _ClosedInOrder(OSError):
    """The server closed the connection before it answered anything of this query."""


def _message(asking: socket.socket) -> bytes:
    size = asking.recv(_LENGTH.size, socket.MSG_WAITALL)
    if not size:
        raise _ClosedInOrder("closed before the answer")
    (length,) = _LENGTH.unpack(size)
    return asking.recv(length, socket.MSG_WAITALL)


def _check(reply: bytes, query: bytes) -> None:
    found = dns.message.from_wire(reply)
    if reply[:2] != query[:2] or not found.answer:
        raise OSError(f"not an answer: {found.to_text()}")


@contextlib.contextmanager
def asking() -> Iterator[Asking]:
    found = Asking()
    try:
        yield found
    finally:
        found.end()
