"""The exec probe: a program of the operator's, in a process group of its own.

Laws: no shell, no standard input, an environment of a few names; whatever way a look ends, nothing of the group is left
running; of its output the last `OUTPUT_BYTES_MAX` are kept, and all of it is read so that it cannot block. A program
that even SIGKILL does not end (its disk is gone) holds one thread, and no second is started beside it.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping

from anycastle.health.aside import Aside
from anycastle.health.probe_seen import ProbeFailed, Seen, one_line
from anycastle.health.settings import ExecCheck

OUTPUT_BYTES_MAX = 4096
"""Of standard output and standard error together; the reason shows the last line."""
READ_BYTES = 65_536
"""As much as a pipe holds."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def look_exec(check: ExecCheck, aside: Aside[tuple[int, str]], *, site: str, member: str) -> Seen:
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "ANYCASTLE_SITE": site, "ANYCASTLE_MEMBER": member}
    program = _Program(check.arguments, environment | dict(check.environment))
    try:
        status, said = await aside.run(program.run)
    finally:
        program.give_up()
    if status:
        raise ProbeFailed(_ending(status) + (f": {said}" if said else ""))
    return Seen("exit status 0")


class _Program:
    """One run of it: `run` in a thread, `give_up` from the event loop."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = environment
        self._lock = threading.Lock()
        """Between a kill and the reaping, after which the number of the group may be another's."""
        self._group: int | None = None
        self._given_up = False

    def run(self) -> tuple[int, str]:
        """Its status, negative for a signal, and the last line that it said."""
        reading, writing = os.pipe()
        try:
            try:
                process = self._start(writing)
            finally:
                os.close(writing)
            output = _until_it_ends(process.pid, reading)
        finally:
            os.close(reading)
        with self._lock:
            self._kill()
            self._group = None
            status = process.wait()
        return status, _last_line(output.decode("utf-8", "replace"))

    def give_up(self) -> None:
        """Nobody waits for it any more; when it is over already, this does nothing."""
        with self._lock:
            self._given_up = True
            self._kill()

    def _start(self, output: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=self._environment,
            cwd="/",
            start_new_session=True,
        )
        with self._lock:
            self._group = process.pid
            if self._given_up:
                self._kill()
        return process

    def _kill(self) -> None:
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)


def _until_it_ends(pid: int, reading: int) -> bytearray:
    """What it says until it ends by itself or is killed; it is not reaped."""
    output = bytearray()
    os.set_blocking(reading, False)
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(reading, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if reading in ready and not _take(reading, output):
                poll.unregister(reading)  # nobody has the other end any more
            if pidfd in ready:
                return output
    finally:
        os.close(pidfd)


def _take(reading: int, output: bytearray) -> bool:
    """Whether there was something."""
    data = os.read(reading, READ_BYTES)
    output += data
    del output[:-OUTPUT_BYTES_MAX]
    return bool(data)


def _last_line(text: str) -> str:
    return next((line for each in reversed(text.splitlines()) if (line := one_line(each))), "")


def _ending(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}"
    return f"ended by signal {-status}"
