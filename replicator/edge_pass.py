"""Passes: files by which a web server sees, without asking, that all of a group may be served at this moment.

    <folder>/<group>/<tenth>      tenth: seconds of the wall clock with one decimal, as nginx's $msec begins

Laws: there is a pass for a tenth of a second only while this site is current until after its end, everything known of
the group is fenced and has landed here, and no write is under way at this edge; passes go before anything newer is
acknowledged, so no fence can be over before. Nobody has to take away what a dead or stopped member leaves: it ends with
its tenth. Whoever finds no pass asks the gate (`edge_verdict`).
"""

import asyncio
import contextlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from anycastle.clock import Clock
from anycastle.errors import AnycastleError

log = logging.getLogger("anycastle.replicator.edge_pass")

RENEWAL_SECONDS = 0.1
AHEAD_TENTHS = 8
"""Passes are made for so many tenths to come: a member that gets no processor for longer costs questions, no more."""
SPARE_SECONDS = 0.2
"""The site is current for so much longer than a pass holds: a web server's clock may be that late."""
FOLDER_MODE = 0o711
"""Whoever knows the name of a pass may see whether it is there."""


class PassError(AnycastleError):
    """The folder cannot be had."""


class Passes:
    """One site's, for all its groups."""

    def __init__(
        self, folder: Path, groups: Iterable[str], *, clock: Clock, clear_until: Callable[[str], float]
    ) -> None:
        """`clear_until`: group -> until when, on our clock, all of it may be served if nothing is heard meanwhile."""
        self._folder = folder
        self._clock = clock
        self._clear_until = clear_until
        self._made: dict[str, set[int]] = {group: set() for group in groups}

    def bind(self) -> None:
        """Make the folders anew, without what an earlier life left. Raises PassError."""
        try:
            for group in self._made:
                shutil.rmtree(self._folder / group, ignore_errors=True)
                (self._folder / group).mkdir(parents=True, exist_ok=True)
                (self._folder / group).chmod(FOLDER_MODE)
            self._folder.chmod(FOLDER_MODE)
        except OSError as error:
            raise PassError(f"cannot make passes in {self._folder}: {error.strerror or error}") from error

    def close(self) -> None:
        """Take back all; may be called twice."""
        for group in self._made:
            self.revoke(group)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def run(self) -> None:
        """Make and take back passes until cancelled."""
        try:
            while True:
                for group in self._made:
                    self.renew(group)
                await asyncio.sleep(RENEWAL_SECONDS)
        finally:
            self.close()

    def revoke(self, group: str) -> None:
        """Something is known that may not be served yet. Must be over before that is acknowledged to anybody.

        Raises OSError when a pass cannot be taken back: then nothing may be acknowledged.
        """
        made = self._made.get(group)
        while made:
            self._take_back(group, min(made))

    def renew(self, group: str) -> None:
        """Make what is wanted for the tenths from now on, take back what is over or not wanted any more."""
        now, wall = self._clock.now(), self._clock.wall()
        until = wall + self._clear_until(group) - now
        first = math.floor(wall * 10)
        wanted = {tenth for tenth in range(first, first + AHEAD_TENTHS + 1) if _ends_before(tenth, until)}
        made = self._made[group]
        for tenth in sorted(made - wanted):
            self._take_back(group, tenth)
        for tenth in sorted(wanted - made):
            try:
                os.close(os.open(self._name(group, tenth), os.O_CREAT | os.O_WRONLY, 0o644))
            except OSError as error:
                log.warning("group=%s event=no-pass reason=%r", group, error.strerror)
                return
            made.add(tenth)

    def _take_back(self, group: str, tenth: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name(group, tenth))
        self._made[group].discard(tenth)

    def _name(self, group: str, tenth: int) -> Path:
        return self._folder / group / f"{tenth // 10}.{tenth % 10}"


def _ends_before(tenth: int, until: float) -> bool:
    return (tenth + 1) / 10 + SPARE_SECONDS <= until
