"""What keeps two folders alike: each told to react as soon as it can, else with its own defaults.

Law: everything is below the folder given; processes stay in the foreground, in one session. Written from the manuals:
rsync(1), lsyncd's `default.rsync`, Unison's `repeat = watch`, Syncthing's configuration and command line.
"""

import contextlib
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.packages import find

UNISON_REMARK = "-repeat watch; where there is no unison-fsmonitor, as in Debian 12, -repeat 1"

Prepare = Callable[[Path, Path, Path], list[str]]
"""(own folder, the folder written to, the other one) -> command."""


@dataclass(frozen=True, slots=True)
class System:
    """One replicator."""

    name: str
    needs: tuple[tuple[str, str], ...]
    """(command, Debian package)."""
    prepare: Prepare
    remark: str = ""


def prepare_anycastle(folder: Path, one: Path, other: Path) -> list[str]:
    return [sys.executable, "-m", "bench.replicate_anycastle", str(folder), str(one), str(other)]


def prepare_rsync(folder: Path, one: Path, other: Path) -> list[str]:
    return ["sh", "-c", f"while rsync -a {_slash(one)} {_slash(other)}; [ $? -ne 20 ]; do :; done"]


def prepare_lsyncd(folder: Path, one: Path, other: Path) -> list[str]:
    config = folder / "lsyncd.conf"
    config.write_text(
        f"""settings {{ nodaemon = true, logfile = "{folder}/lsyncd.log", statusFile = "{folder}/status" }}
sync {{ default.rsync, source = "{one}", target = "{other}", delay = 1, rsync = {{ archive = true }} }}
"""
    )
    return ["lsyncd", str(config)]


def prepare_unison(folder: Path, one: Path, other: Path) -> list[str]:
    repeat = "watch" if find("unison-fsmonitor") else "1"
    options = ["-batch", "-auto", "-repeat", repeat, "-times", "-perms", "-1", "-confirmbigdel=false", "-silent"]
    return ["env", f"UNISON={folder}/archives", "unison", str(one), str(other), *options]


def prepare_syncthing(folder: Path, one: Path, other: Path) -> list[str]:
    homes = [folder / "st-one", folder / "st-other"]
    identities = [_syncthing_identity(home) for home in homes]
    ports = free_ports(4)
    for home, own, gui, root in zip(homes, ports[:2], ports[2:], (one, other), strict=True):
        (root / ".stfolder").mkdir()
        (home / "config.xml").write_text(
            _syncthing_config(own, gui, root, dict(zip(identities, ports[:2], strict=True)))
        )
    served = " & ".join(f"syncthing serve --home={shlex.quote(str(home))} --no-browser --no-restart" for home in homes)
    return ["sh", "-c", f"{served} & wait"]


def _syncthing_identity(home: Path) -> str:
    """Makes its certificate; returns the device's name for itself."""
    for command in (["generate", f"--home={home}"], ["serve", f"--home={home}", "--device-id"]):
        done = subprocess.run(["syncthing", *command], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def _syncthing_config(port: int, gui: int, root: Path, devices: dict[str, int]) -> str:
    named = "".join(f'<device id="{name}"/>' for name in devices)
    known = "".join(
        f'<device id="{name}" compression="never"><address>tcp://127.0.0.1:{at}</address></device>'
        for name, at in devices.items()
    )
    return f"""<configuration version="35">
<folder id="bench" path="{root}" type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1">
{named}</folder>{known}
<gui enabled="false"><address>127.0.0.1:{gui}</address></gui>
<options><listenAddress>tcp://127.0.0.1:{port}</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
<localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
<urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH><crashReportingEnabled>false</crashReportingEnabled>
<startBrowser>false</startBrowser><reconnectionIntervalS>1</reconnectionIntervalS></options>
</configuration>
"""


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that are free at this moment."""
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


def _slash(path: Path) -> str:
    return shlex.quote(f"{path}/")


SYSTEMS: tuple[System, ...] = (
    System("anycastle", (), prepare_anycastle),
    System("rsync loop", (("rsync", "rsync"),), prepare_rsync),
    System("lsyncd", (("lsyncd", "lsyncd"), ("rsync", "rsync")), prepare_lsyncd, "delay of 1 s, its least"),
    System("unison", (("unison", "unison"),), prepare_unison, UNISON_REMARK),
    System("syncthing", (("syncthing", "syncthing"),), prepare_syncthing, "watcher delay of 1 s, its least"),
)
