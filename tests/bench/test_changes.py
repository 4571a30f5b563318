"""The benchmark of changes really changes, asks and sees; with no word about how fast."""

from bench.changes import Plan, measure


async def test_every_change_comes_into_the_answers() -> None:
    rows = await measure(Plan(samples=20))
    values = {row.metric: row.value for row in rows}
    assert list(values) == ["changes", "in the answers, p50", "p99", "longest"]
    assert all(value is not None and value > 0 for value in values.values())
