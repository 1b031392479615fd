"""Compare the out-of-fold AUC and the time of a network in float32, bfloat16 and float16, as a Markdown table.

    python benchmarks/precision.py [--model resnet18] [--rows 1024] [--size 96] [--device cuda]

Uses drawn faces, half of them self-blended fakes, 4 folds, and the same initial weights, order and augmentation for
each precision. Training amplifies rounding, so equal AUCs are not expected; the AUC with 16 bits should be within the
95 % interval of that with float32.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import Budget, machine, show

from dfens.demo.competition import make_competition
from oof.folds import make_folds
from oof.metrics.intervals import difference, score_interval
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.media.image_store import ImageStore, Subset
from trainers.runtime.settings import Precision


def _images(rows: Subset, table: pd.DataFrame) -> Subset:
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--rows", type=int, default=768)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, help="most time; precisions that do not fit are left out")
    options = parser.parse_args()
    device, budget, last = torch.device(options.device), Budget(options.seconds), 0.0
    settings = TimmSettings(
        backbone=options.model, pretrained=False, image_size=options.size, epochs=options.epochs, batch_size=64,
        lr=1e-3, jpeg=0.2, tta="hflip",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_competition(folder, train_rows=options.rows, test_rows=8, size=options.size)
        table = DataSettings(layout="table", root=folder / "data", id="img_name", group="person")
        train = read_competition(table).train
        ids, target = train["id"].to_numpy(object), train["target"].to_numpy(np.int8)
        folds = make_folds(ids, target, k=4, seed=0)
        place = {id_: row for row, id_ in enumerate(ids)}
        order = np.array([place[id_] for id_ in folds.ids])
        store = ImageStore([str(path) for path in train["path"].iloc[order]], options.size, "area", options.workers)
        store.fill("")
        print(
            f"{machine(device)}\n{options.rows} faces of {options.size} px, {options.model}, {options.epochs} epochs."
        )
        precisions: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
        found, seconds = {}, dict[str, list[float]]()
        for precision in precisions:
            if not budget.allows(last):
                print(f"{precision}: left out, no time left.")
                continue
            started = time.monotonic()
            oof = np.zeros(len(order))
            for fold in range(4):
                train_rows, valid_rows = (
                    Subset(store, np.flatnonzero(chosen), folds.ids[chosen], folds.target[chosen])
                    for chosen in (folds.fold != fold, folds.fold == fold)
                )
                held_out = pd.DataFrame({"id": valid_rows.ids, "target": valid_rows.target})
                chosen = dataclasses.replace(settings, precision=precision)
                data = ImageFoldData(
                    chosen, train_rows, held_out, partial(_images, valid_rows), seed=fold, device=device,
                    threads=options.workers,
                )  # fmt: skip
                state = folder / precision / str(fold) / "state.pt"
                begin = time.perf_counter()
                oof[folds.fold == fold] = FoldTrainer(chosen, fold, data, state, device).run().oof
                seconds.setdefault(precision, []).append(time.perf_counter() - begin)
            found[precision] = oof
            last = time.monotonic() - started
        rows = []
        for precision, oof in found.items():
            interval = score_interval("auc", folds.target, oof)
            gain = difference("auc", folds.target, oof, found["float32"])
            rows.append(
                [
                    precision,
                    f"{interval.score:.4f}",
                    f"{interval.low:.4f} to {interval.high:.4f}",
                    f"{gain.gain:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})",
                    f"{statistics.median(seconds[precision]):.1f}",
                ]
            )
        show(["precision", "OOF AUC", "95 % interval", "minus float32 (paired)", "seconds per fold (median)"], rows)


if __name__ == "__main__":
    main()
