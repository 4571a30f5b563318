"""Programs under measurement: each a session of its own, whose processes are found and ended by pid.

Law: whatever was started is ended, also when the benchmark fails. Processor time is of the whole session.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

STOP_SECONDS_MAX = 5.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class BenchError(Exception):
    """Something could not be started or measured; the text says what, for people."""


class Server:
    """The processes of one session."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raises BenchError with the last words of a server that has ended."""
        if self._process.poll() is not None:
            words = self._log.read_text("utf-8", "replace").splitlines()[-5:]
            raise BenchError(f"{self._process.args!r} ended with {self._process.returncode}: {' / '.join(words)}")

    def cpu_seconds(self) -> float:
        """User and system time so far, of children that ended too."""
        return sum(int(ticks) for _, fields in self._stats() for ticks in fields[11:15]) / TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Resident memory of all processes; pages that they share count once for each."""
        return sum(int(fields[21]) for _, fields in self._stats()) * PAGE_BYTES

    def resident_each(self) -> list[int]:
        """Resident memory of each process, in the order in which they were started."""
        return [int(fields[21]) * PAGE_BYTES for _, fields in sorted(self._stats())]

    def _stats(self) -> Iterator[tuple[int, list[str]]]:
        """(pid, fields of /proc/PID/stat from the state on) of the session."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text("utf-8", "replace").rpartition(") ")[2].split()
                if int(fields[3]) == self._process.pid:
                    yield int(path.parent.name), fields

    def stop(self) -> None:
        """SIGTERM to the leader; after a while SIGKILL to what is left."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS_MAX)
        for pid, _ in list(self._stats()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def running(command: Sequence[str], folder: Path, *, core: int | None = None) -> Iterator[Server]:
    """A server in the foreground, on one core or on all, its words in `folder`/log."""
    log = folder / "log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            [*(["taskset", "-c", str(core)] if core is not None else []), *command],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, log)
    try:
        yield server
    finally:
        server.stop()


def wait_until(ready: Callable[[], bool], server: Server, seconds_max: float) -> None:
    """Polls; raises BenchError when the server ends or the time is over."""
    end = time.monotonic() + seconds_max
    while not ready():
        server.check()
        if time.monotonic() > end:
            raise BenchError(f"no answer within {seconds_max:.0f} s")
        time.sleep(0.05)
