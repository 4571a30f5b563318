"""A probe that is a command of the operator's: healthy when it ends with status 0.

Law: it never outlives its round. It has a process group of its own, all of which is killed when the time is up; what
it says on standard error is the reason shown, the rest of its output goes nowhere.
"""

import asyncio
import contextlib
import os
import signal

SAID_BYTES_MAX = 4096


async def run(command: str) -> tuple[int, str]:
    """Exit status (minus the number of the signal that ended it) and its last line on standard error; by /bin/sh."""
    null = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_shell(
        command, stdin=null, stdout=null, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert child.stderr is not None
    try:
        said = b""
        while data := await child.stderr.read(SAID_BYTES_MAX):
            said = (said + data)[-SAID_BYTES_MAX:]
        status = await child.wait()
    finally:
        if child.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    lines = said.decode("utf-8", "replace").split("\n")
    return status, next((line.strip() for line in reversed(lines) if line.strip()), "")
