"""ExaBGP's ten faults that shaped bgp/ (docs/bgp.md, "Why we are so careful with ExaBGP"), a test named for each.

A test here shows the fault in the ExaBGP that is installed, by raw commands and at BIRD's table, so that an ExaBGP that
lost it is noticed; where it says so, also that we do not fall for it. What keeps us from it is tested here:

    1  a withdrawn prefix comes back on reconnect  test_speaker.py: a_route_withdrawn_while_the_session_was_down…,
                                                   test_reconcile.py: after_any_history…
    2  pipelined changes of one prefix corrupt     test_speaker.py: a_burst_of_changes_ends_right
    3  commands are found by substring             test_exabgp.py: a_dangerous_word…; drained routes have 65535:0 in
                                                   test_namespaces.py: every_attribute…
    4  the word json ends ExaBGP                   test_exabgp.py: a_dangerous_word…
    5  six deaths of the child end ExaBGP          below, with our speaker
    6  a child that does not read stops ExaBGP     below, with our bridge; test_bridge.py: exabgp_never_waits…
    7  SIGTERM sends no NOTIFICATION               below, with our speaker; test_speaker.py: close_withdraws…
    8  End-of-RIB comes too soon after a restart   below: we never negotiate graceful restart
    9  "self" of the other family is an error      test_speaker.py: each_family_has_its_own_session
    10 the exit status of its CLI means nothing    below: answers are read as text
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.bgp import bridge as bridge_module
from anycastle.bgp import exabgp
from anycastle.bgp.process import ExabgpProcess, environment, program
from anycastle.bgp.speaker import Speaker
from anycastle.clock import SystemClock
from tests.bgp.router import NORMAL, Bird, children, eventually, peer, prefix, settings, want

A = prefix("a")
SECONDS = 15.0


class Raw:
    """An ExaBGP that is told whatever the test likes, through our bridge."""

    def __init__(self, bird: Bird, folder: Path, families: str = "ipv4 unicast;") -> None:
        self.name = f"neighbor {bird.address}"
        folder.mkdir()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / "ctl"))
        self._listener.listen(1)
        self._listener.settimeout(SECONDS)
        child = (sys.executable, "-I", bridge_module.__file__, folder / "ctl", folder / "withdraws", "3600")
        text = exabgp.configuration(settings(folder, (peer(bird),)), child)
        (folder / "conf").write_text(text.replace("ipv4 unicast;", families))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [program(), "server", folder / "conf"], stdout=log, stderr=log, env=environment(None)
            )
        self.meet()

    def meet(self) -> None:
        """The bridge's connection, the next one if there was one."""
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(SECONDS)
        self._lines = self.connection.makefile("rb")

    def hang_up(self) -> None:
        self._lines.close()
        self.connection.close()

    def say(self, *lines: str) -> None:
        self.connection.sendall("".join(line + "\n" for line in lines).encode())

    def tell(self, line: str) -> str:
        """The answer: done or error."""
        self.say(line)
        for answer in self._lines:
            if answer.strip() in (b"done", b"error"):
                return answer.strip().decode()
        return "gone"

    def wait_for(self, words: bytes) -> None:
        """Reads on to a line that has them."""
        for line in self._lines:
            if words in line:
                return

    def ended(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS)
        return self.process.returncode is not None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()
        self._listener.close()


@pytest.fixture
def raw(bird: Bird, tmp_path: Path) -> Iterator[Raw]:
    opened = Raw(bird, tmp_path / "raw")
    yield opened
    opened.close()


@contextlib.asynccontextmanager
async def running(bird: Bird, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Our speaker, with one route at the router."""
    speaker = Speaker(settings(tmp_path / "run", (peer(bird),)), clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        group.create_task(speaker.run())
        speaker.set_routes(want(a="normal"))
        await eventually(lambda: bird.table() == {A: NORMAL})
        try:
            yield speaker
        finally:
            await speaker.close()


def route(verb: str, more: str = "") -> str:
    return f"{verb} route {A} next-hop self{more}"


async def test_1_a_withdrawn_prefix_comes_back_on_reconnect(raw: Raw, bird: Bird) -> None:
    """As when routes change and are withdrawn while the router restarts: of some dozens one or another returns."""
    chosen = random.Random(7)
    prefixes = [f"198.51.{number}.0/24" for number in range(40)]

    def change(one: str) -> None:
        med = chosen.choice((100, 500, 1000))
        assert raw.tell(f"{raw.name} announce route {one} next-hop self med {med}") == "done"

    for _ in range(3):
        await eventually(lambda: "Established" in bird.session())
        for each in prefixes * 3:
            change(each)
        bird.stop()
        raw.wait_for(b'"state": "down"')
        for each in prefixes:
            for _ in range(chosen.randrange(1, 4)):
                change(each)
            assert raw.tell(f"{raw.name} withdraw route {each} next-hop self") == "done"
        bird.start()
        with contextlib.suppress(AssertionError):
            await eventually(lambda: bird.table().keys() & set(prefixes), 10.0)
            return
    pytest.fail("nothing came back: all that is told again after each up may be more care than is needed now")


async def test_2_pipelined_changes_of_one_prefix_corrupt_what_the_router_has(raw: Raw, bird: Bird) -> None:
    await eventually(lambda: "Established" in bird.session())
    for med in range(1, 30):
        line = f"{raw.name} {route('announce', f' med {med}')}"
        raw.say(line, f"{raw.name} {route('withdraw')}", line)
        for _ in range(2):
            raw.tell(f"{raw.name} withdraw route 192.0.2.0/24 next-hop self")
        with contextlib.suppress(AssertionError):
            await eventually(lambda: A in bird.table(), 1.0)
            continue
        return  # announced last, and the router has nothing
    pytest.fail("ExaBGP kept up: a change at a time may be more care than is needed now")


@pytest.mark.parametrize(
    "line", [route("announce", " community [graceful-shutdown]"), route("announce", " name shutdown")]
)
def test_3_a_word_within_a_line_shuts_it_down(line: str, raw: Raw) -> None:
    raw.say(f"{raw.name} {line}")
    assert raw.ended()


def test_4_the_word_json_ends_it(raw: Raw) -> None:
    raw.say("version json")
    assert raw.ended()


async def test_5_six_deaths_of_its_child_end_it_and_we_start_another(bird: Bird, tmp_path: Path) -> None:
    async with running(bird, tmp_path) as speaker:
        first = speaker.exabgp_pid
        for _ in range(12):
            if speaker.exabgp_pid != first:
                break
            links = speaker.link_starts
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                for child in children(first):
                    os.kill(child, signal.SIGKILL)
            await eventually(lambda links=links: speaker.link_starts > links or speaker.exabgp_pid != first)
        await eventually(lambda: speaker.exabgp_starts == 2 and bird.table() == {A: NORMAL}, 30.0)


def test_6_a_controller_that_does_not_read_does_not_stop_it(raw: Raw) -> None:
    """Its own child must always read; ours does, and lets the controller go that does not."""
    lines = [f"{raw.name} {route('withdraw')}"] * 1000
    began, sent = time.monotonic(), 0
    with contextlib.suppress(OSError):
        while sent < 14:  # 13,100 unread answers stopped ExaBGP
            raw.say(*lines)
            sent += 1
    assert time.monotonic() - began < SECONDS * 4
    raw.hang_up()
    raw.meet()
    raw.connection.settimeout(90.0)  # what was said stands in line before it
    assert raw.tell("show neighbor summary json") == "done"


async def test_7_it_ends_without_a_word_so_we_withdraw_first(
    raw: Raw, bird: Bird, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await eventually(lambda: "Established" in bird.session())
    raw.process.terminate()
    await eventually(lambda: "Established" not in bird.session())
    assert "Received: " not in bird.session(), "a NOTIFICATION would stand there"
    tables, end = [], ExabgpProcess._end

    async def watched(process: ExabgpProcess, child: asyncio.subprocess.Process) -> None:
        tables.append(("Established" in bird.session(), bird.table()))
        await end(process, child)

    monkeypatch.setattr(ExabgpProcess, "_end", watched)
    async with running(bird, tmp_path):
        pass
    assert tables == [(True, {})], "withdrawn by an UPDATE, while the session was up"


async def test_8_graceful_restart_is_never_negotiated(bird: Bird, tmp_path: Path) -> None:
    async with running(bird, tmp_path):
        shown = bird.session()
        assert "Neighbor capabilities" in shown
        assert "Graceful restart" not in shown.partition("Neighbor capabilities")[2].partition("Session:")[0]


def test_9_self_of_the_other_family_is_an_error(bird: Bird, tmp_path: Path) -> None:
    with contextlib.closing(Raw(bird, tmp_path / "raw", "ipv4 unicast; ipv6 unicast;")) as raw:
        assert raw.tell(f"{raw.name} {route('announce')}") == "done"
        assert raw.tell(f"{raw.name} announce route 2001:db8::/48 next-hop self") == "error"


def test_10_what_it_answers_is_read_as_text(raw: Raw) -> None:
    nobody = route("announce")
    assert raw.tell(f"neighbor 192.0.2.77 {nobody}") == "error"
    assert exabgp.parse("error") == exabgp.Reply(False)
