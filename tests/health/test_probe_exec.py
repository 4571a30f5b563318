"""The exec probe with real programs: what it says, and that nothing of it is left."""

import os
import sys
from pathlib import Path

import pytest

from anycastle.health.probe_exec import OUTPUT_BYTES_MAX
from anycastle.health.settings import ExecCheck
from tests.health.probing import look, patience, probe, probing, until


def shell(script: str) -> ExecCheck:
    return ExecCheck(arguments=("/bin/sh", "-c", script))


@pytest.mark.parametrize(
    ("script", "ok", "reason"),
    [
        ("echo fine", True, "exit status 0"),
        ("exit 3", False, "exit status 3"),
        ("echo one; echo two >&2; echo; exit 2", False, "exit status 2: two"),
        ("kill -SEGV $$", False, "ended by SIGSEGV"),
        (r"printf 'a\033[31m\000b\n'; exit 1", False, "exit status 1: a [31m b"),
        ("cat; echo end of input; exit 1", False, "exit status 1: end of input"),
        ("exec sleep 60", False, "no answer within 0.5 s"),
        ("yes", False, "no answer within 0.5 s"),
    ],
)
async def test_programs(script: str, ok: bool, reason: str) -> None:
    assert await look(shell(script), timeout_seconds=patience(reason)) == (ok, reason)


async def test_a_program_that_is_not_there() -> None:
    assert await look(ExecCheck(arguments=("/nowhere/program",))) == (False, "no such file or directory")


async def test_no_shell_reads_the_arguments() -> None:
    check = ExecCheck(arguments=("/bin/sh", "-c", "[ \"$1\" = '$(id) *' ]", "sh", "$(id) *"))
    assert await look(check) == (True, "exit status 0")


async def test_the_environment_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    check = ExecCheck(
        arguments=("/bin/sh", "-c", "env | cut -d= -f1 | sort | xargs; exit 1"), environment=(("A", "b"),)
    )
    _, why = await look(check)
    assert why == "exit status 1: A ANYCASTLE_MEMBER ANYCASTLE_SITE LANG PATH PWD"
    check = ExecCheck(arguments=("/bin/sh", "-c", "echo $ANYCASTLE_SITE at $ANYCASTLE_MEMBER in $PWD $A; exit 1"))
    assert await look(check) == (False, "exit status 1: ams at ams in /")


async def test_output_without_end_is_read_and_not_kept() -> None:
    script = f"print('x' * {50 * OUTPUT_BYTES_MAX}, flush=True); raise SystemExit(7)"
    found, why = await look(ExecCheck(arguments=(sys.executable, "-c", script)), timeout_seconds=5.0)
    assert not found
    assert why.startswith("exit status 7: xxxx")
    assert len(why) <= 220


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def zombies() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [child for child in children if state(int(child)) == "Z"]


def alive(file: Path) -> bool:
    """Whether the process whose number stands in the file runs; zombies do not."""
    try:
        return state(int(file.read_text())) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("end", ["exec sleep 60", "exit 0"])
async def test_the_whole_group_ends_with_it(tmp_path: Path, end: str) -> None:
    """The child of a program that hangs, and what a program left behind, with its output still open."""
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}.new; mv {child}.new {child}; {end}"
    found, why = await look(shell(script), timeout_seconds=1.0)
    assert (found, why) == ((True, "exit status 0") if end == "exit 0" else (False, "no answer within 1 s"))
    await until(lambda: not alive(child))


async def test_nothing_is_left_when_the_prober_ends(tmp_path: Path) -> None:
    child = tmp_path / "child"
    marked = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; exit 0; }}; echo $$ > {child}; exec sleep 60"
    async with probing(probe(shell(marked), timeout_seconds=30.0)):
        await until(lambda: child.exists() and child.read_text() != "" and alive(child))
    await until(lambda: not alive(child))


async def test_many_rounds_leave_no_descriptors_and_no_zombies() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with probing(probe(shell("exit 0"), interval_seconds=0.001)) as results:
        await until(lambda: len(results) > 30)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    await until(lambda: not zombies())
