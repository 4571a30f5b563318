"""Real database servers with a replica each: processes of our own in a folder of our own, ended by their number."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.health.targets import certificate
from tests.ports import free_port

DEADLINE_SECONDS = 60.0
PASSWORD = "probe's secret"
SHOWN_CHARACTERS = 3000


@dataclass(frozen=True)
class Pair:
    """A primary and its replica."""

    folder: Path
    """Holds `password` and `site.pem`, the certificate of both for localhost."""
    primary: int
    """Port on 127.0.0.1."""
    replica: int
    replica_socket: Path
    on_primary: Callable[[str], str]
    """One statement as administrator; returns what it prints."""
    on_replica: Callable[[str], str]
    stop_primary: Callable[[], None]


def program(name: str, *folders: str) -> str:
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"needs {name}: run script/bootstrap")
    return found


@contextlib.contextmanager
def folder_of(account: str) -> Iterator[tuple[Path, str | None]]:
    """A folder that belongs to `account`, and whom to run as in it: neither server runs as root."""
    user = account if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="anycastle-db-") as name:
        folder = Path(name)
        certificate(folder, "localhost")
        (folder / "site.pem").chmod(0o600)
        (folder / "password").write_text(PASSWORD + "\n")
        if user is not None:
            entry = pwd.getpwnam(user)
            for each in (folder, folder / "site.pem"):
                os.chown(each, entry.pw_uid, entry.pw_gid)
        yield folder, user


def run(*arguments: str | Path, user: str | None, text: str | None = None) -> str:
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, user=user, cwd="/", timeout=60)
    assert done.returncode == 0, f"{arguments}: {done.stdout[-SHOWN_CHARACTERS:]} {done.stderr[-SHOWN_CHARACTERS:]}"
    return done.stdout.strip()


@contextlib.contextmanager
def server(
    *arguments: str | Path, user: str | None, log: Path, ready: Callable[[], bool]
) -> Iterator[Callable[[], None]]:
    """Runs until it is stopped, at once and without goodbye, or the end of the block."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user, cwd="/"
        )

    def stop() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT if "postgres" in str(arguments[0]) else signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    try:
        wait_for(ready, lambda: log.read_text(errors="replace")[-SHOWN_CHARACTERS:])
        yield stop
    finally:
        stop()


def wait_for(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres_pair() -> Iterator[Pair]:
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    tools = {name: program(name, *map(str, newest)) for name in ("initdb", "postgres", "pg_basebackup", "psql")}
    with folder_of("postgres") as (folder, user), contextlib.ExitStack() as running:
        ports = free_port(), free_port()
        primary, replica = folder / "primary", folder / "replica"
        run(tools["initdb"], "--auth=trust", "--username=postgres", "--no-sync", "-D", primary, user=user)
        settings = "fsync = off\nautovacuum = off\nssl = on\nwal_receiver_timeout = 2s\n"
        files = f"ssl_cert_file = '{folder}/site.pem'\nssl_key_file = '{folder}/site.pem'\n"
        (primary / "postgresql.auto.conf").write_text(settings + files)
        rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
        (primary / "pg_hba.conf").write_text(rules + "host all probe,watch 127.0.0.1/32 scram-sha-256\n")

        def sql(port: int) -> Callable[[str], str]:
            where = ["-h", str(folder), "-p", str(port), "-U", "postgres", "-d", "postgres", "-qAtX"]
            return lambda statement: run(tools["psql"], *where, user=user, text=statement)

        def start(data: Path, port: int) -> Callable[[], None]:
            options = [
                "-c",
                f"port={port}",
                "-c",
                f"unix_socket_directories={folder}",
                "-c",
                "listen_addresses=127.0.0.1",
            ]
            return running.enter_context(
                server(
                    *(tools["postgres"], "-D", data, *options),
                    user=user,
                    log=folder / f"{data.name}.log",
                    ready=lambda: _answers(sql(port), "SELECT 1"),
                )
            )

        stop = start(primary, ports[0])
        secret = PASSWORD.replace("'", "''")
        sql(ports[0])(f"CREATE ROLE probe LOGIN PASSWORD '{secret}'; CREATE ROLE watch LOGIN PASSWORD '{secret}'")
        sql(ports[0])("GRANT pg_monitor TO watch; CREATE TABLE t (n int)")
        copy = [
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "-h",
            "127.0.0.1",
            "-p",
            str(ports[0]),
            "-U",
            "postgres",
        ]
        run(tools["pg_basebackup"], *copy, "-D", replica, user=user)
        start(replica, ports[1])
        yield Pair(
            folder=folder,
            primary=ports[0],
            replica=ports[1],
            replica_socket=folder / f".s.PGSQL.{ports[1]}",
            on_primary=sql(ports[0]),
            on_replica=sql(ports[1]),
            stop_primary=stop,
        )


def _answers(sql: Callable[[str], str], statement: str) -> bool:
    try:
        return bool(sql(statement))
    except AssertionError:
        return False


# -- MariaDB ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mariadb_pair() -> Iterator[Pair]:
    tools = {name: program(name) for name in ("mariadb-install-db", "mariadbd", "mariadb")}
    with folder_of("mysql") as (folder, user), contextlib.ExitStack() as running:
        ports = free_port(), free_port()
        sockets = folder / "primary.sock", folder / "replica.sock"

        def sql(number: int) -> Callable[[str], str]:
            words = ["--no-defaults", f"--socket={sockets[number]}", "--user=root", "--batch", "--skip-column-names"]
            return lambda statement: run(tools["mariadb"], *words, user=None, text=statement)

        def start(number: int, *more: str) -> Callable[[], None]:
            data = folder / sockets[number].stem
            temporary = folder / f"{data.name}.tmp"  # a server that starts deletes what others have in a common one
            temporary.mkdir()
            if user is not None:
                shutil.chown(temporary, user)
            own = ["--no-defaults", f"--datadir={data}", f"--tmpdir={temporary}"]
            install = [*own, "--auth-root-authentication-method=normal", "--skip-test-db", "--basedir=/usr"]
            run(tools["mariadb-install-db"], *install, user=user)
            options = [
                *(*own, f"--socket={sockets[number]}", f"--port={ports[number]}"),
                *("--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"),
                *("--log-bin=binlog", "--sync-binlog=0", f"--server-id={number + 1}", f"--pid-file={data}/pid"),
                *(f"--ssl-cert={folder}/site.pem", f"--ssl-key={folder}/site.pem", "--skip-slave-start"),
                "--performance-schema=off",
            ]
            return running.enter_context(
                server(
                    *(tools["mariadbd"], *options, *more),
                    user=user,
                    log=folder / f"{data.name}.log",
                    ready=lambda: _answers(sql(number), "SELECT 1"),
                )
            )

        stop = start(0)
        start(1, "--read-only=1", "--slave-net-timeout=2")
        secret = PASSWORD.replace("'", "''")
        for number in (0, 1):
            sql(number)(
                f"SET sql_log_bin=0; CREATE USER probe@'127.0.0.1' IDENTIFIED BY '{secret}';"
                f"CREATE USER probe@localhost IDENTIFIED BY '{secret}'; CREATE USER stranger@'127.0.0.1';"
                "GRANT SLAVE MONITOR ON *.* TO probe@'127.0.0.1', probe@localhost"
            )
        sql(0)(
            f"CREATE USER copy@'127.0.0.1' IDENTIFIED BY '{secret}'; GRANT REPLICATION SLAVE ON *.* TO copy@'127.0.0.1'"
        )
        sql(0)("CREATE DATABASE d; CREATE TABLE d.t (n int); CREATE TABLE d.u (n int PRIMARY KEY)")
        sql(1)(
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={ports[0]}, master_user='copy', "
            f"master_password='{secret}', master_connect_retry=1, master_use_gtid=slave_pos; START SLAVE"
        )
        yield Pair(
            folder=folder,
            primary=ports[0],
            replica=ports[1],
            replica_socket=sockets[1],
            on_primary=sql(0),
            on_replica=sql(1),
            stop_primary=stop,
        )
