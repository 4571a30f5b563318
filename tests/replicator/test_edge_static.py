"""Files that the edge serves by itself: which, whole and in parts, and that the gate has the last word."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from anycastle.replicator.edge_static import byte_range, content_type, open_static
from anycastle.replicator.entry import Version
from anycastle.replicator.gate import Refuse, Serve
from tests.replicator.edge_certificates import make
from tests.replicator.edge_site import ALICE, ETAG, KNOWN, SERVE, Application, Site, signed, site
from tests.replicator.members import HOST

LARGE = bytes(range(256)) * 20_000
STATIC = ("*.jpg", "*.css", "*.bin", "*.txt", "*.fifo")


@asynccontextmanager
async def files(folder: Path, **settings: object) -> AsyncIterator[tuple[Site, Path, aiohttp.ClientSession]]:
    """A site with `static`, its document root and a client."""
    htdocs = folder / "alice" / "htdocs"
    htdocs.mkdir(parents=True)
    (htdocs / "a.jpg").write_bytes(b"0123456789")
    (htdocs / "large.bin").write_bytes(LARGE)
    group = {"root": folder, "static": STATIC}
    async with site(group=group, **settings) as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        ams.gate.read = KNOWN
        yield ams, htdocs, client


async def test_what_the_patterns_name(tmp_path: Path) -> None:
    async with files(tmp_path) as (ams, htdocs, client):
        (htdocs / "page.html").write_text("not named")
        async with client.get(ams.url("/a.jpg?v=2")) as got:
            assert signed(got) == (200, "ams", "serve")
            assert await got.read() == b"0123456789"
            assert (got.headers["Content-Type"], got.headers["ETag"]) == ("image/jpeg", ETAG)
            assert (got.headers["Accept-Ranges"], "Last-Modified" in got.headers) == ("bytes", False)
        async with client.get(ams.url("/large.bin")) as got:
            assert await got.read() == LARGE
        async with client.head(ams.url("/large.bin")) as got:
            assert (got.status, got.headers["Content-Length"], await got.read()) == (200, str(len(LARGE)), b"")
        assert ams.application.requests == []
        assert len(ams.gate.asked) == 6, "before the file was opened, and after"
        for path in ("/page.html", "/none.jpg"):
            async with client.get(ams.url(path)) as got:
                assert (got.status, await got.text()) == (404, "no such file"), "the application's to answer"


async def test_what_is_never_served(tmp_path: Path) -> None:
    async with files(tmp_path) as (ams, htdocs, client):
        secret = tmp_path / "secret.txt"
        secret.write_text("secret")
        (htdocs / ".hidden.txt").write_text("secret")
        (htdocs / ".git").mkdir()
        (htdocs / ".git" / "config.txt").write_text("secret")
        (htdocs / "link.txt").symlink_to(secret)
        (htdocs / "inner.txt").symlink_to("a.jpg")
        (htdocs / "up").symlink_to(tmp_path)
        (htdocs / "folder.txt").mkdir()
        os.mkfifo(htdocs / "pipe.fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(htdocs / "socket.txt"))
        for path in (
            *("/.hidden.txt", "/.git/config.txt", "/link.txt", "/inner.txt", "/up/secret.txt", "/folder.txt"),
            *("/pipe.fifo", "/socket.txt", "/%2ehidden.txt", "/folder.txt/"),
        ):
            async with asyncio.timeout(5), client.get(ams.url(path)) as got:
                assert (got.status, await got.text()) == (404, "no such file"), path
        (htdocs / ".well-known").mkdir()
        (htdocs / ".well-known" / "security.txt").write_text("mail us")
        async with client.get(ams.url("/.well-known/security.txt")) as got:
            assert await got.text() == "mail us"


async def test_parts(tmp_path: Path) -> None:
    async with files(tmp_path) as (ams, _, client):
        for asked, status, body, content_range in (
            ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
            ("bytes=8-", 206, b"89", "bytes 8-9/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
            ("bytes=10-", 416, b"", "bytes */10"),
            ("bytes=-0", 416, b"", "bytes */10"),
            ("bytes=4-2", 200, b"0123456789", None),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("lines=1-2", 200, b"0123456789", None),
        ):
            async with client.get(ams.url("/a.jpg"), headers={"Range": asked}) as got:
                assert (got.status, await got.read()) == (status, body), asked
                assert got.headers.get("Content-Range") == content_range
        for if_range, status in ((ETAG, 206), ('"b3-00"', 200), (f"W/{ETAG}", 200)):
            async with client.get(ams.url("/a.jpg"), headers={"Range": "bytes=1-1", "If-Range": if_range}) as got:
                assert got.status == status
        async with client.get(ams.url("/large.bin"), headers={"Range": "bytes=100000-3000000"}) as got:
            assert await got.read() == LARGE[100_000:3_000_001]


async def test_validators(tmp_path: Path) -> None:
    async with files(tmp_path) as (ams, htdocs, client):
        async with client.get(ams.url("/a.jpg"), headers={"If-None-Match": ETAG}) as got:
            assert (got.status, got.headers["ETag"], await got.read()) == (304, ETAG, b"")
        async with client.get(ams.url("/a.jpg"), headers={"If-Modified-Since": "Mon, 01 Jan 2035 00:00:00 GMT"}) as got:
            assert got.status == 200, "the hash is the only validator"
        ams.gate.read = SERVE
        async with client.get(ams.url("/a.jpg")) as got:
            etag, modified = got.headers["ETag"], got.headers["Last-Modified"]
        for held, status in (
            ({"If-None-Match": etag}, 304),
            ({"If-Modified-Since": modified}, 304),
            ({"If-Modified-Since": modified, "If-None-Match": '"other"'}, 200),
            ({"If-Modified-Since": "Mon, 01 Jan 2035 00:00:00 GMT"}, 200),
        ):
            async with client.get(ams.url("/a.jpg"), headers=held) as got:
                assert got.status == status, held
        (htdocs / "a.jpg").write_bytes(b"9876543210")
        async with client.get(ams.url("/a.jpg"), headers={"If-None-Match": etag}) as got:
            assert (got.status, await got.read()) == (200, b"9876543210")


async def test_the_gate_is_asked_again_when_the_file_is_open(tmp_path: Path) -> None:
    async with files(tmp_path) as (ams, _, client):
        ams.gate.later = [Serve(None, Version(1, "ams"), ""), Serve(None, Version(2, "ams"), "")]
        ams.gate.read = Serve(None, Version(2, "ams"), "")
        async with client.get(ams.url("/a.jpg")) as got:
            assert (got.status, got.headers["X-Anycastle-Version"]) == (200, "2@ams")
        assert len(ams.gate.asked) == 4
        ams.gate.later, ams.gate.read = [KNOWN], Refuse("not current: no leases", 2)
        async with client.get(ams.url("/a.jpg")) as got:
            assert signed(got) == (503, "ams", "refuse")


async def test_a_client_that_takes_nothing_of_a_large_file(tmp_path: Path) -> None:
    async with files(tmp_path, silence_seconds_max=0.3) as (ams, htdocs, _):
        (htdocs / "huge.bin").write_bytes(b"")
        os.truncate(htdocs / "huge.bin", 500_000_000)
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0], limit=1)
        writer.write(f"GET /huge.bin HTTP/1.1\r\nHost: {ALICE}\r\n\r\n".encode())
        assert await reader.read(1)
        async with asyncio.timeout(5):
            while ams.edge.levels(wall=0)["open_requests"]:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        writer.close()


async def test_curl_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with files(tmp_path) as (ams, _, _):
        part = tmp_path / "part"
        part.write_bytes(LARGE[:1_000_000])
        command = ["curl", "-fsS", "-C", "-", "-o", str(part), "-H", f"Host: {ALICE}", ams.url("/large.bin")]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert part.read_bytes() == LARGE


async def test_over_tls(tmp_path: Path) -> None:
    certificate = make(tmp_path / "tls", "star", "*.blogs.example.com")
    tls = {"listen": (), "tls_listen": ((HOST, 0),), "certificates": (certificate,)}
    async with files(tmp_path / "root", **tls) as (ams, _, _):
        got, port = tmp_path / "got", ams.edge.addresses[0][1]
        command = [
            *("curl", "-fsS", "--cacert", str(certificate.certificate), "--connect-to", f"::{HOST}:{port}"),
            *("-o", str(got), f"https://{ALICE}/large.bin"),
        ]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert got.read_bytes() == LARGE


def test_a_root_that_is_gone_serves_nothing(tmp_path: Path) -> None:
    group = Site("ams", "http://127.0.0.1:1", Application(), group={"root": tmp_path / "none"}).group
    assert open_static(group, b"alice/htdocs/a.jpg") is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "image/jpeg"),
        ("a.css", "text/css"),
        ("x/a.min.js", "text/javascript"),
        ("a.webp", "image/webp"),
        ("a.svg", "image/svg+xml"),
        ("a.tar.gz", "application/gzip"),
        ("a.html.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("a.nobodyknows", "application/octet-stream"),
        ("jpg", "application/octet-stream"),
    ],
)
def test_types(name: str, kind: str) -> None:
    assert content_type(name) == kind


def test_no_part_of_nothing() -> None:
    assert byte_range("", 0) is None
    with pytest.raises(ValueError, match="bytes=0-"):
        byte_range("bytes=0-", 0)
