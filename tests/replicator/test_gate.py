"""The truth table of rule 5, line by line and as a whole."""

from itertools import product

import pytest

from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version
from anycastle.replicator.gate import Forward, Refuse, Serve, Verdict, Wait, prefix_verdict, verdict, write_verdict
from anycastle.replicator.settings import Isolated

DIGEST = b"d" * 32
PHOTO = Entry("ams", 4, "blogs", b"alice/p.jpg", 9, Kind.FILE, NO_VERSION, digest=DIGEST)
GONE = Entry("ams", 5, "blogs", b"alice/p.jpg", 10, Kind.ABSENT, NO_VERSION)
GOOD = {
    "newest": PHOTO,
    "fenced": True,
    "landed_here": True,
    "disk_as_recorded": True,
    "currency": "",
    "current_sites": ("nyc", "ams"),
    "landed_sites": frozenset({"ams"}),
    "isolated": Isolated.REFUSE,
    "uncovered": None,
}


def judge(**facts: object) -> Verdict:
    return verdict(**{**GOOD, **facts})  # type: ignore[arg-type]


def test_fenced_and_landed_is_served_with_its_digest() -> None:
    assert judge() == Serve(DIGEST, Version(9, "ams"), "version 9@ams is fenced and has landed here")


def test_a_landed_deletion_and_a_path_never_heard_of_are_true_404s() -> None:
    assert judge(newest=GONE) == Serve(None, Version(10, "ams"), "version 10@ams is fenced and has landed here")
    assert judge(newest=None, fenced=False, landed_here=False) == Serve(
        None, NO_VERSION, "never announced: absent everywhere"
    )


def test_not_current_asks_others_those_that_have_it_first() -> None:
    reason = "1 of 2 votes needed: nyc gave no lease"
    assert judge(currency=reason) == Forward(("ams", "nyc"), f"not current: {reason}")
    assert judge(currency=reason, current_sites=()) == Refuse(f"not current: {reason}", 2)
    served = judge(currency=reason, current_sites=(), isolated=Isolated.SERVE)
    assert served == Serve(DIGEST, Version(9, "ams"), f"isolated, served by policy: {reason}")
    stale = judge(currency=reason, current_sites=(), isolated=Isolated.SERVE, landed_here=False)
    assert isinstance(stale, Serve)
    assert stale.digest is None, "what is on disk is not that content"


def test_what_is_not_settled_waits() -> None:
    assert judge(fenced=False) == Wait("version 9@ams is not fenced yet")
    assert judge(disk_as_recorded=False) == Wait("what is on disk is not announced yet")
    assert judge(newest=None, disk_as_recorded=False) == Wait("what is on disk is not announced yet")


def test_what_has_not_landed_here_is_forwarded_to_where_it_has() -> None:
    assert judge(landed_here=False) == Forward(("ams",), "version 9@ams has not landed here")
    assert judge(landed_here=False, landed_sites=("sgp",)) == Wait(
        "version 9@ams has not landed here, nor at any other current site"
    )


def test_below_a_coarse_mark_the_origin_knows_best() -> None:
    forward = judge(uncovered=("ams", 70), detailed_sites=("nyc",))
    assert isinstance(forward, Forward)
    assert forward.sites == ("ams", "nyc")
    assert isinstance(judge(uncovered=("sgp", 70)), Wait)


FLAGS = (True, False)


@pytest.mark.parametrize("current", FLAGS)
@pytest.mark.parametrize("mark", [None, ("ams", 7)])
def test_only_one_line_of_the_table_serves(current: bool, mark: tuple[str, int] | None) -> None:
    for fenced, landed, disk, sites in product(FLAGS, FLAGS, FLAGS, ((), ("ams",))):
        said = judge(
            currency="" if current else "silence",
            uncovered=mark,
            fenced=fenced,
            landed_here=landed,
            disk_as_recorded=disk,
            current_sites=sites,
        )
        assert isinstance(said, Serve) == (current and not mark and fenced and landed and disk)
        if not current:
            assert isinstance(said, Forward if sites else Refuse)


WHOLE = {
    "fenced": True,
    "settled_here": True,
    "disk_as_recorded": True,
    "currency": "",
    "current_sites": ("nyc", "ams"),
    "settled_sites": frozenset({"ams"}),
    "isolated": Isolated.REFUSE,
    "uncovered": None,
}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Serve(None, NO_VERSION, "all that is known below the prefix has landed here")),
        ({"fenced": False}, Wait("a change below the prefix is not fenced yet")),
        ({"disk_as_recorded": False}, Wait("a change on disk is not announced yet")),
        ({"settled_here": False}, Forward(("ams",), "a change below the prefix has not landed here")),
        ({"currency": "alone"}, Forward(("ams", "nyc"), "not current: alone")),
        ({"currency": "alone", "current_sites": ()}, Refuse("not current: alone", 2)),
        (
            {"uncovered": ("ams", 7)},
            Forward(("ams",), "below a coarse change of ams up to 7 whose details are not here"),
        ),
    ],
)
def test_a_prefix_is_judged_as_a_whole(facts: dict[str, object], expected: Verdict) -> None:
    assert prefix_verdict(**{**WHOLE, **facts}) == expected  # type: ignore[arg-type]


def may_write(**facts: object) -> Forward | Refuse | None:
    usual = {"member": "nyc", "writes": (), "currency": "", "current_sites": ("ams", "sgp"), "uncovered": None}
    return write_verdict(**{**usual, **facts})  # type: ignore[arg-type]


def test_writes_go_where_they_may() -> None:
    assert may_write() is None
    assert may_write(currency="alone") == Forward(("ams", "sgp"), "alone")
    assert may_write(currency="alone", current_sites=()) == Refuse("alone", 2)
    assert may_write(uncovered=("sgp", 9)) == Forward(("sgp",), "the details of sgp up to 9 are not here")
    assert may_write(uncovered=("gru", 9)) == Refuse("the details of gru up to 9 are not here", 2)


def test_an_ordered_list_of_writers() -> None:
    assert may_write(writes=("ams", "nyc")) == Forward(("ams",), "writes go to ams, nyc")
    assert may_write(writes=("gru", "nyc")) is None, "gru is not current"
    assert may_write(writes=("nyc", "ams")) is None
    assert may_write(writes=("nyc", "sgp"), currency="alone") == Forward(("sgp",), "alone")
    assert may_write(writes=("gru",)) == Refuse("writes go to gru", 2)
    assert may_write(writes=("ams", "nyc"), unfit=("ams",)) is None, "users are kept away from ams"
    assert may_write(writes=("nyc", "ams"), unfit=("nyc",)) == Forward(("ams",), "writes go to ams, nyc")
    assert may_write(writes=("nyc", "ams"), unfit=("nyc", "ams")) is None, "nobody is better"
    assert may_write(writes=("nyc", "ams"), unfit=("nyc",), current_sites=("sgp",)) is None, "ams is not current"
    assert may_write(writes=("sgp", "ams")) == Forward(("sgp", "ams"), "writes go to sgp, ams")
