"""The recipes of docs/operations.md for sites that come back, with real members and the commands as they are typed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.anycastle.members import Members, running, until

NAMES = ("ams", "nyc", "sgp")


@pytest.fixture(scope="module")
def three() -> Iterator[Members]:
    with running(*NAMES) as made:
        made.settled()
        yield made


def ledger(three: Members, site: str) -> list[Path]:
    return list((three.folder / "state" / site).glob("ledger.sqlite*"))


def write(three: Members, site: str, name: str, content: bytes) -> None:
    path = three.root(site) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def landed(three: Members, name: str) -> None:
    until(lambda: three.run("where", f"photos:{name}").status == 0, f"{name} is known")
    done = three.run("wait", f"photos:{name}", "--timeout", "30")
    assert (done.status, done.out) == (0, "landed\n")


def again(three: Members, site: str) -> None:
    (three.folder / f"{site}.log").unlink()
    three.start(site)


def test_a_lost_ledger_and_an_empty_disk(three: Members) -> None:
    write(three, "nyc", "alice/a.jpg", b"a")
    landed(three, "alice/a.jpg")
    three.stop("nyc")
    for file in ledger(three, "nyc"):
        file.unlink()
    shutil.rmtree(three.root("nyc"))
    three.root("nyc").mkdir()
    again(three, "nyc")
    three.ready("nyc")
    three.settled()
    assert (three.root("nyc") / "alice/a.jpg").read_bytes() == b"a"


def test_a_ledger_put_back_from_a_backup_waits_for_resync(three: Members, tmp_path: Path) -> None:
    three.stop("nyc")
    shutil.copy(three.folder / "state/nyc/ledger.sqlite", tmp_path / "backup")
    again(three, "nyc")
    three.ready("nyc")
    three.settled()
    write(three, "nyc", "alice/b.jpg", b"b")
    landed(three, "alice/b.jpg")
    three.stop("nyc")
    for file in ledger(three, "nyc"):
        file.unlink()
    shutil.copy(tmp_path / "backup", three.folder / "state/nyc/ledger.sqlite")
    again(three, "nyc")
    three.ready("nyc")
    until(lambda: "run `anycastle resync` here" in three.run("status", "--json", site="nyc").out, "told")
    done = three.run("resync", site="nyc")
    assert (done.status, done.err) == (0, "")
    assert done.out == "nyc compares what it holds of photos; `anycastle status` says when that is over\n"
    three.settled()
    write(three, "nyc", "alice/c.jpg", b"c")
    landed(three, "alice/c.jpg")
    assert three.run("resync", "nothing").status == 2


def test_a_conflict_is_fetched_and_settled(three: Members, tmp_path: Path) -> None:
    write(three, "ams", "bob/page", b"before")
    landed(three, "bob/page")
    three.stop("nyc")
    before = three.run("where", "photos:bob/page").out.splitlines()[0]
    write(three, "ams", "bob/page", b"by ams")
    until(lambda: three.run("where", "photos:bob/page").out.splitlines()[0] != before, "known at ams")
    write(three, "nyc", "bob/page", b"by nyc")
    three.run("wait", "photos:bob/page", "--sites", "ams,sgp", "--timeout", "30")
    again(three, "nyc")
    three.ready("nyc")
    three.settled()

    def lost() -> dict[str, int]:
        found = {site: three.run("conflicts", "--json", site=site).json["conflicts"] for site in NAMES}
        return {site: listed[0]["id"] for site, listed in found.items() if listed}

    until(lost, "a conflict is listed")
    site, number = next(iter(lost().items()))
    current = (three.root(site) / "bob/page").read_bytes()
    other = {b"by ams": b"by nyc", b"by nyc": b"by ams"}[current]
    done = three.run("conflicts", "get", str(number), "--to", tmp_path / "kept", site=site)
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "kept").read_bytes() == other
    done = three.run("conflicts", "resolve", str(number), "--keep", "theirs", site=site)
    assert (done.status, done.out) == (0, f"conflict {number} is over: of photos:bob/page theirs stays\n")
    for name in NAMES:
        until(lambda name=name: (three.root(name) / "bob/page").read_bytes() == other, f"put back, seen at {name}")
    assert site not in lost()
    for words in (("get",), ("resolve", str(number)), ("get", "99")):
        assert three.run("conflicts", *words, site=site).status == 2
