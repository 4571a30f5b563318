"""Each kind of value: what it takes, what it refuses, and that it says what it expected."""

import enum
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle import config_values as v
from anycastle.config_read import Expected

LABEL = "x" * 63


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


PARSERS: dict[str, Callable[[Any], Any]] = {
    name: getattr(v, name)
    for name in (
        *("text", "any_text", "short_name", "boolean", "seconds", "positive_seconds", "whole_seconds", "size_bytes"),
        *("bytes_per_second", "requests_per_second", "responses_per_second", "share", "address", "ipv4", "prefix"),
        *("endpoint", "listener", "own_listener", "http_url", "host_name", "record_type"),
        *("socket_file", "file_mode", "account"),
    )
} | {
    "whole": v.whole(1, 10),
    "number": v.number(0, 1),
    "one_of": v.one_of(Colour),
    "many": v.many(v.whole(1, 10)),
    "some_of": v.some_of(("ams", "nyc"), "sites"),
}


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("socket_file", "/run/anycastle/{site}.sock", "/run/anycastle/{site}.sock"),
        ("file_mode", "0660", 0o660),
        ("account", "www-data:web", "www-data:web"),
        ("text", "x", "x"),
        ("any_text", "", ""),
        ("short_name", "a-1", "a-1"),
        ("short_name", "a" * 32, "a" * 32),
        ("boolean", False, False),
        ("whole", 10, 10),
        ("number", 1, 1.0),
        ("seconds", "0s", 0.0),
        ("seconds", "500ms", 0.5),
        ("seconds", " 1.5 min ", 90.0),
        ("seconds", "2d", 172800.0),
        ("whole_seconds", "2min", 120),
        ("size_bytes", "256KiB", 262144),
        ("size_bytes", "1.5 MB", 1_500_000),
        ("bytes_per_second", "2MB/s", 2_000_000),
        ("requests_per_second", "800 req/s", 800.0),
        ("responses_per_second", "0 resp/s", 0.0),
        ("share", "2 %", 0.02),
        ("address", "2001:db8::1", ipaddress.ip_address("2001:db8::1")),
        ("ipv4", "192.0.2.1", ipaddress.ip_address("192.0.2.1")),
        ("prefix", "198.51.100.0/24", ipaddress.ip_network("198.51.100.0/24")),
        ("endpoint", "ams.example.net:7400", ("ams.example.net", 7400)),
        ("endpoint", "[2001:db8::1]:53", ("2001:db8::1", 53)),
        ("listener", "0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("own_listener", "[::1]:53", ("::1", 53)),
        ("http_url", "https://x.example/y?z", "https://x.example/y?z"),
        ("host_name", "*.Photos.Example.COM.", "*.photos.example.com"),
        ("host_name", f"{LABEL}.example", f"{LABEL}.example"),
        ("record_type", "aaaa", "AAAA"),
        ("one_of", "red", Colour.RED),
        ("many", [1, 2], (1, 2)),
        ("many", [], ()),
        ("some_of", ["nyc"], ("nyc",)),
    ],
)
def test_taken(name: str, value: Any, parsed: Any) -> None:
    found = PARSERS[name](value)
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "", "not empty"),
        ("socket_file", "run/verdict.sock", "an absolute file name"),
        ("socket_file", "/" + "x" * 80, "at most 80 bytes"),
        ("file_mode", 660, "octal text"),
        ("file_mode", "0888", "octal text"),
        ("account", "www-data:", "an account"),
        ("account", "0; id", "an account"),
        ("any_text", 1, "a text"),
        ("short_name", "a" * 33, "at most 32"),
        ("short_name", "-a", "inner hyphens"),
        ("short_name", "Ams", "lower-case"),
        ("boolean", 1, "true or false"),
        ("whole", True, "from 1 to 10"),
        ("whole", 11, "from 1 to 10"),
        ("whole", 1.0, "whole number"),
        ("number", True, "a number"),
        ("number", float("nan"), "from 0 to 1"),
        ("seconds", "3", "a time such as"),
        ("seconds", 3, "a time such as"),
        ("seconds", "-3s", "a time such as"),
        ("seconds", "3 S", "with a unit of ms, s"),
        ("positive_seconds", "0s", "above zero"),
        ("whole_seconds", "1500ms", "whole seconds"),
        ("size_bytes", "3 bytes", "a size such as"),
        ("bytes_per_second", "0B/s", "above zero"),
        ("bytes_per_second", "2MB", "a rate such as"),
        ("requests_per_second", "800", "req/s"),
        ("share", "51 %", 'at most "50 %"'),
        ("address", "192.0.2", "an IPv4 or IPv6 address"),
        ("address", "192.0.2.0/24", "an IPv4 or IPv6 address"),
        ("ipv4", "::1", "an IPv4 address"),
        ("prefix", "198.51.100.1/24", "without host bits"),
        ("prefix", "::/0", "not the default route"),
        ("endpoint", "192.0.2.1:0", "host and port"),
        ("endpoint", "192.0.2.1:65536", "host and port"),
        ("endpoint", "2001:db8::1:53", "host and port"),
        ("listener", "localhost:53", "an address and port"),
        ("own_listener", "0.0.0.0:53", "must leave from the address"),
        ("own_listener", "[::]:53", "must leave from the address"),
        ("http_url", "ftp://x", "a URL"),
        ("http_url", "http://", "a URL"),
        ("http_url", "http://[::1", "a URL"),
        ("http_url", "http://x:99999", "a URL"),
        ("host_name", "a..b", "a host name"),
        ("host_name", "a.*.b", "a host name"),
        ("host_name", f"{LABEL}x.example", "a host name"),
        ("host_name", ".".join([LABEL] * 4), "a host name"),
        ("host_name", "", "a host name"),
        ("record_type", "PHOTO", "a record type"),
        ("record_type", "ANY", "a record type"),
        ("record_type", "AXFR", "a record type"),
        ("record_type", "TYPE99999", "a record type"),
        ("one_of", "green", '"red", "blue"'),
        ("many", 3, "an array, each value a whole number"),
        ("many", [11], "from 1 to 10"),
        ("some_of", ["ams", "ams"], "different sites"),
        ("some_of", ["lon"], "out of ams, nyc"),
    ],
)
def test_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(Expected) as caught:
        PARSERS[name](value)
    assert expected in str(caught.value)


@given(
    name=st.sampled_from(sorted(PARSERS)),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.lists(st.text(max_size=5) | st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
def test_anything_else_is_refused_and_never_a_traceback(name: str, value: Any) -> None:
    try:
        PARSERS[name](value)
    except Expected as expected:
        refused = str(expected)
    else:
        return
    assert refused
