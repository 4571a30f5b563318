"""The link to a worker that is slow to take large tables: alive while it takes them, and not for longer."""

import sys
from pathlib import Path

import pytest

from anycastle.clock import SystemClock
from anycastle.dns.bind import bind_all
from anycastle.dns.link import PIECE_BYTES, WorkerLink
from tests.dns.world import make_settings

PIECES = 8
PAUSE_SECONDS = 0.5
SILENCE_SECONDS_MAX = 2.0
"""Half of what taking all of the tables lasts."""
SLOW_WORKER = f"""#!{sys.executable}
import socket, sys, time
from pathlib import Path
control = socket.socket(fileno=int(sys.argv[-1]))
for piece in range({PIECES}):
    size = {PIECE_BYTES}
    while size:
        size -= len(control.recv(size))
    Path(__file__).with_name("taken").write_text(str(piece + 1))
    time.sleep({PAUSE_SECONDS})
time.sleep(60)
"""


async def test_a_worker_is_alive_as_long_as_it_takes_what_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "worker"
    program.write_text(SLOW_WORKER)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    settings = make_settings(tmp_path)
    _, (sockets,) = bind_all(settings.listen, 1)
    link = WorkerLink(0, sockets, settings, clock=SystemClock())
    link.want_tables(bytes(PIECES * PIECE_BYTES))
    try:
        await link.start()
        assert await link.serve(SILENCE_SECONDS_MAX) == "was silent for 2 s"
        assert int((tmp_path / "taken").read_text()) == PIECES
    finally:
        await link.stop()
        sockets.close()
