"""Profiles: what one kind of software needs of a group, as a data file that an operator can copy and change.

Laws: a profile has the keys of a group that have a default, and no others; what the group says itself goes before. The
whole profile is read whether the group overrides it or not, and what is wrong in it is told with its own file and line.
"""

from pathlib import Path
from typing import Any

from anycastle import config_values as v
from anycastle.config_read import ConfigError, Expected, Table, read_toml
from anycastle.errors import AnycastleError

SUFFIX = ".toml"
_FOLDER = Path(__file__).with_name("profiles")


class ProfileError(AnycastleError):
    """There is no such profile."""


def profile_names() -> tuple[str, ...]:
    """Those that come with the program."""
    return tuple(sorted(file.stem for file in _FOLDER.glob(f"*{SUFFIX}")))


def profile_text(name: str) -> str:
    """The file of a profile that comes with the program. Raises ProfileError."""
    if name not in profile_names():
        raise ProfileError(f"there is no profile {name!r}: expected one of {', '.join(profile_names())}")
    return (_FOLDER / f"{name}{SUFFIX}").read_text("utf-8")


def profile_about(name: str) -> str:
    """What a profile says of itself. Raises ProfileError."""
    profile_text(name)
    return str(read_toml(_FOLDER / f"{name}{SUFFIX}")[0]["about"])


def read_profile(group: Table) -> Table | None:
    """The group's `profile`, whose values are then taken where the group has none; None without one.

    Its keys are asked for by whoever reads the group. Files are relative to the configuration.
    """
    nothing: Path | None = None
    folder = group.faults.file.absolute().parent
    file = group.take("profile", lambda value: _file(value, folder), nothing)
    if file is None:
        return None
    try:
        values, faults = read_toml(file)
    except ConfigError as error:
        group.faults.found.extend(error.faults)
        return None
    profile = Table(values, "", faults)
    profile.take("about", v.text, "")
    group.fall_back_on(profile)
    return profile


def _file(value: Any, folder: Path) -> Path:
    if value in profile_names():
        return _FOLDER / f"{value}{SUFFIX}"
    expected = Expected(f'one of {", ".join(profile_names())}, or a file such as "./my.toml"')
    if not isinstance(value, str) or not ("/" in value or value.endswith(SUFFIX)):
        raise expected
    file = folder / value
    if not file.is_file():
        raise Expected(f"a file that is there, and {file} is not")
    return file
