"""Everything that can happen within the bounds, and that each rule is needed within them too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from anycastle.replicator import event as e
from anycastle.replicator import gate
from anycastle.replicator.controller import Controller
from tests.replicator.sim import exhaustive
from tests.replicator.sim.checker import Violation
from tests.replicator.sim.disk import GROUP
from tests.replicator.sim.exhaustive import BOUNDS, Bounds, Node, Search
from tests.replicator.sim.mutants import MUTANTS

NEEDED = {
    "lease_from_receipt": "lease",
    "lease_undrifted": "slow_reader",
    "lease_without_vector": "lease",
    "minority": "lease",
    "ack_forgets_grants": "lease",
    "restart_forgets_grants": "restart",
    "no_wait": "lease",
    "marks_forgotten": "marks",
}
"""Rules of which even this small world goes wrong without -> in which."""


@pytest.mark.parametrize("bounds", sorted(BOUNDS))
def test_nothing_goes_wrong_in_any_order(bounds: str) -> None:
    search = Search(BOUNDS[bounds]).run()
    assert len(search.worlds) > 5_000
    assert search.served > 100, "somebody was served what was written"
    assert search.succeeded > 100, "all writers were told that it is safe"


@pytest.mark.parametrize("rule", sorted(NEEDED))
def test_each_rule_is_needed(rule: str) -> None:
    with MUTANTS[rule].applied():
        _goes_wrong(BOUNDS[NEEDED[rule]])


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    feed = Node.feed

    def early(node: Node, event: e.Event) -> None:
        before = len(node.underway)
        feed(node, event)
        for command in node.underway[before:]:
            if isinstance(command, e.Record):
                feed(node, e.Recorded(GROUP, command.origin, command.entries[-1].seq))

    with patch.object(Node, "feed", early):
        _goes_wrong(BOUNDS["restart"])


def test_nothing_is_served_before_it_is_fenced() -> None:
    verdict = gate.verdict
    with patch.object(gate, "verdict", lambda **facts: verdict(**{**facts, "fenced": True})):
        _goes_wrong(BOUNDS["lease"])


def test_nothing_is_served_where_nobody_vouches() -> None:
    with _always_current():
        _goes_wrong(BOUNDS["lease"])


def test_two_states_that_look_alike_are_one() -> None:
    states = exhaustive.States()
    one, other = (Node("a", exhaustive.Disk("a"), Bounds()) for _ in range(2))
    one.boot()
    other.boot()
    assert states.add(one) == states.add(other)
    other.tick()
    assert states.add(one) != states.add(other)


@contextmanager
def _always_current() -> Iterator[None]:
    def currency(self: Controller, group: str, **_: Any) -> str:
        return ""

    with patch.object(Controller, "currency", currency):
        yield


def _goes_wrong(bounds: Bounds) -> None:
    with pytest.raises(Violation, match=r"where .* was promised|not come after"):
        Search(bounds).run()
