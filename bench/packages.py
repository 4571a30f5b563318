"""The peers come from Debian. As root they are installed, with no service started; otherwise the command is printed.

Law: what is missing is named and left out of the table, never silently.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks it before starting a service; 101 is "do not"."""
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(command: str) -> str | None:
    """A program or, with a slash at the start, a file."""
    if command.startswith("/"):
        return next((str(path) for path in Path("/").glob(command[1:])), None)
    return shutil.which(command, path=SEARCHED)


def provide(needs: Iterable[tuple[str, str]]) -> None:
    """Sees to (command, package) pairs as far as it may."""
    missing = sorted({package for command, package in needs if find(command) is None})
    if not missing:
        return
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() or not Path("/etc/debian_version").exists():
        print(f"bench: these are missing and left out; install them with: sudo {' '.join(install)}", file=sys.stderr)
        return
    print(f"bench: installing {' '.join(missing)}", file=sys.stderr)
    policy_is_ours = not POLICY.exists()
    if policy_is_ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    finally:
        if policy_is_ours:
            POLICY.unlink()


def from_pypi(release: str, command: str) -> Path | None:
    """A program of a Python package at one version, in an environment of its own below .venv; None where that fails."""
    folder = Path(sys.prefix) / "share" / "bench" / release
    program = folder / "bin" / command
    if not program.exists():
        print(f"bench: installing {release} from PyPI", file=sys.stderr)
        for line in ([sys.executable, "-m", "venv", str(folder)], [str(folder / "bin/pip"), "-q", "install", release]):
            if subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
                print(f"bench: {release} cannot be installed, and is left out", file=sys.stderr)
                return None
    return program
