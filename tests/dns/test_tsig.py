"""RFC 8945, sentence by sentence; dnspython is the client."""

from pathlib import Path

import dns.message
import dns.rcode
import dns.tsig
import pytest

from tests.dns.secondaries import KEYRING, WALL, ask_wire, query, signed, tables_with


def test_rfc8945_5_3_a_signed_query_is_answered_signed(tmp_path: Path) -> None:
    request = query("SOA")
    packet, mac = signed(request)
    for tcp in (False, True):
        asked = ask_wire(tables_with(tmp_path), packet, tcp=tcp)
        # the signature's own time is that of WALL, far in the past: the MAC is what counts here
        answer = dns.message.from_wire(asked.wires[0], keyring=False)
        assert answer.rcode() == dns.rcode.NOERROR
        assert len(answer.answer) == 1
        assert_signed(asked.wires[0], mac)
        assert asked.counters["signed"] == 1


def assert_signed(wire: bytes, request_mac: bytes) -> None:
    """The one message is signed, for the request with that MAC."""
    message = dns.message.from_wire(wire, keyring=False)
    record = message.tsig[0]
    (key,) = KEYRING.values()
    start = len(wire) - (len(b"\x03xfr\0") + 10 + len(record.to_wire()))
    plain = wire[:10] + (int.from_bytes(wire[10:12], "big") - 1).to_bytes(2, "big") + wire[12:start]
    expected, _ = dns.tsig.sign(plain, key, record, record.time_signed, request_mac)  # type: ignore[no-untyped-call]
    assert record.mac == expected.mac


def test_rfc8945_5_2_1_an_unknown_key_is_notauth_badkey_unsigned(tmp_path: Path) -> None:
    packet, _ = signed(query("SOA"))
    answer = dns.message.from_wire(
        ask_wire(tables_with(tmp_path), packet.replace(b"\3xfr", b"\3abc")).wires[0], keyring=False
    )
    assert answer.rcode() == dns.rcode.NOTAUTH
    assert (answer.tsig_error, answer.tsig[0].mac, str(answer.tsig.name)) == (dns.rcode.BADKEY, b"", "abc.")
    assert answer.answer == []


def test_rfc8945_5_2_2_a_wrong_mac_is_notauth_badsig_unsigned(tmp_path: Path) -> None:
    packet, mac = signed(query("AXFR"))
    asked = ask_wire(tables_with(tmp_path), packet.replace(mac, bytes(len(mac))))
    answer = dns.message.from_wire(asked.wires[0], keyring=False)
    assert answer.rcode() == dns.rcode.NOTAUTH
    assert (answer.tsig_error, answer.tsig[0].mac) == (dns.rcode.BADSIG, b"")
    assert asked.counters["signatures_refused"] == 1


@pytest.mark.parametrize("skew", [-301, 301])
def test_rfc8945_5_2_3_a_wrong_time_is_badtime_signed_with_both_times(tmp_path: Path, skew: int) -> None:
    packet, mac = signed(query("AXFR"), at=WALL + skew)
    wire = ask_wire(tables_with(tmp_path), packet).wires[0]
    answer = dns.message.from_wire(wire, keyring=False)
    assert answer.rcode() == dns.rcode.NOTAUTH
    assert answer.tsig_error == dns.rcode.BADTIME
    assert answer.tsig[0].time_signed == WALL + skew
    assert int.from_bytes(answer.tsig[0].other, "big") == WALL
    assert_signed(wire, mac)


def test_rfc8945_5_2_3_a_time_within_the_fudge_is_right(tmp_path: Path) -> None:
    packet, _ = signed(query("SOA"), at=WALL + 299)
    assert dns.message.from_wire(ask_wire(tables_with(tmp_path), packet).wires[0], keyring=False).rcode() == 0


def test_rfc8945_5_1_a_tsig_record_twice_or_not_last_is_formerr(tmp_path: Path) -> None:
    packet, _ = signed(query("SOA"))
    plain_bytes = len(query("SOA").to_wire())
    twice = packet[:11] + bytes((packet[11] + 1,)) + packet[12:] + packet[plain_bytes:]
    answer = dns.message.from_wire(ask_wire(tables_with(tmp_path), twice).wires[0], keyring=False)
    assert answer.rcode() == dns.rcode.FORMERR


def test_rfc8945_5_3_what_does_not_fit_signed_is_truncated_and_signed(tmp_path: Path) -> None:
    request = query("A", name="many.example.com")
    request.use_edns(0, payload=760)  # 40 addresses fit, with a signature they do not
    packet, mac = signed(request)
    wire = ask_wire(tables_with(tmp_path), packet, tcp=False).wires[0]
    answer = dns.message.from_wire(wire, keyring=False)
    assert answer.flags & dns.flags.TC
    assert answer.answer == []
    assert len(wire) <= 760
    assert_signed(wire, mac)


def test_no_cut_of_a_signed_packet_raises(tmp_path: Path) -> None:
    packet, _ = signed(query("IXFR", serial=1))
    tables = tables_with(tmp_path)
    for end in range(len(packet)):
        for counted in (packet[:end], packet[:end] + bytes(3)):
            asked = ask_wire(tables, counted)
            assert asked.counters["faults"] == 0
    for place in range(12, len(packet)):
        broken = packet[:place] + bytes((packet[place] ^ 0xFF,)) + packet[place + 1 :]
        assert ask_wire(tables, broken).counters["faults"] == 0, place
