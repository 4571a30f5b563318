"""The query parser: the ladder rule by rule, and dnspython as the oracle."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.edns import OPTIONS_MAX
from anycastle.dns.wire import Fault, Query, Rcode, Silence, labels_of, parse_query
from tests.dns.names import name_of

QUESTION = b"\x03www\x07example\x03com\x00" + struct.pack("!HH", 1, 1)
ROOT_OPT = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)


def packet(
    flags: int = 0, counts: tuple[int, int, int, int] = (1, 0, 0, 0), question: bytes = QUESTION, rest: bytes = b""
) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, *counts) + question + rest


def with_opt(rdata: bytes, *, ttl: int = 0, payload: int = 1232) -> bytes:
    return packet(counts=(1, 0, 0, 1), rest=struct.pack("!BHHIH", 0, 41, payload, ttl, len(rdata)) + rdata)


def option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def subnet(family: int, source: int, scope: int, address: bytes) -> bytes:
    return option(8, struct.pack("!HBB", family, source, scope) + address)


LONG_NAME = b"\x3f" + b"a" * 63
NAME_255 = LONG_NAME * 3 + b"\x3d" + b"a" * 61 + b"\x00"
NAME_256 = LONG_NAME * 3 + b"\x3e" + b"a" * 62 + b"\x00"
TYPE_CLASS = struct.pack("!HH", 1, 1)
OTHER_RECORD = b"\xc0\x0c" + struct.pack("!HHIH", 250, 255, 0, 3) + b"abc"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (packet()[:11], None),
        (packet(flags=0x8000), None),
        (packet(flags=0x8000 | 0x2800), None),
        (packet(flags=0x2800), Rcode.NOTIMP),  # UPDATE
        (packet(flags=0x2000), Rcode.NOTIMP),  # NOTIFY
        (packet(flags=0x7800, counts=(0, 0, 0, 0), question=b""), Rcode.NOTIMP),
        (packet(counts=(0, 0, 0, 0), question=b""), Rcode.FORMERR),
        (packet(counts=(2, 0, 0, 0), question=QUESTION * 2), Rcode.FORMERR),
        (packet(counts=(65535, 65535, 65535, 65535)), Rcode.FORMERR),
        (packet(counts=(1, 1, 0, 0), rest=OTHER_RECORD), Rcode.FORMERR),
        (packet(counts=(1, 0, 0, 9), rest=OTHER_RECORD * 9), Rcode.FORMERR),
        (packet(question=b""), Rcode.FORMERR),
        (packet(question=QUESTION[:-1]), Rcode.FORMERR),
        (packet(question=QUESTION[:6]), Rcode.FORMERR),
        (packet(question=b"\xc0\x0c" + TYPE_CLASS), Rcode.FORMERR),
        (packet(question=b"\x41" + b"a" * 65 + b"\x00" + TYPE_CLASS), Rcode.FORMERR),
        (packet(question=NAME_256 + TYPE_CLASS), Rcode.FORMERR),
        (packet(rest=b"junk"), Rcode.FORMERR),
        (packet(counts=(1, 0, 0, 1)), Rcode.FORMERR),
        (packet(counts=(1, 0, 0, 1), rest=ROOT_OPT[:-1]), Rcode.FORMERR),
        (packet(counts=(1, 0, 0, 2), rest=ROOT_OPT * 2), Rcode.FORMERR),
        (packet(counts=(1, 0, 1, 0), rest=ROOT_OPT), Rcode.FORMERR),
        (packet(counts=(1, 0, 0, 1), rest=b"\x01a" + ROOT_OPT), Rcode.FORMERR),
        (packet(counts=(1, 0, 0, 1), rest=b"\xc0\x0c" + ROOT_OPT[1:]), Rcode.FORMERR),
        (with_opt(b"\x00"), Rcode.FORMERR),
        (with_opt(b"\x00\x08\x00\x05abc"), Rcode.FORMERR),
        (with_opt(option(65001, b"") * (OPTIONS_MAX + 1)), Rcode.FORMERR),
        (with_opt(subnet(3, 8, 0, b"\x0a")), Rcode.FORMERR),
        (with_opt(subnet(0, 8, 0, b"\x0a")), Rcode.FORMERR),
        (with_opt(subnet(1, 33, 0, b"\x0a\x01\x02\x03\x00")), Rcode.FORMERR),
        (with_opt(subnet(2, 129, 0, bytes(17))), Rcode.FORMERR),
        (with_opt(subnet(1, 24, 0, b"\x0a\x01")), Rcode.FORMERR),
        (with_opt(subnet(1, 24, 0, b"\x0a\x01\x02\x03")), Rcode.FORMERR),
        (with_opt(subnet(1, 20, 0, b"\x0a\x01\x1f")), Rcode.FORMERR),
        (with_opt(subnet(1, 24, 8, b"\x0a\x01\x02")), Rcode.FORMERR),
        (with_opt(subnet(1, 8, 0, b"\x0a") * 2), Rcode.FORMERR),
        (with_opt(option(8, b"\x00\x01\x00")), Rcode.FORMERR),
        (with_opt(b"", ttl=1 << 16), Rcode.BADVERS),
        (with_opt(b"broken in a version we do not know", ttl=1 << 16), Rcode.BADVERS),
    ],
)
def test_ladder(data: bytes, expected: Rcode | None) -> None:
    found = parse_query(data)
    if expected is None:
        assert isinstance(found, Silence)
    else:
        assert isinstance(found, Fault)
        assert found.rcode is expected
        assert found.id == 7


def test_broken_options_still_say_that_we_speak_edns() -> None:
    found = parse_query(with_opt(subnet(1, 33, 0, b"\x0a\x01\x02\x03\x00"), payload=4096))
    assert isinstance(found, Fault)
    assert found.edns is not None
    assert (found.edns.payload_bytes, found.edns.subnet) == (4096, None)
    assert found.question == QUESTION


def test_longest_name_and_root_are_names() -> None:
    assert isinstance(parse_query(packet(question=NAME_255 + TYPE_CLASS)), Query)
    assert isinstance(parse_query(packet(question=b"\x00" + TYPE_CLASS)), Query)


def test_small_payload_counts_as_512_and_unknown_options_and_flags_are_ignored() -> None:
    found = parse_query(with_opt(option(65001, b"whatever") + option(3, b""), payload=100, ttl=0x7FFF))
    assert isinstance(found, Query)
    assert found.edns is not None
    assert (found.edns.payload_bytes, found.edns.nsid, found.edns.dnssec_ok) == (512, True, False)


def test_subnet_with_no_bits_is_legal_in_every_family() -> None:
    for family in (0, 1, 2):
        found = parse_query(with_opt(subnet(family, 0, 0, b"")))
        assert isinstance(found, Query)
        assert found.edns is not None
        assert found.edns.subnet is not None
        assert found.edns.subnet.source_bits == 0


def test_other_additional_records_are_passed_over() -> None:
    found = parse_query(packet(counts=(1, 0, 0, 2), rest=ROOT_OPT + OTHER_RECORD))
    assert isinstance(found, Query)
    assert found.edns is not None


labels = st.lists(st.binary(min_size=1, max_size=20), max_size=8).map(tuple)


@given(labels)
def test_labels_and_names_are_inverse(given_labels: tuple[bytes, ...]) -> None:
    assert labels_of(name_of(given_labels)) == given_labels


@st.composite
def queries(draw: st.DrawFn) -> dns.message.QueryMessage:
    options: list[dns.edns.Option] = []
    if draw(st.booleans()):
        v4 = draw(st.booleans())
        address = draw(st.ip_addresses(v=4 if v4 else 6))
        options.append(dns.edns.ECSOption(str(address), draw(st.integers(0, 32 if v4 else 128))))
    if draw(st.booleans()):
        options.append(dns.edns.GenericOption(3, b""))
    query = dns.message.make_query(
        dns.name.Name((*draw(labels), b"")),
        draw(st.integers(1, 65535).filter(lambda kind: kind != 41)),
        rdclass=draw(st.integers(1, 65535)),
        use_edns=0 if options or draw(st.booleans()) else False,
        payload=draw(st.integers(0, 65535)),
        options=options or None,
        want_dnssec=False,
        flags=draw(st.sampled_from([0, dns.flags.RD, dns.flags.CD, dns.flags.RD | dns.flags.AD])),
    )
    query.id = draw(st.integers(0, 65535))
    return query


@given(queries())
def test_reads_what_dnspython_writes(query: dns.message.QueryMessage) -> None:
    found = parse_query(query.to_wire())
    assert isinstance(found, Query)
    question = query.question[0]
    assert found.id == query.id
    assert found.name == (question.name.to_wire() or b"").lower()
    assert (found.rrtype, found.rrclass) == (question.rdtype, question.rdclass)
    if query.edns < 0:
        assert found.edns is None
        return
    assert found.edns is not None
    assert found.edns.payload_bytes == max(512, query.payload)
    sent = {int(each.otype): each for each in query.options}
    assert found.edns.nsid == (3 in sent)
    if 8 in sent:
        subnet_sent = sent[8]
        assert isinstance(subnet_sent, dns.edns.ECSOption)
        assert found.edns.subnet is not None
        assert found.edns.subnet.source_bits == subnet_sent.srclen
        assert subnet_sent.to_wire() == struct.pack(
            "!HBB", found.edns.subnet.family, found.edns.subnet.source_bits, 0
        ) + (found.edns.subnet.address)


@given(queries(), st.data())
def test_what_we_accept_of_damaged_queries_dnspython_reads_alike(
    query: dns.message.QueryMessage, data: st.DataObject
) -> None:
    wire = bytearray(query.to_wire())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    del wire[data.draw(st.integers(12, len(wire))) :]
    found = parse_query(bytes(wire))
    if isinstance(found, Query):
        theirs = dns.message.from_wire(bytes(wire), question_only=True, ignore_trailing=True)
        assert theirs.question[0].name.to_wire() == found.question[:-4]
        assert theirs.question[0].rdtype == found.rrtype


@given(st.binary(max_size=300))
def test_never_raises(data: bytes) -> None:
    parse_query(data)


@given(st.binary(max_size=200))
def test_never_raises_behind_a_sound_header(data: bytes) -> None:
    parse_query(packet(counts=(1, 0, 0, 2), rest=data))
