"""The steered zone, where clients are, and the queries: the same for every server.

Law: all of it comes from one seed, so every run and every server gets the same bytes.
"""

import bisect
import ipaddress
import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.dns.mmdb_writer import write_mmdb

ORIGIN = "bench.example"
TTL_SECONDS = 60
NAMES = 10_000
NETWORKS_4, NETWORKS_6 = 16_000, 4_000
MISSES_SHARE, AAAA_SHARE, IPV6_SHARE = 0.05, 0.3, 0.2
ZIPF_EXPONENT = 1.0
A, AAAA = 1, 28


@dataclass(frozen=True, slots=True)
class Site:
    """One place to be steered to, and the continent whose clients it gets."""

    name: str
    continent: str
    countries: tuple[str, ...]
    coordinates: tuple[float, float]
    ipv4: str
    ipv6: str


SITES = (
    Site("ams", "EU", ("NL", "DE", "FR", "GB", "BE"), (52.4, 4.9), "192.0.2.10", "2001:db8:1::10"),
    Site("nyc", "NA", ("US", "CA"), (40.7, -74.0), "192.0.2.20", "2001:db8:2::10"),
    Site("sgp", "AS", ("SG", "MY", "ID", "TH"), (1.3, 103.8), "192.0.2.30", "2001:db8:3::10"),
)
"""The countries are those of which there is no doubt which site is closest."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Query:
    """One query on behalf of one client network, and what is right to answer."""

    wire: bytes
    site: Site | None
    """None when the name does not exist."""
    rrtype: int


def names() -> list[str]:
    return [f"n{number:04d}.{ORIGIN}" for number in range(NAMES)]


def place_clients(seed: int) -> dict[Network, tuple[Site, str]]:
    """Client networks (/20 and /40, as registries give them out) with their site and country."""
    chance = random.Random(seed)
    first4, first6 = int(ipaddress.IPv4Address("11.0.0.0")), int(ipaddress.IPv6Address("2a00::"))
    blocks4 = chance.sample(range((88 << 24) >> 12), NETWORKS_4)
    blocks6 = chance.sample(range(1 << 24), NETWORKS_6)
    networks: list[Network] = [ipaddress.IPv4Network((first4 + (block << 12), 20)) for block in sorted(blocks4)]
    networks += [ipaddress.IPv6Network((first6 + (block << 88), 40)) for block in sorted(blocks6)]
    placed = {}
    for network in networks:
        site = chance.choice(SITES)
        placed[network] = site, chance.choice(site.countries)
    return placed


def write_database(clients: dict[Network, tuple[Site, str]], file: Path) -> None:
    """A MaxMind database of the kind that all the servers read."""
    records = {
        str(network): {"continent": {"code": site.continent}, "country": {"iso_code": country}}
        for network, (site, country) in clients.items()
    }
    file.write_bytes(write_mmdb(records, kind="GeoLite2-Country"))


def make_queries(clients: dict[Network, tuple[Site, str]], count: int, seed: int) -> Iterator[Query]:
    """Names by Zipf's law, networks at random, a share of misses; identities are left to the sender."""
    chance = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, NAMES + 1)))
    networks4: list[Network] = [network for network in clients if network.version == 4]
    networks6: list[Network] = [network for network in clients if network.version == 6]
    every = [name.encode() for name in names()]
    chance.shuffle(every)  # the most wanted names do not stand side by side in anybody's table
    for _ in range(count):
        network = chance.choice(networks6 if chance.random() < IPV6_SHARE else networks4)
        rrtype = AAAA if chance.random() < AAAA_SHARE else A
        site: Site | None = clients[network][0]
        if chance.random() < MISSES_SHARE:
            name, site = b"x%06d.%s" % (chance.randrange(1_000_000), ORIGIN.encode()), None
        else:
            name = every[bisect.bisect_left(weights, chance.random() * weights[-1])]
        inside = int(network.network_address) + chance.randrange(network.num_addresses)
        yield Query(encode_query(name, rrtype, inside, network.version), site, rrtype)


def encode_query(name: bytes, rrtype: int, address: int, version: int) -> bytes:
    """A query with EDNS and a client subnet of /24 or /56 (RFC 7871 section 11.1)."""
    labels = b"".join(bytes((len(label),)) + label for label in name.split(b"."))
    size, family, bits = (4, 1, 24) if version == 4 else (16, 2, 56)
    subnet = struct.pack(">HBB", family, bits, 0) + address.to_bytes(size)[: bits // 8]
    option = struct.pack(">HH", 8, len(subnet)) + subnet
    opt = b"\0" + struct.pack(">HHIH", 41, 1232, 0, len(option)) + option
    return struct.pack(">HHHHHH", 0, 0, 1, 0, 0, 1) + labels + b"\0" + struct.pack(">HH", rrtype, 1) + opt
