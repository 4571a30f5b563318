"""The benchmark's arithmetic, its JSON, its queries; and our server really measured, with no word about how fast."""

import itertools
import json
from pathlib import Path

import dns.edns
import dns.message
import dns.rdatatype
import pytest

from bench.dns import Plan, is_right, measure, parse_dnsperf
from bench.dns_load import SITES, Query, encode_query, make_queries, place_clients
from bench.dns_systems import SYSTEMS
from bench.packages import find
from bench.process import BenchError, running, wait_until
from bench.report import Row, as_json, median_rows, ratio, table

OURS = Row("anycastle", "steered", "answers", "/s", 200.0)
PEER = Row("gdnsd", "steered", "answers", "/s", 500.0)
ABSENT = Row("knot", "steered", "answers", "/s", None, "left out: knot not installed")
FLOOR = Row("nsd", "static", "answers", "/s", 1000.0)


def test_the_value_of_a_row_is_the_median_of_its_rounds() -> None:
    rounds = [[Row("gdnsd", "steered", "answers", "/s", value)] for value in (3.0, 100.0, 5.0)]
    assert median_rows(rounds) == [Row("gdnsd", "steered", "answers", "/s", 5.0)]


def test_a_round_that_failed_does_not_spoil_the_median_and_is_remarked() -> None:
    assert median_rows([[PEER], [Row("gdnsd", "steered", "answers", "/s", None, "failed")]]) == [
        Row("gdnsd", "steered", "answers", "/s", 500.0, "failed")
    ]


def test_ratios_are_to_ours_and_shares_have_none() -> None:
    rows = [OURS, PEER, ABSENT, FLOOR]
    assert [ratio(row, rows) for row in rows] == [1.0, 2.5, None, 5.0]
    assert ratio(PEER, [PEER]) is None
    assert ratio(Row("gdnsd", "steered", "lost", "%", 1.0), [Row("anycastle", "steered", "lost", "%", 1.0)]) is None


def test_the_table_shows_ratios_and_says_what_is_left_out() -> None:
    assert table([OURS, PEER, ABSENT]).splitlines() == [
        "| system    | case    | answers (/s) |",
        "|-----------|---------|--------------|",
        "| anycastle | steered | 200          |",
        "| gdnsd     | steered | 500 (2.50×)  |",
        "| knot      | steered | -            |",
        "",
        "knot: left out: knot not installed",
    ]


def test_json_has_the_shape_of_all_benchmarks() -> None:
    assert json.loads(as_json("dns", "2 cores", [OURS, ABSENT])) == {
        "bench": "dns",
        "machine": "2 cores",
        "rows": [{"system": "anycastle", "case": "steered", "metric": "answers", "unit": "/s", "value": 200.0}],
    }


def test_queries_come_from_the_seed_alone() -> None:
    clients = place_clients(1)
    assert clients == place_clients(1) != place_clients(2)
    assert (
        list(make_queries(clients, 50, 7)) == list(make_queries(clients, 50, 7)) != list(make_queries(clients, 50, 8))
    )


def test_queries_are_what_the_benchmark_says() -> None:
    clients = place_clients(1)
    queries = list(make_queries(clients, 4000, 1))
    assert 0.03 < sum(query.site is None for query in queries) / len(queries) < 0.07
    assert {query.rrtype for query in queries} == {1, 28}
    assert {query.site for query in queries} == {None, *SITES}
    names = [dns.message.from_wire(query.wire).question[0].name for query in queries if query.site]
    shares = sorted((len(list(same)) for _, same in itertools.groupby(sorted(names))), reverse=True)
    assert shares[0] > 3 * shares[9] > 9 * shares[-1], "a few names are wanted most"


@pytest.mark.parametrize(
    ("address", "version", "expected"),
    [(0x0B010203, 4, ("11.1.2.0", 24)), (0x2A00_0000_0001_0203 << 64, 6, ("2a00:0:1:200::", 56))],
)
def test_queries_carry_the_client_subnet(address: int, version: int, expected: tuple[str, int]) -> None:
    message = dns.message.from_wire(encode_query(b"n0001.bench.example", 28, address, version))
    (option,) = message.options
    assert isinstance(option, dns.edns.ECSOption)
    assert (option.address, option.srclen) == expected
    assert message.question[0].to_text() == "n0001.bench.example. IN AAAA"


def test_a_wrong_address_and_silence_are_not_right() -> None:
    query = Query(encode_query(b"n0001.bench.example", 1, 0x0B010203, 4), SITES[1], 1)
    question = dns.message.from_wire(query.wire)
    for site in SITES:
        reply = dns.message.make_response(question)
        reply.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "A", site.ipv4))
        assert is_right(reply.to_wire(), query, steers=True) == (site is SITES[1])
        assert is_right(reply.to_wire(), query, steers=False) == (site is SITES[0])
    assert not is_right(None, query, steers=True)


def test_statistics_of_dnsperf_are_read_and_their_absence_is_an_error() -> None:
    text = "  Queries completed:    900 (90.00%)\n  Queries lost:         100 (10.00%)\n  Run time (s):         1.5\n"
    assert parse_dnsperf(text) == (900, 1.5, 100)
    with pytest.raises(BenchError, match="no statistics"):
        parse_dnsperf("unable to connect")


def test_a_server_that_ends_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with (
        running(["sh", "-c", "echo no such zone; exit 3"], tmp_path, core=0) as server,
        pytest.raises(BenchError, match="ended with 3: no such zone"),
    ):
        wait_until(lambda: False, server, 10.0)


@pytest.mark.skipif(find("dnsperf") is None, reason="script/bench dns installs dnsperf")
def test_our_own_server_is_measured_and_right() -> None:
    rows = measure(SYSTEMS[:1], Plan(rounds=1, warm_seconds=1, timed_seconds=1, queries=1000, sample=100))
    values = {row.metric: row.value for row in rows}
    assert values["right answers"] == 100
    assert all(values[metric] for metric in ("answers", "CPU per query", "memory"))
