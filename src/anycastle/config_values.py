"""Values in the configuration: every text that means a quantity carries its unit, and each parser says what it expects.

All parsers take what TOML gave and return the typed value or raise `Expected`.
"""

import enum
import ipaddress
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dns.exception
import dns.rdatatype

from anycastle.config_read import Expected

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Expected("a text in quotes that is not empty")
    return value


def any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Expected("a text in quotes")
    return value


def short_name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Expected("a short name of lower-case letters, digits and inner hyphens, at most 32")
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Expected("true or false")
    return value


def whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Expected(f"a whole number from {low} to {high}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Expected(f"a number from {low:g} to {high:g}")
        return float(value)

    return parse


def _quantity(value: Any, units: dict[str, float], what: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z/%]+)\s*", value) if isinstance(value, str) else None
    if not found or found[2] not in units:
        raise Expected(f"{what} with a unit of {', '.join(units)}")
    return float(found[1]) * units[found[2]]


def seconds(value: Any) -> float:
    return _quantity(value, _SECONDS, 'a time such as "500ms" or "3s"')


def positive_seconds(value: Any) -> float:
    found = seconds(value)
    if found <= 0:
        raise Expected('a time above zero such as "500ms" or "3s"')
    return found


def whole_seconds(value: Any) -> int:
    found = seconds(value)
    if found != int(found):
        raise Expected('a time of whole seconds such as "5s"')
    return int(found)


def size_bytes(value: Any) -> int:
    return int(_quantity(value, dict(_BYTES), 'a size such as "256KiB"'))


def bytes_per_second(value: Any) -> int:
    rate = int(_quantity(value, {f"{u}/s": float(n) for u, n in _BYTES.items()}, 'a rate such as "2MB/s"'))
    if rate <= 0:
        raise Expected('a rate above zero such as "2MB/s"')
    return rate


def requests_per_second(value: Any) -> float:
    return _quantity(value, {"req/s": 1.0}, 'a rate such as "800 req/s"')


def responses_per_second(value: Any) -> float:
    return _quantity(value, {"resp/s": 1.0}, 'a rate such as "5000 resp/s"')


def share(value: Any, percent_max: int = 50) -> float:
    found = _quantity(value, {"%": 0.01}, 'a share such as "2 %"')
    if found > percent_max / 100:
        raise Expected(f'a share of at most "{percent_max} %"')
    return found


def address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text(value))
    except ValueError:
        raise Expected("an IPv4 or IPv6 address") from None


def socket_file(value: Any) -> str:
    """Linux has 107 bytes for the name of a Unix socket; some are for a temporary name and for `{site}`."""
    name = text(value)
    if not name.startswith("/") or len(name.encode()) > 80:
        raise Expected('an absolute file name of at most 80 bytes such as "/run/anycastle/verdict.sock"')
    return name


def file_mode(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise Expected('rights as an octal text such as "0660"')
    return int(value, 8)


def account(value: Any) -> str:
    name = r"[a-z_][a-z0-9_-]{0,31}"
    if not isinstance(value, str) or not re.fullmatch(rf"{name}(:{name})?", value):
        raise Expected('an account, or account and group, such as "www-data" or "www-data:www-data"')
    return value


def ipv4(value: Any) -> ipaddress.IPv4Address:
    found = address(value)
    if not isinstance(found, ipaddress.IPv4Address):
        raise Expected("an IPv4 address")
    return found


def prefix(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        found = ipaddress.ip_network(text(value))
    except ValueError:
        raise Expected('a network without host bits such as "198.51.100.0/24"') from None
    if found.prefixlen == 0:
        raise Expected("a network that is not the default route")
    return found


def endpoint(value: Any) -> tuple[str, int]:
    """`host:port`, `[v6]:port`."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]+):(\d{1,5})", value) if isinstance(value, str) else None
    if not found or not 1 <= int(found[2]) <= 65535:
        raise Expected('host and port such as "192.0.2.1:53" or "[2001:db8::1]:53"')
    return found[1].strip("[]"), int(found[2])


def listener(value: Any) -> tuple[str, int]:
    """Like `endpoint`, but an address: what we bind to must not hang on a resolver."""
    host, port = endpoint(value)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise Expected('an address and port such as "192.0.2.1:53" or "[2001:db8::1]:53"') from None
    return host, port


def own_listener(value: Any) -> tuple[str, int]:
    """Like `listener`, but one address: a nameserver must reply from the address that was asked (RFC 2181, 4.1)."""
    host, port = listener(value)
    if ipaddress.ip_address(host).is_unspecified:
        raise Expected("an address of this site, not all of them: a reply must leave from the address that was asked")
    return host, port


def http_url(value: Any) -> str:
    expected = Expected('a URL such as "http://127.0.0.1:8080"')
    try:
        parts = urlsplit(text(value))
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket without its other, a port out of range
        raise expected from None
    if not fits:
        raise expected
    return str(value)


def host_name(value: Any) -> str:
    """A host name, or a wildcard `*.rest`; returned in lower case without the last dot."""
    name = value.lower().rstrip(".") if isinstance(value, str) else ""
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise Expected('a host name such as "www.example.com" or "*.example.com"')
    return name


def record_type(value: Any) -> str:
    """A type of data: ANY, AXFR and the like ask for something else than records of one kind."""
    try:
        kind = dns.rdatatype.from_text(text(value))
    except (dns.exception.DNSException, ValueError):
        raise Expected('a record type such as "SOA" or "A"') from None
    if dns.rdatatype.is_metatype(kind) or kind == dns.rdatatype.NONE:
        raise Expected('a record type such as "SOA" or "A"')
    return dns.rdatatype.to_text(kind)


def one_of(kind: type[E]) -> Callable[[Any], E]:
    def parse(value: Any) -> E:
        try:
            return kind(value)
        except ValueError:
            raise Expected("one of " + ", ".join(f'"{member.value}"' for member in kind)) from None

    return parse


def many(parse: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    """An array, each of whose values `parse` takes."""

    def parse_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Expected("an array, each value " + _expectation(parse))
        return tuple(parse(item) for item in value)

    return parse_all


def some_of(known: tuple[str, ...], what: str) -> Callable[[Any], tuple[str, ...]]:
    """An array of distinct names out of `known`."""

    def parse(value: Any) -> tuple[str, ...]:
        names = value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None
        if names is None or len(set(names)) != len(names) or not set(names) <= set(known):
            raise Expected(f"an array of different {what} out of {', '.join(known)}")
        return tuple(names)

    return parse


def one_out_of(known: tuple[str, ...], what: str) -> Callable[[Any], str | None]:
    """One name out of `known`."""

    def parse(value: Any) -> str | None:
        if value not in known:
            raise Expected(f"a {what} out of {', '.join(known)}")
        return str(value)

    return parse


def _expectation(parse: Callable[[Any], Any]) -> str:
    try:
        parse(None)
    except Expected as expected:
        return str(expected)
    return "as documented"
