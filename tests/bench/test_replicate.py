"""Our own sites really measured, with no word about how fast; and what the benchmark takes for arrived."""

import time
from pathlib import Path

import pytest

from bench import replicate_scale
from bench.process import BenchError
from bench.replicate import Plan, measure
from bench.replicate_load import Tree, has_bytes, make_file, wait_for
from bench.replicate_systems import SYSTEMS, System

TINY = Plan((30,), 3, 20.0, 0.1, Tree(40, 100), 5_000_000, 60.0)


def test_our_own_sites_are_measured() -> None:
    rows = measure(SYSTEMS[:1], TINY)
    assert not [row.remark for row in rows if "failed" in row.remark]
    ours = {row.metric: row.value for row in rows if row.system == "anycastle"}
    assert ours.keys() >= {"first copy", "p50", "p99", "CPU per upload", "idle CPU", "memory", "40 × 100 B", "4 MiB"}
    assert all(ours[metric] for metric in ("p50", "p99", "memory", "40 × 100 B", "4 MiB"))


def test_a_large_tree_is_measured_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate_scale, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(replicate_scale, "UPLOADS", 3)
    rows = {(row.case, row.metric, row.unit): row.value for row in replicate_scale.measure(tmp_path, 60)}
    assert all(rows.values())
    assert {metric for case, metric, _ in rows if case == "60 files, where it was"} >= {"taken", "ledger", "restart"}


def test_what_is_missing_is_named() -> None:
    rows = measure([System("none", (("no-such-program", "no-such-package"),), lambda *_: [])], TINY)
    assert rows[0].value is None
    assert rows[0].remark == "left out: no-such-package not installed"


def test_a_tree_has_arrived_with_its_last_file_under_its_name(tmp_path: Path) -> None:
    tree = Tree(1500, 1)
    tree.make(tmp_path / "here", 1)
    arrived = tree.arrived(tmp_path / "here")
    last = next((tmp_path / "here/f0001").iterdir())
    last.rename(last.with_name(f".{last.name}.tmp"))
    assert not arrived()
    last.with_name(f".{last.name}.tmp").rename(last)
    assert arrived()
    assert not tree.arrived(tmp_path / "nowhere")()


def test_files_have_the_length_asked_for_and_no_two_seeds_the_same_bytes(tmp_path: Path) -> None:
    make_file(tmp_path / "a", 5_000_000, 1)
    make_file(tmp_path / "b", 5_000_000, 2)
    assert has_bytes(tmp_path / "a", 5_000_000)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
    assert not has_bytes(tmp_path / "c", 0)


def test_what_does_not_arrive_is_an_error() -> None:
    with pytest.raises(BenchError, match="not within 0 s"):
        wait_for(lambda: False, time.perf_counter(), 0.01, 0.001)
