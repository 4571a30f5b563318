"""Every command against three members that run: what it says, its exit status, and `--json`."""

import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anycastle.config import load_config
from tests.anycastle.members import ADDRESS, Members, anycastle, prepared, running, until
from tests.dns.mmdb_writer import write_mmdb

NAMES = ("ams", "nyc", "sgp")


@pytest.fixture(scope="module")
def three() -> Iterator[Members]:
    with running(*NAMES) as made:
        yield made


def upload(made: Members, site: str, customer: str, photo: str, body: bytes) -> int:
    """Through the edge."""
    connection = http.client.HTTPConnection(ADDRESS, made.sites[site].edge, timeout=20)
    try:
        connection.request("POST", f"/{photo}", body, {"Host": f"{customer}.photos.example.com"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_status_shows_the_member_its_sites_and_links(three: Members) -> None:
    done = three.run("status")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("ams of test, up for ")
    assert done.out.count("observers") == 3
    assert "0 entries in flight, 0 conflicts" in done.out
    assert "\nroutes" not in done.out, "who announces none has no empty table"
    answer = three.run("status", "--json", site="nyc").json
    assert (answer["member"], answer["isolated"]) == ("nyc", False)
    assert {link["peer"]: link["state"] for link in answer["links"]} == {"ams": "up", "sgp": "up"}
    assert answer["counters"]["dns"]["worker_restarts"] == 0


def test_sites_shows_each_with_its_reason(three: Members) -> None:
    done = three.run("sites")
    assert done.status == 0
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == list(NAMES)
    found = three.run("sites", "--json").json["sites"]
    assert [site["name"] for site in found] == list(NAMES)
    assert all(site["health"] == "up" and site["reason"] for site in found)


def test_routes_of_a_site_that_announces_none(three: Members) -> None:
    assert three.run("routes").status == 0
    assert three.run("routes", "--json").json["sessions"] == []


def test_a_photo_is_where_it_was_uploaded_and_everywhere_else(three: Members) -> None:
    assert upload(three, "ams", "alice", "a.jpg", b"picture") == 201
    done = three.run("wait", "photos:alice/a.jpg", "--timeout", "10")
    assert (done.status, done.out) == (0, "landed\n")
    for site in NAMES:
        assert (three.root(site) / "alice" / "a.jpg").read_bytes() == b"picture"
        answer = until(lambda site=site: _landed_everywhere(three, site), f"{site} knows that all have it", 10)
        assert answer["newest"]["size"] == 7
        assert answer["fenced"]
    done = three.run("where", "photos:alice/a.jpg")
    assert done.status == 0
    assert "has landed at ams, nyc, sgp" in done.out
    done = three.run("lag", "--json")
    cells = {(cell["origin"], cell["site"]): cell for cell in done.json["groups"][0]["cells"]}
    assert all(cells["ams", site]["landed"] == cells["ams", site]["known"] > 0 for site in NAMES)
    assert three.run("lag").status == 0


def _landed_everywhere(made: Members, site: str) -> dict[str, object] | None:
    answer = made.run("where", "photos:alice/a.jpg", "--json", site=site).json
    return answer if all(state["landed"] for state in answer["sites"].values()) else None


def test_where_of_what_nobody_announced(three: Members) -> None:
    done = three.run("where", "photos:nobody/none.jpg")
    assert (done.status, done.out.splitlines()[0]) == (1, "nobody ever announced this path")
    assert three.run("where", "photos:nobody/none.jpg", "--json").status == 1


def test_wait_gives_up_with_status_1_and_says_who_lacks_it(three: Members) -> None:
    began = time.monotonic()
    done = three.run("wait", "photos:nobody/none.jpg", "--timeout", "0.3", "--sites", "nyc,sgp")
    assert (done.status, done.out) == (
        1,
        "not landed at nyc (nobody has announced it), sgp (nobody has announced it)\n",
    )
    assert 0.3 <= time.monotonic() - began < 5
    answer = three.run("wait", "photos:nobody/none.jpg", "--timeout", "0", "--json")
    assert answer.status == 1
    assert (answer.json["landed"], answer.json["missing"], answer.json["newest"]) == (False, list(NAMES), None)


def test_wait_knows_what_was_written_here_just_before(three: Members) -> None:
    """As in a script that deploys: first the files, then `wait`."""
    page = three.root("ams") / "carol" / "index.html"
    page.parent.mkdir()
    for text in ("first", "second", "third"):
        page.write_text(text)
        assert three.run("wait", "photos:carol/index.html", "--timeout", "10").out == "landed\n"
        assert [(three.root(site) / "carol" / "index.html").read_text() for site in NAMES] == [text] * 3


def test_scrub_reads_everything_and_says_how_much(three: Members) -> None:
    (three.root("nyc") / "dave").mkdir()
    (three.root("nyc") / "dave" / "a.jpg").write_bytes(bytes(5000))
    assert three.run("wait", "photos:dave/a.jpg", "--timeout", "10", site="nyc").status == 0
    done = three.run("scrub", "photos", site="nyc")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("photos: ")
    assert "0 damaged, 0 repaired" in done.out
    answer = three.run("scrub", "--json", site="nyc").json["groups"]["photos"]
    assert answer["pass"]["over"]
    assert answer["pass"]["files"] == answer["pass"]["files_total"] >= 1
    assert answer["damaged_total"] == 0
    assert three.run("scrub", "wiki").err == "anycastle: no group 'wiki' here; groups: photos\n"


def test_wait_returns_as_soon_as_it_has_landed(three: Members) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(_ask_wait, three, "photos:bob/late.jpg")
        assert upload(three, "sgp", "bob", "late.jpg", b"late") == 201
        assert waiting.result(20) is True


def _ask_wait(made: Members, place: str) -> bool:
    """Over TCP, because commands of this process share one stdout."""
    connection = http.client.HTTPConnection(ADDRESS, made.sites["nyc"].dashboard, timeout=20)
    try:
        connection.request("GET", f"/api/v1/wait?path={place}&timeout=15")
        return bool(json.loads(connection.getresponse().read())["landed"])
    finally:
        connection.close()


def test_explain_is_what_the_nameserver_answers(three: Members) -> None:
    done = three.run("explain", "alice.photos.example.com", "--client", "10.1.2.3", "--json")
    assert done.status == 0
    answers = {answer.split()[-1] for answer in done.json["answers"]}
    assert answers == set(three.lookup("alice.photos.example.com"))
    assert [site["site"] for site in done.json["sites"]] == list(NAMES)
    networks = three.run("explain", "alice.photos.example.com", "--all-networks", "--json").out.splitlines()
    assert {json.loads(line)["network"] for line in networks} == {"0.0.0.0/0", "::/0"}
    assert " place: default: no map covers it" in three.run("explain", "alice.photos.example.com").out
    shown = three.run("explain", "alice.photos.example.com", "--all-networks").out
    assert shown.startswith("0.0.0.0/0 ")
    refused = three.run("explain", "www.example.com", "--all-networks")
    assert (refused.status, refused.err[:43]) == (2, "anycastle: www.example.com is not steered: ")
    done = three.run("explain", "www.example.com")
    assert "192.0.2.80" in done.out
    assert "REFUSED" in three.run("explain", "www.example.org").out
    assert "NXDOMAIN" in three.run("explain", "none.example.com", "--type", "AAAA").out


def test_status_is_shown_again_and_again(three: Members) -> None:
    words = ("status", "--watch", "0.2", "--config", str(three.config), "--site", "ams")
    command = [sys.executable, "-m", "anycastle.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        frames = 0
        for line in watching.stdout:
            frames += line.startswith("ams of test, up for ")
            if frames == 3:
                break
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
        assert (watching.returncode, err) == (130, "")
    refused = three.run("status", "--watch", "0")
    assert refused.err == "anycastle: --watch is 0: expected 0.2 to 3600 seconds\n"


def test_on_a_terminal_the_screen_is_cleared_and_a_member_that_is_gone_is_waited_for() -> None:
    with prepared("ams") as made:
        controller, terminal = pty.openpty()
        command = [sys.executable, "-m", "anycastle.cli", "status", "--watch", "--config", str(made.config)]
        with subprocess.Popen([*command, "--site", "ams"], stdout=terminal, stderr=terminal) as watching:
            os.close(terminal)
            shown = b""
            while shown.count(b"\x1b[H\x1b[2Janycastle: ams does not answer on ") < 2:
                shown += os.read(controller, 4096)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(20) == 130
        os.close(controller)


def test_audit_tells_who_changed_what(three: Members) -> None:
    three.run("freeze", "--reason", "nobody announces here", site="nyc")
    (newest,) = three.run("audit", "--json", "--limit", "1", site="nyc").json["changes"]
    assert (newest["what"], newest["order"]) == ("freeze", '{"reason": "nobody announces here"}')
    assert newest["who"].startswith("user ")
    assert newest["outcome"].startswith("refused: nyc announces no routes")
    shown = three.run("audit", site="nyc").out
    assert all(newest[key] in shown for key in ("at", "who", "origin", "what"))
    assert (
        three.run("audit", "--limit", "0", site="nyc").err
        == "anycastle: limit is '0': expected a number from 1 to 1000\n"
    )


def test_conflicts_when_there_are_none(three: Members) -> None:
    assert three.run("conflicts").out == "no conflicts\n"
    assert three.run("conflicts", "--json").json == {"conflicts": []}


def test_a_drain_moves_users_at_every_member_and_survives_a_restart(three: Members) -> None:
    first = three.lookup("x.photos.example.com", "sgp")
    done = three.run("drain", "ams", site="nyc")
    assert (done.status, done.out) == (0, "ams is drained for everything\n")
    for site in NAMES:
        until(lambda site=site: three.lookup("x.photos.example.com", site) != first, f"{site} moves users away", 5)
    assert three.stop("nyc")[0] == 0
    three.start("nyc")
    until(lambda: three.log("nyc").count("event=ready") == 2, "nyc is back")
    found = three.run("sites", "--json", site="nyc").json["sites"]
    assert found[0]["groups"]["photos"]["withheld"] == "drained by an operator"
    done = three.run("undrain", "ams", "--json", site="sgp")
    assert (done.status, done.json["drained"]) == (0, [])
    until(lambda: three.lookup("x.photos.example.com", "nyc") == first, "nyc gives ams again", 10)
    three.settled()


def test_a_group_alone_can_be_drained(three: Members) -> None:
    assert three.run("drain", "sgp", "--group", "photos").out == "sgp is drained for photos\n"
    assert three.run("undrain", "sgp", "--group", "photos").out == "sgp is not drained\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("drain", "lon"), "no such site: lon; sites: ams, nyc, sgp"),
        (("drain", "ams", "--group", "wiki"), "no such group: wiki; groups: photos"),
        (("where", "alice/a.jpg"), "path is 'alice/a.jpg': expected GROUP:PATH, as in blogs:alice/photo.jpg"),
        (("where", "wiki:a"), "no group 'wiki' here; groups: photos"),
        (("wait", "photos:a", "--sites", "lon"), "no such site: lon"),
        (("wait", "photos:a", "--timeout", "-1"), "timeout is '-1': expected seconds from 0 to 3600"),
        (("explain", "www.example.com", "--client", "here"), "client is 'here': expected an IP address"),
        (("explain", "www.example.com", "--type", "A A"), "type is 'A A': expected a record type"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_one_line_and_status_2(three: Members, words: tuple[str, ...], line: str) -> None:
    done = three.run(*words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"anycastle: {line}")
    assert done.err.count("\n") == 1


def test_reload_takes_what_it_can_and_names_what_needs_a_restart(three: Members) -> None:
    zone = three.folder / "zone"
    text = three.text
    try:
        zone.write_text(zone.read_text() + "new A 192.0.2.99\n")
        told = three.run("reload").out
        assert told.startswith(
            "reloaded: zones, names, geo\nwarning: zone example.com changed, but its serial did not rise"
        )
        until(lambda: three.lookup("new.example.com") == ["192.0.2.99"], "the new name is served", 5)
        three.change('members = ["ams", "nyc", "sgp"]', 'members = ["sgp", "ams", "nyc"]')
        three.change("[[zones]]", 'copies = 2\n\n[[names]]\nname = "y.example.com"\n\n[[zones]]')
        done = three.run("reload")
        assert done.status == 0
        assert "needs a restart of the member: cluster.members, groups" in done.out
        until(lambda: three.lookup("y.example.com"), "the new steered name is served", 5)
    finally:
        three.configure(text)
    assert three.run("reload", "--json").json["needs_restart"] == []


def test_a_zone_that_changed_without_its_serial_is_named_until_the_serial_rises(three: Members) -> None:
    zone = three.folder / "zone"
    good = zone.read_text()
    (served,) = three.run("status", "--json").json["zones"]
    try:
        zone.write_text(good + "unraised 60 IN A 192.0.2.98\n")
        assert "its serial did not rise" in three.run("reload").out
        asked = three.run("status", "--json").json
        assert any("its serial did not rise" in note for note in asked["notes"])
        assert asked["zones"] == [served | {"records": served["records"] + 1}]
        assert f"{served['serial']}" in three.run("status").out
    finally:
        zone.write_text(good)
    three.run("reload")


def test_a_broken_zone_is_refused_with_file_and_line_and_the_old_one_answers(three: Members) -> None:
    zone = three.folder / "zone"
    good = zone.read_text()
    try:
        zone.write_text(good.replace("192.0.2.80", "192.0.2.280"))
        done = three.run("reload")
        assert done.status == 2
        assert done.err.startswith(f"anycastle: {zone}:5: ")
        assert three.lookup("www.example.com") == ["192.0.2.80"]
        assert any("the last reload was refused" in note for note in three.run("status", "--json").json["notes"])
        zone.unlink()
        assert "cannot read the zone file" in three.run("reload").err
    finally:
        zone.write_text(good)
    assert three.run("reload").status == 0
    assert not any("reload was refused" in note for note in three.run("status", "--json").json["notes"])


def test_a_map_cut_short_is_refused_and_the_old_one_decides(three: Members) -> None:
    networks, database, text = three.folder / "networks.csv", three.folder / "c.mmdb", three.text
    good = networks.read_text()
    whole = write_mmdb({"127.0.0.0/8": {"country_code": "NL"}})

    def place() -> str:
        return str(three.run("explain", "alice.photos.example.com", "--client", "127.0.0.1", "--json").json["place"])

    try:
        before = place()
        three.change("[geo]", '[geo]\ncountry = "c.mmdb"')
        networks.write_text("")
        database.write_bytes(whole[: len(whole) // 2])
        done = three.run("reload")
        assert done.status == 2
        assert f"{database}: cannot be read as a MaxMind database" in done.err
        assert place() == before
        database.write_bytes(whole)
        assert three.run("reload").status == 0
        assert place() == "country NL via c"
    finally:
        networks.write_text(good)
        three.configure(text)
    assert three.run("reload").status == 0


def test_a_broken_configuration_is_refused_before_anybody_is_asked(three: Members) -> None:
    text = three.text
    try:
        three.change("[geo]", "[geo]\ncolour = 1")
        done = three.run("reload")
        assert done.status == 2
        assert "geo.colour: unknown key" in done.err
    finally:
        three.configure(text)


def test_reading_over_tcp_is_open_and_changing_is_not(three: Members) -> None:
    connection = http.client.HTTPConnection(ADDRESS, three.sites["ams"].dashboard, timeout=10)
    connection.request("GET", "/api/v1/status")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["member"]) == (200, "ams")
    connection.request("POST", "/api/v1/drain", b'{"site": "ams"}')
    response = connection.getresponse()
    assert response.status == 403
    response.read()
    connection.close()


def test_without_site_the_only_member_here_is_asked(three: Members, tmp_path: Path) -> None:
    done = anycastle("status", "--config", three.config)
    assert (done.status, done.err) == (
        2,
        "anycastle: say which member with --site; running on this machine: ams, nyc, sgp\n",
    )


def test_members_with_one_state_dir_are_on_machines_of_their_own(three: Members) -> None:
    """As `anycastle init` writes it: the socket that is here belongs to whoever runs here."""
    state = load_config(three.config).control_socket("nyc").parent
    text = re.sub(r'state_dir = "[^"]+"', f'state_dir = "{state}"', three.config.read_text())
    same = three.config.with_name("same.toml")
    same.write_text(text)
    done = anycastle("status", "--json", "--config", same)
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["member"] == "nyc"


def test_a_member_that_was_killed_does_not_answer_and_the_others_go_on(three: Members) -> None:
    three.stop("sgp", signal.SIGKILL)
    done = three.run("status", site="sgp")
    assert done.status == 2
    socket = load_config(three.config).control_socket("sgp")
    assert done.err == f"anycastle: sgp does not answer on {socket}: it is not running\n"
    until(lambda: _withheld(three, "sgp"), "ams withholds sgp", 10)
    assert three.run("status").status == 0


def _withheld(made: Members, site: str) -> bool:
    found = {each["name"]: each for each in made.run("sites", "--json").json["sites"]}
    return bool(found[site]["groups"]["photos"]["withheld"])
