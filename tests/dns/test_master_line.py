"""The reader of plain lines against dnspython: the same records, the same errors, at the same file and line."""

import tempfile
from pathlib import Path

import dns.rdataclass
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycastle.dns import master
from anycastle.dns.master_line import Record, read_line
from anycastle.dns.settings import ZoneFile
from anycastle.dns.zone import ZoneError

ORIGIN = b"\x01z\x00"
HEAD = "$TTL 3600\n@ IN SOA ns h 1 2 3 4 5\n@ IN NS ns\n"


def mostly(plain: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    """Nine times of ten something plain: else hardly any line would be."""
    return st.sampled_from([*plain * (9 * len(odd) // len(plain) + 1), *odd])


LABELS = mostly(
    ["a", "B", "*", "0", "_x", "a-b", "xn--bcher-kva", "0/25"], ["c" * 63, "d" * 64, "", "e\\046f", "ü", "$ORIGIN"]
)
NAMES = st.builds(
    lambda labels, end: ".".join(labels) + end,
    st.lists(LABELS, min_size=1, max_size=3) | st.lists(LABELS, min_size=3, max_size=6),
    mostly(["", ".z."], [".", ".other."]),
) | mostly(["@", "*", "IN", "60", "A", "a"], ["(", '"a"', "@a", "."])
BLANKS = mostly([" ", "\t", "  \t"], ["", "\x0b", "\u00a0"])
TTLS = mostly(["", "60", "0"], ["1h30m", "2147483647", "2147483648", "999999999", "-1", "TTL"])
CLASSES = mostly(["", "IN", "in"], ["CH", "IN 70", "70 IN"])
NUMBERS = mostly(["0", "10", "65535", "007"], ["65536", "-1", "x", "٣"])
TEXTS = st.lists(
    mostly(
        ['"a b"', '"a;b"', '""', '"(x)"'], ['"q\\"r"', "plain", '"é"', '"' + "x" * 255 + '"', '"' + "x" * 256 + '"']
    ),
    min_size=1,
    max_size=3,
)
ADDRESSES = st.sampled_from(
    [
        *("192.0.2.1", "192.0.2.2", "255.255.255.255", "192.0.2.01", "192.0.2", "192.0.2.256", "1.2.3.4.5", "::"),
        *("::1", "2001:DB8::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7::8"),
        *("1::2::3", ":1::", "1:2:3:4:5:6:7:8:9", "::ffff:192.0.2.1", "fe80::1%lo", "00001::", "1:", ":", "::12345"),
    ]
) | st.from_regex(r"[0-9a-f:]{2,12}", fullmatch=True)
RDATAS = st.one_of(
    st.tuples(st.sampled_from(["A", "a", "AAAA"]), ADDRESSES),
    st.tuples(st.sampled_from(["NS", "CNAME", "PTR", "DNAME"]), NAMES),
    st.tuples(st.just("MX"), NUMBERS, NAMES),
    st.tuples(st.just("SRV"), NUMBERS, NUMBERS, NUMBERS, NAMES),
    st.builds(lambda texts: ("TXT", *texts), TEXTS),
    st.tuples(
        st.just("CAA"),
        st.sampled_from(["0", "128", "256"]),
        st.sampled_from(["issue", "a-b", "ISSUE"]),
        TEXTS.map(" ".join),
    ),
    st.tuples(st.just("TYPE65280"), st.just("\\# 2 0102")),
)
ENDS = mostly(["", " ; a remark", ";x", " \t", ' ; "quoted"'], [" extra", " )", "\r"])
RECORDS = st.builds(
    lambda owner, blank, ttl, rrclass, rdata, end: owner + blank + " ".join(filter(None, (ttl, rrclass, *rdata))) + end,
    NAMES | st.just(""),
    BLANKS,
    TTLS,
    CLASSES,
    RDATAS,
    ENDS,
)
OTHERS = st.sampled_from(
    [
        *("", "   ", "; remark", "$TTL 60", "$TTL 1h", "$ORIGIN sub", "$ORIGIN sub.z.", "$ORIGIN other."),
        *("$GENERATE 1-2 g$ A 192.0.2.$", "p MX 1 (\n  a )", 'q TXT "a\n b"', "r A ( 192.0.2.1"),
        *("s 60 IN A 192.0.2.1 ; (", "\tA 192.0.2.2"),
    ]
)
FILES = st.lists(RECORDS | OTHERS, max_size=6).map(lambda lines: HEAD + "\n".join(lines))
PLAIN_ONES = [
    "a 60 IN A 192.0.2.1",
    "\tAAAA ::1",
    "@ IN 60 MX 10 @",
    'b TXT "x" "y;" ; "z"',
    'c CAA 0 issue "ca.example"',
]


def read(text: str, *, slowly: bool) -> dict[bytes, object] | str:
    """Names and what is there; or the error."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "zone"
        file.write_text(text, "utf-8")
        if slowly:
            patch.setattr(master, "read_line", lambda line, origin: None)
        try:
            return dict(master.load_zone(ZoneFile(origin="z", file=file)).nodes.items())
        except ZoneError as error:
            return str(error).replace(folder, "")


@settings(max_examples=600, deadline=None)
@given(FILES)
def test_both_readers_agree_on_records_and_errors(text: str) -> None:
    assert read(text, slowly=False) == read(text, slowly=True)


@settings(max_examples=300, deadline=None)
@given(FILES)
def test_what_dnspython_makes_of_the_whole_file(text: str) -> None:
    """Its own loop over lines and its own zone: where it finds a zone and we do, both have the same records."""
    ours = read(text, slowly=False)
    if isinstance(ours, str):
        return
    theirs = dns.zone.from_text(text, "z.", relativize=False, check_origin=False)
    expected = {
        (name.to_wire().lower(), int(rdataset.rdtype), rdataset.ttl, rdata.to_digestable())  # type: ignore[union-attr]
        for name, rdataset in theirs.iterate_rdatasets()
        for rdata in rdataset
    }
    found = set()
    for name, node in ours.items():
        for rrset in node.rrsets.values():  # type: ignore[attr-defined]
            for rdata in rrset.rdatas:
                wire = b"".join(rdata)
                parsed = dns.rdata.from_wire(dns.rdataclass.IN, rrset.rrtype, wire, 0, len(wire))
                found.add((name, rrset.rrtype, rrset.ttl, parsed.to_digestable()))
    assert found == expected


@pytest.mark.parametrize("line", PLAIN_ONES)
def test_plain_lines_are_read_here(line: str) -> None:
    """Or the two readers would agree because there is only one."""
    assert isinstance(read_line(line + "\n", ORIGIN), Record)


@pytest.mark.parametrize(
    "line", ["a A 192.0.2.1 (", "a\\.b A 192.0.2.1", "@ SOA ns h 1 2 3 4 5", "$TTL 5", "a 1h A 192.0.2.1", ""]
)
def test_others_are_not(line: str) -> None:
    assert read_line(line, ORIGIN) is None


def test_relative_names_end_with_the_origin() -> None:
    record = read_line("WWW 60 MX 5 mail.Example.\n", b"\x03sub\x01z\x00")
    assert record == Record(b"\x03WWW\x03sub\x01z\x00", 60, 15, b"\x00\x05\x04mail\x07Example\x00")
