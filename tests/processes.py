"""Processes that tests started, and end."""

import signal
import subprocess
from collections.abc import Collection

STOP_SECONDS = 15.0


def end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to all, stopped ones too; SIGKILL to what is left when each has had its time."""
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
