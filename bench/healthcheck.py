"""`exabgp healthcheck`, the program that comes with ExaBGP, beside a router: as its manual says."""

import os
from collections.abc import Sequence
from pathlib import Path

from anycastle.bgp.process import environment, program


def healthcheck(
    folder: Path,
    *,
    check: str,
    route: str,
    own: tuple[str, int],
    router: tuple[str, int],
    hold_seconds: int,
    port: int = 179,
    options: Sequence[str] = (),
) -> list[str]:
    """Writes its configuration and ExaBGP's into the folder; returns the command that starts both.

    `own` and `router` are address and AS; `check` is a shell's command, and `options` are lines of its configuration.
    """
    lines = [f"command = {check}", f"ip = {route}", "no-ip-setup", "withdraw-on-down", "no-syslog", *options]
    (folder / "healthcheck").write_text("\n".join(lines) + "\n")
    (folder / "exabgp.conf").write_text(
        f"process hc {{ run {program()} healthcheck --config {folder / 'healthcheck'}; encoder text; }}\n"
        f"neighbor {router[0]} {{ router-id {own[0]}; local-address {own[0]}; local-as {own[1]}; peer-as {router[1]}; "
        f"hold-time {hold_seconds}; connect {port}; family {{ ipv4 unicast; }} api {{ processes [ hc ]; }} }}\n"
    )
    settings = [f"{name}={value}" for name, value in environment(None).items()]
    path = f"PATH={os.environ.get('PATH', '')}"  # for the check
    return ["env", "-i", path, *settings, str(program()), "server", str(folder / "exabgp.conf")]
