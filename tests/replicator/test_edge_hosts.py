"""Counting customers without end."""

from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.edge_hosts import HostCounts


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans())))
def test_bounded_and_nothing_is_lost(asked: list[tuple[int, bool, bool]]) -> None:
    counts = HostCounts(8)
    for host, write, refused in asked:
        counts.count(f"{host}.example.com", write=write, refused=refused)
        assert len(counts) <= 8
    everything = [*(count for _, count in counts.busiest(100)), counts.others]
    assert sum(count.requests for count in everything) == len(asked)
    assert sum(count.writes for count in everything) == sum(write for _, write, _ in asked)
    assert sum(count.refused for count in everything) == sum(refused for *_, refused in asked)


def test_the_busy_stay() -> None:
    counts = HostCounts(10)
    for number in range(10_000):
        counts.count("busy.example.com", write=False, refused=False)
        counts.count(f"{number}.example.com", write=False, refused=False)
    ((host, count),) = counts.busiest(1)
    assert (host, count.requests) == ("busy.example.com", 10_000)
