"""The child that ExaBGP runs: copies lines between ExaBGP (stdin, stdout) and the controller (a Unix socket).

    bridge.py SOCKET WITHDRAWS DEAD_MAN_SECONDS

Law: standard library only, run with `python -I`, one thread, every file descriptor non-blocking. ExaBGP stops
altogether when its child does not read (after about 13,000 unread lines), so ExaBGP's pipe is always read; a controller
that does not read loses its connection instead. Buffers are bounded in both directions.

The bridge outlives controllers and their connections: it counts unanswered commands by the connection that sent them,
so that a new connection never receives the answer to an old one's command.

Dead man: when no line came from the controller for DEAD_MAN_SECONDS (gone, cut off or hung; it sends `bridge alive`
each second), the bridge gives ExaBGP the lines of the file WITHDRAWS, one at a time, each acknowledged, again at every
session that comes up and every REPEAT_SECONDS, until a controller speaks again. The connection is closed first, so
that a controller that wakes up sees a new one and starts from nothing known.
"""

import ctypes
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque

BUFFER_BYTES_MAX = 4 * 1024 * 1024
LINE_BYTES_MAX = 64 * 1024
CONNECT_EVERY_SECONDS = 0.1
REPEAT_SECONDS = 5.0
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
OURS = 0
"""In `owners`: the command was the bridge's own; connections count from 1."""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def feed(self, data: bytes) -> None:
        self.rest += data

    def take(self) -> bytes | None:
        """The next whole line without its end, None when there is none."""
        end = self.rest.find(b"\n")
        if end < 0:
            return None
        line = bytes(self.rest[:end])
        del self.rest[: end + 1]
        return line


class Controller:
    """The connection to the controller, or the wish for one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket: socket.socket | None = None
        self.serial = OURS
        self.lines = Lines()
        self.out = bytearray()
        self.try_at = 0.0

    def connect(self) -> None:
        if self.socket is not None or now() < self.try_at:
            return
        self.try_at = now() + CONNECT_EVERY_SECONDS
        folder = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY)
        candidate = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        candidate.setblocking(False)
        try:
            # Through the folder's descriptor: a Unix socket's path ends at 107 bytes, a state folder's need not.
            candidate.connect(f"/proc/self/fd/{folder}/{os.path.basename(self.path)}")
        except OSError:
            candidate.close()
            return
        finally:
            os.close(folder)
        self.socket, self.lines, self.out = candidate, Lines(), bytearray()
        self.serial += 1

    def drop(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def send(self, line: bytes) -> None:
        if self.socket is None:
            return
        self.out += line + b"\n"
        if len(self.out) > BUFFER_BYTES_MAX:
            self.drop()

    def flush(self) -> None:
        if self.socket is None:
            return
        try:
            while self.out:
                del self.out[: self.socket.send(self.out[:65536])]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()

    def receive(self) -> None:
        if self.socket is None:
            return
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop()
        self.lines.feed(data)


class Bridge:
    def __init__(self, socket_path: str, withdraws_path: str, dead_man_seconds: float) -> None:
        self.controller = Controller(socket_path)
        self.withdraws_path = withdraws_path
        self.dead_man_seconds = dead_man_seconds
        self.heard_at = now()
        self.dead = False
        self.round: deque[bytes] = deque()
        self.round_at = 0.0
        self.owners: deque[int] = deque()
        self.from_exabgp = Lines()
        self.to_exabgp = bytearray()

    def run(self) -> None:
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        while True:
            self.controller.connect()
            ready = self.wait()
            if 0 in ready and not self.read_exabgp():
                return
            self.controller.receive()
            self.forward()
            self.watch()
            self.flush_exabgp()
            self.controller.flush()

    def wait(self) -> set[int]:
        """Sleeps until something can be done, at most CONNECT_EVERY_SECONDS: timers need no better."""
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            if self.to_exabgp:
                selector.register(1, selectors.EVENT_WRITE)
            if self.controller.socket is not None:
                wish = selectors.EVENT_WRITE if self.controller.out else 0
                if len(self.to_exabgp) + len(self.controller.lines.rest) < BUFFER_BYTES_MAX:
                    wish |= selectors.EVENT_READ
                if wish:
                    selector.register(self.controller.socket, wish)
            return {key.fd for key, _ in selector.select(CONNECT_EVERY_SECONDS)}

    def read_exabgp(self) -> bool:
        """False when ExaBGP is gone."""
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        self.from_exabgp.feed(data)
        while (line := self.from_exabgp.take()) is not None:
            if line in (b"done", b"error"):
                owner = self.owners.popleft() if self.owners else OURS
                if owner != OURS and owner == self.controller.serial:
                    self.controller.send(line)
                continue
            if b'"state": "up"' in line:
                self.round_at = 0.0  # what ExaBGP replays to a new session may be out of date
            self.controller.send(line)
        return True

    def forward(self) -> None:
        """The controller's lines to ExaBGP; they wait while a line of our own is unanswered."""
        while OURS not in self.owners and len(self.to_exabgp) < BUFFER_BYTES_MAX:
            line = self.controller.lines.take()
            if line is None:
                break
            self.heard_at = now()
            self.dead = False
            if not line.startswith(b"bridge "):
                self.tell(line, self.controller.serial)
        if len(self.controller.lines.rest) > LINE_BYTES_MAX and b"\n" not in self.controller.lines.rest:
            self.controller.drop()

    def tell(self, line: bytes, owner: int) -> None:
        self.owners.append(owner)
        self.to_exabgp += line + b"\n"

    def watch(self) -> None:
        """The dead man: withdraws while no controller speaks."""
        if not self.dead:
            if now() - self.heard_at <= self.dead_man_seconds:
                return
            self.dead, self.round_at = True, 0.0
            self.controller.drop()
        if now() >= self.round_at:
            self.round_at = now() + REPEAT_SECONDS
            self.round = deque(self.read_withdraws())
        if self.round and not self.owners:
            self.tell(self.round.popleft(), OURS)

    def read_withdraws(self) -> list[bytes]:
        try:
            with open(self.withdraws_path, "rb") as file:
                return [line for line in file.read(BUFFER_BYTES_MAX).split(b"\n") if b" withdraw route " in line]
        except OSError:
            return []

    def flush_exabgp(self) -> None:
        try:
            while self.to_exabgp:
                del self.to_exabgp[: os.write(1, self.to_exabgp[:65536])]
        except BlockingIOError:
            pass


if __name__ == "__main__":
    try:
        # A bridge that is stopped would not see the end of its pipe, and outlive ExaBGP.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        Bridge(sys.argv[1], sys.argv[2], float(sys.argv[3])).run()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)
