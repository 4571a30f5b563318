"""All sorts of queries, endlessly different: `python -m bench.soak_load PORT QUERIES SEED`, started by bench.soak_dns.

Law: the zone is that of tests.dns.world. Most queries are sound; names below wildcards and names that do not exist are
never the same twice; some packets are hostile. Now and then some go by TCP, and half of those clients leave without
waiting. A packet counts when it is sent: what must be silent is not waited for.
"""

import contextlib
import os
import random
import select
import socket
import struct
import sys

KNOWN = (
    *("www", "mail", "alias", "far", "loop1", "tosteered", "a.b.ent", "b.ent", "static.blogs", "shop", "x.deleg"),
    *("x.old", "big", "many", "host1", "fails", "ns1", "", "*.wild"),
)
TYPES = (*[1] * 12, *[28] * 5, 16, 15, 65, 255, 6, 2, 43, 41, 251, 252, 65280)
SOCKETS = 64
PACKETS_EACH = 4
SOURCE_LIFE_PACKETS = 256
"""Then the address changes, so that tables of clients fill."""
TCP_EVERY = 500
TCP_QUERIES = 8
WAIT_SECONDS = 0.005
TCP_WAIT_SECONDS = 1.0


def make_packet(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.02:
        return chance.randbytes(chance.randrange(80))
    if kind < 0.3:
        name = f"{chance.randrange(1 << 40):x}.{chance.choice(('wild', 'blogs', 'old', 'deleg'))}"
    elif kind < 0.4:
        name = f"{chance.randrange(1 << 40):x}"
    else:
        name = chance.choice(KNOWN)
    packet = encode(chance, name)
    if kind > 0.98:
        broken = bytearray(packet[: chance.randrange(12, len(packet) + 1)])
        broken[chance.randrange(len(broken))] = chance.randrange(256)
        return bytes(broken)
    return packet


def encode(chance: random.Random, name: str) -> bytes:
    """A query below example.com, of any type, with options or without."""
    labels = [label.encode() for label in (f"{name}." if name else "").split(".") if label]
    wire = b"".join(bytes((len(label),)) + label for label in (*labels, b"example", b"com")) + b"\0"
    options = b""
    if chance.random() < 0.4:
        options += struct.pack("!HHHBB", 8, 7, 1, 24, 0) + bytes((10, chance.randrange(8), chance.randrange(256)))
    if chance.random() < 0.2:
        options += struct.pack("!HH", 10, 8) + chance.randbytes(8)
    if chance.random() < 0.05:
        options += struct.pack("!HH", 3, 0)
    opt = b"\0" + struct.pack("!HHIH", 41, chance.choice((512, 1232, 4096)), 0, len(options)) + options
    header = struct.pack("!HHHHHH", chance.randrange(65536), 0x0100, 1, 0, 0, bool(options))
    return header + wire + struct.pack("!HH", chance.choice(TYPES), 1) + (opt if options else b"")


class Load:
    """Sockets that come and go."""

    def __init__(self, port: int, seed: int) -> None:
        self.server = ("127.0.0.1", port)
        self.chance = random.Random(seed)
        self.poller = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.sent = self.answered = 0

    def open(self) -> None:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setblocking(False)
        udp.bind((f"127.{self.chance.randrange(1, 255)}.{self.chance.randrange(256)}.1", 0))
        udp.connect(self.server)
        self.sockets[udp.fileno()] = udp
        self.poller.register(udp, select.EPOLLIN)

    def round(self, count: int) -> None:
        """Sends up to `count` packets, then reads what comes until it gets quiet."""
        while len(self.sockets) < SOCKETS:
            self.open()
        began = self.sent
        for udp in self.sockets.values():
            for _ in range(PACKETS_EACH):
                if self.sent - began < count:
                    with contextlib.suppress(OSError):
                        udp.send(make_packet(self.chance))
                    self.sent += 1
        got = 0
        while got < self.sent - began and (events := self.poller.poll(WAIT_SECONDS)):
            for descriptor, _ in events:
                with contextlib.suppress(OSError):
                    self.sockets[descriptor].recv(4096)
                    got += 1
        self.answered += got
        if self.sent % (SOURCE_LIFE_PACKETS * SOCKETS) < SOCKETS * PACKETS_EACH:
            for udp in self.sockets.values():
                udp.close()
            self.sockets.clear()

    def talk(self) -> None:
        """Some queries on one connection."""
        packets = [make_packet(self.chance) for _ in range(TCP_QUERIES)]
        self.sent += len(packets)
        with contextlib.suppress(OSError), socket.create_connection(self.server, TCP_WAIT_SECONDS) as stream:
            stream.sendall(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))
            if self.chance.random() < 0.5:
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass

    def run(self, queries: int) -> None:
        next_talk = TCP_EVERY
        while self.sent < queries:
            self.round(queries - self.sent)
            if self.sent >= next_talk:
                next_talk = self.sent + TCP_EVERY
                self.talk()
            os.write(1, b"%d %d\n" % (self.sent, self.answered))


def main() -> None:
    """The process; prints how many packets were sent and how many answered over UDP, again and again."""
    port, queries, seed = map(int, sys.argv[1:])
    Load(port, seed).run(queries)


if __name__ == "__main__":
    main()
