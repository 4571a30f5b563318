"""Header fields on their way through the edge. Pure.

Laws: hop-by-hop fields (RFC 9110 section 7.6.1) end here; a client cannot speak in our name (`X-Anycastle-…`); Host
goes through unchanged. What is said of the client is the matter of `edge_client`.
Where the gate knows the content, its hash is the only validator: the application's second-wide modification times
would let an overwritten file pass as unchanged.
"""

import re

from multidict import CIMultiDict, CIMultiDictProxy

from anycastle.replicator.edge_forward import HOP_HEADER

HOP_BY_HOP = frozenset(
    (
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_OURS = "x-anycastle-"
_NEVER_LISTED = frozenset(("content-length", "host"))
"""A Connection field cannot take these away."""
_IN_NOT_MODIFIED = ("Cache-Control", "Content-Location", "Expires", "Set-Cookie", "Vary")
"""RFC 9110 section 15.4.5, with cookies; ETag is ours."""


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Without hop-by-hop fields, those that Connection lists, and ours."""
    listed = {name.strip().lower() for line in headers.getall("Connection", ()) for name in line.split(",")}
    dropped = HOP_BY_HOP | (listed - _NEVER_LISTED)
    kept = ((name, value) for name, value in headers.items() if name.lower() not in dropped)
    return CIMultiDict((name, value) for name, value in kept if not name.lower().startswith(_OURS))


def with_hop(headers: CIMultiDict[str], member: str) -> CIMultiDict[str]:
    """A request on its way from `member` to another one."""
    told = headers.copy()
    told[HOP_HEADER] = member
    return told


def entity_tag(digest: bytes) -> str:
    return f'"b3-{digest.hex()}"'


def without_conditions(headers: CIMultiDict[str], etag: str) -> CIMultiDict[str]:
    """The request for an application that does not know our validator; we judge it on the way back.

    If-Range that holds lets the Range stand; one that does not asks for the whole (RFC 9110 section 13.1.5).
    """
    plain = headers.copy()
    for name in ("If-None-Match", "If-Modified-Since"):
        plain.popall(name, None)
    if_range = plain.pop("If-Range", None)
    if if_range is not None and if_range.strip() != etag:
        plain.popall("Range", None)
    return plain


def none_match_fails(headers: CIMultiDict[str], etag: str) -> bool:
    """Whether If-None-Match names our validator, so that the answer is 304 (weakly, RFC 9110 section 13.1.2)."""
    return tag_listed(",".join(headers.getall("If-None-Match", ())), etag)


def tag_listed(line: str, etag: str) -> bool:
    """Whether the value of an If-None-Match names the tag."""
    return line.strip() == "*" or etag in re.findall(r'"[^"]*"', line)


def tagged(headers: CIMultiDict[str], etag: str) -> CIMultiDict[str]:
    """An answer with the content's hash; only a weak one when the application encoded (compressed) the content."""
    result = headers.copy()
    result["ETag"] = f"W/{etag}" if "Content-Encoding" in headers else etag
    return result


def not_modified(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """What of an answer goes with a 304."""
    return CIMultiDict((name, value) for name in (*_IN_NOT_MODIFIED, "ETag") for value in headers.getall(name, ()))


def uncached(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """An answer that no cache may keep: it is true only now and here."""
    result = headers.copy()
    result["Cache-Control"] = "no-store"
    result.popall("Expires", None)
    return result
