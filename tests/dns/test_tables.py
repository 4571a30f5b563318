"""Several zones are taken up together or not at all, and every broken one is named."""

from pathlib import Path

import pytest

from anycastle.dns.settings import ZoneFile
from anycastle.dns.zone import ZoneError
from tests.dns.world import make_tables

GOOD = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n"


def zone(folder: Path, origin: str, text: str) -> ZoneFile:
    file = folder / origin
    file.write_text(text)
    return ZoneFile(origin=origin, file=file)


def test_every_broken_zone_is_named_with_its_line(tmp_path: Path) -> None:
    zones = (
        zone(tmp_path, "first.example", GOOD + "www A 192.0.2.999\n"),
        zone(tmp_path, "good.example", GOOD),
        zone(tmp_path, "second.example", GOOD + "mail MX ten mail\n"),
    )
    with pytest.raises(ZoneError) as caught:
        make_tables(tmp_path, zones=zones, names=())
    assert "first.example:5" in str(caught.value)
    assert "second.example:5" in str(caught.value)
    assert "good.example" not in str(caught.value)


def test_a_child_that_is_served_here_too_must_be_delegated_to(tmp_path: Path) -> None:
    zones = (zone(tmp_path, "example.com", GOOD), zone(tmp_path, "child.example.com", GOOD))
    with pytest.raises(ZoneError, match=r"expected NS records at child\.example\.com"):
        make_tables(tmp_path, zones=zones, names=())
