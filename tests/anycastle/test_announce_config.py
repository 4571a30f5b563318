"""Flags and file mean the same, and every fault is said."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from anycastle.announce_config import AnnounceSettings, add_flags, from_flags, load, refuse_mixture
from anycastle.bgp.process import program
from anycastle.cli import main
from anycastle.config_read import ConfigError

FILE = """
disable_file = "/etc/maintenance"
state_dir = "/var/lib/announce"

[bgp]
router_id = "192.0.2.1"
local_as = 64500
peers = [{ address = "192.0.2.254", as = 64499, port = 1790, passive = true }]

[bgp.attributes.normal]
med = 10
communities = ["64500:1"]
[bgp.attributes.degraded]
med = 1000
prepend = 3
communities = ["64500:1"]
[bgp.attributes.drained]
communities = ["64500:1", "64500:9"]

[[probes]]
command = "pgrep haproxy"
interval = "2s"
rise = 1
fall = 2

[[routes]]
prefix = "198.51.100.1/32"
allow_private = true
on_down = "degrade"
drain = "5s"
"""
FLAGS = (
    *("--disable", "/etc/maintenance", "--state-dir", "/var/lib/announce", "--router-id", "192.0.2.1"),
    *("--local-as", "64500", "--peer", "192.0.2.254,as=64499,port=1790,passive=true"),
    *("--normal-med", "10", "--degraded-med", "1000", "--degraded-prepend", "3"),
    *("--community", "64500:1", "--drained-community", "64500:9", "--command", "pgrep haproxy"),
    *("--interval", "2s", "--rise", "1", "--fall", "2", "--route", "198.51.100.1/32", "--allow-private"),
    *("--on-down", "degrade", "--drain", "5s"),
)


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(flags)


def from_file(tmp_path: Path, text: str, *, as_process: bool = False) -> AnnounceSettings:
    file = tmp_path / "announce.toml"
    file.write_text(text)
    return load(file, as_process=as_process)


def test_flags_and_file_mean_the_same(tmp_path: Path) -> None:
    settings = from_flags(parsed(*FLAGS))
    assert settings == from_file(tmp_path, FILE)
    (rule,) = settings.bgp.rules
    assert (str(rule.prefix), rule.group, rule.minimum_sites, rule.drain_seconds) == ("198.51.100.1/32", None, 1, 5.0)
    (probe,) = settings.health.probes
    assert (probe.name, probe.interval_seconds, probe.rise, probe.fall) == ("command pgrep haproxy", 2.0, 1, 2)


def test_under_somebody_elses_exabgp_there_are_no_peers() -> None:
    flags = ("--as-process", "--command", "true", "--route", "198.51.100.1/32", "--allow-private")
    settings = from_flags(parsed(*flags, "--neighbor", "192.0.2.254"))
    assert settings.as_process
    assert [str(address) for address in settings.neighbors] == ["192.0.2.254"]
    assert settings.bgp.peers == ()


def test_everything_that_is_wrong_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ("--route", "198.51.100.1/32", "--route", "10.0.0.0/8", "--interval", "2", "--on-down", "withdraw")
    assert main(["announce", "--check", "--command", "true", *wrong]) == 2
    said = capsys.readouterr().err
    for expected in (
        "bgp: needs a key 'router_id'",
        "bgp.peers: expected at least one router",
        "probes[0].interval: expected a time",
        "routes[0].prefix: 198.51.100.1/32 overlaps 198.51.100.0/24, which is not globally reachable",
        "routes[1].prefix: 10.0.0.0/8 overlaps",
    ):
        assert expected in said
    assert main(["announce", "--check", *FLAGS]) == 0
    assert capsys.readouterr().out == "right (1 routes, 1 probes, 1 routers)\n"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('prefix = "198.51', 'group = "blogs"\nprefix = "198.51', "unknown key"),
        ("fall = 2", "fall = 0", "probes[0].fall: expected a whole number from 1 to 100"),
        ('"degrade"', '"flee"', "routes[0].on_down: expected"),
        ("passive = true", 'md5_file = "key"', "key cannot be read"),
        ("[[probes]]", '[[routes]]\nprefix = "198.51.100.1/32"\nallow_private = true\n[[probes]]', "expected it once"),
    ],
)
def test_faults_of_a_file(before: str, after: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        from_file(tmp_path, FILE.replace(before, after))
    assert said in str(raised.value)


def test_a_file_and_flags_do_not_mix() -> None:
    with pytest.raises(ConfigError, match="expected a file or flags, found both: --route, --local-as"):
        refuse_mixture(parsed("announce.toml", "--route", "198.51.100.1/32", "--local-as", "1"))
    refuse_mixture(parsed("announce.toml", "--as-process"))


def examples(language: str) -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / "announce.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_documentation_are_right(tmp_path: Path) -> None:
    command, process = examples("")
    own = shlex.split(command.replace("\\\n", ""))
    assert own[:2] == ["anycastle", "announce"]
    assert main([*own[1:], "--check"]) == 0
    line = re.search(r"run \S+/anycastle (.*);", process)
    assert line
    assert main([*shlex.split(line[1]), "--check"]) == 0
    (file,) = examples("toml")
    (tmp_path / "announce.toml").write_text(file)
    assert main(["announce", "--check", str(tmp_path / "announce.toml")]) == 0
    assert from_file(tmp_path, file).bgp.loopback is not None


def test_every_option_of_the_old_program_is_in_the_documentation() -> None:
    """Of the ExaBGP that is installed, so that a new one does not go unnoticed."""
    shown = subprocess.run([program(), "healthcheck", "--help"], capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown.partition("options:")[2])) - {"--help"}
    text = (Path(__file__).parents[2] / "docs" / "announce.md").read_text("utf-8")
    assert len(options) > 40
    assert {option for option in options if f"`{option}" not in text} == set()
