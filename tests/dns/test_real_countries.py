"""A real country database of 400,000 networks, against the library's own lookups."""

import ipaddress
import pickle
import random
import subprocess
import sys
from pathlib import Path

import maxminddb
import pytest

from anycastle.dns.geo import Geo
from anycastle.dns.geo_load import load_geo
from anycastle.dns.geo_record import country_of
from anycastle.dns.settings import GeoSettings, SteeredSite

SHARE = Path(__file__).parents[2] / ".venv/share"
SITES = (
    SteeredSite(name="ams", addresses=(), coordinates=(52.37, 4.90)),
    SteeredSite(name="nyc", addresses=(), coordinates=(40.71, -74.01)),
    SteeredSite(name="sgp", addresses=(), coordinates=(1.35, 103.82)),
)
PEAK_MEBIBYTES_MAX = 400
MEASURE = r"""
import re, sys
from pathlib import Path
from anycastle.dns.geo_load import load_geo
from anycastle.dns.settings import GeoSettings
from tests.dns.test_real_countries import SITES
load_geo(GeoSettings(country=Path(sys.argv[1])), SITES)
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
"""Not ru_maxrss: that is no less than what the process that started this one had."""


@pytest.fixture(scope="module")
def database() -> Path:
    found = sorted(SHARE.glob("iptoasn-country-*.mmdb"))
    if not found:
        pytest.skip("no country database in .venv/share: script/bootstrap fetches it with npm")
    return found[-1]


@pytest.fixture(scope="module")
def geo(database: Path) -> Geo:
    return load_geo(GeoSettings(country=database), SITES)


def clients(count: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Random ones, the IPv6 ones of 2000::/3 but for what carries IPv4."""
    draw = random.Random(8)
    four = [ipaddress.IPv4Address(draw.getrandbits(32)) for _ in range(count)]
    six = [ipaddress.IPv6Address((0x2003 + draw.randrange(0xE00)) << 112 | draw.getrandbits(112)) for _ in range(count)]
    return [*four, *six]


def test_every_client_has_the_country_that_the_library_finds(geo: Geo, database: Path) -> None:
    countries = set()
    with maxminddb.open_database(database, maxminddb.MODE_MEMORY) as reader:
        for client in clients(10_000):
            source, country = geo.source(client.packed), country_of(reader.get(client))
            assert source is not None
            assert source.why.startswith(f"country {country} via" if source.point else "default"), client
            assert geo.places[geo.find(client.packed)[0]].order == source.order
            countries.add(country)
    assert len(countries) > 100


def test_scopes_do_not_overlap(geo: Geo) -> None:
    """Both ends of a scope's network have the same place and the same scope, so no other reaches into it."""
    for client in clients(5_000):
        place, bits = geo.find(client.packed)
        network = ipaddress.ip_network((client, bits), strict=False)
        for end in (network.network_address, network.broadcast_address):
            assert geo.find(end.packed) == (place, bits)


def test_memory_is_bounded_and_workers_get_little(geo: Geo, database: Path) -> None:
    command = [sys.executable, "-c", MEASURE, str(database)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < PEAK_MEBIBYTES_MAX
    assert len(pickle.dumps(geo)) < 8 << 20
