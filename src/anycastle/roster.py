"""Which step of a roster change is next (design section 5, rule 8; docs/operations.md).

Law: pure. The last step is the one that can do harm: a member that only knows the new roster must not exist before
every member of it has recorded what only a majority of the old one had, which it has once it was current under both.
"""

from collections.abc import Mapping


def next_step(members: tuple[str, ...], previous: tuple[str, ...], standing: Mapping[str, str] | None) -> str:
    """One sentence for an operator; the empty string when no change is under way.

    `standing`: member -> why it does not stand well, or empty; None when nobody runs to be asked.
    """
    if not previous:
        return ""
    leaving = [name for name in previous if name not in members]
    change = f"roster change from {', '.join(previous)} to {', '.join(members)}: "
    if standing is None:
        return change + "run every member with this file, one restart at a time; `anycastle status` says when to go on"
    waiting = [f"{name} ({standing.get(name) or 'not heard of'})" for name in members if standing.get(name, "?")]
    if waiting:
        return change + "wait until every member of the new roster stands well: " + ", ".join(waiting)
    drained = f", after {', '.join(leaving)} was drained and `anycastle lag` shows nothing missing from it" * bool(
        leaving
    )
    return change + f"every member stands well here: take out members_previous, one restart at a time{drained}"
