"""Which requests are taken, without a socket."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.edge_request import RequestFault, check, origin_form

HOST = (b"Host", b"a.example.com")


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ((1, 1), ()),
        ((1, 0), ()),
        ((1, 1), ((b"Content-Length", b"0"),)),
        ((1, 1), ((b"content-length", b"123456789012345678"),)),
        ((1, 1), ((b"TRANSFER-encoding", b" Chunked\t"),)),
        ((1, 1), ((b"X", b"\xe9\t "),)),
    ],
)
def test_taken(version: tuple[int, int], fields: tuple[tuple[bytes, bytes], ...]) -> None:
    check(version, "POST", (HOST, *fields))


@pytest.mark.parametrize(
    ("version", "method", "fields", "status"),
    [
        ((0, 9), "GET", (HOST,), 505),
        ((2, 0), "GET", (HOST,), 505),
        ((1, 1), "CONNECT", (HOST,), 405),
        ((1, 1), "GET", (), 400),
        ((1, 1), "GET", (HOST, HOST), 400),
        ((1, 1), "GET", (HOST, (b"X", b"a\nb")), 400),
        ((1, 1), "GET", (HOST, (b"X\0", b"a")), 400),
        ((1, 1), "POST", (HOST, (b"Content-Length", b"1234567890123456789")), 400),
        ((1, 1), "POST", (HOST, (b"Content-Length", b"\xb2")), 400),
        ((1, 1), "POST", (HOST, (b"Content-Length", b"5"), (b"CONTENT-LENGTH", b"5")), 400),
        ((1, 1), "POST", (HOST, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"5")), 400),
        ((1, 1), "POST", (HOST, (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")), 400),
        ((1, 1), "POST", (HOST, (b"Transfer-Encoding", b"gzip, chunked")), 400),
        ((1, 1), "POST", (HOST, (b"Transfer-Encoding", b"\x0bchunked")), 400),
        ((1, 0), "POST", (HOST, (b"Transfer-Encoding", b"chunked")), 400),
    ],
)
def test_refused(version: tuple[int, int], method: str, fields: tuple[tuple[bytes, bytes], ...], status: int) -> None:
    with pytest.raises(RequestFault) as caught:
        check(version, method, fields)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("target", "form"),
    [
        ("/", "/"),
        ("//b/x", "//b/x"),
        ("http://a.example.com", "/"),
        ("HTTPS://A.example.COM/x?y", "/x?y"),
        ("http://a.example.com?y", "/?y"),
    ],
)
def test_origin_form(target: str, form: str) -> None:
    assert origin_form(target, "a.example.com") == form


@given(st.sampled_from(["", "*", "a", "ftp://a.example.com/", "http://b.example.com/", "http://a.example.com:80/"]))
def test_other_targets(target: str) -> None:
    with pytest.raises(RequestFault):
        origin_form(target, "a.example.com")


@given(st.text(max_size=40))
def test_a_form_is_a_path_or_a_fault(target: str) -> None:
    with contextlib.suppress(RequestFault):
        assert origin_form(target, "a.example.com").startswith("/")
