"""What a map probably does not mean: told from the merged map."""

from pathlib import Path

from anycastle.dns.geo import Geo
from anycastle.dns.geo_load import load_geo
from anycastle.dns.geo_review import covered_lines, unpreferred_sites
from anycastle.dns.settings import GeoSettings, Policy, SteeredName
from tests.dns.mmdb_writer import write_mmdb
from tests.dns.worlds import SITES

NAME = SteeredName(name="www.example.com")


def mapped(folder: Path, networks: str, **more: Path) -> Geo:
    (folder / "networks.csv").write_text(networks)
    return load_geo(GeoSettings(networks=folder / "networks.csv", **more), SITES)


def test_a_line_that_others_cover_wholly_is_told(tmp_path: Path) -> None:
    halves = "10.0.0.0/8,ams\n10.0.0.0/9,nyc\n10.128.0.0/9,sgp\n2001:db8::/32,nyc\n"
    assert list(covered_lines(mapped(tmp_path, halves))) == [
        "networks.csv:1 10.0.0.0/8: never matches, as other lines cover all of it"
    ]
    rest = "10.0.0.0/8,ams\n10.0.0.0/9,nyc\n10.128.0.0/10,sgp\n"
    assert list(covered_lines(mapped(tmp_path, rest))) == []


def test_so_is_a_distance_whose_networks_are_all_written_otherwise(tmp_path: Path) -> None:
    (tmp_path / "asn.mmdb").write_bytes(write_mmdb({"10.0.0.0/16": {"autonomous_system_number": (6, 64500)}}))
    (tmp_path / "distances.csv").write_text("AS64500,sgp=1\n")
    more = {"asn": tmp_path / "asn.mmdb", "distances": tmp_path / "distances.csv"}
    assert list(covered_lines(mapped(tmp_path, "10.0.0.0/8,ams\n", **more))) == [
        "distances.csv:1 AS64500: never matches, as other lines cover all of it"
    ]
    assert list(covered_lines(mapped(tmp_path, "11.0.0.0/8,ams\n", **more))) == []


def test_a_site_that_no_network_prefers_is_told(tmp_path: Path) -> None:
    geo = mapped(tmp_path, "10.0.0.0/8,nyc\n")
    assert list(unpreferred_sites(geo, [NAME], SITES)) == [
        "no network prefers sgp: it gets clients only while others are withheld"
    ]
    # One name without nyc: there its networks prefer ams, all the same; and without ams somebody prefers sgp.
    assert list(unpreferred_sites(geo, [NAME, SteeredName(name="b", sites=("sgp",))], SITES)) == []
    assert list(unpreferred_sites(geo, [SteeredName(name="b", policy=Policy.WEIGHTED)], SITES)) == []
    assert list(unpreferred_sites(geo, [], SITES)) == []


def test_without_a_map_there_is_nothing_to_tell() -> None:
    geo = load_geo(GeoSettings(), SITES)
    assert [*covered_lines(geo), *unpreferred_sites(geo, [NAME], SITES)] == []
