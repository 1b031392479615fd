"""Panel "images": the rows worth looking at, with thumbnails inside the page."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dfens.report.inputs import ReportInputs

PER_GRID = 12


@dataclass(frozen=True)
class RowView:
    """The part of one row's file that is displayed.

    small, large: JPEG bytes of the image, or of one frame of a clip. caption: which frame, and its prediction; ""
    for images. envelope: of a clip's sound, 0 to 1, evenly spaced; spectrogram: JPEG bytes; both empty without sound.
    """

    small: bytes
    large: bytes
    caption: str = ""
    envelope: tuple[float, ...] = ()
    spectrogram: bytes = b""


FindViews = Callable[[Sequence[str]], Mapping[str, Callable[[], RowView]]]


@dataclass(frozen=True)
class Picture:
    """One row of a grid; small, large and spectrogram are JPEG data URIs, empty if there is none (see problem)."""

    id: str
    target: int
    score: float
    note: str
    small: str = ""
    large: str = ""
    caption: str = ""
    envelope: tuple[float, ...] = ()
    spectrogram: str = ""
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


def images_panel(inputs: ReportInputs, find_views: FindViews) -> ImagesPanel | None:
    """Choose the rows, and read their files for display.

    Args:
        inputs: predictions and labels.
        find_views: ids -> function that reads the file of a row, for the files that exist.
    """
    if not inputs.models:
        return None
    scored, scores = inputs.scored
    known = np.flatnonzero(np.isfinite(scores))
    if len(set(inputs.target[known].tolist())) < 2:
        return None
    ranks = np.full(len(scores), np.nan)
    ranks[known] = (rankdata(scores[known]) - 0.5) / len(known)
    wrong = np.where(inputs.target == 1, 1 - ranks, ranks)  # 1: at the far end of the other class
    chosen = _choose(inputs, known, wrong, _mistaken(inputs, scores))
    views = find_views(list(dict.fromkeys(str(inputs.ids[row]) for _, _, rows in chosen for row, _ in rows)))
    grids = tuple(
        Grid(
            title,
            explanation,
            tuple(_picture(inputs, row, float(scores[row]), note, views) for row, note in rows),
        )
        for title, explanation, rows in chosen
        if rows or len(inputs.models) > 1
    )
    missing = sum(not picture.small for grid in grids for picture in grid.pictures)
    return ImagesPanel(scored, grids, missing)


def _mistaken(inputs: ReportInputs, scores: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which rows score beyond at least one row of the other class; those of a perfect ranking do not."""
    fake = inputs.target == 1
    beyond: NDArray[np.bool_] = np.where(fake, scores < np.nanmax(scores[~fake]), scores > np.nanmin(scores[fake]))
    return beyond


def _choose(
    inputs: ReportInputs, known: NDArray[np.intp], wrong: NDArray[np.float64], mistaken: NDArray[np.bool_]
) -> list[tuple[str, str, list[tuple[int, str]]]]:
    rows = inputs.sample_rows()
    mistakes = known[np.argsort(-wrong[known], kind="stable")]
    mistakes = mistakes[mistaken[mistakes]][:PER_GRID]
    sides = depth_in_other_class(inputs, rows)  # (n_models, n_rows) of `rows`, NaN where not predicted
    voted = np.isfinite(sides).sum(axis=0)
    enough = voted == voted.max(initial=0)
    compared = np.flatnonzero(enough & (voted > 1))
    spread = np.zeros(len(rows))
    spread[compared] = np.nanstd(sides[:, compared], axis=0)
    disagreed = rows[compared[np.argsort(-spread[compared], kind="stable")][:PER_GRID]]
    lowest = np.where(enough, np.nanmin(np.where(np.isfinite(sides), sides, np.inf), axis=0), -1)
    against = np.argsort(-lowest, kind="stable")
    against = against[(lowest[against] > 0.75) & mistaken[rows[against]]][:PER_GRID]
    right = known[wrong[known] < 0.25]
    draw = np.random.default_rng(0).permutation(right)[:PER_GRID]

    def said(chosen: Any, text: Callable[[int], str]) -> list[tuple[int, str]]:
        return [(int(row), text(int(row))) for row in chosen]

    place = {int(row): index for index, row in enumerate(rows)}
    return [
        ("Most confident mistakes", "Rows that rank deepest in the other class, beyond at least one of its rows.",
         said(mistakes, lambda row: f"further into the other class than {100 * wrong[row]:.1f} % of all rows")),
        ("Most disputed rows", "Rows whose ranks differ most between the models.",
         said(disagreed, lambda row: f"standard deviation of ranks {spread[place[row]]:.2f}")),
        ("Likely label errors", "Rows that every model ranks far into the other class; look before changing a label.",
         said(rows[against], lambda row: f"at least {100 * lowest[place[row]]:.0f} % deep for every model")),
        ("Random correct rows", "A random sample of correctly ranked rows, for comparison.",
         said(draw, lambda row: "")),
    ]  # fmt: skip


def depth_in_other_class(inputs: ReportInputs, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return how deep each model ranks a row in the other class, 0 to 1, shape (n_models, n_rows)."""
    y = inputs.target[rows]
    found = np.full((len(inputs.models), len(rows)), np.nan)
    for place, model in enumerate(inputs.models):
        values = model.oof[rows]
        known = np.flatnonzero(np.isfinite(values))
        rank = (rankdata(values[known]) - 1) / max(1, len(known) - 1)  # equal predictions get equal ranks
        found[place, known] = np.where(y[known] == 1, 1 - rank, rank)
    return found


def _picture(
    inputs: ReportInputs, row: int, score: float, note: str, views: Mapping[str, Callable[[], RowView]]
) -> Picture:
    picture = Picture(str(inputs.ids[row]), int(inputs.target[row]), score, note)
    read = views.get(picture.id)
    if read is None:
        return replace(picture, problem="file not found")
    try:
        view = read()
    except Exception as err:  # one unreadable file must not stop the report; the reason is shown below the picture
        return replace(picture, problem=f"cannot be read: {str(err)[:200]}")
    small, large, spectrogram = map(_data_uri, (view.small, view.large, view.spectrogram))
    return replace(
        picture, small=small, large=large, caption=view.caption, envelope=view.envelope, spectrogram=spectrogram
    )


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii") if jpeg else ""
