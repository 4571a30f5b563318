"""The bridge as ExaBGP runs it: a child with two pipes, and a Unix socket on the other side."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import anycastle.bgp.route

BRIDGE = Path(anycastle.bgp.route.__file__).resolve().with_name("bridge.py")
SECONDS = 10.0
WITHDRAW = b"neighbor 127.0.0.2 withdraw route 198.51.100.0/24 next-hop self"


class Stage:
    """Plays ExaBGP and the controller."""

    def __init__(self, folder: Path, dead_man_seconds: float) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(folder / "s"))
        self.listener.listen()
        self.listener.settimeout(SECONDS)
        (folder / "w").write_bytes(WITHDRAW + b"\n" + b"shutdown\n")
        self.bridge = subprocess.Popen(
            [sys.executable, "-I", BRIDGE, folder / "s", folder / "w", str(dead_man_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.connections: list[socket.socket] = []

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(SECONDS)
        self.connections.append(connection)
        return connection

    def say(self, line: bytes) -> None:
        assert self.bridge.stdin is not None
        self.bridge.stdin.write(line + b"\n")

    def told(self) -> bytes:
        """The next line that ExaBGP is told."""
        assert self.bridge.stdout is not None
        line = b""
        deadline = time.monotonic() + SECONDS
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.bridge.stdout], [], [], deadline - time.monotonic())
            assert ready, f"not in time, only {line!r}"
            line += os.read(self.bridge.stdout.fileno(), 1)
        return line[:-1]

    def close(self) -> None:
        for connection in (*self.connections, self.listener):
            connection.close()
        self.bridge.kill()
        self.bridge.communicate()


def heard(connection: socket.socket) -> bytes:
    """The next line that the controller hears."""
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece:
            raise EOFError("closed")
        line += piece
    return line[:-1]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    where = Stage(tmp_path, 60.0)
    yield where
    where.close()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Stage]:
    where = Stage(tmp_path, 0.3)
    yield where
    where.close()


def test_lines_go_both_ways_and_beats_stay_here(stage: Stage) -> None:
    controller = stage.accept()
    controller.sendall(b"bridge alive\nshow neigh")
    controller.sendall(b"bor summary json\n")
    assert stage.told() == b"show neighbor summary json"
    stage.say(b"{event}")
    stage.say(b"done")
    assert [heard(controller), heard(controller)] == [b"{event}", b"done"]


def test_an_answer_never_reaches_a_later_connection(stage: Stage) -> None:
    first = stage.accept()
    first.sendall(b"one\n")
    assert stage.told() == b"one"
    first.close()
    second = stage.accept()
    second.sendall(b"two\n")
    assert stage.told() == b"two"
    stage.say(b"done")
    stage.say(b"{event}")
    stage.say(b"error")
    assert [heard(second), heard(second)] == [b"{event}", b"error"]


def test_exabgp_never_waits_for_a_controller_that_does_not_read(stage: Stage) -> None:
    stage.accept()
    event = b"x" * 1023
    for _ in range(16 * 1024):  # 16 MiB, far beyond pipe, socket and buffer
        stage.say(event)
    # The one that did not read lost its connection, and so did the next, as often as the buffer was full.
    line = b""
    while line != b"{event}":
        again = stage.accept()
        stage.say(b"{event}")
        with contextlib.suppress(EOFError):
            while (line := heard(again)) != b"{event}":
                assert line == event


def test_it_ends_with_exabgp(stage: Stage) -> None:
    stage.accept()
    assert stage.bridge.stdin is not None
    stage.bridge.stdin.close()
    stage.bridge.stdin = None
    assert stage.bridge.wait(SECONDS) == 0


def test_the_dead_man_withdraws_and_a_controller_takes_over_again(hasty: Stage) -> None:
    first = hasty.accept()
    first.sendall(b"bridge alive\nannounce\n")
    assert hasty.told() == b"announce"
    # Silence; but while that order is unanswered, nothing else may be told.
    second = hasty.accept()
    assert first.recv(100) == b""
    hasty.say(b"done")
    assert hasty.told() == WITHDRAW  # and not the other line of the file
    # A session comes up meanwhile: told again, once the first is answered.
    hasty.say(b'{ "type": "state", "neighbor": { "state": "up" } }')
    hasty.say(b"done")
    assert hasty.told() == WITHDRAW
    second.sendall(b"back\n")
    hasty.say(b"done")
    assert hasty.told() == b"back"
    hasty.say(b"error")
    while (line := heard(second)) != b"error":
        assert line.startswith(b"{")


def test_the_dead_man_needs_no_controller_ever(hasty: Stage) -> None:
    hasty.listener.close()
    assert hasty.told() == WITHDRAW


def test_a_line_without_end_costs_the_connection(stage: Stage) -> None:
    first = stage.accept()
    first.sendall(b"x" * 200_000)
    stage.accept()
