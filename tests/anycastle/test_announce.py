"""`anycastle announce` as it is run: a process of its own, a real ExaBGP, and BIRD's table."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from anycastle.bgp.process import environment, program
from tests.bgp.router import DEGRADED, DRAINED, NORMAL, OWN_AS, ROUTER_AS, Bird, children, eventually

A, B = "198.51.97.1/32", "198.51.98.0/24"
ROOT = Path(__file__).resolve().parents[2]
ANYCASTLE = (sys.executable, "-m", "anycastle.cli")


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Bird]:
    router = Bird(tmp_path / "bird", "127.0.0.2")
    router.start()
    yield router
    router.stop()


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Path
    alive: Path
    """The service is well while it exists."""
    disabled: Path

    def said(self) -> str:
        return self.log.read_text()


@contextlib.contextmanager
def under_test(tmp_path: Path, command: Callable[[tuple[str, ...]], list[str]]) -> Iterator[Running]:
    """`command` makes a command line of the flags that both ways to run share."""
    alive, disabled, log = tmp_path / "alive", tmp_path / "disabled", tmp_path / "log"
    alive.touch()
    flags = (
        *("--command", f"test -e {alive}", "--interval", "50ms", "--timeout", "5s", "--rise", "1", "--fall", "1"),
        *("--route", A, "--route", B, "--allow-private", "--disable", str(disabled)),
        *("--hold-down", "0s", "--drain", "1s"),
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(flags), cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment(None)}
        )
    try:
        yield Running(process, log, alive, disabled)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


@contextlib.contextmanager
def on_its_own(bird: Bird, tmp_path: Path, *more: str) -> Iterator[Running]:
    peer = f"{bird.address},as={ROUTER_AS},port={bird.port}"
    own = ("--router-id", "127.0.0.1", "--local-as", str(OWN_AS), "--peer", peer, "--state-dir", str(tmp_path / "run"))
    with under_test(tmp_path, lambda flags: [*ANYCASTLE, "announce", *flags, *own, *more]) as running:
        yield running


@contextlib.contextmanager
def as_process(bird: Bird, tmp_path: Path, *, encoder: str = "json", api: str = "") -> Iterator[Running]:
    """Under an ExaBGP that is configured as for `exabgp healthcheck`."""

    def command(flags: tuple[str, ...]) -> list[str]:
        start = tmp_path / "start.sh"
        quoted = " ".join(f"'{word}'" for word in (*ANYCASTLE, "announce", "--as-process", *flags))
        start.write_text(f"#!/bin/sh\ncd {ROOT} && PYTHONPATH={os.environ.get('PYTHONPATH', '')} exec {quoted}\n")
        start.chmod(0o755)
        (tmp_path / "exabgp.conf").write_text(
            f"process hc {{ run {start}; encoder {encoder}; }}\n"
            f"neighbor {bird.address} {{ router-id 127.0.0.1; local-address 127.0.0.1; local-as {OWN_AS}; "
            f"peer-as {ROUTER_AS}; hold-time 9; connect {bird.port}; family {{ ipv4 unicast; }} "
            f"api {{ processes [ hc ]; {api} }} }}\n"
        )
        return [str(program()), "server", str(tmp_path / "exabgp.conf")]

    with under_test(tmp_path, command) as running:
        yield running


WAYS: list[Callable[[Bird, Path], contextlib.AbstractContextManager[Running]]] = [
    on_its_own,
    lambda bird, tmp_path: as_process(bird, tmp_path, api="neighbor-changes;"),
    lambda bird, tmp_path: as_process(bird, tmp_path, encoder="text"),
]


@pytest.mark.parametrize("way", WAYS, ids=["on its own", "as a process", "as a process, as of old"])
async def test_the_route_follows_the_service(
    way: Callable[[Bird, Path], contextlib.AbstractContextManager[Running]], bird: Bird, tmp_path: Path
) -> None:
    both = {A: NORMAL, B: NORMAL}
    with way(bird, tmp_path) as running:
        await eventually(lambda: bird.table() == both, 30.0)
        running.alive.unlink()
        await eventually(lambda: bird.table() == {})
        running.alive.touch()
        await eventually(lambda: bird.table() == both)
        running.disabled.touch()
        await eventually(lambda: bird.table() == {A: DRAINED, B: DRAINED})
        await eventually(lambda: bird.table() == {})
        running.disabled.unlink()
        await eventually(lambda: bird.table() == both)
        # The router restarts while the service is down: nothing comes back with the session.
        bird.stop()
        running.alive.unlink()
        await eventually(lambda: running.said().count("service is down") == 2)
        bird.start()
        running.alive.touch()
        await eventually(lambda: bird.table() == both, 40.0)
        running.process.send_signal(signal.SIGTERM)
        await eventually(lambda: running.process.poll() is not None)
        assert bird.table() == {}


async def test_one_that_may_be_the_last_stays_with_other_attributes(bird: Bird, tmp_path: Path) -> None:
    with on_its_own(bird, tmp_path, "--on-down", "degrade") as running:
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL}, 30.0)
        running.alive.unlink()
        await eventually(lambda: bird.table() == {A: DEGRADED, B: DEGRADED})


async def test_a_service_that_is_down_from_the_start_is_never_announced(bird: Bird, tmp_path: Path) -> None:
    with on_its_own(bird, tmp_path) as running:
        running.alive.unlink()
        await eventually(lambda: "service is down" in running.said(), 30.0)
        await eventually(lambda: "is up" in running.said())
        assert bird.table() == {}


async def test_killed_and_started_again_by_exabgp_it_knows_the_state(bird: Bird, tmp_path: Path) -> None:
    """Where `exabgp healthcheck` begins anew and leaves the route of a dead service for `fall` more checks."""
    with as_process(bird, tmp_path, api="neighbor-changes;") as running:
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL}, 30.0)
        (child,) = children(running.process.pid)
        running.alive.unlink()
        os.kill(child, signal.SIGKILL)
        await eventually(lambda: bird.table() == {}, 30.0)
        running.alive.touch()
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})


async def test_an_exabgp_that_does_not_answer_is_not_left(bird: Bird, tmp_path: Path) -> None:
    """Six ends of a process in a minute end ExaBGP: so it says what is wrong, and stays."""
    settings = environment(None) | {"exabgp_api_ack": "false"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "environment", lambda owner: settings)
        with as_process(bird, tmp_path) as running:
            await eventually(lambda: "expected exabgp.api.ack = true" in running.said(), 30.0)
            assert running.process.poll() is None
            assert len(children(running.process.pid)) == 1
