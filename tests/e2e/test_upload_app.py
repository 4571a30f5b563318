"""The demo's application: stores and gives back, one folder for each customer, and knows nothing of Anycastle."""

import ast
import http.client
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from examples.demo import upload_app


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    handler = type("Application", (upload_app.Handler,), {"root": tmp_path / "content"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, method: str, path: str, body: bytes | None = None, host: str = "alice.x") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Host": host})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_what_is_stored_comes_back_for_its_customer_only(port: int, tmp_path: Path) -> None:
    assert ask(port, "POST", "/a.jpg", b"picture") == (201, b"stored\n")
    assert ask(port, "GET", "/a.jpg") == (200, b"picture")
    assert ask(port, "HEAD", "/a.jpg") == (200, b"")
    assert ask(port, "GET", "/a.jpg", host="bob.x")[0] == 404
    assert (tmp_path / "content" / "alice" / "a.jpg").read_bytes() == b"picture"


def test_it_is_well(port: int) -> None:
    assert ask(port, "GET", "/health") == (200, b"ok\n")


@pytest.mark.parametrize("path", ["/../a.jpg", "/.hidden", "/x/y.jpg", "/", "/a%2fb"])
def test_names_that_are_not_plain_store_nothing(port: int, tmp_path: Path, path: str) -> None:
    assert ask(port, "POST", path, b"x")[0] == 400
    assert not (tmp_path / "content").exists()


@pytest.mark.parametrize("host", ["..", "a/b.x", "UPPER.x", ""])
def test_hosts_that_are_no_customer_store_nothing(port: int, tmp_path: Path, host: str) -> None:
    assert ask(port, "POST", "/a.jpg", b"x", host=host)[0] == 400
    assert not (tmp_path / "content").exists()


def test_it_is_unmodified_software() -> None:
    tree = ast.parse(Path(upload_app.__file__).read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name and name.split(".")[0] == "anycastle"}
