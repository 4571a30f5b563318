"""The edges of real members: a writer that is stopped, and a member that ends while a request is under way."""

import http.client
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.anycastle.members import ADDRESS, Members, prepared, until

HOST = "alice.photos.example.com"
SOON_SECONDS = 8.0
"""Three seconds of silence end a link; a fence under way then waits for a term."""


@pytest.fixture(scope="module")
def three() -> Iterator[Members]:
    """Writes go to nyc, and to ams when nyc is not current."""
    with prepared("ams", "nyc", "sgp") as made:
        made.change("[groups.photos]\n", '[groups.photos]\nwrites = ["nyc", "ams"]\naffinity = "cookie"\n')
        made.configure(f'{made.text}\n[edge]\naffinity_keys = "affinity"\n')
        (made.folder / "affinity").write_text("ab" * 32)
        made.start_applications()
        for name in made.sites:
            made.start(name)
        made.ready()
        made.settled()
        yield made


def post(made: Members, site: str, name: str, body: bytes) -> tuple[int, str]:
    """Status and verdict."""
    connection = http.client.HTTPConnection(ADDRESS, made.sites[site].edge, timeout=SOON_SECONDS)
    try:
        connection.request("POST", f"/{name}", body, {"Host": HOST})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("X-Anycastle-Verdict", "")
    finally:
        connection.close()


def get(made: Members, site: str, name: str, cookie: str) -> tuple[str, str]:
    """Verdict, and the mark that comes with it."""
    connection = http.client.HTTPConnection(ADDRESS, made.sites[site].edge, timeout=SOON_SECONDS)
    try:
        connection.request("GET", f"/{name}", headers={"Host": HOST} | ({"Cookie": cookie} if cookie else {}))
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("X-Anycastle-Verdict", ""), answer.getheader("Set-Cookie", "").partition(";")[0]
    finally:
        connection.close()


def test_users_stay_at_their_site_until_it_is_drained(three: Members) -> None:
    assert post(three, "nyc", "home.jpg", b"photo") == (201, "write")
    until(lambda: get(three, "ams", "home.jpg", "") == ("serve", ""), "it has landed, and ams answers itself")
    verdict, mark = get(three, "ams", "home.jpg", "session=1")
    assert (verdict, mark.partition(".")[0]) == ("serve", "anycastle_site=ams")
    assert get(three, "sgp", "home.jpg", f"session=1; {mark}") == ("forward ams", "")
    assert three.run("drain", "ams", site="sgp").status == 0
    moved = until(lambda: get(three, "sgp", "home.jpg", mark)[1], "the user moves")
    assert moved.startswith("anycastle_site=sgp.")
    assert three.run("undrain", "ams", site="sgp").status == 0
    until(lambda: get(three, "ams", "home.jpg", moved)[0] == "forward sgp", "and stays there")
    three.settled()


def test_a_member_that_ends_answers_what_it_was_asked(three: Members) -> None:
    """Its links live until then: the write is fenced, and the client is told of success."""
    assert post(three, "sgp", "a.jpg", b"photo") == (201, "forward nyc")
    with socket.create_connection((ADDRESS, three.sites["nyc"].edge), timeout=SOON_SECONDS) as uploading:
        head = f"POST /b.jpg HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n"
        uploading.sendall(head.encode() + b"half ")
        process = three.processes.pop("nyc")
        time.sleep(0.3)  # so that the request is under way; if not, it is turned away, and the test fails
        process.send_signal(signal.SIGTERM)
        until(lambda: "event=stopping" in three.log("nyc"), "stopping")
        uploading.sendall(b"photo")
        answer = uploading.recv(4096)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert process.wait(20) == 0
    (three.folder / "nyc.log").unlink()
    three.start("nyc")
    three.ready("nyc")
    three.settled()


def test_writes_go_on_when_their_site_is_stopped(three: Members) -> None:
    assert post(three, "ams", "c.jpg", b"photo") == (201, "forward nyc")
    nyc = three.processes["nyc"]
    nyc.send_signal(signal.SIGSTOP)
    try:
        status, verdict = post(three, "ams", "d.jpg", b"x" * 3_000_000)
        assert (status, verdict) in ((503, "refuse"), (201, "write"))
        until(lambda: post(three, "sgp", "e.jpg", b"photo") == (201, "forward ams"), "ams takes the writes")
    finally:
        nyc.send_signal(signal.SIGCONT)
    three.settled()
    assert not (three.root("nyc") / "alice" / "d.jpg").exists() or status == 201, "what was refused was not done later"
