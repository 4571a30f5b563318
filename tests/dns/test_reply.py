"""The answer builder, read back by dnspython."""

import struct

import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.reply import Answer, render, reply_bytes_max
from anycastle.dns.rrset import CNAME, MX, NS, SOA, TXT, A, Rdata, RRset, make_rrset
from anycastle.dns.wire import Query, Rcode, parse_query
from tests.dns.names import name_of


def query_for(name: str, *, edns: bool = True, payload: int = 1232) -> Query:
    wire = dns.message.make_query(name, "A", use_edns=0 if edns else False, payload=payload).to_wire()
    found = parse_query(wire)
    assert isinstance(found, Query)
    return found


def wire(text: str) -> bytes:
    return dns.name.from_text(text).to_wire() or b""


def addresses(owner: str, count: int) -> RRset:
    return make_rrset(wire(owner), A, 60, tuple((struct.pack("!I", number),) for number in range(count)))


def rendered(query: Query, answer: Answer, bytes_max: int = 65535) -> bytes:
    return render(query, answer, bytes_max=bytes_max, payload_bytes=1232)


def test_limits() -> None:
    assert reply_bytes_max(query_for("a.b", edns=False), tcp=False, payload_bytes_max=1232) == 512
    assert reply_bytes_max(query_for("a.b", payload=700), tcp=False, payload_bytes_max=1232) == 700
    assert reply_bytes_max(query_for("a.b", payload=9000), tcp=False, payload_bytes_max=1232) == 1232
    assert reply_bytes_max(query_for("a.b", edns=False), tcp=True, payload_bytes_max=1232) == 65535


def test_question_comes_back_in_its_case_and_flags_are_ours() -> None:
    query = query_for("wWw.ExAmPlE.cOm")
    reply = rendered(query, Answer(answer=(addresses("www.example.com", 1),)))
    assert b"\x03wWw\x07ExAmPlE\x03cOm\x00" in reply
    message = dns.message.from_wire(reply)
    assert dns.message.from_wire(reply).answer[0].name.to_text() == "wWw.ExAmPlE.cOm."
    assert message.flags & 0xFFF0 == 0x8500  # QR AA RD, nothing else


@pytest.mark.parametrize("count", [29, 30])
def test_truncates_at_the_very_byte(count: int) -> None:
    """Header 12, question 9, records of 16 bytes each: 29 of them make 485 bytes, 30 make 501."""
    query = query_for("a.bc", edns=False)
    full = rendered(query, Answer(answer=(addresses("a.bc", count),)))
    assert rendered(query, Answer(answer=(addresses("a.bc", count),)), len(full)) == full
    cut = dns.message.from_wire(rendered(query, Answer(answer=(addresses("a.bc", count),)), len(full) - 1))
    assert cut.flags & dns.flags.TC
    assert cut.question
    assert not cut.answer


def test_truncated_answer_keeps_opt() -> None:
    cut = dns.message.from_wire(rendered(query_for("a.bc"), Answer(answer=(addresses("a.bc", 200),)), 512))
    assert cut.flags & dns.flags.TC
    assert cut.edns == 0


def test_optional_records_are_left_out_without_tc_and_required_ones_are_not() -> None:
    ns = RRset(wire("bc"), NS, 60, ((b"", wire("n.bc")),))
    kept, dropped = addresses("n.bc", 2), addresses("m.bc", 30)
    query = query_for("a.bc", edns=False)
    partial = dns.message.from_wire(
        rendered(query, Answer(authority=(ns,), required=(kept,), optional=(dropped,)), 512)
    )
    assert not partial.flags & dns.flags.TC
    assert [str(rrset.name) for rrset in partial.additional] == ["n.bc."]
    cut = dns.message.from_wire(rendered(query, Answer(authority=(ns,), required=(kept, dropped)), 512))
    assert cut.flags & dns.flags.TC


def test_extended_rcode_is_split() -> None:
    reply = dns.message.from_wire(rendered(query_for("a.bc"), Answer(rcode=Rcode.BADVERS)))
    assert reply.rcode() == dns.rcode.BADVERS


def test_no_pointer_aims_beyond_its_reach() -> None:
    """1,000 CNAMEs of distinct names pass offset 16383, where both dnslib and dnspython corrupt the message."""
    chain = tuple(
        RRset(wire(f"name{n}.zone{n}.example"), CNAME, 60, ((b"", wire(f"name{n}.other{n}.example")),))
        for n in range(1000)
    )
    reply = rendered(query_for("a.example"), Answer(answer=chain))
    assert len(reply) > 2 * 16384
    message = dns.message.from_wire(reply)
    assert len(message.answer) == 1000
    assert message.answer[999].to_text() == "name999.zone999.example. 60 IN CNAME name999.other999.example."


names = st.lists(st.sampled_from([b"a", b"B", b"www", b"example", b"com", b"\x00."]), max_size=6).map(
    lambda labels: name_of(tuple(labels))
)


@st.composite
def rrsets(draw: st.DrawFn) -> RRset:
    rrtype = draw(st.sampled_from([A, NS, CNAME, MX, SOA, TXT]))
    rdata: Rdata
    if rrtype == A:
        rdata = (draw(st.binary(min_size=4, max_size=4)),)
    elif rrtype == TXT:
        text = draw(st.binary(max_size=255))
        rdata = (bytes((len(text),)) + text,)
    elif rrtype == MX:
        rdata = (draw(st.binary(min_size=2, max_size=2)), draw(names))
    elif rrtype == SOA:
        rdata = (b"", draw(names), b"", draw(names), bytes(20))
    else:
        rdata = (b"", draw(names))
    return make_rrset(draw(names), rrtype, draw(st.integers(0, 2**31 - 1)), (rdata,))


@given(st.lists(rrsets(), max_size=5), st.lists(rrsets(), max_size=3), st.lists(rrsets(), max_size=3), names)
def test_dnspython_reads_what_we_write(
    answer: list[RRset], authority: list[RRset], optional: list[RRset], qname: bytes
) -> None:
    query = parse_query(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + qname + struct.pack("!HH", 1, 1))
    assert isinstance(query, Query)
    reply = rendered(query, Answer(answer=tuple(answer), authority=tuple(authority), optional=tuple(optional)))
    message = dns.message.from_wire(reply, one_rr_per_rrset=True)
    for ours, theirs in ((answer, message.answer), (authority, message.authority), (optional, message.additional)):
        assert [(each.owner.lower(), each.rrtype, each.ttl, _flat(each)) for each in ours] == [
            (
                (each.name.to_wire() or b"").lower(),
                each.rdtype,
                each.ttl,
                (each[0].to_wire() or b"").lower(),
            )
            for each in theirs
        ]


def _flat(rrset: RRset) -> bytes:
    return b"".join(rrset.rdatas[0]).lower()
