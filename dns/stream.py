"""DNS over TCP (RFC 7766): queries with a length before each, many on one connection, answered in order.

Law: a read is not a message: prefixes may arrive in pieces, queries in bunches. Every connection has a deadline that
only a complete query moves, so neither a slow writer nor a slow reader holds one for long. A new connection takes the
place of the longest idle one (section 6.2.3): of the same client when that has as many as one may have, so that
nobody can push all others out; else of anybody. At the end nobody is let in, each connection gets the answers to
what it has asked and then hears that there will be no more, and one that asks nothing for a moment is closed.
"""

import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator

ANSWERS_BYTES_MAX = 128 * 1024
"""Unsent answers of one connection; beyond, its queries wait: two answers of the largest size."""
QUERY_BYTES_MAX = 4096
"""Queries are tens of bytes; what is longer is an attack or not DNS."""
READ_BYTES = 16384
ACCEPTS_MAX = 32
"""Connections accepted in one go, so that UDP gets its turn."""
LEAVE_SECONDS = 0.5
"""At the end: for the query of a connection that asks nothing, and then for the client to close its side. Closed
with something unread, a connection would be reset, and answers on their way lost with it."""
STREAM_BYTES = 64 * 1024
"""Messages of a transfer made in one go, so that other clients get their turn."""

CLIENT_BYTES_6 = 8
"""A /64 is one client, for a host may give itself any address of it; of IPv4 it is one address. Unlike with UDP, the
address of a connection is not forged, so nobody else has to answer for it."""

_LENGTH = struct.Struct("!H")

AnswerTcp = Callable[[bytes, bytes], bytes | Iterator[bytes] | None]
"""(query, source address) -> answer, or the messages of a transfer; None ends the connection."""


class _Connection:
    __slots__ = ("client", "deadline", "ended", "left", "mask", "received", "socket", "source", "stream", "unsent")

    def __init__(self, sock: socket.socket, source: bytes, deadline: float) -> None:
        self.socket = sock
        self.source = source
        self.client = client_of(source)
        self.deadline = deadline
        self.received = bytearray()
        self.unsent = bytearray()
        self.stream: Iterator[bytes] | None = None
        """The rest of a transfer: goes out before the next query is looked at."""
        self.ended = False
        self.left = False
        """The client has been told that no more answers come; what it still sends is thrown away."""
        self.mask = select.EPOLLIN


class Streams:
    """All TCP listeners and connections of one worker."""

    def __init__(
        self,
        poller: select.epoll,
        *,
        connections_max: int,
        connections_per_client_max: int,
        idle_seconds: float,
        answer: AnswerTcp,
    ) -> None:
        self._poller = poller
        self._connections_max = connections_max
        self._connections_per_client_max = connections_per_client_max
        self._idle_seconds = idle_seconds
        self._answer = answer
        self._listeners: dict[int, socket.socket] = {}
        self._connections: dict[int, _Connection] = {}
        """By descriptor, the earliest deadline first."""
        self._clients: Counter[bytes] = Counter()
        self._leaving = False

    def listen(self, listener: socket.socket) -> None:
        self._listeners[listener.fileno()] = listener
        self._poller.register(listener, select.EPOLLIN)

    def ready(self, descriptor: int, now: float) -> None:
        """Something happened to a listener or a connection; a descriptor that is gone is passed over."""
        listener = self._listeners.get(descriptor)
        if listener is not None:
            self._accept(listener, now)
            return
        connection = self._connections.get(descriptor)
        if connection is None:
            return
        try:
            self._serve(connection, now)
        except OSError:
            self._close(connection)

    def close_idle(self, now: float) -> None:
        """Ends what is past its deadline."""
        for connection in list(self._connections.values()):
            if connection.deadline > now:
                return
            self._close(connection)

    def count(self) -> int:
        return len(self._connections)

    def leave(self, now: float) -> None:
        """Let nobody in any more; `count` is 0 when all connections have ended, and `close_idle` sees to it."""
        self._leaving = True
        self._idle_seconds = LEAVE_SECONDS
        for listener in self._listeners.values():
            self._poller.unregister(listener)  # closing is not enough where another process has it too
            listener.close()
        self._listeners.clear()
        for connection in self._connections.values():
            connection.deadline = min(connection.deadline, now + LEAVE_SECONDS)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._close(connection)

    def _accept(self, listener: socket.socket, now: float) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                sock, address = listener.accept()
            except OSError:  # nobody there any more, or out of descriptors
                return
            sock.setblocking(False)
            source = socket.inet_pton(sock.family, address[0].partition("%")[0])
            connection = _Connection(sock, source, now + self._idle_seconds)
            self._make_room(connection.client)
            self._clients[connection.client] += 1
            self._connections[sock.fileno()] = connection
            self._poller.register(sock, select.EPOLLIN)

    def _make_room(self, client: bytes) -> None:
        if self._clients[client] >= self._connections_per_client_max:
            self._close(next(each for each in self._connections.values() if each.client == client))
        elif len(self._connections) >= self._connections_max:
            self._close(next(iter(self._connections.values())))

    def _serve(self, connection: _Connection, now: float) -> None:
        if connection.mask & select.EPOLLIN:
            self._receive(connection)
        if connection.left:
            connection.received.clear()
            if connection.ended:
                self._close(connection)
            return
        answered = False
        self._send(connection)  # first: what is received and had no room for its answer may have it now
        while self._answer_received(connection, now):
            answered = True
            self._send(connection)
            if connection.unsent or connection.stream is not None:
                break
        going = bool(connection.unsent) or connection.stream is not None
        if connection.ended and not going:
            self._close(connection)
            return
        if self._leaving and not going and not connection.received and (answered or connection.mask & select.EPOLLOUT):
            connection.left = True
            connection.socket.shutdown(socket.SHUT_WR)
        full = connection.stream is not None or len(connection.unsent) >= ANSWERS_BYTES_MAX
        mask = (0 if connection.ended or full else select.EPOLLIN) | (select.EPOLLOUT if going else 0)
        if mask != connection.mask:
            connection.mask = mask
            self._poller.modify(connection.socket, mask)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        connection.received += data
        connection.ended = connection.ended or not data

    def _answer_received(self, connection: _Connection, now: float) -> bool:
        """Answers whole queries while there is room; False when there was none to answer."""
        if connection.stream is not None:
            self._go_on(connection, connection.stream, now)
            return True
        received = connection.received
        position = 0
        answered = False
        while len(received) - position >= 2 and len(connection.unsent) < ANSWERS_BYTES_MAX:
            (length,) = _LENGTH.unpack_from(received, position)
            if length > QUERY_BYTES_MAX:
                connection.ended = True
                position = len(received)
                break
            end = position + 2 + length
            if len(received) < end:
                break
            reply = self._answer(bytes(received[position + 2 : end]), connection.source)
            position = end
            if reply is None:
                connection.ended = True
                position = len(received)
                break
            answered = True
            if not isinstance(reply, bytes):
                self._go_on(connection, reply, now)
                break
            connection.unsent += _LENGTH.pack(len(reply)) + reply
            self._extend(connection, now)
        del received[:position]
        return answered

    def _go_on(self, connection: _Connection, stream: Iterator[bytes], now: float) -> None:
        """Some more messages of a transfer, once those before them are on their way."""
        connection.stream = stream
        while len(connection.unsent) < STREAM_BYTES:
            message = next(stream, None)
            if message is None:
                connection.stream = None
                break
            connection.unsent += _LENGTH.pack(len(message)) + message
            self._extend(connection, now)

    def _extend(self, connection: _Connection, now: float) -> None:
        connection.deadline = now + self._idle_seconds
        descriptor = connection.socket.fileno()
        del self._connections[descriptor]
        self._connections[descriptor] = connection

    def _send(self, connection: _Connection) -> None:
        if not connection.unsent:
            return
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            return
        del connection.unsent[:sent]

    def _close(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            self._clients[connection.client] -= 1
            if not self._clients[connection.client]:
                del self._clients[connection.client]
        connection.socket.close()  # which also takes it out of the epoll set


def client_of(source: bytes) -> bytes:
    """Whom a connection counts for."""
    return source if len(source) == 4 else source[:CLIENT_BYTES_6]
