"""What a running member remembers: over restarts, kills, conflicts, and a full disk's worth of trouble."""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.anycastle.members import ADDRESS, Members, prepared, running, until


@pytest.fixture(scope="module")
def two() -> Iterator[Members]:
    with running("ams", "nyc") as made:
        yield made


def asked(made: Members, path: str, site: str = "ams") -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{ADDRESS}:{made.sites[site].dashboard}{path}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def told(made: Members, query: str = "", site: str = "ams") -> list[str]:
    """Nothing while the member is not there yet."""
    try:
        return [event["text"] for event in asked(made, f"/api/v1/timeline{query}", site)["events"]]
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError:
        return []


def upload(made: Members, customer: str, photo: str, body: bytes = b"x", site: str = "ams") -> None:
    request = urllib.request.Request(
        f"http://{ADDRESS}:{made.sites[site].edge}/{photo}",
        data=body,
        method="POST",
        headers={"Host": f"{customer}.photos.example.com"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status in (200, 201)


def test_a_start_and_an_end_are_told_and_whether_it_was_in_order(two: Members) -> None:
    assert any(text.startswith("ams starts, version ") for text in told(two))
    assert "nyc is current for photos: holds leases from a majority" in told(two, "?site=nyc")
    assert two.stop("nyc", signal.SIGTERM)[0] == 0
    two.start("nyc")
    two.settled()
    first, second, third = [t for t in told(two, "?site=nyc", "nyc") if t.startswith(("nyc starts", "nyc stops"))]
    assert (second, "did not end in order" in first + third) == ("nyc stops, as it was told to", False)
    until(lambda: "the link to nyc is up" in told(two, "?site=nyc&limit=20"), "ams has told of the link")
    two.stop("nyc", signal.SIGKILL)
    two.start("nyc")
    two.settled()
    assert [t for t in told(two, "", "nyc") if "the run before did not end in order" in t]


def test_what_happened_is_found_by_site_path_and_name(two: Members) -> None:
    assert two.run("drain", "nyc", "--group", "photos").status == 0
    until(lambda: "nyc is drained for photos" in told(two), "the drain is told")
    assert two.run("undrain", "nyc", "--group", "photos").status == 0
    until(lambda: "nyc is no longer drained for photos" in told(two), "its end is told")
    assert "nyc is drained for photos" in told(two, "?site=nyc&path=photos:alice/p.jpg")
    assert "nyc is drained for photos" in told(two, "?name=alice.photos.example.com")
    assert "nyc is drained for photos" not in told(two, "?site=ams")
    assert told(two, "?path=blogs:") == []
    for query, fault in (
        ("?name=www.example.com", "www.example.com stands for no content here"),
        ("?name=a.photos.example.com&path=photos:", "path and name are given"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            told(two, query)
        assert fault in refused.value.read().decode()


def test_a_conflict_and_content_that_is_late_are_told(two: Members) -> None:
    upload(two, "carol", "both.jpg")
    two.stop("nyc", signal.SIGTERM)
    (two.root("ams") / "carol" / "both.jpg").write_bytes(b"at ams")
    (two.root("nyc") / "carol" / "both.jpg").write_bytes(b"at nyc")
    until(lambda: [t for t in told(two, "?path=photos:carol/") if "is withheld at nyc" in t], "it is late at nyc")
    two.start("nyc")
    two.settled()
    until(lambda: [t for t in told(two, "?path=photos:carol/") if "has landed at nyc, after" in t], "it has landed")
    both = lambda: told(two, "?path=photos:carol/") + told(two, "?path=photos:carol/", "nyc")  # noqa: E731
    until(lambda: [t for t in both() if "carol/both.jpg was edited at two sites at once" in t], "the conflict is told")


def test_reloads_are_told_refused_ones_with_their_reason(two: Members) -> None:
    zone = two.folder / "zone"
    good = zone.read_text()
    try:
        zone.write_text(good.replace("192.0.2.80", "192.0.2.280"))
        assert two.run("reload").status == 2
        until(lambda: [t for t in told(two) if "the last reload was refused" in t and "zone:5:" in t], "it is told")
    finally:
        zone.write_text(good)
    assert two.run("reload").status == 0
    assert told(two)[0] == "zones, names and geography were read anew"


def test_a_ledger_that_was_put_back_is_told(two: Members) -> None:
    state, copy = two.folder / "state" / "nyc", two.folder / "copy"
    two.stop("nyc")
    shutil.copytree(state, copy)
    two.start("nyc")
    two.settled()
    upload(two, "dave", "new.jpg", site="nyc")
    two.stop("nyc")
    shutil.rmtree(state)
    copy.rename(state)
    two.start("nyc")
    disowned = "this ledger is not the one that ams knew: it was put back from a backup"
    until(lambda: [t for t in told(two, "", "nyc") if disowned in t], "it is told")
    assert two.run("resync", site="nyc").status == 0
    until(lambda: [t for t in told(two, "", "nyc") if "others talk to this member again, after" in t], "the end, too")
    two.settled()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a small filesystem")
def test_a_full_disk_is_told_and_when_there_is_room_again() -> None:
    with prepared("ams", "nyc") as made:
        root = made.root("nyc")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "small", root], check=True)
        try:
            made.start_applications()
            for name in made.sites:
                made.start(name)
            made.ready()
            made.settled()
            upload(made, "eve", "big.jpg", b"x" * 2_000_000)
            full = "photos: 1 changes cannot land here: the disk is full (ENOSPC)"
            until(lambda: [t for t in told(made, "?path=photos:", "nyc") if t.startswith(full)], "it is told")
            subprocess.run(["mount", "-o", "remount,size=8m", root], check=True)
            until(lambda: [t for t in told(made, "", "nyc") if t.startswith("over: photos: 1")], "its end, too")
        finally:
            made.close()
            subprocess.run(["umount", "-l", root], check=True)


def test_the_last_hour_is_counted(two: Members) -> None:
    def newest(name: str) -> float | None:
        found = {(each["name"], each["label"]): each["values"] for each in asked(two, "/api/v1/series")["series"]}
        return next((value for value in reversed(found.get((name, ""), [])) if value), None)

    def busy() -> bool:
        upload(two, "alice", "p.jpg")
        two.lookup("alice.photos.example.com")
        return bool(newest("fence_seconds") and newest("dns_queries_per_second"))

    until(busy, "uploads and queries are in the charts")
    assert 0.0 < (newest("fence_seconds") or 0.0) < 5.0
    assert newest("edge_requests_per_second")
    series = asked(two, "/api/v1/series")
    assert {each["label"] for each in series["series"] if each["name"] == "lag_seconds"} == {"ams", "nyc"}
    assert series["number"] >= 2
