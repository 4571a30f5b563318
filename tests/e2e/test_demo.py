"""The demo's story is true and leaves nothing behind; and many users at its three sites see nothing old.

Law: whoever uses the demo's addresses and ports, which are fixed, is in this file: its tests run one after the other.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples.demo.cluster import SITES, Answer, Cluster, cluster
from examples.demo.story import Story

ROOT = Path(__file__).parents[2]
STORY_SECONDS_MAX = 300
USERS_SECONDS = 8.0
PHOTOS = 10
READERS = 12
CUSTOMERS = 3


def processes_below(folder: Path) -> dict[int, str]:
    """Process id -> command line of those whose command names the folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command:
            found[int(process.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace")
    return found


@pytest.mark.timeout(STORY_SECONDS_MAX + 30)
def test_the_story_is_true_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w+") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "examples.demo.story", "--once"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = demo.wait(STORY_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            demo.send_signal(signal.SIGINT)  # as Ctrl-C: it ends all that it started
            status = demo.wait(25)
        finally:
            demo.kill()
            left = processes_below(tmp_path)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        output.seek(0)
        told = output.read()
    assert status == 0, told
    assert "facts observed, all true" in told.splitlines()[-1], told
    assert not left
    assert not list(tmp_path.glob("anycastle-demo-*"))


@dataclass
class History:
    """Each photo has one writer, who counts its versions; so what a reader may see is plain."""

    random: random.Random
    least: Counter[int] = field(default_factory=Counter)
    """Photo -> the version that somebody was told of, or has seen: nobody may see less from then on."""
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def judge(self, photo: int, site: str, least: int, got: Answer) -> None:
        """`least` was known before the request began."""
        self.answers[f"read {got.status}"] += 1
        if got.status == 404 and least:
            self.wrong.append(f"photo {photo} version {least} is missing at {site}")
        if got.status != 200:
            return
        number, _, rest = got.body.partition(b":")
        if not rest.endswith(b"end"):
            self.wrong.append(f"photo {photo} at {site} is half a file of {len(got.body)} bytes")
            return
        if int(number) < least:
            self.wrong.append(f"photo {photo} at {site} is version {int(number)}, after {least} was seen")
        self.least[photo] = max(self.least[photo], int(number))


async def write(running: Cluster, history: History, photo: int, until: float) -> None:
    version = 0
    while asyncio.get_running_loop().time() < until:
        version += 1
        body = b"%d:" % version + b"x" * history.random.choice((10, 3_000, 100_000)) + b"end"
        site = history.random.choice(list(SITES))
        answer = await running.upload(site, f"customer{photo % CUSTOMERS}", f"{photo}.jpg", body)
        history.answers[f"write {answer.status}"] += 1
        if answer.status == 201:
            history.least[photo] = max(history.least[photo], version)


async def read(running: Cluster, history: History, until: float) -> None:
    while asyncio.get_running_loop().time() < until:
        photo, site = history.random.randrange(PHOTOS), history.random.choice(list(SITES))
        least = history.least[photo]
        got = await running.get(site, f"customer{photo % CUSTOMERS}", f"{photo}.jpg")
        history.judge(photo, site, least, got)


@pytest.mark.timeout(180)
async def test_nobody_sees_old_missing_or_half_content(tmp_path: Path) -> None:
    history = History(random.Random(7))
    async with cluster(tmp_path) as running:
        story = Story(running)
        await story.until(story.ready, "all sites are ready", seconds=60)
        until = asyncio.get_running_loop().time() + USERS_SECONDS
        async with asyncio.TaskGroup() as users:
            for photo in range(PHOTOS):
                users.create_task(write(running, history, photo, until))
            for _ in range(READERS):
                users.create_task(read(running, history, until))
        assert history.wrong == []
        assert history.answers["write 201"] > PHOTOS, history.answers
        assert history.answers["read 200"] > READERS, history.answers
        refused = history.answers["read 503"] + history.answers["write 503"]
        assert refused <= sum(history.answers.values()) * 0.05, history.answers
        for site in SITES:
            assert (await running.command(site, "conflicts"))["conflicts"] == [], "one writer, so no conflict"
