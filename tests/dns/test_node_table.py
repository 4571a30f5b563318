"""The packed table against a plain dict, and across the pickle that takes it to the workers."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns import node_table
from anycastle.dns.node_table import (
    COUNT_MAX,
    NodeTable,
    NodeWriter,
    RawSet,
    is_one_record,
    pack_record,
    pack_set,
    unpack_sets,
)
from anycastle.dns.rrset import MX, A, make_rrset
from tests.dns.names import name_of

LABELS = st.binary(min_size=1, max_size=5).map(bytes.lower)
NAMES = st.lists(LABELS, max_size=4).map(lambda labels: name_of(tuple(labels)))
RDATAS = st.lists(st.binary(max_size=20), min_size=1, max_size=4).map(tuple)
TTLS = st.integers(0, 2**31 - 1)
SALT = bytes(16)


def table_of(entries: dict[bytes, bytes], salt: bytes = SALT) -> NodeTable:
    writer = NodeWriter(len(entries), salt)
    for name, packed in entries.items():
        writer.add(name, packed, cut_bytes=0, steered=False)
    return writer.table()


@given(
    st.dictionaries(NAMES, st.tuples(TTLS, RDATAS), max_size=60), st.lists(NAMES), st.binary(min_size=16, max_size=16)
)
def test_it_holds_what_a_dict_would(
    given_sets: dict[bytes, tuple[int, tuple[bytes, ...]]], others: list[bytes], salt: bytes
) -> None:
    entries = {name: pack_set(name, name, 65280, ttl, rdatas) for name, (ttl, rdatas) in given_sets.items()}
    table = pickle.loads(pickle.dumps(table_of(entries, salt)))
    assert dict(table.packed_items()) == entries
    assert list(table) == list(entries)
    assert len(table) == len(entries)
    for name in (*entries, *others):
        assert (name in table) == (name in entries)
        assert table.packed_sets(name) == entries.get(name, b"")
        node = table.get(name)
        assert (node is None) == (name not in entries)
        if node is not None:
            ttl, rdatas = given_sets[name]
            assert node.rrsets == {65280: make_rrset(name, 65280, ttl, tuple((rdata,) for rdata in rdatas))}
            assert table[name] is node


def test_its_names_are_a_set_unless_there_are_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of({b"\1a\0": b"", b"\1b\0": b""})
    assert table.names() == {b"\1a\0", b"\1b\0"}
    monkeypatch.setattr(node_table, "NAMES_SET_MAX", 1)
    assert table.names() is table


@given(LABELS, TTLS, RDATAS, st.booleans())
def test_sets_come_back_with_the_owner_in_its_case(
    label: bytes, ttl: int, rdatas: tuple[bytes, ...], upper: bool
) -> None:
    name = name_of((label, b"z"))
    owner = name.upper() if upper else name
    packed = pack_set(name, owner, 65280, ttl, rdatas)
    assert list(unpack_sets(name, packed + packed)) == [RawSet(owner, 65280, ttl, rdatas)] * 2
    assert pack_record(name, owner, 65280, ttl, rdatas[0]) == pack_set(name, owner, 65280, ttl, rdatas[:1])
    assert is_one_record(name, packed) == (len(rdatas) == 1)
    assert not is_one_record(name, packed + packed)


def test_names_in_rdata_are_kept_apart_for_compression_and_cuts_are_endings() -> None:
    name = name_of((b"a", b"b", b"z"))
    writer = NodeWriter(1, SALT)
    mx = pack_record(name, name, MX, 5, b"\0\1\1m\1z\0")
    writer.add(name, mx, cut_bytes=len(b"\1b\1z\0"), steered=False)
    node = writer.table()[name]
    assert node.rrsets[MX].rdatas == ((b"\0\1", b"\1m\1z\0"),)
    assert node.cut == b"\1b\1z\0"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_table, "DECODED_MAX", 2)
    names = [name_of((b"%d" % number,)) for number in range(5)]
    table = table_of({name: pack_record(name, name, A, 1, b"\1\2\3\4") for name in names})
    first = table[names[0]]
    assert table[names[0]] is first
    for name in names[1:]:
        assert table[name].rrsets[A].ttl == 1
    assert table[names[0]] is not first


def test_a_name_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        table_of({})[b"\1a\0"]


def test_the_greatest_set_fits() -> None:
    packed = pack_set(b"\1a\0", b"\1a\0", A, 1, (b"\1\2\3\4",) * COUNT_MAX)
    assert len(table_of({b"\1a\0": packed})[b"\1a\0"].rrsets[A].rdatas) == COUNT_MAX
