"""Blocking calls beside the loop: one at a time, errors handed on, and nothing that outlives the process."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from anycastle.health.aside import Aside

DEADLINE_SECONDS = 20.0


async def test_results_and_errors_are_handed_on() -> None:
    aside: Aside[int] = Aside("test")
    assert await aside.run(lambda: 7) == 7

    def fail() -> int:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        await aside.run(fail)
    assert await aside.run(lambda: 8) == 8


async def test_who_gives_up_leaves_the_call_to_the_next_who_asks() -> None:
    aside: Aside[str] = Aside("test")
    hang, started = threading.Event(), []

    def slow(name: str) -> str:
        started.append(name)
        hang.wait(DEADLINE_SECONDS)
        return name

    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await aside.run(lambda: slow("first"))
    assert started == ["first"]
    hang.set()
    assert await aside.run(lambda: slow("second")) in ("first", "second")
    assert await aside.run(lambda: "third") == "third"


async def test_an_error_that_nobody_waits_for_is_no_error() -> None:
    """Asyncio would log "exception was never retrieved" when the future is collected."""
    hang = threading.Event()

    def fail() -> None:
        hang.wait(DEADLINE_SECONDS)
        raise OSError("too late")

    aside: Aside[None] = Aside("test")
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await aside.run(fail)
    hang.set()
    while any(thread.name == "test" for thread in threading.enumerate()):  # noqa: ASYNC110 - a thread has no event
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    del aside
    assert heard == []


RESOLVER = """
import asyncio, socket, sys, time
from anycastle.clock import SystemClock
from anycastle.health.probe import Prober
from anycastle.health.settings import HealthSettings, Probe, TcpCheck

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.77", 53))

async def main():
    targets = {"stuck": TcpCheck(host="www.example.com", port=80), "quick": TcpCheck(host="127.0.0.1", port=1)}
    probes = tuple(
        Probe(site="ams", name=name, check=check, timeout_seconds=0.2, interval_seconds=0.1)
        for name, check in targets.items()
    )
    seen = []
    settings = HealthSettings(member="ams", sites=("ams",), probes=probes)
    prober = Prober(settings, clock=SystemClock(), on_result=seen.append)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prober.run())
        await prober.first_round()
        await asyncio.sleep(1.0)
        running.cancel()
    silent.settimeout(0)
    asked = silent.recv(512)
    assert b"example" in asked
    reasons = {(each.probe, each.reason) for each in seen}
    assert reasons == {("stuck", "no answer within 0.2 s"), ("quick", "connection refused")}, reasons
    assert sum(each.probe == "quick" for each in seen) > 5

asyncio.run(main())
print("ended", time.monotonic(), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for namespaces")
def test_a_resolver_that_never_answers_holds_up_neither_other_probes_nor_the_exit(tmp_path: Path) -> None:
    """The real one, in a network of its own, whose nameserver says nothing: it would try for a minute."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:2\n")
    (tmp_path / "script.py").write_text(RESOLVER)
    mount = f"mount --bind {tmp_path}/resolv.conf $(readlink -f /etc/resolv.conf)"
    line = f"{mount} && ip link set lo up && exec {sys.executable} {tmp_path}/script.py"
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    ended = time.monotonic()
    assert done.returncode == 0, done.stderr
    assert ended - float(done.stdout.split()[1]) < 10.0
