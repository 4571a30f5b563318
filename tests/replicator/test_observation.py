"""Fingerprints in their two shapes."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.entry import Kind
from anycastle.replicator.observation import Fingerprint, fingerprint_of, from_key, key_of, to_key

_INTEGERS = st.integers(0, 2**40)


@given(st.builds(Fingerprint, st.integers(0, 2**64 - 1), *[_INTEGERS] * 3, st.sampled_from(Kind), *[_INTEGERS] * 3))
def test_a_fingerprint_survives_the_ledger(fingerprint: Fingerprint) -> None:
    key = to_key(fingerprint)
    assert from_key(key) == fingerprint
    assert all(-(2**63) <= number < 2**63 for number in key)


def test_the_fast_key_is_the_plain_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    os.symlink("x", tmp_path / "link")
    for name in ("file", "folder", "link"):
        status = os.lstat(tmp_path / name)
        fingerprint = fingerprint_of(status)
        assert fingerprint is not None
        assert key_of(status) == to_key(fingerprint)
    os.mkfifo(tmp_path / "pipe")
    assert fingerprint_of(os.lstat(tmp_path / "pipe")) is None
    assert key_of(os.lstat(tmp_path / "pipe")) is None
