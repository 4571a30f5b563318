"""What is known of files is in the ledger: memory does not grow with the tree."""

import os
import subprocess
import sys
from pathlib import Path

FEW, MANY = 5_000, 50_000
BYTES_PER_FILE_MAX = 220
"""A dictionary of paths alone would take more."""


def test_a_large_tree_takes_hardly_more_memory_than_a_small_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.replicator.memory_process", str(tmp_path), str(FEW), str(MANY)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())
    assert (large - small) * 1024 < MANY * BYTES_PER_FILE_MAX, f"{small} KiB became {large} KiB"
