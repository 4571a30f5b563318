"""ExaBGP as a supervised child: started, watched, started again, ended.

Law: it never outlives us (`anycastle.bgp.launch`), and it reads no settings but ours: its environment is built here
from nothing. Its own session keeps a terminal's Ctrl-C from ending it before its
routes are withdrawn.
"""

import asyncio
import contextlib
import logging
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

from anycastle.bgp.route import BgpError
from anycastle.bgp.rundir import CONFIGURATION, Account, RunDirectory
from anycastle.clock import Clock

log = logging.getLogger("anycastle.bgp.process")

RESTART_SECONDS_MIN = 0.5
RESTART_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
"""A life this long forgives earlier deaths: the next restart is quick again."""
TERM_SECONDS = 2.0
"""How long ExaBGP may take to end; it gives its own child 2 s."""

_LAUNCH = Path(__file__).resolve().with_name("launch.py")


def program() -> Path:
    """The `exabgp` beside the running interpreter; raises `BgpError` when it is not installed."""
    path = Path(sys.executable).with_name("exabgp")
    if not path.exists():
        raise BgpError(f"{path} is missing, expected the exabgp package in the environment of {sys.executable}")
    return path


def environment(owner: Account | None) -> dict[str, str]:
    """ExaBGP's whole environment. As root without a `user` it must be told to stay root: else it becomes "nobody"."""
    user = owner.name if owner is not None else pwd.getpwuid(os.geteuid()).pw_name
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "exabgp_daemon_user": user,
        "exabgp_daemon_daemonize": "false",
        "exabgp_api_cli": "false",
        "exabgp_api_ack": "true",
        "exabgp_api_respawn": "true",
        "exabgp_log_destination": "stdout",
        "exabgp_log_level": "WARNING",
        "exabgp_log_short": "false",
        "exabgp_log_statistics": "false",
    }


class ExabgpProcess:
    """`run()` keeps one ExaBGP alive until it is cancelled."""

    def __init__(
        self, directory: RunDirectory, owner: Account | None, *, clock: Clock, on_change: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._owner = owner
        self._clock = clock
        self._on_change = on_change
        self._child: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.started_at = clock.now()
        self.reason = "not started yet"
        """Why there is no ExaBGP, or why the last one ended; empty while the first one lives."""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def run(self) -> None:
        pause_seconds = RESTART_SECONDS_MIN
        while True:
            started = self._clock.now()
            await self._live()
            if self._clock.now() - started >= STEADY_SECONDS:
                pause_seconds = RESTART_SECONDS_MIN
            log.warning("ExaBGP %s; started again in %.1f s", self.reason, pause_seconds)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, RESTART_SECONDS_MAX)

    def kill(self, reason: str) -> None:
        """Ends an ExaBGP that hangs; `run` starts the next one."""
        if self._child is not None and self._child.returncode is None:
            log.warning("ExaBGP is killed: %s", reason)
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    async def _live(self) -> None:
        """One life of ExaBGP, from start to end."""
        try:
            self._child = await self._start()
        except OSError as error:
            self.reason = f"cannot be started: {error}"
            self._on_change()
            return
        try:
            status = await self._child.wait()
            self.reason = f"ended with status {status}: {self._directory.last_words() or 'no last words'}"
        finally:
            await self._end(self._child)
            self._child = None
            self._on_change()

    async def _start(self) -> asyncio.subprocess.Process:
        output = self._directory.open_log()
        try:
            self.started_at = self._clock.now()
            self.starts += 1
            command = (sys.executable, "-I", _LAUNCH, str(os.getpid()), program(), "server")
            return await asyncio.create_subprocess_exec(
                *command,
                self._directory.path.absolute() / CONFIGURATION,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(self._owner),
                cwd="/",
                start_new_session=True,
                user=None if self._owner is None else self._owner.uid,
                group=None if self._owner is None else self._owner.gid,
                extra_groups=None if self._owner is None else [],
            )
        finally:
            os.close(output)

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        if child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(TERM_SECONDS):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
