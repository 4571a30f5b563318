"""What systemd hears of a member: over a real socket, from a real member, and what its own tools say of the unit."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.notify import Notifier
from tests.anycastle.members import ADDRESS, Members, descendants, prepared, until

UNIT = Path(__file__).parents[2] / "packaging" / "systemd"
EXPOSURE_MAX = 30
"""In tenths; 96 is a service without any protection."""


@contextlib.contextmanager
def listening(name: str | Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name[1:] if isinstance(name, str) else str(name))
        heard.settimeout(40)
        yield heard


def lines(heard: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in heard.recv(4096).decode().split("\n"))


def after_watchdogs(heard: socket.socket) -> dict[str, str]:
    while "WATCHDOG" in (found := lines(heard)):
        pass
    return found


def test_a_member_tells_all_its_states(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as heard, prepared("ams") as made:
        made.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        made.start_applications()
        made.start("ams")
        assert lines(heard) == {"READY": "1", "STATUS": "member ams serves"}
        assert made.lookup("www.example.com") == ["192.0.2.80"], "users are served by then"
        assert [lines(heard) for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
        made.processes["ams"].send_signal(signal.SIGHUP)
        reloading = after_watchdogs(heard)
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert after_watchdogs(heard) == {"READY": "1", "STATUS": "member ams serves"}
        (made.folder / "zone").write_text("broken\n")
        made.processes["ams"].send_signal(signal.SIGHUP)
        assert after_watchdogs(heard)["STATUS"] == "reloading"
        assert after_watchdogs(heard)["STATUS"].startswith("the last reload was refused: ")
        made.processes["ams"].send_signal(signal.SIGTERM)
        assert after_watchdogs(heard) == {"STOPPING": "1", "STATUS": "stopping"}
        assert made.processes["ams"].wait(30) == 0


def test_a_member_that_hangs_does_not_feed_the_watchdog(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as heard, prepared("ams") as made:
        made.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        made.start_applications()
        made.start("ams")
        assert lines(heard)["READY"] == "1"
        made.processes["ams"].send_signal(signal.SIGSTOP)
        heard.settimeout(1.0)
        assert silent_after(heard, at_most=20)
        made.processes["ams"].send_signal(signal.SIGCONT)
        assert lines(heard) == {"WATCHDOG": "1"}


def silent_after(heard: socket.socket, *, at_most: int) -> bool:
    """Nothing is said for as long as the socket waits, once what was said before is read."""
    for _ in range(at_most):
        try:
            lines(heard)
        except TimeoutError:
            return True
    return False


def test_abstract_sockets_and_none() -> None:
    name = f"@anycastle-{os.getpid()}"
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    with listening(name) as heard:
        notifier = Notifier(environment)
        notifier.stopping()
        assert lines(heard)["STOPPING"] == "1"
    assert environment == {}, "children do not speak for us"
    assert notifier.watchdog_seconds == 0, "it is another process's"
    notifier.ready("nobody listens any more")
    silent = Notifier({"WATCHDOG_USEC": "1000000"})
    silent.ready("nobody wants to know")
    asyncio.run(silent.watch())


CAPABILITIES = "net_bind_service,sys_admin,dac_read_search"
NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_without_root_it_replicates_by_fanotify_and_serves_on_port_53() -> None:
    with prepared("ams", "nyc") as made:
        as_nobody(made)
        made.change(
            f'dns = {{ listen = ["{ADDRESS}:{made.sites["ams"].dns}"] }}', f'dns = {{ listen = ["{ADDRESS}:53"] }}'
        )
        made.sites["ams"].dns = 53
        made.start_applications()
        for site in made.sites:
            made.start(site)
        made.ready()
        made.settled()
        status = Path(f"/proc/{made.processes['ams'].pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{NOBODY}\s+{NOBODY}\s+{NOBODY}\s", status, re.MULTILINE)
        assert caps(made.processes["ams"].pid) == 1 << 10 | 1 << 21 | 1 << 2
        assert all(caps(child) == 0 for child in descendants(made.processes["ams"].pid)), "nameservers keep none"
        assert made.lookup("www.example.com") == ["192.0.2.80"]
        assert "changes are seen by" not in made.run("status").out, "neither inotify nor scans"
        (made.root("ams") / "alice").mkdir()
        (made.root("ams") / "alice" / "a.jpg").write_bytes(b"seen by fanotify")
        os.chown(made.root("ams") / "alice", NOBODY, NOBODY)
        landed = made.root("nyc") / "alice" / "a.jpg"
        until(landed.exists, "the file lands at nyc", 20)
        assert landed.read_bytes() == b"seen by fanotify"
        assert landed.stat().st_uid == NOBODY


def as_nobody(made: Members) -> None:
    rights = ",".join(f"+{each}" for each in CAPABILITIES.split(","))
    bounds = f"--bounding-set=-all,{rights}"
    account = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
    made.before = ("setpriv", *account, f"--inh-caps=-all,{rights}", f"--ambient-caps=-all,{rights}", bounds)
    for path in (made.folder, *made.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


def caps(process: int) -> int:
    """Effective capabilities."""
    found = re.search(r"^CapEff:\s+(\w+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1], 16)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """As it is installed, but for the program, which is somewhere else here."""
    made = tmp_path / "anycastle@.service"
    made.write_text((UNIT / "anycastle@.service").read_text().replace("/opt/anycastle/bin/anycastle", "/bin/true"))
    return made


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("extra", ["", *sorted(file.name for file in (UNIT / "anycastle@.service.d").iterdir())])
def test_the_unit_is_what_systemd_takes(unit: Path, extra: str) -> None:
    if extra:
        (unit.parent / "anycastle@.service.d").mkdir()
        shutil.copy(UNIT / "anycastle@.service.d" / extra, unit.parent / "anycastle@.service.d")
    done = analyze("verify", "--man=no", str(unit.parent / "anycastle@ams.service"), folder=unit.parent)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "anycastle" in line]) == (0, [])


def analyze(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    command = ["systemd-analyze", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_hardened(unit: Path) -> None:
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit), folder=unit.parent)
    assert done.returncode == 0, done.stdout + done.stderr
