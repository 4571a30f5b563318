"""The speaker against a real router: BIRD's table is the truth, never ExaBGP's."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anycastle.bgp.route import BgpError
from anycastle.bgp.speaker import Speaker
from anycastle.clock import SystemClock
from tests.bgp.router import DEGRADED, DRAINED, NORMAL, Bird, alive, children, eventually, peer, prefix, settings, want

A, B = prefix("a"), prefix("b")


@contextlib.asynccontextmanager
async def running(speaker: Speaker) -> AsyncIterator[Speaker]:
    async with asyncio.TaskGroup() as group:
        group.create_task(speaker.run())
        try:
            yield speaker
        finally:
            await speaker.close()


async def test_announce_change_withdraw(bird: Bird, tmp_path: Path) -> None:
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
        speaker.set_routes(want(a="normal", b="normal"))
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})
        assert speaker.announced() == {A, B}
        speaker.set_routes(want(a="degraded", b="drained"))
        await eventually(lambda: bird.table() == {A: DEGRADED, B: DRAINED})
        speaker.set_routes(want(a="withdrawn", b="normal"))
        await eventually(lambda: bird.table() == {B: NORMAL})
        assert speaker.announced() == {B}


async def test_everything_is_told_again_after_the_router_restarted(bird: Bird, tmp_path: Path) -> None:
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
        speaker.set_routes(want(a="normal", b="degraded"))
        await eventually(lambda: bird.table() == {A: NORMAL, B: DEGRADED})
        bird.stop()
        await eventually(lambda: speaker.status()[0].state != "up")
        assert speaker.announced() == frozenset()
        bird.start()
        await eventually(lambda: bird.table() == {A: NORMAL, B: DEGRADED})
        await eventually(lambda: speaker.announced() == {A, B})
        assert speaker.exabgp_starts == 1


async def test_a_route_withdrawn_while_the_session_was_down_stays_away(bird: Bird, tmp_path: Path) -> None:
    """ExaBGP would send it again on the next session (docs/bgp.md): drained, withdrawn while the router reboots."""
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
        for _ in range(2):
            speaker.set_routes(want(a="normal", b="normal"))
            await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})
            bird.stop()
            await eventually(lambda: speaker.status()[0].state != "up")
            for step in (want(a="drained"), want(a="withdrawn", c="normal"), want(c="normal")):
                speaker.set_routes(step)
                await asyncio.sleep(0.1)  # time to do it wrong: each step told while the session is down
            bird.start()
            await eventually(lambda: speaker.announced() == {prefix("c")} and speaker.settled())
            await eventually(lambda: bird.table() == {prefix("c"): NORMAL})


async def test_a_burst_of_changes_ends_right(bird: Bird, tmp_path: Path) -> None:
    """ExaBGP corrupts pipelined changes of one prefix (docs/bgp.md)."""
    states, expected = ("normal", "degraded", "drained", "withdrawn"), (NORMAL, DEGRADED, DRAINED, None)
    chosen = random.Random(7)
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
        await eventually(lambda: speaker.status()[0].state == "up")
        for _ in range(6):
            picks = dict.fromkeys("abcdefgh", 3)
            for _ in range(25):
                picks = {letter: chosen.randrange(4) for letter in picks}
                speaker.set_routes(want(**{letter: states[pick] for letter, pick in picks.items()}))
                await asyncio.sleep(chosen.choice((0.0, 0.0, 0.002)))
            right = {prefix(letter): expected[pick] for letter, pick in picks.items() if expected[pick] is not None}
            await eventually(lambda right=right: speaker.settled() and bird.table() == right)


@pytest.mark.parametrize("victim", ["exabgp", "bridge"])
async def test_routes_are_right_after_a_kill(victim: str, bird: Bird, tmp_path: Path) -> None:
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
        speaker.set_routes(want(a="normal", b="normal"))
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})
        links, exabgp = speaker.link_starts, speaker.exabgp_pid
        assert exabgp is not None
        bridges = children(exabgp)
        assert len(bridges) == 1
        os.kill(exabgp if victim == "exabgp" else bridges[0], signal.SIGKILL)
        speaker.set_routes(want(a="withdrawn", b="degraded"))
        await eventually(lambda: speaker.link_starts == links + 1)
        await eventually(lambda: speaker.announced() == {B} and bird.table() == {B: DEGRADED})
        assert speaker.exabgp_starts == (2 if victim == "exabgp" else 1)
        await eventually(lambda: not alive(bridges[0]))


@pytest.mark.parametrize("victim", ["exabgp", "bridge"])
async def test_one_that_hangs_is_replaced(
    victim: str, bird: Bird, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung bridge looks like a hung ExaBGP, and ExaBGP itself would hang when its pipe is full."""
    monkeypatch.setattr("anycastle.bgp.link.ANSWER_SECONDS", 0.5)
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
        speaker.set_routes(want(a="normal"))
        await eventually(lambda: bird.table() == {A: NORMAL})
        assert speaker.exabgp_pid is not None
        stopped = speaker.exabgp_pid if victim == "exabgp" else children(speaker.exabgp_pid)[0]
        os.kill(stopped, signal.SIGSTOP)
        speaker.set_routes(want(b="normal"))
        await eventually(lambda: speaker.exabgp_starts == 2 and bird.table() == {B: NORMAL})
        assert speaker.unanswered_commands == (2 if victim == "exabgp" else 1)
        await eventually(lambda: not alive(stopped))


async def test_close_withdraws_and_leaves_nothing_running(bird: Bird, tmp_path: Path) -> None:
    speaker = Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        run = group.create_task(speaker.run())
        speaker.set_routes(want(a="normal"))
        await eventually(lambda: bird.table() == {A: NORMAL})
        exabgp = speaker.exabgp_pid
        assert exabgp is not None
        processes = [exabgp, *children(exabgp)]
        await speaker.close()
    assert run.done()
    assert not any(alive(pid) for pid in processes)
    assert bird.table() == {}
    assert speaker.status()[0].state == "unknown"


async def test_cancelling_run_ends_exabgp(bird: Bird, tmp_path: Path) -> None:
    speaker = Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        run = group.create_task(speaker.run())
        await eventually(lambda: speaker.status()[0].state == "up")
        exabgp = speaker.exabgp_pid
        run.cancel()
    assert exabgp is not None
    assert not alive(exabgp)


async def test_prefixes_ever_announced_are_known_to_the_next_run(bird: Bird, tmp_path: Path) -> None:
    for routes, known in ((want(a="normal"), {A}), (want(b="normal"), {A, B})):
        async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())) as speaker:
            speaker.set_routes(routes)
            await eventually(lambda speaker=speaker: speaker.announced() and speaker.settled())
            status = speaker.status()[0]
            assert {route.prefix for route in status.routes} == known
            assert (status.routes_wanted, status.routes_acknowledged) == (1, 1)
            assert [r.acknowledged for r in status.routes] == ["withdrawn"] * (len(known) - 1) + ["normal"]


async def test_the_status_says_since_when_and_what_is_waited_for(bird: Bird, tmp_path: Path) -> None:
    clock = SystemClock()
    async with running(Speaker(settings(tmp_path / "run", (peer(bird),)), clock=clock)) as speaker:
        speaker.set_routes(want(a="normal", b="normal"))
        await eventually(lambda: speaker.announced() == {A, B})
        first, _ = speaker.status()[0].routes
        assert (first.wanted, first.acknowledged, first.reason, first.waits_for) == ("normal", "normal", "test", "")
        assert first.acknowledged_since is not None
        assert first.since <= first.acknowledged_since <= clock.now()
        speaker.change_routes(want(b="degraded"))
        await eventually(lambda: speaker.status()[0].routes[1].acknowledged == "degraded")
        same, other = speaker.status()[0].routes
        assert same == first
        assert other.since > first.since
        bird.stop()
        await eventually(lambda: speaker.status()[0].state != "up")
        gone = speaker.status()[0].routes[0]
        assert (gone.since, gone.acknowledged, gone.acknowledged_since) == (first.since, "unknown", None)
        assert gone.waits_for == "the session is not up"
        bird.start()
        await eventually(lambda: speaker.announced() == {A, B})
        again = speaker.status()[0].routes[0].acknowledged_since
        assert again is not None
        assert again > first.acknowledged_since, "of this session"


async def test_each_family_has_its_own_session(bird: Bird, tmp_path: Path) -> None:
    six = Bird(tmp_path / "bird6", "::1")
    six.start()
    try:
        where = settings(tmp_path / "run", (peer(bird), peer(six)))
        async with running(Speaker(where, clock=SystemClock())) as speaker:
            speaker.set_routes(want(a="normal", A="degraded"))
            await eventually(lambda: bird.table() == {A: NORMAL})
            await eventually(lambda: six.table() == {prefix("A"): replace(DEGRADED, next_hop="::1")})
            await eventually(lambda: speaker.announced() == {A, prefix("A")})
            assert speaker.conversation.refused_commands == 0
    finally:
        six.stop()


@pytest.mark.parametrize("key", ["secret", "a;b{c}d#e[f],$%"])
async def test_a_session_with_an_md5_key(key: str, tmp_path: Path) -> None:
    router = Bird(tmp_path / "bird", "127.0.0.3", md5=key)
    router.start()
    try:
        async with running(
            Speaker(settings(tmp_path / "run", (peer(router, md5=key),)), clock=SystemClock())
        ) as speaker:
            speaker.set_routes(want(a="normal"))
            await eventually(lambda: router.table() == {A: NORMAL})
        assert (tmp_path / "run" / "exabgp.conf").stat().st_mode & 0o777 == 0o600
    finally:
        router.stop()


async def test_a_site_without_routers_runs_and_announces_nothing(tmp_path: Path) -> None:
    speaker = Speaker(settings(tmp_path / "run", ()), clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        run = group.create_task(speaker.run())
        speaker.set_routes(want(a="normal"))
        await eventually(lambda: (tmp_path / "run" / "lock").exists())
        await speaker.close()
        await run
    assert (speaker.exabgp_starts, speaker.announced(), speaker.status()) == (0, frozenset(), ())


async def test_one_folder_one_speaker(bird: Bird, tmp_path: Path) -> None:
    where = settings(tmp_path / "run", (peer(bird),))
    async with running(Speaker(where, clock=SystemClock())) as first:
        await eventually(lambda: first.exabgp_pid)
        with pytest.raises(BgpError, match="in use by another announcer"):
            await Speaker(where, clock=SystemClock()).run()


@contextlib.contextmanager
def controller(bird: Bird, run_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A controller in a process of its own, and its ExaBGP's process id."""
    command = [sys.executable, "-m", "tests.bgp.controller", run_dir, str(bird.address), str(bird.port), A, B]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


async def test_a_hung_controller_loses_content_routes_but_not_nameservers(bird: Bird, tmp_path: Path) -> None:
    with controller(bird, tmp_path / "run") as (process, exabgp):
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})
        process.send_signal(signal.SIGSTOP)
        await eventually(lambda: bird.table() == {B: NORMAL})
        # Nor does it come back with a new session while nobody is in charge.
        bird.stop()
        bird.start()
        await eventually(lambda: bird.table() == {B: NORMAL})
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})
        assert alive(exabgp)


async def test_a_killed_controller_takes_its_routes_with_it(bird: Bird, tmp_path: Path) -> None:
    with controller(bird, tmp_path / "run") as (process, exabgp):
        await eventually(lambda: bird.table() == {A: NORMAL, B: NORMAL})
        bridges = children(exabgp)
        process.kill()
        await eventually(lambda: bird.table() == {})
        await eventually(lambda: not any(alive(pid) for pid in (exabgp, *bridges)))
