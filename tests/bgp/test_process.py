import asyncio
import os
import signal
from pathlib import Path

import pytest

from anycastle.bgp.process import ExabgpProcess, environment
from anycastle.bgp.rundir import CONFIGURATION, Account, RunDirectory
from anycastle.clock import SystemClock
from tests.bgp.router import alive, eventually

IDLE = "neighbor 127.0.0.2 { router-id 127.0.0.1; local-address 127.0.0.1; local-as 64500; peer-as 64499; connect 1; }"


def test_the_environment_holds_our_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("exabgp_tcp_bind", "0.0.0.0")
    monkeypatch.setenv("EXABGP_ENVFILE", "/etc/passwd")
    found = environment(None)
    assert {name for name in found if not name.startswith("exabgp_")} == {"PATH", "LANG"}
    assert "exabgp_tcp_bind" not in found
    # Root that is not told to stay root becomes "nobody", who may not be able to read the interpreter.
    assert (found["exabgp_daemon_user"] == "root") == (os.geteuid() == 0)
    assert environment(Account("routes", 7, 7))["exabgp_daemon_user"] == "routes"
    assert found["exabgp_api_cli"] == "false"


async def test_one_that_cannot_live_is_started_again_with_its_last_words_as_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycastle.bgp.process.RESTART_SECONDS_MIN", 0.01)
    changes: list[str] = []
    with RunDirectory(tmp_path, None) as directory:
        directory.write(CONFIGURATION, "nonsense { }\n")
        process = ExabgpProcess(directory, None, clock=SystemClock(), on_change=lambda: changes.append(process.reason))
        async with asyncio.TaskGroup() as group:
            run = group.create_task(process.run())
            await eventually(lambda: process.starts == 2 and changes)
            run.cancel()
    assert changes[0].startswith("ended with status 1: ")
    assert "no last words" not in changes[0]
    assert process.pid is None


@pytest.mark.parametrize("stubborn", [False, True])
async def test_cancelling_ends_it_even_when_it_hangs(
    stubborn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stubborn:
        monkeypatch.setattr("anycastle.bgp.process.TERM_SECONDS", 0.2)
    with RunDirectory(tmp_path, None) as directory:
        directory.write(CONFIGURATION, IDLE)
        process = ExabgpProcess(directory, None, clock=SystemClock(), on_change=lambda: None)
        async with asyncio.TaskGroup() as group:
            run = group.create_task(process.run())
            await eventually(lambda: process.pid)
            pid = process.pid
            assert pid is not None
            if stubborn:
                os.kill(pid, signal.SIGSTOP)
            run.cancel()
    assert not alive(pid)


async def test_a_kill_is_followed_by_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycastle.bgp.process.RESTART_SECONDS_MIN", 0.01)
    with RunDirectory(tmp_path, None) as directory:
        directory.write(CONFIGURATION, IDLE)
        process = ExabgpProcess(directory, None, clock=SystemClock(), on_change=lambda: None)
        async with asyncio.TaskGroup() as group:
            run = group.create_task(process.run())
            await eventually(lambda: process.pid)
            first = process.pid
            process.kill("a test")
            await eventually(lambda: process.pid not in (None, first))
            assert process.reason.startswith("ended with status -9")
            run.cancel()
