"""Every writer reports a full disk in the same way, also writers of other libraries with their own exceptions."""

import subprocess
import sys
from pathlib import Path

# a limit on the size of files simulates the full disk: writing beyond it fails in the system, not in a mock
WRITE = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from safetensors.torch import save_file
from oof import files
from oof.errors import DfensError
from trainers.runtime import checkpoint

folder = Path(sys.argv[1])
numbers = np.random.default_rng(0).random(400_000)

def weights(path):
    with files.atomic_path(path) as part:
        save_file({"w": torch.from_numpy(numbers)}, part)

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for name, write in {
    "state.pt": lambda path: checkpoint.save(path, {"w": torch.from_numpy(numbers)}),
    "weights.safetensors": weights,
    "oof.parquet": lambda path: files.write_parquet(path, pd.DataFrame({"a": numbers}), {}),
    "report.json": lambda path: files.write_json(path, numbers.tolist()),
}.items():
    try:
        write(folder / name)
    except DfensError as err:
        print(err)
"""


def test_every_writer_reports_a_full_disk_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for name, line in zip(("state.pt", "weights.safetensors", "oof.parquet", "report.json"), lines, strict=True):
        assert line.startswith(f"The disk is full: {tmp_path / name} could not be written")
        assert "run the same command again" in line
    assert list(tmp_path.iterdir()) == []
