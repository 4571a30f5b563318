"""Every fault is found, in its place, and nothing raises on the way."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.config_read import ConfigError, Expected, Fault, Faults, Table, key_lines, read_toml, show

FILE = Path("/etc/a.toml")
toml_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def table(values: Any, text: str = "") -> tuple[Table, Faults]:
    faults = Faults(FILE, key_lines(text))
    return Table(values, "", faults), faults


def number(value: Any) -> int:
    if not isinstance(value, int):
        raise Expected("a number")
    return value


def said(faults: Faults) -> list[str]:
    return [str(fault) for fault in faults.in_order()]


def test_lines_of_keys_tables_and_arrays() -> None:
    text = '# first\n[a]\nb = 1\n"c d" = 2\n[a.x]\ny.z = 3\n[[r]]\np = 1\n[[r]]\n[r.q]\n'
    assert key_lines(text) == {
        "a": 2, "a.b": 3, "a.c d": 4, "a.x": 5, "a.x.y.z": 6, "r[0]": 7, "r[0].p": 8, "r[1]": 9, "r.q": 10,
    }  # fmt: skip


def test_a_fault_in_an_inline_table_points_at_its_line() -> None:
    top, faults = table({"a": {"b": {"c": "x"}}}, "\n\n[a]\nb = { c = 1 }\n")
    top.table("a").table("b").take("c", number, 0)
    assert said(faults) == ["/etc/a.toml:4: a.b.c: expected a number, found 'x'"]


def test_unknown_keys_name_the_nearest_known_one() -> None:
    top, faults = table({"grup": 1, "zzz": 2})
    top.done(("group", "site"))
    assert said(faults) == [
        "/etc/a.toml: grup: unknown key; did you mean 'group'?",
        "/etc/a.toml: zzz: unknown key; known here: group, site",
    ]


def test_missing_keys_are_told_with_an_example_and_reading_goes_on() -> None:
    top, faults = table({})
    assert top.need("port", number, 53, "53") == 53
    assert said(faults) == ["/etc/a.toml: needs a key 'port', such as: port = 53"]


@given(toml_values)
def test_no_value_makes_reading_fail(value: Any) -> None:
    """Whatever stands where something else should: a fault, or none, and always a stand-in."""
    top, faults = table(dict.fromkeys("abcde", value))
    assert isinstance(top.take("a", number, 7), int)
    top.table("b").done(())
    for each in top.tables("c"):
        each.done(())
    assert top.named_file("d", lambda value: str(number(value))) is None or isinstance(value, int)
    for each in top.named().values():
        each.named_values(number)
    assert all("\n" not in str(fault) for fault in faults.found)


def test_a_named_file_remembers_where_it_was_named() -> None:
    top, faults = table({"md5_file": "x.key"}, 'md5_file = "x.key"\n')
    named = top.named_file("md5_file", str)
    assert named is not None
    assert named.name == "x.key"
    assert str(named.fault("cannot be read")) == "/etc/a.toml:1: md5_file: cannot be read"
    assert not faults.found


def test_about_knows_what_is_below_a_key_and_what_only_begins_like_it() -> None:
    faults = Faults(FILE, {})
    faults.add("sites.ams.link", "wrong")
    faults.add("names[1]", "wrong")
    assert [faults.about(key) for key in ("sites", "sites.ams", "names", "names[1]")] == [True] * 4
    assert [faults.about(key) for key in ("sites.am", "sites.ams.dns", "names[0]", "site")] == [False] * 4


def test_warnings_are_no_faults() -> None:
    top, faults = table({})
    top.warn("listen", "odd")
    assert not faults.found
    assert [str(fault) for fault in faults.warned] == ["/etc/a.toml: listen: odd"]


def test_faults_come_in_the_order_of_lines() -> None:
    faults = Faults(FILE, {"b": 2, "a": 9})
    for key in ("a", "b", "nowhere"):
        faults.add(key, "wrong")
    assert [fault.key for fault in faults.in_order()] == ["nowhere", "b", "a"]
    assert str(ConfigError(faults.in_order())).count("\n") == 2


def test_long_values_are_shown_in_part() -> None:
    assert len(show("x" * 500)) == 60


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a = 1\na = 2\n", ":2: is not TOML: Cannot overwrite a value"),
        (b"\xff", ": cannot be read: not UTF-8"),
        (b'a = "', ":1: is not TOML: Unterminated string"),
    ],
)
def test_what_is_no_toml_is_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(file)
    assert str(caught.value) == f"{file}{problem}"


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)


def test_fault_without_a_line() -> None:
    assert str(Fault(FILE, None, "", "is empty")) == "/etc/a.toml: is empty"
