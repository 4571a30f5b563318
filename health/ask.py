"""What requests to the API may say: checked here once, into types that cannot be wrong.

Law: every refusal is one line that names the parameter and what was expected. Paths are bytes: percent-escapes that are
no UTF-8 come through as they are.
"""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from typing import Literal

import msgspec
from aiohttp import web

from anycastle.errors import AnycastleError
from anycastle.health.view import ALL_GROUPS

PARAMETERS_MAX = 20
WAIT_SECONDS_MAX = 3600.0
NAME_CHARACTERS_MAX = 255
TYPE = re.compile(r"[A-Z][A-Z0-9]{0,15}")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AskError(AnycastleError):
    """A request that says something else than expected; answered 400."""


class DrainOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON body of drain and undrain."""

    site: str
    group: str = ALL_GROUPS


class ScrubOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON body of scrub."""

    group: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """GROUP:PATH."""

    group: str
    path: bytes


def parameters(request: web.Request, *allowed: str) -> dict[str, str]:
    """The query of a URL; unknown and repeated parameters are errors, for they are mistakes. Not UTF-8: surrogates."""
    try:
        pairs = urllib.parse.parse_qsl(
            request.rel_url.raw_query_string,
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError as error:
        raise AskError(f"the query cannot be read ({error}): expected at most {PARAMETERS_MAX} parameters") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            raise AskError(f"unknown parameter {name!a}: expected {', '.join(allowed) or 'none'}")
        if name in found:
            raise AskError(f"parameter {name} is given twice: expected once")
        found[name] = value
    return found


def place(found: dict[str, str]) -> Place:
    text = found.get("path", "")
    group, colon, path = text.partition(":")
    if not colon or not WORD.fullmatch(group):
        raise AskError(f"path is {text[:100]!a}: expected GROUP:PATH, as in blogs:alice/photo.jpg")
    return Place(group, path.encode("utf-8", "surrogateescape"))


def site(found: dict[str, str]) -> str:
    """Empty when it is not said."""
    text = found.get("site")
    if text is not None and not WORD.fullmatch(text):
        raise AskError(f"site is {text[:100]!a}: expected a site's name")
    return text or ""


def name(found: dict[str, str]) -> str:
    text = found.get("name", "").strip().rstrip(".").lower()
    if not text or len(text) > NAME_CHARACTERS_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise AskError(f"name is {text[:100]!a}: expected a DNS name, as in www.example.com")
    return text


def client(found: dict[str, str]) -> Address | None:
    text = found.get("client", "").strip()
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise AskError(f"client is {text[:100]!a}: expected an IP address, as in 192.0.2.1 or 2001:db8::1") from None


def record_type(found: dict[str, str]) -> str:
    text = found.get("type", "A").strip().upper()
    if not TYPE.fullmatch(text):
        raise AskError(f"type is {text[:100]!a}: expected a record type, as in A or AAAA")
    return text


def page_limit(found: dict[str, str], most: int) -> int:
    """How many rows of a long answer; `most` when it does not say."""
    text = found.get("limit", str(most))
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= value <= most:
        raise AskError(f"limit is {text[:100]!a}: expected a number from 1 to {most}")
    return value


def sites(found: dict[str, str]) -> tuple[str, ...]:
    """Empty for all of them."""
    text = found.get("sites", "all")
    if text == "all":
        return ()
    named = tuple(text.split(","))
    if not all(WORD.fullmatch(each) for each in named):
        raise AskError(f"sites is {text[:100]!a}: expected all, or names with commas, as in ams,nyc")
    return named


def seconds(found: dict[str, str]) -> float:
    text = found.get("timeout", "60")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= WAIT_SECONDS_MAX:
        raise AskError(f"timeout is {text[:100]!a}: expected seconds from 0 to {WAIT_SECONDS_MAX:g}")
    return value


class GroupOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a resync."""

    group: str = ALL_GROUPS


class ConflictOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which conflict, and which version is to be kept; empty: none yet, show the kept bytes."""

    id: int
    keep: Literal["", "current", "theirs"] = ""


def group_order(body: bytes) -> str:
    try:
        group = msgspec.json.decode(body, type=GroupOrder).group
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AskError(f'the body cannot be read ({error}): expected {{"group": "blogs"}}') from error
    if group != ALL_GROUPS and not WORD.fullmatch(group):
        raise AskError(f"group is {group[:100]!a}: expected a group's name, or {ALL_GROUPS} for all")
    return group


def conflict_order(body: bytes) -> ConflictOrder:
    try:
        return msgspec.json.decode(body, type=ConflictOrder)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AskError(f'the body cannot be read ({error}): expected {{"id": 7, "keep": "current"}}') from error


def drain_order(body: bytes) -> DrainOrder:
    try:
        order = msgspec.json.decode(body, type=DrainOrder)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AskError(f'the body cannot be read ({error}): expected {{"site": "ams", "group": "blogs"}}') from error
    if not WORD.fullmatch(order.site):
        raise AskError(f"site is {order.site[:100]!a}: expected a site's name")
    if order.group != ALL_GROUPS and not WORD.fullmatch(order.group):
        raise AskError(f"group is {order.group[:100]!a}: expected a group's name, or {ALL_GROUPS} for all")
    return order


class FreezeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON body of freeze."""

    reason: str


def freeze_reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=FreezeOrder).reason
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AskError(f'the body cannot be read ({error}): expected {{"reason": "works on the backbone"}}') from error


def scrub_order(body: bytes) -> ScrubOrder:
    try:
        return msgspec.json.decode(body, type=ScrubOrder)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AskError(f'the body cannot be read ({error}): expected {{"group": "blogs"}}, or {{}} for all') from error
