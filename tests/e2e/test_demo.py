"""The demo plays its whole story in a process of its own: every fact true, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORY_SECONDS_MAX = 300


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
