"""The mysql probe against a real MariaDB and its replica."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anycastle.health.observe import Result
from anycastle.health.settings import Database, MysqlCheck
from tests.health.databases import Pair, mariadb_pair
from tests.health.probing import look, probe, probing, until
from tests.ports import free_port

TIMEOUT_SECONDS = 5.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with mariadb_pair() as made:
        yield made


def check(pair: Pair, place: int | Path, *, tls: bool = False, lag_max_seconds: float = 1.0) -> MysqlCheck:
    where = place if isinstance(place, Path) else ("localhost" if tls else "127.0.0.1", place)
    authority = pair.folder / "site.pem" if tls else None
    database = Database(place=where, user="probe", password_file=pair.folder / "password", authority=authority)
    return MysqlCheck(database=database, lag_max_seconds=lag_max_seconds)


@asynccontextmanager
async def watching(look_at: MysqlCheck) -> AsyncIterator[list[Result]]:
    watched = probe(look_at, timeout_seconds=TIMEOUT_SECONDS, interval_seconds=0.1)
    async with probing(watched) as results:
        yield results


async def test_primary_and_replica_are_well(pair: Pair) -> None:
    behind = (True, "the replica is at most 1 s behind its primary")
    for tls in (False, True):
        found = await look(check(pair, pair.primary, tls=tls), timeout_seconds=TIMEOUT_SECONDS)
        assert found == (True, "takes writes")
    async with watching(check(pair, pair.replica)) as results:
        await until(lambda: results[-1].ok)  # it may be starting to receive
        assert results[-1].reason == behind[1]
    assert await look(check(pair, pair.replica_socket), timeout_seconds=TIMEOUT_SECONDS) == behind


async def test_the_lag_of_a_replay_that_is_held_up_is_seen_and_gone_after(pair: Pair) -> None:
    async with watching(check(pair, pair.replica)) as results:
        await until(lambda: results[-1].ok)
        # A lock that lasts as long as the session that holds it.
        locked = "LOCK TABLES d.t WRITE; SELECT SLEEP(6)"
        async with asyncio.TaskGroup() as tasks:
            holding = tasks.create_task(asyncio.to_thread(pair.on_replica, locked))
            held = "SELECT COUNT(*) > 0 FROM information_schema.processlist WHERE info = 'SELECT SLEEP(6)'"
            await until_says(pair, held, "1")
            await asyncio.to_thread(pair.on_primary, "INSERT INTO d.t VALUES (1)")
            await until(lambda: not results[-1].ok)
            assert results[-1].reason == "the replica is more than 1 s behind its primary"
            await holding
        await until(lambda: results[-1].ok)


async def until_says(pair: Pair, statement: str, said: str) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(pair.on_replica, statement) != said:  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("thread", "reason"),
    [
        ("SQL_THREAD", "the replica does not apply what it receives"),
        ("IO_THREAD", "the replica does not receive from its primary"),
    ],
)
async def test_a_thread_that_is_stopped(pair: Pair, thread: str, reason: str) -> None:
    async with watching(check(pair, pair.replica)) as results:
        await until(lambda: results[-1].ok)
        await asyncio.to_thread(pair.on_replica, f"STOP SLAVE {thread}")
        try:
            await until(lambda: not results[-1].ok)
            assert results[-1].reason == reason
        finally:
            await asyncio.to_thread(pair.on_replica, f"START SLAVE {thread}")
        await until(lambda: results[-1].ok)


async def test_replay_that_failed_says_why(pair: Pair) -> None:
    async with watching(check(pair, pair.replica)) as results:
        await until(lambda: results[-1].ok)
        await asyncio.to_thread(pair.on_replica, "SET sql_log_bin=0; INSERT INTO d.u VALUES (1)")
        await asyncio.to_thread(pair.on_primary, "INSERT INTO d.u VALUES (1)")
        await until(lambda: not results[-1].ok)
        assert results[-1].reason.startswith("the replica does not apply what it receives: Error 'Duplicate entry '1'")
        await asyncio.to_thread(pair.on_replica, "SET sql_log_bin=0; DELETE FROM d.u; START SLAVE")
        await until(lambda: results[-1].ok)


async def test_who_may_not_ask_and_what_does_not_answer(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")

    async def ask(database: Database) -> str:
        found, why = await look(MysqlCheck(database=database, lag_max_seconds=1.0), timeout_seconds=TIMEOUT_SECONDS)
        assert not found
        return why

    here = ("127.0.0.1", pair.primary)
    why = await ask(Database(place=here, user="probe", password_file=tmp_path / "password"))
    assert "Access denied for user 'probe'" in why
    assert "MONITOR privilege(s) for this operation" in await ask(Database(place=here, user="stranger"))
    why = await ask(Database(place=here, user="stranger", authority=pair.folder / "site.pem"))
    assert "IP address mismatch" in why, "the certificate is for localhost"
    assert "Can't connect" in await ask(Database(place=("127.0.0.1", free_port()), user="probe"))


async def test_a_server_that_is_none_is_a_failure_and_no_more(tmp_path: Path) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x05\x00\x00\x00\xff\xff\xff\xff\xff" * 100)
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        place = ("127.0.0.1", server.sockets[0].getsockname()[1])
        check = MysqlCheck(database=Database(place=place, user="x"), lag_max_seconds=1.0)
        found, why = await look(check, timeout_seconds=TIMEOUT_SECONDS)
    assert not found
    assert why


async def test_a_server_that_says_nothing_is_a_failure_and_no_more() -> None:
    """Several rounds, so that what a round leaves behind would show."""

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    async with server:
        place = ("127.0.0.1", server.sockets[0].getsockname()[1])
        silent = MysqlCheck(database=Database(place=place, user="x"), lag_max_seconds=1.0)
        async with probing(probe(silent, timeout_seconds=0.2)) as results:
            await until(lambda: len(results) >= 4)
    assert {each.reason for each in results} == {"no answer within 0.2 s"}
    gc.collect()  # what was not closed warns, and warnings are errors


async def test_read_only_and_replicating_from_nobody_is_not_well(pair: Pair) -> None:
    await asyncio.to_thread(pair.on_primary, "SET GLOBAL read_only = 1")
    try:
        found = await look(check(pair, pair.primary), timeout_seconds=TIMEOUT_SECONDS)
        assert found == (False, "is read-only, and replicates from nobody")
    finally:
        await asyncio.to_thread(pair.on_primary, "SET GLOBAL read_only = 0")


async def test_a_replica_without_its_primary_is_not_well(pair: Pair) -> None:
    """Last: it stops the primary."""
    async with watching(check(pair, pair.replica)) as results:
        await until(lambda: results[-1].ok)
        await asyncio.to_thread(pair.stop_primary)
        await until(lambda: not results[-1].ok)
        assert results[-1].reason.startswith("the replica does not receive from its primary: error reconnecting")
