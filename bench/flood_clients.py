"""Resolvers with honest questions: `python -m bench.flood_clients PORT RATE SECONDS KIND`, started by bench.flood.

Law: they do what resolvers do: ask by UDP from an address of their own, again after 0.4, 0.8 and 1.6 s with a new
identity, by TCP when the answer is truncated, and give up after that; half of them keep cookies. Questions are asked
at an even pace, however slowly they are answered. Says `ready` when each client has been answered once; a line on the
standard input starts it; prints the outcome of each group as JSON.
"""

import errno
import heapq
import json
import os
import random
import select
import socket
import statistics
import struct
import sys
import time
from dataclasses import dataclass, field

from bench.dns_load import NAMES, ORIGIN
from bench.flood_sender import NETWORK, encode_plain

CLIENTS_ELSEWHERE, CLIENTS_INSIDE = 190, 10
"""A network of its own for each, and those that share the flooded one and together stay below its limit."""
WAITS_SECONDS = (0.4, 0.8, 1.6)
TCP_WAIT_SECONDS = 2.0
COOKIE = 10
ANSWERS = (0, 3)
"""NOERROR and NXDOMAIN: not everybody has an answer for a client on loopback."""
SEED = 11


@dataclass(slots=True)
class Outcome:
    """What became of the questions of one group of clients."""

    asked: int = 0
    answered: int = 0
    by_tcp: int = 0
    seconds: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float | None]:
        """Shares in %, times in ms of those that were answered."""
        enough = len(self.seconds) > 1
        return {
            "answered": 100 * self.answered / self.asked if self.asked else None,
            "by_tcp": 100 * self.by_tcp / self.asked if self.asked else None,
            "median": 1000 * statistics.median(self.seconds) if enough else None,
            "p99": 1000 * statistics.quantiles(self.seconds, n=100)[98] if enough else None,
        }


@dataclass(slots=True)
class Question:
    client: "Client"
    wire: bytes
    began: float
    tries: int = 0
    identity: int = -1
    stream: socket.socket | None = None
    due: float = 0.0
    """When its client gives up waiting; earlier timers are void."""
    done: bool = False


class Client:
    """One resolver: its address, its cookie, what it waits for."""

    def __init__(self, address: bytes, group: str, port: int, *, cookies: bool) -> None:
        self.address = socket.inet_ntoa(address)
        self.group = group
        self.cookie = os.urandom(8) if cookies else b""
        self.waiting: dict[int, Question] = {}
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setblocking(False)
        self.udp.bind((self.address, 0))
        self.udp.connect(("127.0.0.1", port))

    def ask(self, question: Question, identity: int) -> None:
        question.identity = identity
        self.waiting[identity] = question
        try:
            self.udp.send(self.dress(question.wire, identity))
        except OSError:  # refused or full: as good as lost
            return

    def dress(self, wire: bytes, identity: int) -> bytes:
        """The query with its identity and, of those that keep cookies, theirs."""
        if not self.cookie:
            return struct.pack("!H", identity) + wire[2:]
        option = struct.pack("!HH", COOKIE, len(self.cookie)) + self.cookie
        opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(option)) + option
        return struct.pack("!H", identity) + wire[2:10] + b"\0\1" + wire[12:] + opt

    def learn(self, reply: bytes) -> None:
        """The server's part of the cookie: OPT is the last record, and the cookie all that was asked of it."""
        if self.cookie and (at := reply.rfind(self.cookie[:8])) > 0:
            (length,) = struct.unpack_from("!H", reply, at - 2)
            self.cookie = reply[at : at + length]


class Crowd:
    """All clients and their time."""

    def __init__(self, port: int, kind: str) -> None:
        self.port = port
        self.chance = random.Random(SEED)
        elsewhere = [(bytes((127, 100, n, 1)), "elsewhere") for n in range(CLIENTS_ELSEWHERE)]
        inside = [(NETWORK + bytes((1 + n,)), "inside") for n in range(CLIENTS_INSIDE * (kind == "network"))]
        self.clients = [
            Client(address, group_of(where, kind, cookies=bool(number % 2)), port, cookies=bool(number % 2))
            for number, (address, where) in enumerate((*elsewhere, *inside))
        ]
        self.outcomes = {client.group: Outcome() for client in self.clients}
        self.poller = select.epoll()
        self.readers: dict[int, Client | Question] = {}
        for client in self.clients:
            self.watch(client.udp, client, select.EPOLLIN)
        self.timers: list[tuple[float, int, Question]] = []
        self.count = 0

    def watch(self, sock: socket.socket, whose: Client | Question, mask: int) -> None:
        self.readers[sock.fileno()] = whose
        self.poller.register(sock, mask)

    def question(self, client: Client, now: float) -> None:
        name = f"n{self.chance.randrange(NAMES):04d}.{ORIGIN}"
        self.outcomes[client.group].asked += 1
        self.go_on(Question(client, encode_plain(name, 0), now), now)

    def go_on(self, question: Question, now: float) -> None:
        """The next try, or the end."""
        self.leave(question)
        if question.tries == len(WAITS_SECONDS):
            question.done = True
            return
        self.timer(question, now + WAITS_SECONDS[question.tries])
        question.tries += 1
        question.client.ask(question, self.chance.randrange(65536))

    def timer(self, question: Question, at: float) -> None:
        self.count += 1
        question.due = at
        heapq.heappush(self.timers, (at, self.count, question))

    def leave(self, question: Question) -> None:
        question.client.waiting.pop(question.identity, None)
        if question.stream is not None:
            self.readers.pop(question.stream.fileno(), None)
            question.stream.close()
            question.stream = None

    def answered(self, question: Question, now: float) -> None:
        outcome = self.outcomes[question.client.group]
        outcome.answered += 1
        outcome.by_tcp += question.stream is not None
        outcome.seconds.append(now - question.began)
        question.done = True
        self.leave(question)

    def receive(self, client: Client, now: float) -> None:
        while True:
            try:
                reply = client.udp.recv(4096)
            except OSError:
                return
            question = client.waiting.get(int.from_bytes(reply[:2], "big"))
            if question is None:
                continue
            client.learn(reply)
            if reply[2] & 0x02:
                self.ask_by_tcp(question, now)
            elif reply[3] & 0xF in ANSWERS:
                self.answered(question, now)

    def ask_by_tcp(self, question: Question, now: float) -> None:
        self.leave(question)
        question.stream = stream = socket.socket()
        stream.setblocking(False)
        stream.bind((question.client.address, 0))
        started = stream.connect_ex(("127.0.0.1", self.port))
        if started not in (0, errno.EINPROGRESS):
            self.go_on(question, now)
            return
        self.watch(stream, question, select.EPOLLOUT)
        self.timer(question, now + TCP_WAIT_SECONDS)

    def talk(self, question: Question, event: int, now: float) -> None:
        """An event of a connection: it stands, or the answer is there, or nothing will come of it."""
        assert question.stream is not None
        try:
            if event & select.EPOLLOUT:
                wire = question.client.dress(question.wire, 1)
                question.stream.send(struct.pack("!H", len(wire)) + wire)
                self.poller.modify(question.stream, select.EPOLLIN)
            elif len(reply := question.stream.recv(4096)) > 12 and reply[5] & 0xF in ANSWERS:
                self.answered(question, now)
            else:
                self.go_on(question, now)
        except OSError:
            self.go_on(question, now)

    def work(self, wait: float) -> None:
        """What is ready, and what is due."""
        events = self.poller.poll(wait)
        now = time.monotonic()
        for descriptor, event in events:
            whose = self.readers.get(descriptor)
            if isinstance(whose, Client):
                self.receive(whose, now)
            elif whose is not None:
                self.talk(whose, event, now)
        while self.timers and self.timers[0][0] <= now:
            at, _, question = heapq.heappop(self.timers)
            if not question.done and question.due == at:
                self.go_on(question, now)

    def run(self, rate: float, seconds: float) -> dict[str, Outcome]:
        """Asks at that pace, then waits for what is still under way."""
        self.outcomes = {client.group: Outcome() for client in self.clients}
        began = time.monotonic()
        asked = 0
        while (passed := time.monotonic() - began) < seconds:
            while asked < passed * rate:
                self.question(self.clients[self.chance.randrange(len(self.clients))], time.monotonic())
                asked += 1
            self.work(0.001)
        while self.timers:
            self.work(0.01)
        return self.outcomes


def group_of(where: str, kind: str, *, cookies: bool) -> str:
    """Clients are told apart where a server may tell them apart."""
    if kind == "everywhere":
        return "clients everywhere"
    return f"clients {where}{' with cookies' if cookies and where == 'inside' else ''}"


def main() -> None:
    """The process."""
    port, rate, seconds, kind = sys.argv[1:]
    crowd = Crowd(int(port), kind)
    for client in crowd.clients:
        crowd.question(client, time.monotonic())
        crowd.work(0.01)
    while crowd.timers:
        crowd.work(0.01)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({group: outcome.summary() for group, outcome in crowd.run(float(rate), float(seconds)).items()}))


if __name__ == "__main__":
    main()
