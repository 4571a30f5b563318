"""The table of distances: orders, and faults with their lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.distances import parse_distances
from anycastle.dns.map_file import GeoError
from anycastle.dns.settings import SteeredSite

SITES = (
    SteeredSite(name="ams", addresses=(), coordinates=(52.37, 4.90)),
    SteeredSite(name="nyc", addresses=(), coordinates=(40.71, -74.01)),
    SteeredSite(name="sgp", addresses=(), coordinates=(1.35, 103.82)),
)


def test_the_nearest_stands_first_and_the_rest_behind() -> None:
    table = parse_distances("NL,nyc=5900 ams=50 # measured\n\nAS64500, sgp=1\n", "d.csv", SITES)
    assert table.countries["NL"].order == ("ams", "nyc", "sgp")
    assert table.systems[64500].order == ("sgp", "ams", "nyc")
    assert table.systems[64500].why == "d.csv:3 AS64500"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("NL", "found 'NL'; expected a country or AS number, then site=km site=km …"),
        ("NL,", "found 'NL,'; expected a country or AS number, then site=km site=km …"),
        ("nl,ams=1", "'nl' is neither; expected a country such as NL or an AS number such as AS64500"),
        (
            "AS4294967296,ams=1",
            "'AS4294967296' is neither; expected a country such as NL or an AS number such as AS64500",
        ),
        ("NL,fra=1", "'fra' is no site; expected some of: ams nyc sgp"),
        ("NL,ams=1 ams=2", "'ams ams' names a site twice; expected each at most once"),
        ("NL,ams", "'ams=' has no distance; expected kilometres of 0 or more, as in ams=50"),
        ("NL,ams=-1", "'ams=-1' has no distance; expected kilometres of 0 or more, as in ams=50"),
        ("NL,ams=nan", "'ams=nan' has no distance; expected kilometres of 0 or more, as in ams=50"),
        ("NL,ams=inf", "'ams=inf' has no distance; expected kilometres of 0 or more, as in ams=50"),
        ("NL,ams=1\nNL,ams=2", "NL stands in line 1 already; expected each once"),
    ],
)
def test_a_fault_names_file_line_and_expectation(line: str, fault: str) -> None:
    with pytest.raises(GeoError) as caught:
        parse_distances(line, "d.csv", SITES)
    assert caught.value.faults == (f"d.csv:{1 + line.count(chr(10))}: {fault}",)


@given(st.text(alphabet="ASNL0123=., amsnyc\n#-é", max_size=60))
def test_any_text_is_read_or_refused_with_a_line_number(text: str) -> None:
    sources, faults = [], ()
    try:
        table = parse_distances(text, "d.csv", SITES)
        sources = [*table.countries.values(), *table.systems.values()]
    except GeoError as error:
        faults = error.faults
    assert all(sorted(source.order) == ["ams", "nyc", "sgp"] for source in sources)
    assert all(fault.startswith("d.csv:") for fault in faults)
