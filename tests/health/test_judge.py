"""Agreement between observers: the table, the hold-down, isolation, and what is kept over a restart."""

import dataclasses
import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.health.judge import OBSERVERS_MAX, HealthError, Judge
from anycastle.health.observe import Observation, Result
from anycastle.health.settings import HealthSettings, Probe, TcpCheck
from anycastle.health.view import Health

U, D, N = Health.UP, Health.DOWN, Health.UNKNOWN
WORDS = {"+": U, "-": D, "?": N}
SITES = ("ams", "nyc", "sgp")


def settings(member: str = "ams", sites: tuple[str, ...] = SITES, *, hold_down_seconds: float = 0.0) -> HealthSettings:
    check = TcpCheck(host="192.0.2.10", port=80)
    probes = tuple(Probe(site=site, name="tcp", check=check, rise=1, fall=1) for site in sites)
    return HealthSettings(member=member, sites=sites, probes=probes, hold_down_seconds=hold_down_seconds)


def saw(judge: Judge, site: str, word: str, *, now: float) -> None:
    """One round of the judge's own probe; `?` is none at all."""
    if word != "?":
        reason = "connected" if word == "+" else "connection refused"
        judge.observe(Result(site=site, probe="tcp", ok=word == "+", reason=reason, took_seconds=0.0), now=now)


def said(observer: str, site: str, word: str, age_seconds: float = 0.0) -> Observation:
    return Observation(observer, site, WORDS[word], "it answered" if word == "+" else "silence", age_seconds)


def hear(judge: Judge, words: Iterable[Observation], *, now: float) -> None:
    for word in words:
        judge.hear(word.observer, [word], now=now)


@pytest.mark.parametrize(
    ("own", "others", "expected", "reason"),
    [
        # what ams sees of nyc, what the others (nyc itself among them) say of nyc
        ("+", "nyc+ sgp+", U, "3 of 3 observers, itself among them, see it up"),
        ("-", "nyc+ sgp+", U, "2 of 3 observers, itself among them, see it up"),
        ("?", "nyc+ sgp-", U, "1 of 3 observers, itself among them, see it up"),
        ("-", "nyc+ sgp-", D, "2 of 3 observers: tcp: connection refused (seen by ams)"),
        ("+", "nyc- sgp+", D, "says so itself: silence"),
        ("-", "nyc+", U, "1 of 2 observers, itself among them, see it up"),
        ("-", "sgp-", D, "2 of 2 observers: tcp: connection refused (seen by ams)"),
        ("+", "sgp+", U, "2 of 2 observers see it up"),
        ("+", "nyc? sgp-", N, "not decided yet"),
        ("+", "nyc? sgp?", U, "1 of 3 observers see it up"),
        ("-", "nyc? sgp?", N, "not decided yet"),
        ("-", "nyc? sgp-", D, "2 of 3 observers: tcp: connection refused (seen by ams)"),
        ("?", "nyc? sgp?", N, "not decided yet"),
    ],
)
def test_the_table(own: str, others: str, expected: Health, reason: str) -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    saw(judge, "nyc", own, now=1.0)
    hear(judge, (said(word[:3], "nyc", word[3]) for word in others.split()), now=1.0)
    judged = judge.judgements(now=1.0)["nyc"]
    assert (judged.health, judged.reason) == (expected, reason)
    assert judge.judgements(now=1.0)["nyc"] == judged


def test_a_draw_keeps_what_was() -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    saw(judge, "nyc", "-", now=1.0)
    hear(judge, [said("sgp", "nyc", "-")], now=1.0)
    assert judge.judgements(now=1.0)["nyc"].health is D
    saw(judge, "nyc", "+", now=2.0)
    assert judge.judgements(now=2.0)["nyc"].health is D
    hear(judge, [said("sgp", "nyc", "+")], now=3.0)
    assert judge.judgements(now=3.0)["nyc"].health is U


def test_an_observer_that_fell_silent_has_no_say() -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    hear(judge, [said("sgp", "nyc", "-"), said("nyc", "nyc", "-")], now=1.0)
    assert judge.judgements(now=1.0)["nyc"].health is D
    saw(judge, "nyc", "+", now=6.5)
    assert judge.judgements(now=6.5)["nyc"].health is U


def test_an_old_word_counts_from_when_it_was_true() -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    saw(judge, "nyc", "+", now=10.0)
    hear(judge, [said("nyc", "nyc", "-", age_seconds=4.0)], now=10.0)
    assert judge.judgements(now=10.9)["nyc"].health is D
    saw(judge, "nyc", "+", now=11.1)
    assert judge.judgements(now=11.1)["nyc"].health is U


def test_own_probes_that_stopped_have_no_say_either() -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    saw(judge, "nyc", "-", now=0.0)
    hear(judge, [said("sgp", "nyc", "+")], now=30.0)
    assert judge.judgements(now=30.0)["nyc"].reason == "1 of 1 observers see it up"


def test_hold_down_counts_from_going_down() -> None:
    judge = Judge(settings(sites=("ams",), hold_down_seconds=1.0), now=0.0)
    saw(judge, "ams", "+", now=5.0)
    assert judge.judgements(now=5.0)["ams"].since == 5.0
    saw(judge, "ams", "-", now=6.0)
    down = judge.judgements(now=6.0)["ams"]
    assert (down.health, down.since) == (D, 6.0)
    saw(judge, "ams", "+", now=6.1)
    for now in (6.1, 6.9):
        held = judge.judgements(now=now)["ams"]
        assert (held.health, held.since) == (D, 6.0)
        assert held.reason == "held down after: says so itself: tcp: connection refused"
    assert judge.judgements(now=7.0)["ams"].health is U


def test_losing_everybody_freezes_the_others_and_not_oneself() -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["nyc", "sgp"])
    for site in SITES:
        saw(judge, site, "+", now=1.0)
    before = judge.judgements(now=1.0)
    judge.links([])
    for site in SITES:
        saw(judge, site, "-", now=60.0)
    assert judge.isolated(now=60.0)
    after = judge.judgements(now=60.0)
    assert (after["nyc"], after["sgp"]) == (before["nyc"], before["sgp"])
    assert after["ams"].health is D
    judge.links(["nyc"])
    assert not judge.isolated(now=60.0)
    assert judge.judgements(now=60.0)["sgp"].health is D


@pytest.mark.parametrize(
    ("sites", "links", "sees", "isolated"),
    [
        (("ams",), [], "", False),  # nobody to lose
        (("ams", "nyc"), [], "", True),
        (("ams", "nyc"), ["witness"], "", False),
        (("ams", "nyc"), ["ams"], "", True),  # a link to oneself is none
        (("ams", "nyc"), [], "nyc", False),
        (("ams", "nyc"), [], "ams", True),
    ],
)
def test_who_is_isolated(sites: tuple[str, ...], links: list[str], sees: str, isolated: bool) -> None:
    judge = Judge(settings(sites=sites), now=0.0)
    judge.links(links)
    if sees:
        saw(judge, sees, "+", now=1.0)
    assert judge.isolated(now=1.0) is isolated


@pytest.mark.parametrize(
    ("sender", "word"),
    [
        ("sgp", said("nyc", "nyc", "-")),
        ("ams", said("ams", "ams", "-")),
        ("nyc", said("nyc", "atlantis", "-")),
        ("nyc", said("nyc", "nyc", "-", age_seconds=-1.0)),
        ("nyc", said("nyc", "nyc", "-", age_seconds=math.nan)),
    ],
)
def test_a_member_speaks_for_itself_and_makes_sense(sender: str, word: Observation) -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    judge.hear(sender, [word], now=1.0)
    assert judge.observations_refused == 1
    assert all(judged.health is N for judged in judge.judgements(now=1.0).values())


def test_observers_and_reasons_are_limited() -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["sgp"])
    hear(judge, (said(f"m{number}", "nyc", "+") for number in range(OBSERVERS_MAX + 5)), now=1.0)
    assert judge.observations_refused == 5
    judge.hear("m0", [Observation("m0", "nyc", D, "x" * 10_000, 0.0)], now=2.0)
    hear(judge, (said(f"m{number}", "nyc", "-") for number in range(1, OBSERVERS_MAX)), now=2.0)
    judged = judge.judgements(now=2.0)["nyc"]
    assert judged.health is D
    assert len(judged.reason) < 400


def test_what_was_known_survives_a_restart_with_its_age() -> None:
    first = Judge(settings(), now=0.0)
    first.links(["nyc"])
    saw(first, "nyc", "+", now=100.0)
    hear(first, [said("sgp", "sgp", "-")], now=100.0)
    first.judgements(now=100.0)
    saved = first.snapshot(now=104.0)

    second = Judge(settings(), now=7.0)
    second.restore(saved, age_seconds=6.0, now=7.0)
    judged = second.judgements(now=9.0)
    assert judged["nyc"].health is U
    assert judged["nyc"].since == pytest.approx(-3.0)
    assert judged["nyc"].reason == "1 of 1 observers see it up (known from 8 s ago, before a restart)"
    assert judged["sgp"].health is D
    assert judged["ams"].health is N
    assert not second.decided(now=9.0)

    third = Judge(settings(), now=20.0)  # once more, before anything was decided anew
    third.restore(second.snapshot(now=9.0), age_seconds=11.0, now=20.0)
    assert third.judgements(now=20.0)["nyc"].reason.endswith("(known from 19 s ago, before a restart)")

    second.links(["nyc"])
    saw(second, "nyc", "+", now=10.0)
    assert second.judgements(now=10.0)["nyc"].reason == "1 of 1 observers see it up"


def test_what_was_known_too_long_ago_is_not_believed() -> None:
    first = Judge(settings(), now=0.0)
    saw(first, "nyc", "+", now=1.0)
    first.judgements(now=1.0)
    second = Judge(settings(), now=0.0)
    second.restore(first.snapshot(now=1.0), age_seconds=4000.0, now=0.0)
    assert second.judgements(now=0.0)["nyc"].health is N


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"nyc": {"health": "fine"}}', b"\xff\xfe"])
def test_damaged_state_is_one_clear_error(damaged: bytes) -> None:
    with pytest.raises(HealthError, match="expected what an earlier run saved"):
        Judge(settings(), now=0.0).restore(damaged, age_seconds=0.0, now=0.0)


def test_new_settings_keep_what_did_not_change() -> None:
    judge = Judge(settings(), now=0.0)
    saw(judge, "nyc", "+", now=1.0)
    judge.judgements(now=1.0)
    judge.configure(settings(sites=("ams", "nyc", "fra")), now=2.0)
    judged = judge.judgements(now=2.0)
    assert list(judged) == ["ams", "nyc", "fra"]
    assert (judged["nyc"].health, judged["nyc"].since, judged["fra"].health) == (U, 1.0, N)


def test_groups_are_gated_by_what_they_require_of_the_own_site() -> None:
    check = TcpCheck(host="192.0.2.10", port=1)
    probes = tuple(Probe(site="ams", name=name, check=check, rise=1, fall=1, gates_only=True) for name in ("db", "fs"))
    requires = {"blogs": ("db",), "wiki": ("db", "fs"), "shop": ("fs",)}
    judge = Judge(dataclasses.replace(settings(), probes=probes, requires=requires), now=0.0)
    for name, ok in (("db", False), ("fs", True)):
        judge.observe(Result(site="ams", probe=name, ok=ok, reason="it lags", took_seconds=0.0), now=1.0)
    assert judge.gated(now=1.0) == dict.fromkeys(("blogs", "wiki"), "requires db: it lags")
    assert set(judge.gated(now=9.0)) == {"blogs", "wiki", "shop"}


MEMBERS = ("ams", "nyc", "sgp", "fra", "tyo")
words = st.sampled_from("+-?")


@given(st.data())
def test_a_broken_minority_never_takes_a_healthy_site_down(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, len(MEMBERS)))
    members = MEMBERS[:count]
    judge = Judge(settings(sites=members), now=0.0)
    judge.links(members)
    site = "nyc"
    others = [member for member in members if member != site]
    broken = data.draw(st.sets(st.sampled_from(others), max_size=(count - 1) // 2))
    for second in range(1, 6):
        now = float(second)
        for member in members:
            word = data.draw(words) if member in broken else "+"
            if member == "ams":
                saw(judge, site, word, now=now)
            else:
                hear(judge, [said(member, site, word)], now=now)
        assert judge.judgements(now=now)[site].health is U


SAYS = st.sampled_from("+-? ")
"""What an observer says of a site, or that nothing is heard of it."""


@given(st.data())
def test_broken_observers_that_are_no_majority_of_those_heard_never_take_a_site_down(data: st.DataObject) -> None:
    """Whatever they say of sites that are well, and see themselves so, while others are silent or know nothing."""
    members = MEMBERS[: data.draw(st.integers(2, len(MEMBERS)))]
    judge = Judge(settings(sites=members), now=0.0)
    judge.links(members)
    for site in members:
        saw(judge, site, "+", now=0.5)
    assert {judged.health for judged in judge.judgements(now=0.5).values()} == {U}
    broken = data.draw(st.sets(st.sampled_from(members[1:])))
    for second in range(1, 12, 3):  # words lose their say between some rounds
        now = float(second)
        heard: dict[str, list[str]] = {site: ["+"] for site in members}
        for site in members:
            saw(judge, site, "+", now=now)
        for member in members[1:]:
            words = {site: data.draw(SAYS if member in broken else st.sampled_from("+? ")) for site in members}
            hear(judge, [said(member, site, word) for site, word in words.items() if word != " "], now=now)
            for site, word in words.items():
                # What is silent now may have said something three seconds ago: then it still counts as that.
                heard[site].append(word)
        judged = judge.judgements(now=now)
        for site in members:
            if site in broken or 2 * len(broken) > len([word for word in heard[site] if word in "+-"]):
                continue
            assert judged[site].health is U, (site, judged[site].reason)


@given(st.data())
def test_a_member_that_is_cut_off_changes_the_world_for_nobody(data: st.DataObject) -> None:
    """It may see nobody, say so for as long as its words get through in one direction, and come back."""
    members = MEMBERS[: data.draw(st.integers(3, len(MEMBERS)))]
    lost = data.draw(st.sampled_from(members))
    judges = {name: Judge(settings(name, members), now=0.0) for name in members}
    cut_at, back_at = 3, data.draw(st.integers(4, 20))
    for second in range(30):
        now, cut = float(second), cut_at <= second < back_at
        through = cut and data.draw(st.booleans())
        for name, judge in judges.items():
            judge.links([] if cut and name == lost else [each for each in members if not (cut and each == lost)])
            for site in members:
                reached = name == site or not (cut and lost in (name, site))
                saw(judge, site, "+" if reached else "-", now=now)
        words = {name: judge.observations(now=now) for name, judge in judges.items()}
        for name, judge in judges.items():
            for other in members:
                if other != name and (not cut or lost not in (name, other) or (other == lost and through)):
                    judge.hear(other, words[other], now=now)
        for name, judge in judges.items():
            judged = judge.judgements(now=now)
            steady = [site for site in members if site != lost or name == lost]
            assert second == 0 or {judged[site].health for site in steady} == {U}, (second, name)
    assert judges[members[0]].judgements(now=30.0)[lost].health is U, "it came back"


@given(st.lists(st.tuples(st.sampled_from(["nyc", "sgp"]), st.sampled_from("-?")), max_size=20), st.data())
def test_an_isolated_observer_changes_nothing(rounds: list[tuple[str, str]], data: st.DataObject) -> None:
    judge = Judge(settings(), now=0.0)
    judge.links(["nyc"])
    for site in ("nyc", "sgp"):
        word = data.draw(words)
        saw(judge, site, word, now=1.0)
        hear(judge, [said(site, site, word)], now=1.0)
    before = judge.judgements(now=1.0)
    judge.links([])
    for site in ("nyc", "sgp"):
        saw(judge, site, "-", now=1.5)
    for second, (site, word) in enumerate(rounds, start=2):
        saw(judge, site, word, now=float(second))
        assert judge.judgements(now=float(second)) == before
