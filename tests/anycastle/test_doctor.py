"""`anycastle doctor` against real defects: a taken port, a foreign certificate, a full disk, a missing right."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator import pki
from tests.anycastle.members import ADDRESS, Members, anycastle, prepared, until

Found = dict[str, list[dict[str, str]]]


@pytest.fixture
def two() -> Iterator[Members]:
    with prepared("ams", "nyc") as made:
        yield made


def examined(made: Members, *, level: str = "") -> list[tuple[str, str, str]]:
    """(level, what, text) of what concerns neither this machine's clock nor its kernel."""
    done = anycastle("doctor", "--config", made.config, "--site", "ams", "--json")
    found: list[dict[str, str]] = done.json["findings"]
    levels = {each["level"] for each in found}
    assert done.status == (2 if "fault" in levels else 1 if "warning" in levels else 0)
    assert all(each["do"] for each in found if each["level"] != "ok"), "each says what to do"
    return [(each["level"], each["what"], each["text"]) for each in found if level in ("", each["level"])]


def faults(made: Members) -> list[tuple[str, str]]:
    return [(what, text) for _, what, text in examined(made, level="fault")]


def test_before_the_first_start(two: Members) -> None:
    assert faults(two) == []
    warned = {what: text for level, what, text in examined(two) if level == "warning"}
    assert warned["roster"] == "2 members: the loss of either stops both"
    assert warned["peer nyc"].endswith("cannot be reached: Connection refused")
    shown = anycastle("doctor", "--config", two.config, "--site", "ams").out
    assert re.search(r"^ok       dns: UDP \S+ is free$", shown, re.MULTILINE)
    assert re.search(r"^warning  roster: .*\n         do: add a witness", shown, re.MULTILINE)
    assert not (two.folder / "state").exists(), "nothing is made"


def test_a_configuration_that_is_wrong(two: Members) -> None:
    two.change('hosts = ["*.photos', 'hots = ["*.photos')
    assert ("configuration", True) in [
        (what, "unknown key; did you mean 'hosts'" in text) for what, text in faults(two)
    ]


def test_ports_that_cannot_be_had(two: Members) -> None:
    site = two.sites["ams"]
    with socket.create_server((ADDRESS, site.edge)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((ADDRESS, site.dns))
        assert faults(two) == [
            ("dns", f"UDP {ADDRESS}:{site.dns} cannot be had: Address already in use"),
            ("edge", f"TCP {ADDRESS}:{site.edge} cannot be had: Address already in use"),
        ]
    two.change(f'edge = {{ listen = ["{ADDRESS}:{site.edge}"]', 'edge = { listen = ["192.0.2.77:8080"]')
    assert faults(two) == [("edge", "TCP 192.0.2.77:8080 cannot be had: Cannot assign requested address")]


def test_a_member_that_runs_and_its_neighbour(two: Members) -> None:
    two.start_applications()
    for name in two.sites:
        two.start(name)
    two.ready()
    two.settled()
    found = examined(two)
    assert ("ok", "ports", "ams runs, and has its own") in found
    assert [(level, text.partition(" ")[2]) for level, what, text in found if what == "peer nyc"] == [
        ("ok", "answers, and shows its certificate")
    ]
    assert [each for each in found if each[0] == "fault"] == []
    assert two.run("sites").status == 0, "and goes on"


def test_a_neighbour_that_is_another(two: Members) -> None:
    two.start_applications()
    two.start("nyc")
    until((two.folder / "state" / "nyc" / "control.sock").exists, "nyc listens")
    shutil.rmtree(two.folder / "pki")
    pki.init(two.folder / "pki")
    pki.issue(two.folder / "pki", "ams")
    ((what, text),) = faults(two)
    assert what == "peer nyc"
    assert "answers, but not as nyc: " in text


def test_keys_and_tokens_that_everybody_may_read(two: Members) -> None:
    key = two.folder / "pki" / "ams.key"
    key.chmod(0o644)
    assert faults(two) == [("secrets", f"{key} has mode 644: everybody may read it")]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_full_disk_and_one_in_memory(two: Members) -> None:
    root = two.root("ams")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=True)
    try:
        found = examined(two)
    finally:
        subprocess.run(["umount", root], check=True)
    assert ("warning", "group photos", f"{root} is in memory: all of it is lost at a reboot") in found
    assert ("fault", "group photos", f"{root} has 0.0 GiB free (100%)") in found


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="gives up rights")
def test_rights_that_are_missing(two: Members) -> None:
    """Without the right to low ports, and to watch filesystems; files of others can still be reached."""
    two.change(f'dns = {{ listen = ["{ADDRESS}:{two.sites["ams"].dns}"] }}', f'dns = {{ listen = ["{ADDRESS}:53"] }}')
    keep = "-all,+dac_read_search,+dac_override"
    words = ("setpriv", f"--bounding-set={keep}", f"--inh-caps={keep}", f"--ambient-caps={keep}", "--reuid=65534")
    command = (sys.executable, "-m", "anycastle.cli", "doctor", "--config", two.config, "--site", "ams")
    done = subprocess.run([*words, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if limit > 53:
        assert f"fault    dns: UDP {ADDRESS}:53 cannot be had: Permission denied" in done.stdout
    assert "warning  watching: this user may not watch whole filesystems; inotify has" in done.stdout


def test_it_must_know_which_member(two: Members) -> None:
    done = anycastle("doctor", "--config", two.config)
    assert (done.status, done.err) == (2, "anycastle: say which member with --site; members: ams, nyc\n")
