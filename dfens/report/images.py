"""Panel "images": the rows worth looking at, with thumbnails inside the page."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.report.inputs import ReportInputs

PER_GRID = 12
Thumbnail = Callable[[str, int], bytes]


@dataclass(frozen=True)
class Picture:
    """One row of a grid; small and large are JPEG data URIs, empty where the file cannot be read (see problem)."""

    id: str
    target: int
    score: float
    note: str
    small: str = ""
    large: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Grid:
    """Rows chosen by one rule."""

    title: str
    explanation: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class ImagesPanel:
    """Grids of mistakes, disagreements, likely label errors and random correct rows, by the scores of `scored`."""

    scored: str
    grids: tuple[Grid, ...]
    missing: int


def images_panel(
    inputs: ReportInputs, find_paths: Callable[[Sequence[str]], Mapping[str, str]], thumbnail: Thumbnail
) -> ImagesPanel | None:
    """Choose the rows, and make their thumbnails.

    Args:
        inputs: predictions and labels.
        find_paths: ids -> path of the image or clip, for those that exist.
        thumbnail: (path, longest side in pixels) -> JPEG bytes; raises DfensError or OSError where it cannot.
    """
    if not inputs.models:
        return None
    blend = inputs.best_blend
    scored, scores = (blend.name, blend.nested_oof) if blend else (inputs.models[0].name, inputs.models[0].oof)
    known = np.flatnonzero(np.isfinite(scores))
    if len(set(inputs.target[known].tolist())) < 2:
        return None
    ranks = np.full(len(scores), np.nan)
    ranks[known] = (np.argsort(np.argsort(scores[known], kind="stable"), kind="stable") + 0.5) / len(known)
    wrong = np.where(inputs.target == 1, 1 - ranks, ranks)  # 1: at the far end of the other class
    chosen = _choose(inputs, known, wrong)
    paths = find_paths(list(dict.fromkeys(str(inputs.ids[row]) for _, _, rows in chosen for row, _ in rows)))
    grids = tuple(
        Grid(
            title,
            explanation,
            tuple(_picture(inputs, row, float(scores[row]), note, paths, thumbnail) for row, note in rows),
        )
        for title, explanation, rows in chosen
        if rows
    )
    missing = sum(not picture.small for grid in grids for picture in grid.pictures)
    return ImagesPanel(scored, grids, missing)


def _choose(
    inputs: ReportInputs, known: NDArray[np.intp], wrong: NDArray[np.float64]
) -> list[tuple[str, str, list[tuple[int, str]]]]:
    rows = inputs.sample_rows()
    mistakes = known[np.argsort(-wrong[known], kind="stable")][:PER_GRID]
    sides = depth_in_other_class(inputs, rows)  # (n_models, n_rows) of `rows`, NaN where not predicted
    voted = np.isfinite(sides).sum(axis=0)
    enough = voted == voted.max(initial=0)
    spread = np.where(enough, np.nanstd(np.nan_to_num(sides), axis=0), -1)
    disagreed = rows[np.argsort(-spread, kind="stable")][:PER_GRID] if len(inputs.models) > 1 else rows[:0]
    lowest = np.where(enough, np.nanmin(np.where(np.isfinite(sides), sides, np.inf), axis=0), -1)
    against = np.argsort(-lowest, kind="stable")[:PER_GRID]
    against = against[lowest[against] > 0.75]
    right = known[wrong[known] < 0.25]
    draw = np.random.default_rng(0).permutation(right)[:PER_GRID]

    def said(chosen: Any, text: Callable[[int], str]) -> list[tuple[int, str]]:
        return [(int(row), text(int(row))) for row in chosen]

    place = {int(row): index for index, row in enumerate(rows)}
    return [
        ("Most confident mistakes", "Rows that rank deepest in the other class.",
         said(mistakes, lambda row: f"deeper in the other class than {wrong[row]:.1%} of all rows")),
        ("Most disputed rows", "Rows whose ranks differ most between the models.",
         said(disagreed, lambda row: f"standard deviation of ranks {spread[place[row]]:.2f}")),
        ("Likely label errors", "Rows that every model places deep in the other class; look before changing a label.",
         said(rows[against], lambda row: f"at least {lowest[place[row]]:.0%} deep for every model")),
        ("Random correct rows", "An even draw of the rows on the right side, for comparison.",
         said(draw, lambda row: "")),
    ]  # fmt: skip


def depth_in_other_class(inputs: ReportInputs, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """How deep each model ranks a row in the other class, 0 to 1, shape (n_models, n_rows)."""
    y = inputs.target[rows]
    found = np.full((len(inputs.models), len(rows)), np.nan)
    for place, model in enumerate(inputs.models):
        values = model.oof[rows]
        known = np.flatnonzero(np.isfinite(values))
        rank = np.argsort(np.argsort(values[known], kind="stable"), kind="stable") / max(1, len(known) - 1)
        found[place, known] = np.where(y[known] == 1, 1 - rank, rank)
    return found


def _picture(
    inputs: ReportInputs, row: int, score: float, note: str, paths: Mapping[str, str], thumbnail: Thumbnail
) -> Picture:
    name = str(inputs.ids[row])
    target = int(inputs.target[row])
    path = paths.get(name)
    if path is None:
        return Picture(name, target, score, note, problem="file not found")
    try:
        small, large = (_data_uri(thumbnail(path, size)) for size in (112, 320))
    except Exception as err:  # a report shows what it can; the reason is under the picture
        return Picture(name, target, score, note, problem=f"cannot be read: {str(err)[:200]}")
    return Picture(name, target, score, note, small, large)


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
