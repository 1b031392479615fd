"""Draw a contact sheet of clips with frames, key frames and spectrograms, to inspect before training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oof.files import atomic_path
from trainers.media.arrays import Image
from trainers.media.clip_record import ClipRecord
from trainers.media.image import resize_image

_FRAMES, _KEYS = 8, 4
_EDGE = 96  # pixels of a thumbnail
_GAP = 3
_ROW_INCHES = 1.25
_WIDTH_INCHES = 15.0
_KEY_COLOUR = "#b04a00"


def draw_sheet(path: Path, records: Sequence[tuple[str, ClipRecord]]) -> None:
    """Draw one strip per clip and save them as a PNG.

    Args:
        path: path of the PNG.
        records: title and record of each clip; at least one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, 0.5 + _ROW_INCHES * len(records)), dpi=100)
    FigureCanvasAgg(figure)
    strip = _EDGE + _GAP
    grid = figure.add_gridspec(
        len(records),
        3,
        width_ratios=[_FRAMES * strip, _KEYS * strip, 4 * strip],
        left=0.01,
        right=0.96,
        top=1 - 0.55 / (0.5 + _ROW_INCHES * len(records)),
        bottom=0.25 / (0.5 + _ROW_INCHES * len(records)),
        wspace=0.03,
        hspace=0.35,
    )
    heights = [record.tensor("mel") for _, record in records]
    low, high = _levels(heights)
    for row, (title, record) in enumerate(records):
        frames, keys, sound = (figure.add_subplot(grid[row, column]) for column in range(3))
        _draw_strip(frames, record, record.spread, _FRAMES)
        frames.set_title(f"{title}   {describe(record)}", fontsize=7, loc="left", pad=3)
        _draw_strip(keys, record, record.keys, _KEYS)
        change = record.tensor("change")[record.keys[:_KEYS]]
        marks = "  ".join(f"{value:.2f}" for value in change)
        keys.set_title(f"key frames, change {marks}" if len(change) else "no key frames", fontsize=7, loc="left",
                       pad=3, color=_KEY_COLOUR)  # fmt: skip
        _draw_sound(sound, record, low, high)
    with atomic_path(path) as part:
        figure.savefig(part, format="png")


def describe(record: ClipRecord) -> str:
    """Return the facts of a clip in one line."""
    facts = []
    picture, sound = record.info.picture, record.info.sound
    if picture is not None:
        turned = f" turned {picture.rotation}°" if picture.rotation else ""
        facts.append(f"{picture.width}×{picture.height}{turned} {picture.frame_rate:.4g} fps {picture.codec}")
    if sound is not None:
        facts.append(f"{sound.codec} {sound.sample_rate} Hz ×{sound.channels}")
    facts.append(f"{record.info.duration_s:.1f} s")
    if record.has_face:
        facts.append("face")
    return ", ".join([*facts, *record.notes])


def _levels(spectrograms: "Sequence[np.ndarray[Any, Any]]") -> tuple[float, float]:
    """Return a common range of levels for all spectrograms, so that loud and quiet clips look different."""
    values = np.concatenate([mel[:, ::8].ravel() for mel in spectrograms if mel.size] or [np.zeros(1)])
    low, high = np.quantile(values.astype(np.float32), [0.02, 0.998])
    return float(low), float(max(high, low + 1))


def _draw_strip(axes: Any, record: ClipRecord, positions: "np.ndarray[Any, Any]", most: int) -> None:
    axes.set_axis_off()
    if len(positions) > most:
        positions = positions[np.linspace(0, len(positions) - 1, most).astype(int)]
    sheet = np.full((_EDGE, most * (_EDGE + _GAP), 3), 255, np.uint8)
    images: Sequence[Image] = [resize_image(image, _EDGE) for image in record.frames(positions)]
    for place, image in enumerate(images):
        left = place * (_EDGE + _GAP)
        sheet[:, left : left + _EDGE] = image
    axes.imshow(sheet, aspect="equal", interpolation="nearest")
    axes.set_anchor("W")
    if not images and most == _FRAMES:
        axes.text(0, _EDGE / 2, "no video", fontsize=8, color="0.4")


def _draw_sound(axes: Any, record: ClipRecord, low: float, high: float) -> None:
    mel, about = record.tensor("mel"), record.mel_settings
    axes.tick_params(labelsize=6, length=2)
    axes.yaxis.tick_right()
    if not mel.size:
        axes.set_axis_off()
        axes.text(0.02, 0.5, "no sound", fontsize=8, color="0.4", transform=axes.transAxes)
        return
    start = record.sound_start_s
    end = start + mel.shape[1] * about["hop"] / about["sample_rate"]
    axes.imshow(
        mel.astype(np.float32),
        origin="lower",
        aspect="auto",
        extent=(start, end, 0, about["bands"]),
        vmin=low,
        vmax=high,
        cmap="magma",
        interpolation="nearest",
    )
    axes.set_yticks([0, about["bands"]], [f"{about['fmin']:g}", f"{about['fmax']:g} Hz"])
    axes.set_title(f"log-mel, s (starts at {start:.2f})" if abs(start) > 0.005 else "log-mel, s", fontsize=7,
                   loc="left", pad=3)  # fmt: skip
