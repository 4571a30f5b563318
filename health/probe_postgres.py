"""The postgres probe: is this server one to read from now? Needs the extra `anycastle[postgres]`.

A server that takes writes is healthy. A standby is, when it receives from its primary and has replayed all that it knew
of `lag_max` ago. `pg_last_xact_replay_timestamp` alone would call every idle primary's standby late, so it counts for
what was there before the first look only (see `backlog`). Members of `pg_monitor` see the end of the primary's log as
the primary tells it; others see only what was received.
"""

from typing import Any

from anycastle.clock import Clock
from anycastle.health.backlog import Backlog
from anycastle.health.lookup import Lookup
from anycastle.health.probe_database import Door, driver_errors, judge_lag
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.settings import PostgresCheck

QUERY = """
SELECT pg_is_in_recovery() AS standby,
       (SELECT count(*) > 0 FROM pg_stat_wal_receiver WHERE coalesce(status, 'streaming') = 'streaming') AS receives,
       pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), (SELECT latest_end_lsn FROM pg_stat_wal_receiver)),
                       '0/0')::bigint AS known,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS applied,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS told
"""


class PostgresLook:
    """One server, each time on a new connection."""

    def __init__(self, check: PostgresCheck, lookup: Lookup, *, clock: Clock) -> None:
        self._check = check
        self._door = Door(check.database, lookup)
        self._backlog = Backlog()
        self._clock = clock

    async def __call__(self) -> Seen:
        row = await self._ask()
        if not row["standby"]:
            return Seen("takes writes")
        if not row["receives"]:
            raise ProbeFailed("the replica does not receive from its primary")
        if row["applied"] is None or row["known"] is None:
            raise ProbeFailed("the replica has not replayed anything yet")
        lag_seconds = self._backlog.lag_seconds(
            row["known"], row["applied"], told_seconds=row["told"] or 0.0, now=self._clock.now()
        )
        return judge_lag(lag_seconds, lag_max_seconds=self._check.lag_max_seconds)

    async def _ask(self) -> Any:
        try:
            import asyncpg  # the operator asked for this probe; nobody else needs the driver
        except ImportError as error:
            raise ProbeFailed("the driver asyncpg is missing: pip install 'anycastle[postgres]'") from error
        access = await self._door.access()
        with driver_errors():
            connection = await asyncpg.connect(
                host=str(access.socket or access.host),
                port=access.port or None,
                user=self._check.database.user,
                database=self._check.database.name or "postgres",
                password=access.password,
                ssl=access.tls or False,
                statement_cache_size=0,
                server_settings={"application_name": "anycastle-probe"},
            )
            try:
                row = await connection.fetchrow(QUERY)
                await connection.close()
            finally:
                connection.terminate()
        return row
