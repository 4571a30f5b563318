"""Tells systemd how the member is (sd_notify(3)): a few lines of text over the socket that NOTIFY_SOCKET names.

Laws: without that variable nothing is said; a service manager that does not listen is no fault of the member; the
watchdog is fed by the event loop itself, so that a loop that hangs is ended and started anew.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

WATCHDOG_SHARE = 1 / 3
"""Of its period: two that are late cost nothing."""


class Notifier:
    """Takes its variables out of the environment: children do not speak for us."""

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        known = os.environ if environment is None else environment
        self.variables = {name: known[name] for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if name in known}
        """For the process that comes after, which is the service's main one then."""
        self._address = known.pop("NOTIFY_SOCKET", "")
        microseconds, process = known.pop("WATCHDOG_USEC", ""), known.pop("WATCHDOG_PID", "")
        ours = process in ("", str(os.getpid())) and microseconds.isascii() and microseconds.isdecimal()
        self.watchdog_seconds = int(microseconds) / 1e6 if ours and self._address else 0.0
        """The period within which systemd wants a sign of life; 0: none wanted."""

    def ready(self, status: str) -> None:
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """To be followed by `ready`."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def gives_way(self, process: int) -> None:
        """From now on that one is the service, and speaks for it."""
        self._say(f"MAINPID={process}", "STATUS=another process has taken over")

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=stopping")

    async def watch(self) -> None:
        """Feeds the watchdog for ever; returns at once when there is none."""
        while self.watchdog_seconds:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds * WATCHDOG_SHARE)

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
            speaking.setblocking(False)
            speaking.sendto("\n".join(lines).encode(), address)
