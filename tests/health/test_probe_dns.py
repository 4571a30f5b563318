"""The dns probe against a real answerer."""

import pytest

from anycastle.health.settings import DnsCheck
from tests.health.probing import look, patience
from tests.health.targets import nameserver
from tests.ports import free_port


@pytest.mark.parametrize(
    ("mood", "ok", "reason"),
    [
        ("good", True, "answered NOERROR"),
        ("garbage", True, "answered NOERROR"),
        ("lame", False, "answered NOERROR, not authoritative; expected an authoritative NOERROR"),
        ("refused", False, "answered REFUSED, authoritative; expected an authoritative NOERROR"),
        ("silent", False, "no answer within 0.5 s"),
    ],
)
async def test_dns(mood: str, ok: bool, reason: str) -> None:
    async with nameserver() as (port, server):
        server.mood = mood
        check = DnsCheck(host="127.0.0.1", port=port, name="www.example.com", type="A")
        assert await look(check, timeout_seconds=patience(reason)) == (ok, reason)


async def test_dns_refused_by_the_host() -> None:
    check = DnsCheck(host="127.0.0.1", port=free_port(), name="example.com")
    assert await look(check) == (False, "connection refused")


@pytest.mark.parametrize(
    ("mood", "extra", "ok", "reason"),
    [
        ("good", {"answer": frozenset({"192.0.2.10"})}, True, "answered NOERROR with what is expected"),
        ("good", {"answer": frozenset({"192.0.2.11"})}, False, "answered 192.0.2.10; expected 192.0.2.11"),
        ("good", {"answer": frozenset({"x."}), "type": "NS"}, False, "answered no such record; expected x."),
        ("refused", {"rcode": "REFUSED"}, True, "answered REFUSED"),
        ("good", {"rcode": "REFUSED"}, False, "answered NOERROR, authoritative; expected an authoritative REFUSED"),
        ("lame", {"authoritative": False}, True, "answered NOERROR"),
        ("refused", {"authoritative": False}, False, "answered REFUSED, authoritative; expected a NOERROR"),
    ],
)
async def test_what_is_expected(mood: str, extra: dict[str, object], ok: bool, reason: str) -> None:
    async with nameserver() as (port, server):
        server.mood = mood
        given = {"type": "A", **extra}
        check = DnsCheck(host="127.0.0.1", port=port, name="www.example.com", **given)  # type: ignore[arg-type]
        assert await look(check) == (ok, reason)
        assert server.recursion_desired is not check.authoritative
