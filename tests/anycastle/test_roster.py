"""The next step of a roster change, in words."""

from anycastle.roster import next_step

OLD, NEW = ("ams", "nyc", "sgp"), ("ams", "nyc", "fra")


def test_no_change_needs_no_word() -> None:
    assert next_step(OLD, (), {}) == ""


def test_without_a_running_member_only_the_way_is_said() -> None:
    assert "run every member with this file, one restart at a time" in next_step(NEW, OLD, None)


def test_who_is_waited_for_is_named_with_the_reason() -> None:
    said = next_step(NEW, OLD, {"ams": "", "nyc": "no link"})
    assert said.startswith("roster change from ams, nyc, sgp to ams, nyc, fra: wait until")
    assert said.endswith("nyc (no link), fra (not heard of)")


def test_the_last_step_comes_when_all_stand_well_and_names_who_leaves() -> None:
    said = next_step(NEW, OLD, dict.fromkeys(NEW, ""))
    assert "take out members_previous, one restart at a time, after sgp was drained" in said
    assert "sgp" not in next_step((*OLD, "fra"), OLD, dict.fromkeys((*OLD, "fra"), "")).split("one restart")[1]
