"""The mysql probe: the same question to MySQL and MariaDB. Needs the extra `anycastle[mysql]`.

A server that replicates from nobody is healthy unless it is read-only. A replica is, when both of its threads run for
every source and none is further behind than `lag_max` by the server's own word (`Seconds_Behind_Master`, which compares
the two servers' clocks as they were at the connect).
"""

from typing import Any

from anycastle.health.lookup import Lookup
from anycastle.health.probe_database import Door, driver_errors, judge_lag
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.settings import MysqlCheck

CONNECT_SECONDS_MAX = 60
"""The driver's own limit, in whole seconds; the probe's timeout is shorter as a rule, and then it decides."""


class MysqlLook:
    """One server, each time on a new connection."""

    def __init__(self, check: MysqlCheck, lookup: Lookup) -> None:
        self._check = check
        self._door = Door(check.database, lookup)

    async def __call__(self) -> Seen:
        sources, read_only = await self._ask()
        if not sources and read_only:
            raise ProbeFailed("is read-only, and replicates from nobody")
        if not sources:
            return Seen("takes writes")
        return judge_lag(max(_lag_seconds(each) for each in sources), lag_max_seconds=self._check.lag_max_seconds)

    async def _ask(self) -> tuple[list[dict[str, Any]], bool]:
        try:
            import asyncmy  # the operator asked for this probe; nobody else needs the driver
            from asyncmy.cursors import DictCursor
        except ImportError as error:
            raise ProbeFailed("the driver asyncmy is missing: pip install 'anycastle[mysql]'") from error
        access = await self._door.access()
        with driver_errors():
            connecting = asyncmy.connect(
                host=access.host,
                port=access.port,
                unix_socket=str(access.socket) if access.socket else None,
                user=self._check.database.user,
                password=access.password,
                database=self._check.database.name or None,
                ssl=access.tls,
                connect_timeout=CONNECT_SECONDS_MAX,
            )
            async with connecting as connection, connection.cursor(DictCursor) as cursor:
                return await _sources(cursor)


async def _sources(cursor: Any) -> tuple[list[dict[str, Any]], bool]:
    await cursor.execute("SELECT VERSION() AS version, @@global.read_only AS read_only")
    server = await cursor.fetchone()
    # MariaDB's other statement shows one source only.
    await cursor.execute("SHOW ALL REPLICAS STATUS" if "MariaDB" in server["version"] else "SHOW REPLICA STATUS")
    return list(await cursor.fetchall()), bool(server["read_only"])


def _lag_seconds(source: dict[str, Any]) -> float:
    """Raises ProbeFailed. MariaDB and MySQL name the same columns differently."""
    receives, applies = (_of(source, f"{{}}_{thread}_Running") for thread in ("IO", "SQL"))
    if receives != "Yes":
        raise ProbeFailed(_why("the replica does not receive from its primary", source["Last_IO_Error"]))
    if applies != "Yes":
        raise ProbeFailed(_why("the replica does not apply what it receives", source["Last_SQL_Error"]))
    behind = source.get("Seconds_Behind_Source", source.get("Seconds_Behind_Master"))
    if behind is None:
        raise ProbeFailed("the replica does not know how far it is behind")
    return float(behind)


def _of(source: dict[str, Any], name: str) -> Any:
    return source.get(name.format("Replica"), source.get(name.format("Slave")))


def _why(what: str, error: str) -> str:
    return f"{what}: {error}" if error else what
