"""Extracted features of clips as a table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.extract import Extractions

_SHOWN = 5  # failures


def extract_notes(found: "Extractions") -> Iterator[str]:
    """Describe how frames are cropped, and list clips that cannot be read."""
    if any(extraction.crop == "centre" for extraction in found.extractions):
        yield "No face detector is set (faces = FILE.onnx), so the centre of each frame is cropped."
    for extraction in found.extractions:
        for failure in extraction.failures[:_SHOWN]:
            yield f"Cannot be read: {failure.path}: {failure.reason}"
        if len(extraction.failures) > _SHOWN:
            yield f"… and {len(extraction.failures) - _SHOWN} more; --json lists all."
    if found.sheet is not None:
        yield f"Contact sheet: {found.sheet}"


def show_extractions(found: "Extractions") -> Iterator[FittedTable]:
    """List each set of settings with the number of clips and the space it takes."""
    rows = [
        {
            "models": ", ".join(item.models) or "–",
            "frames": f"{item.frames} + {item.key_frames} key",
            "size": f"{item.frame_size} px",
            "crop": item.crop,
            "clips": item.clips,
            "stored": item.stored,
            "missing": item.missing,
            "unreadable": item.failed,
            "GB": item.n_bytes / 1e9,
            "folder": item.folder,
        }
        for item in found.extractions
    ]
    yield make_table(rows, title="Extracted features of clips", decimals=2, optional=["crop", "folder"])
