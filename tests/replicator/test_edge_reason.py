"""Every reason that the gate can give has a word; a change of its texts shows here."""

from itertools import product

import pytest

from anycastle.replicator.edge_reason import word
from anycastle.replicator.entry import NO_VERSION, Entry, Kind
from anycastle.replicator.gate import Serve, prefix_verdict, verdict, write_verdict
from anycastle.replicator.settings import Isolated

BOOLS = (False, True)
NEWEST = Entry("ams", 1, "blogs", b"a", 3, Kind.FILE, NO_VERSION)


def test_every_verdict_of_the_gate_has_a_word() -> None:
    words = set()
    for fenced, landed, recorded, currency, others, holders, isolated, mark in product(
        BOOLS, BOOLS, BOOLS, ("", "1 of 2 leases needed"), ((), ("nyc",)), ((), ("nyc",)), Isolated, (None, ("nyc", 7))
    ):
        given = {
            "fenced": fenced,
            "disk_as_recorded": recorded,
            "currency": currency,
            "current_sites": others,
            "isolated": isolated,
            "uncovered": mark,
            "detailed_sites": holders,
        }
        for found in (
            verdict(newest=NEWEST, landed_here=landed, landed_sites=holders, **given),  # type: ignore[arg-type]
            prefix_verdict(settled_here=landed, settled_sites=holders, **given),  # type: ignore[arg-type]
        ):
            if not isinstance(found, Serve):
                words.add(word(found.reason))
        for writes in ((), ("nyc",), ("nyc", "ams")):
            write = write_verdict(
                member="ams",
                writes=writes,
                currency=currency,
                current_sites=others,
                uncovered=mark,
                detailed_sites=holders,
            )
            if write is not None:
                words.add(word(write.reason))
    assert words == {"not_current", "coarse_mark", "not_announced", "not_fenced", "not_landed", "writer"}


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("passed on by ams: nyc takes writes", "hop"),
        ("landed at nyc: no link with nyc", "no_answer"),
        ("writes go to nyc: nyc refused", "no_answer"),
        ("landed at nyc: nyc did not say a word for 3 s", "no_answer"),
        ("a write needs 2 copies and only 1 sites can be reached: no link with nyc", "copies"),
        ("the change is not fenced yet: sgp has not acknowledged", "not_fenced"),
        ("it changed each time while it was read", "changing"),
        ("what was written before below the prefix has not landed here", "not_landed"),
        ("at home there", "affinity"),
        ("the application of blogs does not answer", "application"),
        ("the disk is on fire", "other"),
    ],
)
def test_words(reason: str, expected: str) -> None:
    assert word(reason) == expected
