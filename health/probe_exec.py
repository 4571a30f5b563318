"""The exec probe: a program of the operator's, in a process group of its own.

Laws: no shell, no standard input, an environment of a few names; whatever way a look ends, nothing of the group is left
running; of its output the last `OUTPUT_BYTES_MAX` are kept, and all of it is read so that it cannot block.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator

from anycastle.health.probe_seen import ProbeFailed, Seen, one_line
from anycastle.health.settings import ExecCheck

OUTPUT_BYTES_MAX = 4096
"""Of standard output and standard error together; the reason shows the last line."""
READ_BYTES = 65_536
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def look_exec(check: ExecCheck, *, site: str, member: str) -> Seen:
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "ANYCASTLE_SITE": site, "ANYCASTLE_MEMBER": member}
    output = bytearray()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        try:
            process = _started(check.arguments, environment | dict(check.environment), writing)
        finally:
            os.close(writing)
        with _kept(reading, output):
            status = await _ended(process)
            _take(reading, output)  # what it said last; a pipe holds as much as is read at once
    finally:
        os.close(reading)
    said = _last_line(output.decode("utf-8", "replace"))
    if status:
        raise ProbeFailed(_ending(status) + (f": {said}" if said else ""))
    return Seen("exit status 0")


def _started(arguments: tuple[str, ...], environment: dict[str, str], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        cwd="/",
        start_new_session=True,
    )


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Its status, negative for a signal; with it ends its group, if it does not when it is cancelled."""
    pidfd = os.pidfd_open(process.pid)
    try:
        async with _readable(pidfd) as ended:
            await ended.wait()
    finally:
        os.close(pidfd)
        # It is not reaped yet, so the number of the group is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode


@contextlib.asynccontextmanager
async def _readable(descriptor: int) -> AsyncIterator[asyncio.Event]:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        yield event
    finally:
        loop.remove_reader(descriptor)


@contextlib.contextmanager
def _kept(descriptor: int, output: bytearray) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not _take(descriptor, output):  # nobody has the other end any more
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


def _take(descriptor: int, output: bytearray) -> bool:
    """Whether there was something."""
    try:
        data = os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return False
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
