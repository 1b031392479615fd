"""Compare training of folds on an idle and a busy CPU: the default against one process with many threads.

    python benchmarks/busy.py [--images 256] [--epochs 10] [--repeats 3] [--models 1] [--busy 0 1 2] [--before TREE]
    python benchmarks/busy.py --demo resnet10 [--images 512] [--repeats 1] [--before TREE]

"Now": `dfens train` with its defaults: folds in parallel, one thread each, with threads that sleep while they wait.
"Before": one fold at a time on all cores, with threads that spin while they wait (torch's default). `--before`
specifies a checkout of an older version to run instead, with the same data and its own defaults. The two alternate
within each repeat, as separate commands; seconds include the start of Python. "Predict" changes `tta`, so that the
trained folds predict again; "blend" blends generated predictions. `--demo` trains a model of `dfens demo`, with the
settings that each checkout has for it, and nothing else.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import busy, machine

from dfens.demo.competition import make_competition
from oof.cpus import cpu_count

HERE = Path(__file__).resolve().parent.parent
CONFIG = """
[competition]
slug = "busy"

[data]
layout = "table"
root = "data"
train = "train.csv"
train_dir = "train"
test = "sample_submission.csv"
test_dir = "test"
id = "img_name"
target = "target"

[train]
pretrained = false
image_size = 64
epochs = {epochs}
batch_size = 32
tta = "{tta}"
"""
MODEL = """
[models.resnet10-{number}]
backbone = "resnet10t"
seed = {number}
"""


class Command:
    """The `dfens` command of one checkout, with its settings for using the processor."""

    def __init__(self, tree: Path, environment: Mapping[str, str], options: tuple[str, ...] = ()) -> None:
        unset = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"}
        self.tree = tree
        self.environment = {key: value for key, value in os.environ.items() if key not in unset}
        self.environment |= {"PYTHONPATH": str(tree), **environment}
        self.options = options

    def __call__(self, folder: Path, *arguments: str) -> float:
        """Run the command in `folder` and return the elapsed seconds."""
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "dfens", "-C", str(folder), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"dfens {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return time.perf_counter() - begin


def write_config(folder: Path, given: argparse.Namespace, tta: str) -> None:
    models = "".join(MODEL.format(number=number) for number in range(given.models))
    (folder / "dfens.toml").write_text(CONFIG.format(epochs=given.epochs, tta=tta) + models)


def train(command: Command, folder: Path, given: argparse.Namespace) -> float:
    """Train all folds of the models anew."""
    write_config(folder, given, "none")
    return trained(command, folder)


def train_demo(command: Command, folder: Path, model: str) -> float:
    """Train all folds of a model of the demo anew."""
    shutil.copy(command.tree / "dfens" / "recipes" / "demo.toml", folder / "dfens.toml")
    return trained(command, folder, "--model", model)


def trained(command: Command, folder: Path, *options: str) -> float:
    shutil.rmtree(folder / "work", ignore_errors=True)
    command(folder, "folds")
    return command(folder, "train", "--fold", "0-4", *options, *command.options)


def predict(command: Command, folder: Path, given: argparse.Namespace) -> float:
    """Predict again with trained folds and more views; requires a previous `train`."""
    write_config(folder, given, "d4")
    return command(folder, "train", "--fold", "0-4", *command.options)


def write_predictions(folder: Path, rows: int, members: int) -> None:
    """Write OOF predictions of `members` generated models, as exported by other notebooks."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, rows)
    table = {"id": [f"r{row}" for row in range(rows)], "target": target, "fold": np.arange(rows) % 5}
    shared = target + rng.standard_normal(rows)
    for member in range(members):
        table[f"m{member:02d}"] = 1 / (1 + np.exp(-(shared + rng.standard_normal(rows))))
    pd.DataFrame(table).to_csv(folder / "oof.csv", index=False)


def blend(tree: Path, environment: Mapping[str, str], folder: Path) -> float:
    code = (
        "from oof.cpus import wait_passively\nimport os\n"
        "if os.environ.get('OMP_WAIT_POLICY') != 'ACTIVE': wait_passively()\n"
        "import pandas, dfens\n"
        f"table = pandas.read_csv({str(folder / 'oof.csv')!r})\n"
        "models = [name for name in table if name.startswith('m')]\n"
        "dfens.fit_blend(table[models].to_numpy(), table['target'].to_numpy(), folds=table['fold'].to_numpy())\n"
    )
    unset = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"}
    clean = {key: value for key, value in os.environ.items() if key not in unset}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=clean | {"PYTHONPATH": str(tree), **environment}, check=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", type=int, default=1, help="trained on 5 folds each")
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1, 2], help="numbers of busy processes")
    parser.add_argument("--before", type=Path, help="checkout of an older version")
    parser.add_argument("--demo", metavar="MODEL", help="train this model of the demo instead")
    given = parser.parse_args()
    spinning = {"OMP_WAIT_POLICY": "ACTIVE"}
    now = Command(HERE, {})
    before = Command(given.before.resolve(), {}) if given.before else Command(HERE, spinning, ("--workers", "1"))
    print(f"{machine(torch.device('cpu'))}; {cpu_count()} CPUs\n")
    print("| work | busy processes | before, s | now, s | now is faster by |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("before", "now")}
        for folder in folders.values():
            make_competition(folder, train_rows=given.images, test_rows=given.images // 2)
        steps: dict[str, dict[str, Callable[[], float]]] = {}
        if given.demo:
            steps[f"train {given.demo} of the demo"] = {
                "before": lambda: train_demo(before, folders["before"], given.demo),
                "now": lambda: train_demo(now, folders["now"], given.demo),
            }
        else:
            steps[f"train {5 * given.models} folds"] = {
                "before": lambda: train(before, folders["before"], given),
                "now": lambda: train(now, folders["now"], given),
            }
            if not given.before:  # older versions retrain when `tta` changes
                steps["predict again"] = {
                    "before": lambda: predict(before, folders["before"], given),
                    "now": lambda: predict(now, folders["now"], given),
                }
            write_predictions(Path(scratch), 30_000, 10)
            steps["blend 30,000 x 10"] = {
                "before": lambda: blend(HERE, spinning, Path(scratch)),
                "now": lambda: blend(HERE, {}, Path(scratch)),
            }
        for others in given.busy:
            with busy(others):
                seconds: dict[str, dict[str, list[float]]] = {}
                for _ in range(given.repeats):
                    for step, variants in steps.items():
                        for variant, run in variants.items():
                            seconds.setdefault(step, {}).setdefault(variant, []).append(run())
            for step, found in seconds.items():
                old, new = (statistics.median(found[variant]) for variant in ("before", "now"))
                print(f"| {step} | {others} | {old:.1f} | {new:.1f} | {old / new:.2f} |", flush=True)


if __name__ == "__main__":
    main()
