"""Two members that meet: is it who was met before?"""

from dataclasses import dataclass, field

from anycastle.replicator.acquaintance import Acquaintance
from anycastle.replicator.message import PROTOCOL, Hello, Vectors


@dataclass
class Shelf:
    lives: tuple[int, ...] = (1,)
    facts: dict[str, bytes] = field(default_factory=dict)
    here: Vectors = field(default_factory=lambda: {"g": {}})

    def get(self, key: str) -> bytes | None:
        return self.facts.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.facts[key] = value

    def recorded(self) -> Vectors:
        return self.here


class Member:
    """One of two, with what it was told by the other."""

    def __init__(self, name: str, shelf: Shelf, told: Vectors | None = None) -> None:
        self.name = name
        self.shelf = shelf
        self.forgets = 0
        other = frozenset({"ams", "nyc"}) - {name}
        self.knows = Acquaintance(name, other, shelf, told=lambda _: told or {}, forget=self._forget)

    def _forget(self) -> None:
        self.forgets += 1

    def hello(self, to: str) -> Hello:
        return self.knows.greet(Hello(self.name, PROTOCOL, 1, (), ()), to)


def meet(ams: Member, nyc: Member) -> tuple[str, str]:
    at_ams, at_nyc = ams.hello("nyc"), nyc.hello("ams")
    return ams.knows.fault(at_nyc), nyc.knows.fault(at_ams)


def test_a_ledger_that_grew_older_is_the_same() -> None:
    ams, shelf = Member("ams", Shelf()), Shelf()
    assert meet(ams, Member("nyc", shelf)) == ("", "")
    shelf.lives = (1, 2, 3)
    assert meet(ams, Member("nyc", shelf)) == ("", "")


def test_one_that_was_put_back_has_forgotten_at_once_and_over_restarts_until_resync() -> None:
    ams, shelf = Member("ams", Shelf()), Shelf(lives=(1, 2))
    meet(ams, Member("nyc", shelf))
    older = Shelf(lives=(1, 7))
    nyc = Member("nyc", older)
    there, here = meet(ams, nyc)
    assert "expected `anycastle resync` at nyc" in there
    assert "run `anycastle resync` here" in here
    assert (nyc.forgets, older.facts["forgot"]) == (1, b"disowned")
    again = Member("nyc", older)
    assert again.knows.disowned, "known before anybody is met"
    assert all(meet(ams, again))
    again.knows.resync()
    assert meet(ams, again) == ("", "")
    assert not again.knows.disowned


def test_a_copy_of_a_running_ledger_is_found_out_by_what_was_told() -> None:
    shelf = Shelf(here={"g": {"ams": 4}})
    ams = Member("ams", Shelf(), told={"g": {"ams": 5}, "unknown": {"x": 1}})
    nyc = Member("nyc", shelf)
    _, here = meet(ams, nyc)
    assert "it was put back from a backup" in here
    assert nyc.forgets == 1
    shelf.facts.clear()
    shelf.here = {"g": {"ams": 5}}
    assert meet(ams, Member("nyc", shelf)) == ("", "")


def test_a_new_ledger_says_so_and_is_taken_in() -> None:
    ams = Member("ams", Shelf(), told={"g": {"ams": 5}})
    meet(ams, Member("nyc", Shelf(here={"g": {"ams": 5}})))
    lost = Member("nyc", Shelf(lives=(9,), facts={"forgot": b"new"}))
    assert meet(ams, lost) == ("", "")
    for _ in range(2):  # over any number of links, and restarts of either
        lost.shelf.lives = (*lost.shelf.lives, lost.shelf.lives[-1] + 1)
        ams, lost = Member("ams", ams.shelf), Member("nyc", lost.shelf)
        assert meet(ams, lost) == ("", "")
        assert lost.knows.knew_another(ams.hello("nyc")), "till it says that nothing is missing"
    lost.shelf.put("forgot", b"")
    assert meet(ams, lost) == ("", "")
    assert not lost.knows.knew_another(ams.hello("nyc")), "the new one is what ams remembers from now on"


def test_one_that_is_met_for_the_first_time_is_told_so_at_each_meeting() -> None:
    ams, new = Member("ams", Shelf()), Member("nyc", Shelf(lives=(9,), facts={"forgot": b"new"}))
    for _ in range(2):
        assert meet(ams, new) == ("", "")
        assert not new.knows.knew_another(ams.hello("nyc"))
