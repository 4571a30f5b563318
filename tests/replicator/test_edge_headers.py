"""Fields on their way through: what ends here, what is added, what decides about 304."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from anycastle.replicator import edge_headers as fields

ETAG = fields.entity_tag(b"\xab" * 32)


def headers(*pairs: tuple[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(pairs)


def proxy(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(headers(*pairs))


def test_hop_by_hop_fields_end_here() -> None:
    kept = fields.end_to_end(
        proxy(
            ("Host", "h"),
            ("Connection", "close, X-Private"),
            ("connection", "Content-Length"),
            ("X-Private", "1"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
            ("Proxy-Connection", "x"),
            ("X-ANYCASTLE-HOP", "ams"),
            ("Content-Length", "5"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
        )
    )
    assert list(kept.items()) == [("Host", "h"), ("Content-Length", "5"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]


@pytest.mark.parametrize(
    ("line", "fails"),
    [
        (ETAG, True),
        ("W/" + ETAG, True),
        (f'"a", {ETAG} , "b"', True),
        (" * ", True),
        ("", False),
        ('"a*b"', False),
        (ETAG.strip('"'), False),
        (ETAG[:-2] + '"', False),
    ],
)
def test_if_none_match(line: str, fails: bool) -> None:
    assert fields.none_match_fails(headers(("If-None-Match", line)), ETAG) is fails


def test_conditions_that_only_we_can_judge_are_taken_off() -> None:
    conditions = (("If-None-Match", "x"), ("If-Modified-Since", "y"), ("Range", "bytes=1-"), ("Accept", "z"))
    assert dict(fields.without_conditions(headers(*conditions), ETAG)) == {"Range": "bytes=1-", "Accept": "z"}
    holds = fields.without_conditions(headers(("Range", "bytes=1-"), ("If-Range", ETAG)), ETAG)
    assert dict(holds) == {"Range": "bytes=1-"}
    for other in ("W/" + ETAG, '"x"', "Mon, 01 Jan 2024 00:00:00 GMT"):
        assert not fields.without_conditions(headers(("Range", "bytes=1-"), ("If-Range", other)), ETAG)


def test_answers() -> None:
    answer = headers(
        ("Cache-Control", "max-age=9"), ("Expires", "later"), ("Vary", "Cookie"), ("X", "y"), ("ETag", "q")
    )
    assert fields.tagged(answer, ETAG)["ETag"] == ETAG
    assert fields.tagged(headers(("Content-Encoding", "br")), ETAG)["ETag"] == "W/" + ETAG
    assert set(fields.not_modified(answer)) == {"Cache-Control", "Expires", "Vary", "ETag"}
    assert dict(fields.uncached(answer)) == {"Cache-Control": "no-store", "Vary": "Cookie", "X": "y", "ETag": "q"}
