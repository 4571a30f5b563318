"""What routers would be told of a view in a file: the announcer's own step, with no member, no router and no clock.

Law: the moment is the view's (`at`); what the view says that the site announces counts as told to the routers, and the
local nameserver as well.
"""

from pathlib import Path
from typing import Any

import msgspec

from anycastle.bgp.decide import as_seen, step
from anycastle.config import Config
from anycastle.errors import AnycastleError
from anycastle.health.view import View
from anycastle.reports import plan_report

FILE_BYTES_MAX = 64 * 1024 * 1024


class DryRunError(AnycastleError):
    """The file holds no view that could be used."""


def dry_run(config: Config, site: str | None, file: Path) -> dict[str, Any]:
    """The plan of `site`, or of the member that made the view. The file is a view, or an answer that has one."""
    view = read_view(file)
    settings = config.for_member(site or view.member)
    if settings.bgp is None:
        raise DryRunError(f"{settings.member} announces no routes: expected a site with bgp")
    _, plan = step(settings.bgp, view, "", as_seen(settings.bgp, view), now=view.at)
    return {**plan_report(plan), "view": msgspec.to_builtins(view)}


def read_view(file: Path) -> View:
    """Raises `DryRunError`."""
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX)
        found = msgspec.json.decode(data)
        return msgspec.convert(found.get("view", found) if isinstance(found, dict) else found, View)
    except OSError as error:
        raise DryRunError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        expected = "expected what `anycastle routes --dry-run --json` prints"
        raise DryRunError(f"{file} holds no view ({error}): {expected}") from error
