"""Generated input of a report: models of known quality, a blend and a ledger."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from dfens.report.images import RowView
from dfens.report.inputs import BlendInput, ModelInput, ReportInputs
from ensemble.calibration import CalibrationReport, ReliabilityBin
from ensemble.summary import BlendSummary, Comparison, MemberScore
from oof.metrics import metric_by_name, roc_auc
from submissions.entry import Entry

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
_BINS = tuple(ReliabilityBin(40, p, p) for p in (0.1, 0.5, 0.9))
PIXEL = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")  # enough of a JPEG for a data URI


def all_views(ids: Sequence[str]) -> Mapping[str, Callable[[], RowView]]:
    """Return an image for every row."""
    return dict.fromkeys(ids, lambda: RowView(PIXEL, PIXEL))


def make_inputs(
    rows: int = 400, count: int = 3, tests: int = 200, names: Sequence[str] = (), **changes: Any
) -> ReportInputs:
    """Return inputs with `count` models, their mean as a blend, and five scored submissions."""
    rng = np.random.default_rng(0)
    y = (rng.random(rows) < 0.6).astype(np.int8)
    fold = (np.arange(rows) % 5).astype(np.int16)
    names = [*names, *(f"model-{number}" for number in range(len(names), count))][:count]
    made = [_model(name, y, tests, rng) for name in names]
    values: dict[str, Any] = {
        "competition": "multi-ffdi",
        "metric": metric_by_name("auc"),
        "made": NOW,
        "ids": np.array([f"{number:05d}.jpg" for number in range(rows)], object),
        "target": y,
        "fold": fold,
        "group": None,
        "how": {"k": 5, "group": None},
        "n_test": tests,
        "models": made,
        "blends": [_blend(made, y)] if made else [],
        "entries": [_entry(number) for number in range(5)],
        "next_command": "dfens submit blend --dry-run",
        "submissions_per_day": 5,
    }
    return ReportInputs(**(values | changes))


def _model(name: str, y: Any, tests: int, rng: np.random.Generator) -> ModelInput:
    oof = 1 / (1 + np.exp(-(1.5 * (2 * y - 1) + rng.normal(size=len(y)))))
    test = 1 / (1 + np.exp(-(1.5 * rng.choice([-1, 1], (1, tests)) + rng.normal(size=(5, tests)))))
    history = {
        "loss": [0.7, 0.5, 0.4],
        "auc": [0.7, 0.8, 0.85],
        "parameters": 1_000_000,
        "seconds": 12.0,
        "images_per_s": 90.0,
    }
    return ModelInput(name, "timm", oof.astype(np.float32), test.astype(np.float32), dict.fromkeys(range(5), history))


def _blend(models: Sequence[ModelInput], y: Any) -> BlendInput:
    mean = np.stack([model.oof for model in models]).mean(axis=0, dtype=np.float64)
    score = roc_auc(y, mean)
    share = 1 / len(models)
    summary = BlendSummary(
        metric="auc",
        method="mean of probabilities",
        transform="prob",
        score=score,
        nested_score=score - 0.001,
        nested_interval=(score - 0.02, score + 0.01),
        members=tuple(MemberScore(model.name, share, 0.9, (share,) * 5) for model in models),
        comparisons=(Comparison("best single", 0.01, (0.002, 0.018), 0.01),),
        methods=(),
        references={},
        calibration=CalibrationReport("platt", (0.5, 0.4), (0.1, 0.02), _BINS, _BINS),
        verdict="The blend is better than its best member.",
        warnings=(),
    )
    return BlendInput("blend", summary.to_json(), mean, mean)


def _entry(number: int) -> Entry:
    when = NOW - timedelta(days=5 - number)
    return Entry(
        key=f"{number:032d}", created=when, updated=when, submitted=when, competition="multi-ffdi", status="complete",
        ref=1000 + number, blend=f"blend{number}", score=0.91 + 0.01 * number, nested_score=0.9 + 0.01 * number,
        public_score=0.88 + 0.01 * number,
    )  # fmt: skip
