"""The networks file and the country database, read from disk as at start."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.geo import Geo
from anycastle.dns.geo_load import GeoError, load_geo, parse_networks
from anycastle.dns.settings import GeoSettings, SteeredSite
from tests.dns.mmdb_writer import write_mmdb

SITES = (
    SteeredSite(name="ams", addresses=(), coordinates=(52.37, 4.90)),
    SteeredSite(name="nyc", addresses=(), coordinates=(40.71, -74.01)),
    SteeredSite(name="sgp", addresses=(), coordinates=(1.35, 103.82)),
)
COUNTRIES = {
    "192.0.2.0/24": {"country": {"iso_code": "CA"}},
    "198.51.100.0/25": {"country": {"iso_code": "JP"}},
    "198.51.100.128/25": {"registered_country": {"iso_code": "ID"}},
    "203.0.113.0/24": {"continent": {"code": "EU"}},
    "2001:db8::/32": {"country": {"iso_code": "US"}},
    "2a00::/12": {"country": {"iso_code": "AQ"}},
}


def found(geo: Geo, address: str) -> tuple[tuple[str, ...], int]:
    place, bits = geo.find(ipaddress.ip_address(address).packed)
    return geo.places[place].order, bits


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(GeoError) as caught:
        parse_networks(text, "networks.csv", SITES)
    return caught.value.faults


def test_without_files_the_declared_order_is_everybodys() -> None:
    geo = load_geo(GeoSettings(), SITES)
    assert found(geo, "192.0.2.1") == (("ams", "nyc", "sgp"), 0)


def test_a_country_without_coordinates_lies_where_its_people_live(tmp_path: Path) -> None:
    database = tmp_path / "Test-Country.mmdb"
    database.write_bytes(write_mmdb(COUNTRIES))
    geo = load_geo(GeoSettings(country=database), SITES)
    assert found(geo, "192.0.2.1") == (("nyc", "ams", "sgp"), 24)
    # Japan and Indonesia have the same order of sites, so they are one network.
    assert found(geo, "198.51.100.1") == (("sgp", "ams", "nyc"), 24)
    assert found(geo, "198.51.100.200") == (("sgp", "ams", "nyc"), 24)
    # Neither a continent nor a country without towns says where a network is.
    assert found(geo, "203.0.113.1") == (("ams", "nyc", "sgp"), 5)
    assert found(geo, "2a00::1")[0] == ("ams", "nyc", "sgp")
    assert found(geo, "2001:db8::1") == (("nyc", "ams", "sgp"), 32)
    assert found(geo, "2002:c000:0201::1") == (("nyc", "ams", "sgp"), 16 + 24)
    assert found(geo, "::ffff:192.0.2.1") == (("nyc", "ams", "sgp"), 96 + 24)
    assert geo.why(ipaddress.ip_address("192.0.2.1").packed).startswith("country CA via Test-Country")


def test_coordinates_of_a_city_database_win_over_its_country(tmp_path: Path) -> None:
    database = tmp_path / "City.mmdb"
    seattle_for_a_dutch_firm = {"country": {"iso_code": "NL"}, "location": {"latitude": 47.6, "longitude": -122.3}}
    database.write_bytes(write_mmdb({"192.0.2.0/24": seattle_for_a_dutch_firm}, kind="Test-City"))
    assert found(load_geo(GeoSettings(country=database), SITES), "192.0.2.1")[0][0] == "nyc"


def test_the_networks_file_wins_over_the_database(tmp_path: Path) -> None:
    database, networks = tmp_path / "c.mmdb", tmp_path / "networks.csv"
    database.write_bytes(write_mmdb(COUNTRIES))
    networks.write_text("# our own\n\n192.0.0.0/16 , sgp nyc  # the backbone\n2001:db8:8000::/33,sgp\n")
    geo = load_geo(GeoSettings(country=database, networks=networks), SITES)
    assert found(geo, "192.0.2.1") == (("sgp", "nyc", "ams"), 16)
    assert geo.why(ipaddress.ip_address("192.0.2.1").packed) == "networks.csv:3 192.0.0.0/16"
    assert found(geo, "2001:db8::1") == (("nyc", "ams", "sgp"), 33)
    assert found(geo, "2001:db8:8000::1") == (("sgp", "ams", "nyc"), 33)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("10.1.2.3/16,ams", "10.1.2.3/16 has host bits set; expected 10.1.0.0/16"),
        ("10.1.0.0/16,fra", "'fra' is no site; expected some of: ams nyc sgp"),
        ("10.1.0.0/16,ams ams", "'ams ams' names a site twice; expected each at most once"),
        ("10.1.0.0/16", "found '10.1.0.0/16'; expected CIDR,site site …"),
        ("10.1.0.0/16,", "found '10.1.0.0/16,'; expected CIDR,site site …"),
        ("10.1.0.0/33,ams", "'10.1.0.0/33' is no network; expected one such as 192.0.2.0/24 or 2001:db8::/32"),
        ("fe80::%eth0/64,ams", "'fe80::%eth0/64' is no network; expected one such as 192.0.2.0/24 or 2001:db8::/32"),
        ("2002:c000::/20,ams", "2002:c000::/20 lies in 2002::/16; expected the IPv4 network that it carries"),
        (
            "10.0.0.0/8,nyc\n10.0.0.0/8,ams",
            "10.0.0.0/8 stands in line 1 already; expected each once",
        ),
    ],
)
def test_a_fault_names_file_line_and_expectation(line: str, fault: str) -> None:
    number = 1 + line.count("\n")
    assert faults_of(line) == (f"networks.csv:{number}: {fault}",)


def test_all_faults_are_told_at_once() -> None:
    faults = faults_of("10.0.0.0/8,fra\n10.1.0.0/16,ams\nnonsense\n")
    assert [fault.split(": ")[0] for fault in faults] == ["networks.csv:1", "networks.csv:3"]
    assert str(GeoError(faults)).endswith("(and 1 more)")


def test_a_file_of_other_things_is_given_up_early() -> None:
    assert len(faults_of("nonsense\n" * 5000)) == 1000


@given(st.text(alphabet="0123456789abcdef.:/,% amsnyc\n#\x00é", max_size=60))
def test_any_text_is_read_or_refused_with_a_line_number(text: str) -> None:
    mapped, faults = [], ()
    try:
        mapped = parse_networks(text, "n.csv", SITES)
    except GeoError as error:
        faults = error.faults
    assert all(sorted(one[3].order) == ["ams", "nyc", "sgp"] for one in mapped)
    assert all(fault.startswith("n.csv:") for fault in faults)


@pytest.mark.parametrize("damage", [b"", b"not a database", None])
def test_a_database_that_is_none_is_one_clear_error(tmp_path: Path, damage: bytes | None) -> None:
    database = tmp_path / "c.mmdb"
    database.write_bytes(write_mmdb(COUNTRIES)[:-200] if damage is None else damage)
    with pytest.raises(GeoError, match=r"c\.mmdb: cannot be read as a MaxMind database: .*expected"):
        load_geo(GeoSettings(country=database), SITES)


@given(place=st.integers(0, len(write_mmdb(COUNTRIES)) - 1), value=st.integers(0, 255))
def test_a_damaged_database_is_read_or_refused(
    place: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(write_mmdb(COUNTRIES))
    content[place] = value
    database = tmp_path_factory.getbasetemp() / "damaged.mmdb"
    database.write_bytes(bytes(content))
    outcome = ""
    try:
        outcome = load_geo(GeoSettings(country=database), SITES).places[0].why
    except GeoError as error:
        outcome = str(error)
    assert "damaged.mmdb: cannot be read" in outcome or outcome.startswith("default")


@pytest.mark.parametrize("kind", ["country", "networks"])
def test_a_missing_or_unreadable_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(GeoError, match=r"cannot be read.*expected"):
            load_geo(GeoSettings(**{kind: path}), SITES)
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xff\xfe")
    with pytest.raises(GeoError, match=r"latin: cannot be read"):
        load_geo(GeoSettings(**{kind: latin}), SITES)


def test_each_map_goes_before_the_next(tmp_path: Path) -> None:
    """Networks, then autonomous systems, then cities, then countries, then the default."""
    bases = {
        "country": {"192.0.0.0/8": {"country_code": "NL"}},
        "city": {"192.0.0.0/10": {"country_code": "NL", "latitude": 40.0, "longitude": -75.0}},
        "asn": {
            "192.0.0.0/12": {"autonomous_system_number": (6, 64500)},
            "192.16.0.0/12": {"autonomous_system_number": (6, 64501)},
        },
    }
    files = {kind: tmp_path / f"{kind}.mmdb" for kind in bases}
    for kind, networks in bases.items():
        files[kind].write_bytes(write_mmdb(networks))
    files |= {"networks": tmp_path / "networks.csv", "distances": tmp_path / "distances.csv"}
    files["networks"].write_text("192.0.0.0/14,ams sgp\n")
    files["distances"].write_text("# measured\nAS64500,sgp=1\n")
    geo = load_geo(GeoSettings(**files), SITES)
    for address, order, why in (
        ("192.0.0.1", ("ams", "sgp", "nyc"), "networks.csv:1 192.0.0.0/14"),
        ("192.4.0.1", ("sgp", "ams", "nyc"), "distances.csv:2 AS64500"),
        ("192.16.0.1", ("nyc", "ams", "sgp"), "country NL via city"),
        ("192.64.0.1", ("ams", "nyc", "sgp"), "country NL via country"),
        ("203.0.113.1", ("ams", "nyc", "sgp"), "default: no map covers it"),
    ):
        assert found(geo, address)[0] == order
        assert geo.why(ipaddress.ip_address(address).packed) == why


def test_distances_of_a_country_go_before_its_coordinates(tmp_path: Path) -> None:
    (tmp_path / "c.mmdb").write_bytes(write_mmdb(COUNTRIES))
    (tmp_path / "distances.csv").write_text("CA,sgp=50 ams=5900\n")
    geo = load_geo(GeoSettings(country=tmp_path / "c.mmdb", distances=tmp_path / "distances.csv"), SITES)
    assert found(geo, "192.0.2.1")[0] == ("sgp", "ams", "nyc")
    source = geo.source(ipaddress.ip_address("192.0.2.1").packed)
    assert source is not None
    assert source.kilometres == (("sgp", 50.0), ("ams", 5900.0))


@pytest.mark.parametrize("line", ["AS64500,sgp=1", "NL,ams=50"])
def test_distances_that_no_database_leads_to_are_a_fault(tmp_path: Path, line: str) -> None:
    (tmp_path / "distances.csv").write_text(line)
    with pytest.raises(GeoError, match=r"distances\.csv:1 .*nothing says which networks that is; expected geo\."):
        load_geo(GeoSettings(distances=tmp_path / "distances.csv"), SITES)


def test_faults_of_both_texts_and_a_database_are_told_together(tmp_path: Path) -> None:
    for name in ("networks", "distances", "country"):
        (tmp_path / name).write_text("x")
    with pytest.raises(GeoError) as caught:
        load_geo(GeoSettings(**{name: tmp_path / name for name in ("networks", "distances", "country")}), SITES)
    assert len(caught.value.faults) == 3
