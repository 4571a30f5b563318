"""Token files: what is read, and that no fault shows a token."""

import hashlib
from pathlib import Path

import pytest

from anycastle.config_tokens import TokenFault, read_tokens
from anycastle.health.settings import Scope

GOOD = "0123456789abcdef"


def test_lines_and_a_token_alone(tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text(f"# comment\n\nnight drain,routes {GOOD}\n  day read {GOOD[::-1]}\n")
    night, day = read_tokens(file)
    assert (night.name, night.scopes) == ("night", {Scope.DRAIN, Scope.ROUTES})
    assert night.digest == hashlib.sha256(GOOD.encode()).digest()
    assert [day.allows(scope) for scope in Scope] == [True, False, False, False]
    file.write_text(f"{GOOD}\n")
    (alone,) = read_tokens(file)
    assert alone.name == "token"
    assert all(alone.allows(scope) for scope in Scope)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "t has 0 tokens: expected 1 to 100"),
        ("short", "t, line 1: expected at least 16 printable ASCII characters without spaces"),
        (f"{GOOD}\n{GOOD}\n", "t, line 1: expected NAME SCOPES TOKEN, as in: night-shift drain,routes"),
        (f"n drain {GOOD} more", "t, line 1: expected NAME SCOPES TOKEN"),
        (f"n drain,fly {GOOD}", "t, line 1: expected scopes joined by commas, of: read, drain, routes, admin"),
        (f"-n drain {GOOD}", "t, line 1: expected a name of letters"),
        (f"n drain {GOOD}\nn read {GOOD}", "t, line 2: n is there twice: expected each name once"),
        ("n drain sh0rt", "t, line 1: expected at least 16"),
        ("n drain é" + GOOD, "t cannot be read (not ASCII): expected at least 16"),
        ("#" * 70_000, "t: expected at most 65536 bytes"),
    ],
)
def test_a_fault_names_the_line_and_shows_no_token(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "t"
    file.write_text(text)
    with pytest.raises(TokenFault) as found:
        read_tokens(file)
    assert str(found.value).startswith(f"{tmp_path}/{fault}")
    assert GOOD not in str(found.value)
    assert "sh0rt" not in str(found.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TokenFault, match="cannot be read \\(No such file or directory\\)"):
        read_tokens(tmp_path / "t")
