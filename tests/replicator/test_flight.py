"""What is missing where: never less than is, forgotten when it landed, honest when it does not know paths."""

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from anycastle.health.view import WHOLE_GROUP
from anycastle.replicator.flight import Flight
from tests.replicator.tree_values import file_entry

NO_GAPS = BitMap()


def flight(sites: tuple[str, ...] = ("ams", "nyc"), *, heads: dict[str, int] | None = None, most: int = 100) -> Flight:
    return Flight(sites, depth=1, heads=heads or {}, entries_max=most)


def lacks(flying: Flight, site: str, prefix: bytes) -> bool:
    """Anything below the prefix that is known now."""
    return flying.lacks_up_to(site, prefix, flying.heads_below(prefix))


def test_missing_until_landed_at_each_site() -> None:
    flying = flight()
    flying.add(file_entry(b"alice/a", seq=1), now=5.0)
    assert flying.pending("ams") == flying.pending("nyc") == {b"alice/": 5.0}
    flying.landed("ams", "nyc", 1, NO_GAPS, now=6.0)
    assert flying.pending("ams") == {}
    assert flying.missing_sites(("nyc", 1)) == ("nyc",)
    assert flying.since("nyc", "nyc") == 5.0
    flying.landed("nyc", "nyc", 1, NO_GAPS, now=6.0)
    assert len(flying) == 0
    assert flying.oldest(10) == []


def test_the_oldest_change_below_a_prefix_counts() -> None:
    flying = flight()
    for seq, path in enumerate((b"alice/a", b"alice/b", b"bob/a"), start=1):
        flying.add(file_entry(path, seq=seq), now=float(seq))
    flying.landed("ams", "nyc", 3, BitMap([2, 3]), now=9.0)
    assert flying.pending("ams") == {b"alice/": 2.0, b"bob/": 3.0}
    assert flying.missing_total("ams") == 2


def test_what_is_said_of_seqs_that_we_do_not_hold_is_ignored() -> None:
    flying = flight()
    flying.add(file_entry(b"alice/a", seq=1), now=1.0)
    flying.landed("ams", "nyc", 9, BitMap([1, 7]), now=2.0)
    assert flying.missing_total("ams") == 1
    assert flying.unnamed(10) is None


def test_after_a_restart_paths_are_learnt_and_meanwhile_the_whole_group_is_behind() -> None:
    flying = flight(heads={"nyc": 4})
    flying.landed("ams", "nyc", 4, BitMap([2, 3]), now=7.0)
    assert flying.pending("ams") == {WHOLE_GROUP: 7.0}
    assert lacks(flying, "ams", b"zoe/")
    assert flying.heads_below(b"zoe/") == {"nyc": 3}
    assert flying.unnamed(10) == ("nyc", [2, 3])
    flying.name("nyc", [2, 3], {2: b"alice/a"}, now=8.0)  # of 3 the ledger knows nothing
    assert flying.pending("ams") == {b"alice/": 7.0}
    assert not lacks(flying, "ams", b"zoe/")
    assert flying.heads_below(b"alice/") == {"nyc": 2}
    assert flying.unnamed(10) is None


def test_beyond_its_room_the_whole_group_is_behind_until_there_is_room() -> None:
    flying = flight(("ams",), most=2)
    for seq in (1, 2, 3):
        flying.add(file_entry(b"alice/%d" % seq, seq=seq), now=float(seq))
    assert flying.pending("ams") == {b"alice/": 1.0, WHOLE_GROUP: 1.0}
    assert flying.missing_total("ams") == 3
    assert flying.unnamed(10) is None, "no room"
    flying.landed("ams", "nyc", 3, BitMap([2, 3]), now=4.0)
    assert flying.unnamed(10) == ("nyc", [3])
    flying.name("nyc", [3], {3: b"alice/3"}, now=5.0)
    assert flying.pending("ams") == {b"alice/": 2.0}


def test_below_finds_a_folder_itself_and_what_is_in_it_at_any_depth() -> None:
    flying = Flight(("ams",), depth=2, heads={})
    paths = (b"a/b/c", b"a/b", b"a", b"a/bc/d", b"x")
    for seq, path in enumerate(paths, start=1):
        flying.add(file_entry(path, seq=seq), now=1.0)

    def below(prefix: bytes) -> set[bytes]:
        return {flown.path for _, flown in flying.below(prefix)}

    assert below(b"") == set(paths)
    assert below(b"a/") == {b"a/b/c", b"a/b", b"a", b"a/bc/d"}
    assert below(b"a/b/") == {b"a/b/c", b"a/b"}
    assert below(b"a/b/c/") == {b"a/b/c"}
    assert below(b"y/") == set()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from(["ams", "nyc"]), st.sampled_from([b"a/1", b"b/2", b"c"])),
            st.tuples(
                st.just("landed"),
                st.sampled_from(["ams", "nyc"]),
                st.integers(0, 12),
                st.sets(st.integers(1, 12), max_size=4),
            ),
            st.tuples(st.just("name"), st.integers(1, 3)),
        ),
        max_size=40,
    ),
    st.integers(1, 6),
)
def test_never_says_less_than_a_plain_count(steps: list[tuple[object, ...]], most: int) -> None:
    flying = flight(most=most)
    paths: dict[tuple[str, int], bytes] = {}
    missing: dict[str, set[tuple[str, int]]] = {"ams": set(), "nyc": set()}
    for now, step in enumerate(steps):
        match step:
            case ("add", str(origin), bytes(path)):
                seq = 1 + max((seq for name, seq in paths if name == origin), default=0)
                paths[origin, seq] = path
                for site in missing:
                    missing[site].add((origin, seq))
                flying.add(file_entry(path, seq=seq, origin=origin), now=float(now))
            case ("landed", str(site), int(watermark), set(gaps)):
                for origin in ("ams", "nyc"):
                    said = BitMap(gap for gap in gaps if gap <= watermark)
                    flying.landed(site, origin, watermark, said, now=float(now))
                    missing[site] = {key for key in missing[site] if key[0] != origin} | {
                        key for key in paths if key[0] == origin and (key[1] > watermark or key[1] in said)
                    }
            case ("name", int(limit)):
                if wanted := flying.unnamed(limit):
                    origin, seqs = wanted
                    assert seqs
                    flying.name(origin, seqs, {seq: paths[origin, seq] for seq in seqs}, now=float(now))
        for site, keys in missing.items():
            assert flying.missing_total(site) == len(keys)
            pending = flying.pending(site)
            for key in keys:
                prefix = b"c/" if paths[key] == b"c" else paths[key][:2]
                assert prefix in pending or WHOLE_GROUP in pending
                assert lacks(flying, site, prefix)
                assert site in flying.missing_sites(key)
            if not keys:
                assert pending == {}
        assert len(flying) <= most


def test_what_was_compacted_is_not_looked_up_twice() -> None:
    flight = Flight(("ams", "nyc"), depth=1, heads={"ams": 5})
    flight.landed("nyc", "ams", 1, BitMap(), now=1.0)
    flight.landed("ams", "ams", 5, BitMap(), now=1.0)
    assert flight.unnamed(10) == ("ams", [2, 3, 4, 5])
    flight.name("ams", [2, 3, 4, 5], {4: b"d/a"}, now=1.0)
    flight.landed("nyc", "ams", 1, BitMap(), now=2.0)
    assert flight.unnamed(10) is None
    assert flight.missing_total("nyc") == 1
