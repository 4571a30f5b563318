"""The walk over a MaxMind database, against the library's own lookups."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.country_database import DatabaseError, networks_of
from anycastle.dns.settings import Network
from tests.dns.mmdb_writer import write_mmdb

NETHERLANDS, JAPAN = {"country": {"iso_code": "NL"}}, {"country": {"iso_code": "JP"}}
NETWORKS = {
    "0.0.0.0/8": JAPAN,
    "10.0.0.0/8": NETHERLANDS,
    "192.0.2.1/32": JAPAN,
    "2001:db8::/32": JAPAN,
    "2001:db9::1/128": NETHERLANDS,
    "8000::/1": NETHERLANDS,
}


def found_in(file: Path) -> Iterator[tuple[Network, int, Any]]:
    """As networks_of, for reading."""
    for version, first, bits, number, record in networks_of(file):
        kind = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
        yield kind((first, bits)), number, record


@pytest.mark.parametrize("record_size", [24, 28, 32])
def test_every_network_comes_once_with_its_record(tmp_path: Path, record_size: int) -> None:
    file = tmp_path / "c.mmdb"
    file.write_bytes(write_mmdb(NETWORKS, record_size=record_size))
    found = list(found_in(file))
    assert {str(network): record for network, _, record in found} == NETWORKS
    assert len({number for _, number, _ in found}) == 2
    with maxminddb.open_database(file, maxminddb.MODE_MEMORY) as reader:
        for network, _, record in found:
            assert reader.get_with_prefix_len(network[-1])[0] == record


@given(seconds=st.sets(st.integers(0, 255), max_size=12), record_size=st.sampled_from([24, 28, 32]))
def test_the_walk_agrees_with_the_librarys_lookups(
    seconds: set[int], record_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "walk.mmdb"
    file.write_bytes(write_mmdb({f"10.{n}.0.0/16": {"n": str(n)} for n in seconds}, record_size=record_size))
    found = {str(network): record for network, _, record in found_in(file)}
    with maxminddb.open_database(file, maxminddb.MODE_MEMORY) as reader:
        for n in range(256):
            assert found.get(f"10.{n}.0.0/16") == reader.get(ipaddress.ip_address(f"10.{n}.3.4"))


def test_a_tree_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content = bytearray(write_mmdb(NETWORKS))
    content[4:8] = bytes(4)  # The right child of the root is the root.
    (tmp_path / "loop.mmdb").write_bytes(content)
    with pytest.raises(DatabaseError, match="contains itself"):
        list(networks_of(tmp_path / "loop.mmdb"))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    content = write_mmdb(NETWORKS)
    (tmp_path / "cut.mmdb").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DatabaseError):
        list(networks_of(tmp_path / "cut.mmdb"))


def test_a_file_that_changes_while_it_is_read_is_refused() -> None:
    # The kernel writes this one while it is read: it has more bytes than it had a moment ago.
    with pytest.raises(DatabaseError, match="changed while it was read; put a new one beside it and rename it"):
        list(networks_of(Path("/proc/self/status")))
