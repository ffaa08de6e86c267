"""A run that reads a folder of Parquet files ahead is killed, and resumes with the same bits."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import parquet_pieces
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from left_out import hooks_differ

from framework import latest
from framework.data import blocks

ROWS, STEPS = 3000, 188  # of two epochs


@pytest.mark.share(1 / 3)
@hooks_differ
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_resumes_with_the_same_bits(tmp_path, monkeypatch):
    for constant in ("BLOCK_ROWS", "WINDOW_BLOCKS", "WINDOW_NUMBERS"):  # which train changes
        monkeypatch.setattr(blocks, constant, getattr(blocks, constant))
    rng = np.random.default_rng(0)
    table = pa.table({f"x{n}": rng.standard_normal(ROWS) for n in range(3)} | {"label": rng.integers(0, 3, ROWS)})
    (tmp_path / "table").mkdir()
    for number, (start, stop) in enumerate([(0, 1100), (1100, 1150), (1150, ROWS)]):
        pq.write_table(table[start:stop], tmp_path / "table" / f"{number}.parquet", row_group_size=170)
    whole = parquet_pieces.train(tmp_path)
    assert (whole.step, whole.batches) == (STEPS, STEPS // 2)
    program = "import sys, parquet_pieces; parquet_pieces.train_and_die(*sys.argv[1:])"
    for step in (int(rng.integers(4, STEPS // 2)), int(rng.integers(STEPS // 2, STEPS))):  # in each of the epochs
        command = [sys.executable, "-c", program, str(tmp_path), str(step)]
        folder = Path(parquet_pieces.__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert step - 3 <= int(latest(tmp_path / "run").stem.partition("-")[2]) < step
    run = parquet_pieces.train(tmp_path)
    assert run.model.parameters.vector.tobytes() == whole.model.parameters.vector.tobytes()
    assert all(np.array_equal(run.optimizer.memory[name], array) for name, array in whole.optimizer.memory.items())
    assert run.history.column("loss") == whole.history.column("loss")
