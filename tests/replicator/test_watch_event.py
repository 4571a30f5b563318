"""The batch: told once, in order, nothing across a boundary."""

from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.watch_event import Cookie, Gathering, Overflow, Renamed, Touched, WatchEvent, is_below, join

PATHS = st.sampled_from([b"a", b"b", b"c/d"])
TOUCHES = st.tuples(PATHS, st.sampled_from([True, False, None]))
BOUNDARIES = st.sampled_from([Cookie("1"), Renamed(b"a", b"b", False), Overflow("full")])
HEARD = st.lists(st.one_of(TOUCHES, BOUNDARIES))


def plainly(heard: list[object]) -> list[WatchEvent]:
    """The same by brute force: cut at boundaries, then one event for each path at its first place."""
    told: list[WatchEvent] = []
    piece: list[tuple[bytes, bool | None]] = []
    for item in [*heard, None]:
        if isinstance(item, tuple):
            piece.append(item)
            continue
        for path in dict.fromkeys(path for path, _ in piece):
            said = [writing for touched, writing in piece if touched == path and writing is not None]
            told.append(Touched(path, said[-1] if said else False))
        piece = []
        if isinstance(item, Cookie | Renamed | Overflow):
            told.append(item)
    return told


@given(HEARD)
def test_equal_paths_are_told_once_and_never_cross_a_boundary(heard: list[object]) -> None:
    gathering = Gathering()
    for item in heard:
        match item:
            case (path, writing):
                gathering.touch(path, writing)
            case Cookie() | Renamed() | Overflow():
                gathering.add(item)
    assert list(gathering.take()) == plainly(heard)
    assert gathering.take() == ()


def test_below_means_whole_components() -> None:
    assert is_below(b"a/b", b"a")
    assert is_below(b"a", b"a")
    assert is_below(b"a", b"")
    assert not is_below(b"ab", b"a")
    assert join(b"", b"a") == b"a"
    assert join(b"a", b"b") == b"a/b"
