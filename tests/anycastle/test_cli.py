"""The command line by itself: words it takes, and one clear line with status 2 for those it does not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle import __version__
from tests.anycastle.members import Members, anycastle, prepared


@pytest.fixture(scope="module")
def two() -> Iterator[Members]:
    with prepared("ams", "nyc") as made:
        yield made


def test_the_installed_program_runs() -> None:
    program = Path(sys.executable).with_name("anycastle")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"anycastle {__version__}\n"


ASKING = {
    "status": (),
    "sites": (),
    "routes": (),
    "lag": (),
    "conflicts": (),
    "reload": (),
    "where": ("photos:a",),
    "wait": ("photos:a",),
    "explain": ("www.example.com",),
    "drain": ("ams",),
    "undrain": ("ams",),
}


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize("json", [(), ("--json",)], ids=["table", "json"])
def test_no_member_running_is_one_line(two: Members, command: str, json: tuple[str, ...]) -> None:
    done = two.run(command, *ASKING[command], *json)
    socket = two.folder / "state" / "ams" / "control.sock"
    assert (done.status, done.out) == (2, "")
    assert done.err == f"anycastle: ams does not answer on {socket}: it is not running\n"


def test_without_site_there_must_be_one_running(two: Members) -> None:
    done = anycastle("status", "--config", two.config)
    assert (done.status, done.err) == (2, "anycastle: say which member with --site; running on this machine: none\n")


def test_one_state_dir_for_all_is_that_of_whoever_runs_here(two: Members, tmp_path: Path) -> None:
    file, socket = tmp_path / "a.toml", tmp_path / "state/control.sock"
    file.write_text(two.text.replace('"state/{site}"', '"state"'))
    done = anycastle("status", "--config", file)
    assert done.err == "anycastle: say which member with --site; running on this machine: none\n"
    socket.parent.mkdir()
    socket.touch()
    done = anycastle("status", "--config", file)
    assert done.err == f"anycastle: the member here does not answer on {socket}: it is not running\n"


@pytest.mark.parametrize("command", ["serve", "status"])
def test_a_member_that_is_not_in_the_roster(two: Members, command: str) -> None:
    done = anycastle(command, "--config", two.config, "--site", "lon")
    assert (done.status, done.err) == (2, f"{two.config}: cluster.members: has no 'lon'; members: ams, nyc\n")


def test_serve_must_be_told_which_member(two: Members) -> None:
    done = anycastle("serve", "--config", two.config)
    assert (done.status, done.err) == (2, "anycastle: say which member to run with --site; members: ams, nyc\n")


@pytest.mark.parametrize("command", ["serve", "check", "status"])
def test_a_configuration_that_is_not_there(tmp_path: Path, command: str) -> None:
    file = tmp_path / "none.toml"
    done = anycastle(command, "--config", file, "--site", "ams")
    assert (done.status, done.err) == (2, f"{file}: cannot be read: No such file or directory\n")


def test_all_faults_of_a_configuration_are_shown(two: Members, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(two.text.replace('name = "test"', "name = 1\ncolour = 2"))
    done = anycastle("status", "--config", file, "--site", "ams")
    assert done.status == 2
    assert [line.partition(": ")[2].partition(":")[0] for line in done.err.splitlines()] == [
        "cluster.name",
        "cluster.colour",
    ]


@pytest.mark.parametrize(
    "words", [(), ("fly",), ("where",), ("wait", "photos:a", "--timeout", "soon"), ("pki",)], ids=str
)
def test_words_that_are_no_command_are_status_2(words: tuple[str, ...]) -> None:
    done = anycastle(*words)
    assert (done.status, done.out) == (2, "")
    assert "usage: anycastle" in done.err


def test_pki_makes_what_check_wants_and_never_replaces_it(two: Members, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    assert anycastle("pki", "init", folder).out == f"made {folder / 'ca.pem'}\n"
    done = anycastle("pki", "issue", folder, "ams")
    assert done.out == f"made {folder / 'ams.pem'} and {folder / 'ams.key'}\n"
    file = tmp_path / "a.toml"
    plain = two.text.replace('"content/', f'"{two.folder}/content/').replace('"zone"', f'"{two.folder}/zone"')
    file.write_text(plain.replace('"networks.csv"', f'"{two.folder}/networks.csv"'))
    assert anycastle("check", "--config", file, "--site", "ams").err == ""
    for words in (("init", folder), ("issue", folder, "ams")):
        done = anycastle("pki", *words)
        assert done.status == 2
        assert "File exists" in done.err


def test_pki_renews_and_shows(tmp_path: Path) -> None:
    anycastle("pki", "init", tmp_path)
    anycastle("pki", "issue", tmp_path, "ams")
    before = anycastle("pki", "show", tmp_path, "--json").json["certificates"]
    assert [(each["kind"], each["names"]) for each in before] == [
        ("member", ["ams.member.anycastle"]),
        ("authority", ["anycastle members"]),
    ]
    assert 824 < before[0]["days_left"] <= 825
    assert anycastle("pki", "renew", tmp_path, "ams").status == 0
    shown = anycastle("pki", "show", tmp_path / "ams.pem")
    assert shown.status == 0
    assert "ams.member.anycastle" in shown.out
    assert before[0]["fingerprint"] not in shown.out
    nothing = anycastle("pki", "show", tmp_path / "ams.key")
    assert (nothing.status, nothing.out) == (2, "")
    assert "ams.key: expected certificates in PEM" in nothing.err


@pytest.mark.parametrize("member", ["../x", "A", ""])
def test_pki_refuses_names_that_are_none(tmp_path: Path, member: str) -> None:
    anycastle("pki", "init", tmp_path / "pki")
    done = anycastle("pki", "issue", tmp_path / "pki", member)
    assert done.status == 2
    assert done.err.startswith("anycastle: member name ")
