"""What may stand beside what in a zone; what is an error says at which file and line."""

from pathlib import Path

import pytest

from anycastle.dns.master import load_zone
from anycastle.dns.node_table import COUNT_MAX
from anycastle.dns.rrset import CNAME, MX, NS, A
from anycastle.dns.settings import ZoneFile
from anycastle.dns.zone import Zone, ZoneError
from anycastle.dns.zone_build import ZoneBuilder

HEAD = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n"


def load(folder: Path, records: str) -> Zone:
    (folder / "zone").write_text(HEAD + records)
    return load_zone(ZoneFile(origin="z", file=folder / "zone"))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ("a CNAME b\na A 192.0.2.1\n", "zone:5: a.z. has a CNAME record, so it cannot have others"),
        ("a A 192.0.2.1\na CNAME b\n", "zone:5: a.z. has other records, so it cannot have a CNAME record"),
        ("a CNAME b\n\na CNAME c\n", "zone:6: a.z. has another record of this type already: expected one"),
        ("a DNAME b\na DNAME ( c )\n", "zone:5: a.z. has another record of this type already: expected one"),
        ("a 2147483648 A 192.0.2.1\n", "zone:4: TTL 2147483648: expected at most 2147483647 seconds (RFC 2181"),
        ("a SOA ns h 1 2 3 4 5\n", "zone:4: a.z. has an SOA record: expected it at z. only"),
        ("a.y. A 192.0.2.1\n", "zone:4: a.y. is outside of the zone z."),
        ("@ SOA ns h 2 2 3 4 5\n", "zone:4: z. has another record of this type already: expected one"),
    ],
)
def test_faults(tmp_path: Path, records: str, expected: str) -> None:
    with pytest.raises(ZoneError) as caught:
        load(tmp_path, records)
    assert f"{tmp_path}/{expected}" in str(caught.value)


def test_equal_records_count_once_whatever_the_case_of_their_names(tmp_path: Path) -> None:
    zone = load(
        tmp_path, "a MX 1 m\nb A 192.0.2.1\na MX 1 M.Z.\na MX 1 n\nc CNAME d\nc CNAME D\n@ SOA ns h 1 2 3 4 5\n"
    )
    assert [rdata[1] for rdata in zone.nodes[b"\1a\1z\0"].rrsets[MX].rdatas] == [b"\1m\1z\0", b"\1n\1z\0"]
    assert len(zone.nodes[b"\1c\1z\0"].rrsets[CNAME].rdatas) == 1
    assert zone.records == 6


def test_signatures_and_keys_may_stand_beside_a_cname(tmp_path: Path) -> None:
    signature = "RRSIG CNAME 13 2 60 20300101000000 20200101000000 1 z. AAAA"
    for records in (f"a CNAME b\na {signature}\na NSEC c CNAME\n", f"a NSEC c CNAME\na {signature}\na CNAME b\n"):
        assert set(load(tmp_path, records).nodes[b"\1a\1z\0"].rrsets) == {CNAME, 46, 47}


def test_a_set_that_no_message_can_hold_is_refused() -> None:
    builder = ZoneBuilder(b"\1z\0")
    builder.add(b"\1z\0", 6, 1, b"\0\0" + bytes(20))
    builder.add(b"\1z\0", NS, 1, b"\0")
    for number in range(COUNT_MAX + 1):
        builder.add(b"\1a\1z\0", A, 1, number.to_bytes(4, "big"))
    with pytest.raises(ZoneError, match=r"a\.z: expected at most 65535 records of type 1"):
        builder.finish()


def test_records_of_a_name_may_stand_anywhere_in_the_file(tmp_path: Path) -> None:
    zone = load(tmp_path, "".join(f"a A 192.0.2.{n}\nb{n} A 192.0.2.1\na TXT {n}\n" for n in range(100)))
    rrsets = zone.nodes[b"\1a\1z\0"].rrsets
    assert [len(rrset.rdatas) for rrset in rrsets.values()] == [100, 100]
