"""The postgres probe against a real primary and its streaming replica."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anycastle.health.observe import Result
from anycastle.health.settings import Database, PostgresCheck
from tests.health.databases import Pair, postgres_pair
from tests.health.probing import look, probe, probing, until
from tests.ports import free_port

TIMEOUT_SECONDS = 5.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with postgres_pair() as made:
        yield made


def check(pair: Pair, place: int | Path, *, user: str = "watch", lag_max_seconds: float = 1.0) -> PostgresCheck:
    where = place if isinstance(place, Path) else ("localhost", place)
    database = Database(
        place=where,
        user=user,
        password_file=pair.folder / "password",
        authority=None if isinstance(place, Path) else pair.folder / "site.pem",
    )
    return PostgresCheck(database=database, lag_max_seconds=lag_max_seconds)


@asynccontextmanager
async def watching(look_at: PostgresCheck) -> AsyncIterator[list[Result]]:
    watched = probe(look_at, timeout_seconds=TIMEOUT_SECONDS, interval_seconds=0.1)
    async with probing(watched) as results:
        yield results


async def test_primary_and_replica_are_well(pair: Pair) -> None:
    behind = (True, "the replica is at most 1 s behind its primary")
    assert await look(check(pair, pair.primary), timeout_seconds=TIMEOUT_SECONDS) == (True, "takes writes")
    async with watching(check(pair, pair.replica)) as results:
        await until(lambda: results[-1].ok)  # it may be starting to receive
        assert results[-1].reason == behind[1]
    for user, place in (("probe", pair.replica), ("watch", pair.replica_socket)):
        assert await look(check(pair, place, user=user), timeout_seconds=TIMEOUT_SECONDS) == behind


@pytest.mark.parametrize("user", ["watch", "probe"])
async def test_the_lag_of_a_replay_that_is_paused_is_seen_and_gone_after(pair: Pair, user: str) -> None:
    async with watching(check(pair, pair.replica, user=user)) as results:
        await until(lambda: results[-1].ok)
        await asyncio.to_thread(pair.on_replica, "SELECT pg_wal_replay_pause()")
        try:
            await asyncio.to_thread(pair.on_primary, "INSERT INTO t VALUES (1)")
            await until(lambda: not results[-1].ok)
            assert results[-1].reason == "the replica is more than 1 s behind its primary"
        finally:
            await asyncio.to_thread(pair.on_replica, "SELECT pg_wal_replay_resume()")
        await until(lambda: results[-1].ok)


async def test_what_was_behind_before_the_first_look_is_seen_at_once(pair: Pair) -> None:
    await asyncio.to_thread(pair.on_primary, "INSERT INTO t VALUES (2)")
    await asyncio.to_thread(pair.on_replica, "SELECT pg_wal_replay_pause(); SELECT pg_sleep(2)")
    try:
        await asyncio.to_thread(pair.on_primary, "INSERT INTO t VALUES (3)")
        received = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        await until_says(pair, received, "t")
        found, why = await look(check(pair, pair.replica), timeout_seconds=TIMEOUT_SECONDS)
        assert (found, why) == (False, "the replica is more than 1 s behind its primary")
    finally:
        await asyncio.to_thread(pair.on_replica, "SELECT pg_wal_replay_resume()")


async def until_says(pair: Pair, statement: str, said: str) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(pair.on_replica, statement) != said:  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.05)


async def test_who_may_not_ask_and_what_does_not_answer(pair: Pair, tmp_path: Path) -> None:
    found, why = await look(check(pair, pair.primary, user="stranger"), timeout_seconds=TIMEOUT_SECONDS)
    assert not found
    assert "no pg_hba.conf entry" in why
    (tmp_path / "password").write_text("wrong")
    given = Database(place=("127.0.0.1", pair.primary), user="probe", password_file=tmp_path / "password")
    found, why = await look(PostgresCheck(database=given, lag_max_seconds=1.0), timeout_seconds=TIMEOUT_SECONDS)
    assert (found, why) == (False, 'InvalidPasswordError: password authentication failed for user "probe"')
    other = Database(place=("127.0.0.1", pair.primary), user="watch", authority=pair.folder / "site.pem")
    found, why = await look(PostgresCheck(database=other, lag_max_seconds=1.0), timeout_seconds=TIMEOUT_SECONDS)
    assert not found, "the certificate is for localhost"
    assert why.startswith("certificate not trusted: IP address mismatch")
    none = Database(place=("127.0.0.1", free_port()), user="x", password_file=tmp_path / "none")
    assert await look(PostgresCheck(database=none, lag_max_seconds=1.0)) == (
        False,
        f"password file {tmp_path}/none cannot be read: No such file or directory",
    )
    nobody = Database(place=("127.0.0.1", free_port()), user="x")
    assert await look(PostgresCheck(database=nobody, lag_max_seconds=1.0)) == (False, "connection refused")


async def test_a_server_that_is_none_is_a_failure_and_no_more() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"R\x00\x00\x00\x08\xff\xff\xff\xff" * 100)
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        place = ("127.0.0.1", server.sockets[0].getsockname()[1])
        none = PostgresCheck(database=Database(place=place, user="x"), lag_max_seconds=1.0)
        found, why = await look(none, timeout_seconds=TIMEOUT_SECONDS)
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
        silent = PostgresCheck(database=Database(place=place, user="x"), lag_max_seconds=1.0)
        async with probing(probe(silent, timeout_seconds=0.2)) as results:
            await until(lambda: len(results) >= 4)
    assert {each.reason for each in results} == {"no answer within 0.2 s"}
    gc.collect()  # what was not closed warns, and warnings are errors


async def test_a_replica_without_its_primary_is_not_well() -> None:
    """Last, and with a pair of its own: it stops the primary."""
    with postgres_pair() as made:
        async with watching(check(made, made.replica)) as results:
            await until(lambda: results[-1].ok)
            await asyncio.to_thread(made.stop_primary)
            await until(lambda: not results[-1].ok)
            assert results[-1].reason == "the replica does not receive from its primary"
