"""A toy kind of model in a separate file: a threshold on mean brightness, fitted in many small steps."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from oof.errors import TrainingError
from oof.files import read_json, write_json
from trainers.kinds.base import FoldModels, FoldOutcome, ModelContext, ModelKind, Probabilities
from trainers.kinds.registry import register
from trainers.runtime.settings import check_range
from trainers.runtime.signals import StopRequest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ToySettings:
    """steps: number of training steps. pause_s: pause after each, in seconds. power: exponent of the brightness."""

    kind: Literal["toy"] = "toy"
    steps: int = 20
    pause_s: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, 1, 10_000, "steps")


class ToyKind(ModelKind[ToySettings]):
    """Save the state after each step as `state.pt` (JSON), and the threshold as `threshold.json`."""

    def check(self, context: ModelContext[ToySettings]) -> None:
        if context.settings.power == 0:
            raise TrainingError(f"Model '{context.name}': power = 0 makes all images alike. Set another.")

    def has_weights(self, folder: Path) -> bool:
        return (folder / "threshold.json").exists()

    def train_fold(self, context: ModelContext[ToySettings], fold: int) -> FoldOutcome:
        train, held_out = context.split(fold)
        state = context.fold_folder(fold) / "state.pt"
        before: dict[str, float] = read_json(state) if state.exists() else {"step": 0, "sum": 0.0}
        step, total = int(before["step"]), before["sum"]
        values = _brightness(train["path"].tolist(), context.settings.power)
        title, steps = f"{context.name} fold {fold}", context.settings.steps
        with context.progress.task(title, total=steps) as task, StopRequest() as request:
            while step < steps:
                total += float(values[step % len(values)])
                step += 1
                time.sleep(context.settings.pause_s)
                write_json(state, {"step": step, "sum": total})
                task.advance()
                if request.is_requested:
                    request.stop()
        threshold = total / step
        return FoldOutcome(
            oof=_score(_brightness(held_out["path"].tolist(), context.settings.power), threshold),
            files={"threshold.json": lambda path: _write(path, threshold)},
            epoch=step,
            epochs=context.settings.steps,
            history={"resumed_at": int(before["step"])},
        )

    def load(self, context: ModelContext[ToySettings], folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        files = [context.fold_folder(fold) / "threshold.json" for fold in folds]
        return _ToyModels([float(json.loads(path.read_text())) for path in files], context.settings.power)


class _ToyModels:
    batch_rows = 3

    def __init__(self, thresholds: list[float], power: float) -> None:
        self._thresholds, self._power = thresholds, power
        self.count = len(thresholds)

    def predict(self, rows: "pd.DataFrame") -> Iterator[Probabilities]:
        for start in range(0, len(rows), self.batch_rows):
            values = _brightness(rows["path"].iloc[start : start + self.batch_rows].tolist(), self._power)
            yield np.stack([_score(values, threshold) for threshold in self._thresholds])


def _brightness(paths: list[str], power: float) -> Probabilities:
    images = [cv2.imread(path) for path in paths]
    return np.array([(np.asarray(image).mean() / 255) ** power for image in images], np.float64)


def _score(values: Probabilities, threshold: float) -> Probabilities:
    found: Probabilities = 1 / (1 + np.exp(-20 * (values - threshold)))
    return found


def _write(path: Path, value: float) -> None:
    path.write_text(json.dumps(value))


register("toy", settings=f"{__name__}:ToySettings", implementation=f"{__name__}:ToyKind")
