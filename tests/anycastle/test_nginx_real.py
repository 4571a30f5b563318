"""nginx and php-fpm from Debian, as `anycastle nginx-config` sets them up, before real members."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from blake3 import blake3

from anycastle.clock import SystemClock
from tests.anycastle.members import ADDRESS, until
from tests.anycastle.nginx_sites import HOST, NGINX, PHP_FPM, Answer, Sites, nginx_sites

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not NGINX or not PHP_FPM, reason="needs root, nginx and php8.2-fpm (script/bootstrap)"
)
BODY_RATE = 400_000
JUDGED = {"If-None-Match": '"x"'}
"""Who has something asks the gate whether it is still that, whether there is a pass or not."""


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    with nginx_sites("ams", "nyc", "sgp", site_more=f'body_rate = "{BODY_RATE}B/s"') as found:
        yield found


def test_an_upload_at_one_site_is_there_at_all_others_at_once(sites: Sites) -> None:
    for number, (one, others) in enumerate([("ams", ("nyc", "sgp")), ("nyc", ("sgp", "ams")), ("sgp", ("ams", "nyc"))]):
        for turn in range(3):  # the same name, the same length, in the same second
            content = f"{number} {turn} ".encode() * 2000
            answer = sites.upload(one, "a.jpg", content)
            assert (answer.status, answer.verdict) == (200, "write")
            for other in others:
                found = sites.ask(other, "/photos/a.jpg")
                assert (found.status, found.body) == (200, content), found.headers
                assert found.verdict.split()[0] in ("serve", "forward")


def test_nginx_itself_serves_what_the_gate_lets_it(sites: Sites) -> None:
    content = b"x" * 10_000
    sites.upload("ams", "b.jpg", content)
    _landed(sites, "nyc", "b.jpg", content)
    tag = f'"b3-{blake3(content).hexdigest()}"'
    found = sites.ask("nyc", "/photos/b.jpg", headers=JUDGED)
    assert found.verdict == "serve"
    assert found.headers["Server"].startswith("nginx")
    assert found.headers["X-Anycastle-Site"] == "nyc"
    assert found.headers["X-Anycastle-Version"].endswith("@ams")
    assert (found.headers["ETag"], found.headers["Last-Modified"]) == (tag, None)
    same = sites.ask("nyc", "/photos/b.jpg", headers={"If-None-Match": f'"x", {tag}'})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    since = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    assert sites.ask("nyc", "/photos/b.jpg", headers=since).status == 200
    part = {"Range": "bytes=10-19"}
    assert sites.ask("nyc", "/photos/b.jpg", headers=part | {"If-Range": tag}).status == 206
    assert sites.ask("nyc", "/photos/b.jpg", headers=part | {"If-Range": '"x"'}).status == 200
    assert sites.ask("nyc", "/photos/b.jpg", method="HEAD").headers["Content-Length"] == "10000"


def test_while_nothing_changes_nginx_has_a_pass(sites: Sites) -> None:
    content = b"y" * 10_000
    sites.upload("ams", "p.jpg", content)
    _landed(sites, "nyc", "p.jpg", content)
    found = until(lambda: _passed(sites, "/photos/p.jpg"), "a pass")
    assert (found.status, found.body, found.verdict) == (200, content, "serve")
    assert found.headers["X-Anycastle-Site"] == "nyc"
    again = sites.ask("nyc", "/photos/p.jpg", headers={"If-None-Match": found.headers["ETag"]})
    assert (again.status, again.headers["ETag"]) == (200, f'"b3-{blake3(content).hexdigest()}"'), "it said nothing"
    part = {"Range": "bytes=0-9", "If-Range": found.headers["ETag"]}
    assert sites.ask("nyc", "/photos/p.jpg", headers=part).status == 200
    assert sites.ask("nyc", "/photos/p.jpg", host="www.example.net").status == 421
    assert sites.ask("nyc", "/photos/none.jpg").status == 404


def test_a_stopped_member_leaves_no_pass(sites: Sites) -> None:
    """What is written meanwhile is fenced once its lease is over; by then nginx must not serve the old."""
    sites.upload("ams", "s.jpg", b"old")
    _landed(sites, "nyc", "s.jpg", b"old")
    until(lambda: _passed(sites, "/photos/s.jpg"), "a pass")
    nyc = sites.members.processes["nyc"]
    nyc.send_signal(signal.SIGSTOP)
    try:
        until(lambda: sites.upload("ams", "s.jpg", b"new").status == 200, "fenced without nyc")
        left = [float(file.name) for file in (sites.members.folder / "nyc.sock.pass").rglob("*.?")]
        assert all(tenth + 0.1 < SystemClock().wall() for tenth in left), "what it left is over"
    finally:
        nyc.send_signal(signal.SIGCONT)
    sites.members.settled()
    assert sites.ask("nyc", "/photos/s.jpg").body == b"new"


def test_programs_see_the_client_and_everybodys_uploads(sites: Sites) -> None:
    wrote = json.loads(sites.upload("ams", "c.jpg", b"c").body)
    read = json.loads(sites.ask("nyc", "/upload.php/more?x=1").body)
    assert "c.jpg" in wrote["names"]
    assert "c.jpg" in read["names"]
    assert (wrote["client"], read["client"]) == (ADDRESS, ADDRESS)
    assert (wrote["host"], read["host"]) == (HOST, HOST)
    assert (read["info"], read["uri"], read["scheme"]) == ("/more", "/upload.php/more?x=1", "http")
    forged = {"X-Forwarded-For": "192.0.2.66", "X-Anycastle-Hop": "nyc", "X-Forwarded-Proto": "https"}
    answer = json.loads(sites.upload("ams", "c.jpg", b"d", **forged).body)
    assert (answer["client"], answer["scheme"]) == (ADDRESS, "http")


def test_what_has_not_landed_is_forwarded(sites: Sites) -> None:
    content = os.urandom(3 * BODY_RATE)
    assert sites.upload("ams", "big.bin", content).status == 200
    found = sites.ask("nyc", "/photos/big.bin")
    assert (found.status, found.verdict, found.headers["Cache-Control"]) == (200, "forward ams", "no-store")
    assert found.body == content
    _landed(sites, "nyc", "big.bin", content)
    assert sites.ask("nyc", "/photos/big.bin").verdict == "serve"


def test_not_found_and_not_to_be_found(sites: Sites) -> None:
    absent = sites.ask("nyc", "/photos/never.jpg", headers={"Accept": "image/*"})
    assert (absent.status, absent.headers["Cache-Control"]) == (404, "no-store")
    for hidden in ("/.anycastle/tmp", "/.git/config", "/x.cgi", "/no.php", "/photos/none.php/x"):
        assert sites.ask("nyc", hidden).status == 404, hidden
    assert sites.ask("nyc", "/a%2Fb", headers=JUDGED).status == 400
    assert sites.ask("nyc", "/", host="www.example.net").status == 421
    assert sites.ask("nyc", "/.anycastle/verdict").status == 404
    assert sites.ask("nyc", "/.anycastle/write").status == 404


def test_a_body_of_unknown_length_after_100_continue(sites: Sites) -> None:
    with socket.create_connection((ADDRESS, sites.ports["ams"]), timeout=20) as client:
        head = f"POST /upload.php HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: multipart/form-data; boundary=e\r\n"
        client.sendall(
            f"{head}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        disposition = 'Content-Disposition: form-data; name="photo"; filename="chunked.jpg"'
        form = f"--e\r\n{disposition}\r\n\r\nchunks\r\n--e--\r\n".encode()
        client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(form), form))
        answer = b""
        while more := client.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert sites.ask("sgp", "/photos/chunked.jpg").body == b"chunks"


def test_a_write_is_held_until_it_is_fenced_and_an_isolated_site_refuses(sites: Sites) -> None:
    sites.upload("ams", "d.jpg", b"before")
    members = sites.members
    for name in ("nyc", "sgp"):
        members.stop(name, signal.SIGKILL)
    answer = sites.upload("ams", "d.jpg", b"after")  # begun under the last leases, or refused at once
    assert (answer.status, answer.verdict) == (503, "refuse")
    assert int(answer.headers["Retry-After"]) > 0
    refused = until(lambda: _refused(sites, "/photos/d.jpg"), "an isolated site refuses", 20)
    assert (refused.verdict, refused.headers["Cache-Control"]) == ("refuse", "no-store")
    assert int(refused.headers["Retry-After"]) > 0
    assert b"before" not in refused.body
    assert _refused(sites, "/upload.php") is not None
    for name in ("nyc", "sgp"):
        members.start(name)
    members.settled()


def test_where_the_gate_does_not_answer_nothing_is_served(sites: Sites) -> None:
    """Last, for it ends a member."""
    sites.upload("sgp", "e.jpg", b"e")
    assert sites.ask("sgp", "/photos/e.jpg").status == 200
    assert sites.members.stop("sgp")[0] == 0
    answer = sites.ask("sgp", "/photos/e.jpg")
    assert (answer.status, answer.headers["Cache-Control"]) == (503, "no-store")
    assert sites.upload("sgp", "e.jpg", b"f").status == 502
    assert sites.ask("nyc", "/photos/e.jpg").body == b"e"


def _landed(sites: Sites, site: str, name: str, content: bytes) -> None:
    path = sites.members.root(site) / "alice/photos" / name
    until(lambda: path.exists() and path.read_bytes() == content, f"{name} has landed at {site}")
    until(lambda: sites.ask(site, f"/photos/{name}").verdict == "serve", f"{site} serves {name}")


def _refused(sites: Sites, path: str) -> object:
    answer = sites.ask("ams", path)
    time.sleep(0.05)
    return answer if answer.status == 503 else None


def _passed(sites: Sites, path: str) -> Answer | None:
    """nyc's answer, if the gate was not asked: it would have named the content."""
    answer = sites.ask("nyc", path)
    return answer if str(answer.headers["ETag"]).startswith("W/") else None
