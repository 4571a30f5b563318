"""HTTPS and SVCB at steered names: one decision for addresses and hints (RFC 9460)."""

from pathlib import Path

import dns.message
import pytest

from anycastle.dns.settings import NoneEligible, SteeredName, ZoneFile
from anycastle.dns.tables import Tables
from tests.dns.world import ZONE, ask, make_tables, make_view, scope_of

SERVICES = """\
shop    IN HTTPS 1 . mandatory=ipv4hint,alpn alpn=h2,h3 ipv4hint=198.51.100.1 port=8443 ipv6hint=2001:db8::bad
shop    IN SVCB 0 www
*.blogs IN HTTPS 1 . alpn=h2
gone    IN HTTPS 1 . alpn=h2 ipv4hint=198.51.100.1
api     IN HTTPS 1 shop ipv4hint=198.51.100.1
www     IN HTTPS 1 . ipv4hint=192.0.2.80
"""
NAMES = (
    SteeredName(name="shop.example.com"),
    SteeredName(name="*.blogs.example.com", group="blogs", content="{1}/"),
    SteeredName(name="gone.example.com", sites=("sgp",), none=NoneEligible.CLOSEST),
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder: Path = tmp_path_factory.mktemp("service")
    file = folder / "zone"
    file.write_text(ZONE % "x" + SERVICES)
    return make_tables(folder, zones=(ZoneFile(origin="example.com", file=file),), names=NAMES)


def only(message: dns.message.Message) -> str:
    (rrset,) = message.answer
    (rdata,) = rrset
    return f"{rrset.ttl} {rdata.to_text()}"


@pytest.mark.parametrize(
    ("subnet", "hints"),
    [("10.1.7.0/24", 'ipv4hint="192.0.2.10" ipv6hint="2001:db8:1::10"'), ("10.2.7.0/24", 'ipv4hint="192.0.2.20"')],
)
def test_rfc9460_7_3_hints_are_the_addresses_of_the_same_decision(tables: Tables, subnet: str, hints: str) -> None:
    """'the hints … SHOULD be the same as the A and AAAA records of the TargetName'; those of the file are gone."""
    shop = ask(tables, "shop.example.com HTTPS", subnet=subnet)
    assert only(shop) == f'60 1 . mandatory="alpn" alpn="h2,h3" port="8443" {hints}'
    blog = ask(tables, "x.blogs.example.com HTTPS", subnet=subnet)
    assert only(blog) == f'60 1 . alpn="h2" {hints}'
    addresses = ask(tables, "shop.example.com A", subnet=subnet)
    assert scope_of(shop) == scope_of(addresses)
    assert addresses.answer[0].ttl == shop.answer[0].ttl
    assert addresses.answer[0][0].to_text() in only(shop)


def test_rfc9460_2_4_2_alias_mode_is_as_written(tables: Tables) -> None:
    assert only(ask(tables, "shop.example.com SVCB")) == "3600 0 www.example.com."


def test_no_site_is_eligible_no_hints(tables: Tables) -> None:
    down = make_view(down=("sgp",))
    assert only(ask(tables, "gone.example.com HTTPS", view=down)).endswith('1 . alpn="h2"')
    assert 'ipv4hint="192.0.2.30"' in only(ask(tables, "gone.example.com HTTPS"))


def test_hints_that_lead_to_a_steered_name_from_elsewhere_are_dropped(tables: Tables) -> None:
    assert only(ask(tables, "api.example.com HTTPS")) == "3600 1 shop.example.com."


def test_records_at_other_names_stay(tables: Tables) -> None:
    assert only(ask(tables, "www.example.com HTTPS")) == '3600 1 . ipv4hint="192.0.2.80"'
