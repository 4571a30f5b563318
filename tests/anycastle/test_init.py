"""`anycastle init`: what it writes is right, is what members start from, and replaces nothing."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anycastle.config import load_config
from anycastle.config_tokens import read_tokens
from anycastle.init import QUESTIONS, InitError, read_answers
from tests.anycastle.members import anycastle, until
from tests.netns import Segment, segment

SAID = {
    "sites": "ams=192.0.2.10 nyc=198.51.100.10",
    "witnesses": "wit=198.51.100.3",
    "host": "www.example.com",
    "root": "/srv/www",
    "application": "http://127.0.0.1:8081",
}


def flags(**other: str) -> list[str]:
    return [word for key, answer in (SAID | other).items() for word in (f"--{key}", answer)]


def test_what_it_writes_is_right(tmp_path: Path) -> None:
    done = anycastle("init", tmp_path / "etc", *flags())
    assert (done.status, done.err) == (0, "")
    file = tmp_path / "etc" / "anycastle.toml"
    checked = anycastle("check", "--config", file)
    assert (checked.status, checked.err) == (0, "")
    assert checked.out == f"{file}: right (3 members, 1 groups, 1 steered names)\n"
    config = load_config(file)
    assert (tuple(config.sites), tuple(config.witnesses)) == (("ams", "nyc"), ("wit",))
    assert config.for_member("nyc").link.peers["ams"] == ("192.0.2.10", 7400)
    (token,) = read_tokens(tmp_path / "etc" / "tokens")
    assert token.name == "operator"
    assert (tmp_path / "etc" / "tokens").stat().st_mode & 0o777 == 0o600
    assert all(f"made {made}\n" in done.out for made in (file, *(tmp_path / "etc" / "pki").iterdir()))
    assert f"move {tmp_path}/etc/pki/ca.key to a safe place" in done.out


def test_what_stands_there_as_a_comment_is_right_too(tmp_path: Path) -> None:
    assert anycastle("init", tmp_path, *flags()).status == 0
    file = tmp_path / "anycastle.toml"
    commented = r"(?m)^( *)# (?=\{ http|coordinates|\[geo\]|networks)"
    text, count = re.subn(commented, r"\1", file.read_text())
    assert count == 6
    file.write_text(text)
    (tmp_path / "networks.csv").write_text("198.51.100.0/24,nyc ams\n")
    checked = anycastle("check", "--config", file)
    assert (checked.status, checked.err) == (0, "")


def test_addresses_of_the_other_family(tmp_path: Path) -> None:
    assert anycastle("init", tmp_path, *flags(sites="ams=2001:db8::1", witnesses="")).status == 0
    assert anycastle("check", "--config", tmp_path / "anycastle.toml").status == 0
    assert load_config(tmp_path / "anycastle.toml").for_member("ams").link.listen[1] == 7400


@pytest.fixture
def machines() -> Iterator[Segment]:
    """Two machines with nothing on them."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    with segment({"ams": ["192.0.2.10/24"], "nyc": ["192.0.2.11/24"]}) as made:
        yield made


@pytest.mark.timeout(120)
def test_members_start_from_exactly_what_it_writes(tmp_path: Path, machines: Segment) -> None:
    """Each in a network of its own, with an empty /var/lib and folder of content of its own: not a key is changed."""
    etc, root = tmp_path / "etc", tmp_path / "www"
    root.mkdir()
    said = flags(sites="ams=192.0.2.10 nyc=192.0.2.11", witnesses="", root=str(root))
    assert anycastle("init", etc, *said).status == 0
    command = [sys.executable, "-m", "anycastle.cli"]
    started: dict[str, subprocess.Popen[bytes]] = {}

    def status(site: str) -> dict[str, Any]:
        log = (tmp_path / f"{site}.log").read_text()
        assert started[site].poll() is None, log
        inside = ["nsenter", f"--target={started[site].pid}", "--mount", "--net", *command]
        asked = [*inside, "status", "--json", "--config", etc / "anycastle.toml", "--site", site]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"sites": []}
        return found

    def all_well() -> bool:
        seen = [each for site in started for each in status(site)["sites"]]
        groups = [group for each in seen for group in each["groups"].values()]
        return len(groups) == 4 and not any(each["withheld"] for each in (*seen, *groups))

    try:
        for site in ("ams", "nyc"):
            own = f'mount -t tmpfs own /var/lib && mount -t tmpfs own {root} && exec "$@"'
            serve = [*command, "serve", "--config", etc / "anycastle.toml", "--site", site]
            with (tmp_path / f"{site}.log").open("wb") as log:
                started[site] = subprocess.Popen(
                    machines.inside(site, "unshare", "--mount", "sh", "-c", own, "sh", *map(str, serve)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        until(all_well, "both members hold both sites to be well")
    finally:
        for process in started.values():
            process.terminate()
        ended = [process.wait(30) for process in started.values()]
    assert ended == [0, 0]


def test_it_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("mine")
    done = anycastle("init", tmp_path, *flags())
    assert (done.status, done.err) == (
        2,
        f"anycastle: {tmp_path}/tokens is there already: expected a folder without it\n",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["tokens"]
    (tmp_path / "tokens").unlink()
    assert anycastle("init", tmp_path, *flags(), "--no-pki").status == 0
    assert not (tmp_path / "pki").exists()


def test_nothing_is_asked_in_vain(tmp_path: Path) -> None:
    (tmp_path / "anycastle.toml").write_text("mine")
    done = anycastle("init", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"anycastle: {tmp_path}/anycastle.toml is there already: expected a folder without it\n"


def test_what_no_flag_says_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return next(SAID[key] for key, text in QUESTIONS.items() if question.startswith(text))

    monkeypatch.setattr("builtins.input", answer)
    assert anycastle("init", tmp_path, "--root", "/srv/www").status == 0
    assert asked == [f"{text}: " for key, text in QUESTIONS.items() if key != "root"]


@pytest.mark.parametrize(
    ("key", "answer", "fault"),
    [
        ("sites", "", "sites: expected one at least"),
        ("sites", "ams=here", "'ams=here': expected NAME=ADDRESS"),
        ("sites", "a=192.0.2.1 a=192.0.2.2", "'a=192.0.2.2': expected NAME=ADDRESS, each name once"),
        ("sites", "Ams=192.0.2.1", "'Ams=192.0.2.1': expected NAME=ADDRESS"),
        ("witnesses", "ams=192.0.2.3", "witnesses: ams is a site already"),
        ("host", "localhost", "host is 'localhost': expected a name below a zone"),
        ("host", 'a."b.com', "host is 'a.\"b.com': expected a name"),
        ("root", "www", "root is 'www': expected an absolute folder"),
        ("application", "https://x/", "application is 'https://x/': expected a URL"),
    ],
)
def test_a_wrong_answer_is_named(key: str, answer: str, fault: str) -> None:
    with pytest.raises(InitError) as found:
        read_answers({**SAID, key: answer}, input)
    assert str(found.value).startswith(fault)


def test_no_answer_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    done = anycastle("init", tmp_path)
    assert (done.status, done.err.partition(":")[2][:14]) == (2, " no answer to:")
