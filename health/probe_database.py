"""What the postgres and the mysql probe share: how a server is reached, and the words for a replica that is behind.

Law: whatever a driver raises is the server's failure; one that talks nonsense must not stop the member.
"""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anycastle.health.aside import Aside
from anycastle.health.lookup import Lookup
from anycastle.health.probe_file import read_short
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.probe_tls import ProbeTls, verified
from anycastle.health.settings import Database


@dataclass(frozen=True, slots=True)
class Access:
    """One connection's worth of it."""

    host: str
    """A literal address, so that no library looks up names in threads of its own."""
    port: int
    socket: Path | None
    password: str
    tls: ssl.SSLContext | None


class Door:
    """Makes `Access` for each connection anew."""

    def __init__(self, database: Database, lookup: Lookup) -> None:
        self._database = database
        self._lookup = lookup
        self._secrets: Aside[str] = Aside("probe-password")
        self._tls: ProbeTls | None = None

    async def access(self) -> Access:
        """Raises ProbeFailed and OSError."""
        database = self._database
        file = database.password_file
        password = await self._secrets.run(lambda: read_short(file, "password file")) if file is not None else ""
        if isinstance(database.place, Path):
            return Access("localhost", 0, database.place, password, None)
        host, port = database.place
        addresses = await self._lookup.addresses(host, port)
        if database.authority is not None and self._tls is None:
            self._tls = verified(database.authority, server_name=host)
        return Access(addresses[0], port, None, password, self._tls)


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Around all that a driver does."""
    try:
        yield
    except (ProbeFailed, OSError):
        raise
    except Exception as error:  # see the law above
        raise ProbeFailed(f"{type(error).__name__}: {error}") from error


def judge_lag(lag_seconds: float, *, lag_max_seconds: float) -> Seen:
    """Raises ProbeFailed."""
    if lag_seconds > lag_max_seconds:
        raise ProbeFailed(f"the replica is more than {lag_max_seconds:g} s behind its primary")
    return Seen(f"the replica is at most {lag_max_seconds:g} s behind its primary")
