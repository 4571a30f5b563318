"""The router of `script/bench bgp`: BIRD on loopback, asked through its control socket."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from bench.packages import find
from bench.process import BenchError, running, wait_until

OWN, ROUTER = "127.0.0.1", "127.0.0.2"
OWN_AS, ROUTER_AS = 64500, 64499
POLL_SECONDS = 0.0002
SECONDS_MAX = 120.0


class Bird:
    """BIRD's control socket: some tenths of a millisecond a question, where birdc would start a process each time."""

    def __init__(self, control: Path, port: int) -> None:
        self.port = port
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(control))
        self._lines = self._socket.makefile("r", encoding="ascii")
        self._read()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def has(self, prefix: str) -> bool:
        return prefix in self.ask(f"show route for {prefix} protocol exa")

    def count(self) -> int:
        """Routes from the session."""
        return int(self.ask("show route protocol exa count").split()[0])

    def ask(self, question: str) -> str:
        self._socket.sendall(question.encode() + b"\n")
        return self._read()

    def _read(self) -> str:
        """Lines are `1234-text`, or with the same code again ` text`; the last one of an answer is `1234 text`."""
        text = []
        while line := self._lines.readline():
            text.append(line[1:] if line.startswith(" ") else line[5:])
            if line[:4].isdigit() and line[4] == " ":
                return "".join(text)
        raise BenchError("BIRD has ended")


def _listens(control: Path) -> bool:
    """A socket is there a moment before anybody listens at it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        return trying.connect_ex(str(control)) == 0


@contextlib.contextmanager
def router(folder: Path) -> Iterator[Bird]:
    """It takes one session, named exa, from OWN."""
    folder.mkdir()
    port = free_port(ROUTER)
    (folder / "bird.conf").write_text(
        "router id 127.0.0.2;\nprotocol device {}\n"
        f"protocol bgp exa {{ local {ROUTER} port {port} as {ROUTER_AS}; neighbor {OWN} as {OWN_AS}; multihop;"
        " passive on; hold time 240; error wait time 1, 2; ipv4 { import all; export none; }; }\n"
    )
    with bird(folder) as control:
        opened = Bird(control, port)
        try:
            yield opened
        finally:
            opened.close()


@contextlib.contextmanager
def bird(folder: Path) -> Iterator[Path]:
    """BIRD by the configuration that is in the folder; yields its control socket once it listens there."""
    program, control = find("bird"), folder / "ctl"
    assert program is not None
    with running([program, "-f", "-c", str(folder / "bird.conf"), "-s", str(control)], folder) as server:
        wait_until(lambda: _listens(control), server, 10.0)
        yield control


def free_port(address: str) -> int:
    with socket.create_server((address, 0)) as free:
        return int(free.getsockname()[1])
