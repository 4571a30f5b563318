"""What keeps two folders alike: each told to react as soon as it can, else with its own defaults.

Law: everything is below the folder given; processes stay in the foreground, in one session. Written from the manuals:
rsync(1), lsyncd's `default.rsync`, Unison's `repeat = watch`, Syncthing's configuration and command line.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    options = ["-batch", "-auto", "-repeat", "watch", "-times", "-perms", "-1", "-confirmbigdel=false", "-silent"]
    return ["env", f"UNISON={folder}/archives", "unison", str(one), str(other), *options]


def _slash(path: Path) -> str:
    return shlex.quote(f"{path}/")


SYSTEMS: tuple[System, ...] = (
    System("anycastle", (), prepare_anycastle),
    System("rsync loop", (("rsync", "rsync"),), prepare_rsync),
    System("lsyncd", (("lsyncd", "lsyncd"), ("rsync", "rsync")), prepare_lsyncd, "delay of 1 s, its least"),
    System("unison", (("unison", "unison"),), prepare_unison, "-repeat watch"),
)
