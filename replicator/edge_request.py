"""Which requests the edge takes at all. Pure.

Law: how long a request is must mean the same to us and to every program behind us, whatever it was written in; what
two of them might read differently is not passed on but answered 400, and its connection closed (RFC 9112 sections 5,
6.1, 6.3 and 11.2). The HTTP library refuses most of it before we see it (tests/replicator/test_edge_hostile.py has the
table); what it lets through is refused here, and what matters most is looked at twice.

A field whose name holds an underscore is dropped: CGI and its heirs take `Content_Length` for `Content-Length`.
"""

import re
from collections.abc import Sequence

LENGTH_DIGITS_MAX = 18
VERSIONS = ((1, 0), (1, 1))
METHODS_REFUSED = frozenset(("CONNECT", "TRACE"))
"""The first asks for a tunnel to anywhere, the second shows a client's cookies to a script (RFC 9110 section 9.3.8)."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(/[^#]*|\?[^#]*)?", re.IGNORECASE)


class RequestFault(Exception):
    """`status` and text of the answer; the connection ends with it."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def check(version: tuple[int, int], method: str, raw_headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises RequestFault."""
    if tuple(version) not in VERSIONS:
        raise RequestFault(505, "expected HTTP/1.1")
    if method in METHODS_REFUSED:
        raise RequestFault(405, f"{method} is not served")
    lengths, codings, hosts = [], [], 0
    for name, value in raw_headers:
        if _CONTROL.search(value) or _CONTROL.search(name):
            raise RequestFault(400, "a field holds a control character")
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(value)
        elif lower == b"transfer-encoding":
            codings.append(value)
        elif lower == b"host":
            hosts += 1
    if hosts != 1:
        raise RequestFault(400, "expected one Host field")
    if codings and (lengths or len(codings) > 1 or codings[0].strip(b"\t ").lower() != b"chunked"):
        raise RequestFault(400, "expected Transfer-Encoding to be chunked, and no Content-Length beside it")
    if codings and tuple(version) != (1, 1):
        raise RequestFault(400, "HTTP/1.0 has no Transfer-Encoding")
    if len(lengths) > 1 or any(not value.isdigit() or len(value) > LENGTH_DIGITS_MAX for value in lengths):
        raise RequestFault(400, "expected one Content-Length, a number")


def origin_form(target: str, host: str) -> str:
    """The path and query of a request target; its absolute form is taken when it names the same host.

    RFC 9112 section 3.2.2 says to take it, and to forget the Host field; programs behind us might not forget it.
    """
    if target.startswith("/"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise RequestFault(400, "expected a URL path that starts with a slash")
    if absolute[1].lower() != host.lower():
        raise RequestFault(400, "the request names one host in its target and another in its Host field")
    below = absolute[2] or "/"
    return below if below.startswith("/") else f"/{below}"
