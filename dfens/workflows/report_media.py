"""Images and clips in the report: thumbnails and, for clips, the deciding frame and the sound."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dfens.report.images import RowView
from dfens.report.inputs import ReportInputs
from dfens.workflows.extract import wanted
from dfens.workspace.paths import Workspace
from oof.errors import DfensError
from trainers.analysis.clip_pictures import envelope, frame_at, read_clip, spectrogram_picture
from trainers.data.layouts import scan_competition
from trainers.features.clips import clip_store
from trainers.kinds.clips.deciding import read_deciding
from trainers.kinds.registry import kind_of
from trainers.media.clip_record import ClipRecord
from trainers.media.image import decode_image, is_clip
from trainers.media.thumbnail import thumbnail

_SMALL, _LARGE = 112, 320  # longer side in pixels
_COLUMNS = 80  # columns of a sound envelope
Views = Mapping[str, Callable[[], RowView]]


def find_views(workspace: Workspace, inputs: ReportInputs, ids: Sequence[str]) -> Views:
    """Return, for each row whose file exists, a function that creates its view.

    The result is empty if the competition's data cannot be read.
    """
    try:
        # files of other rows may be missing: show only existing ones
        frame = scan_competition(workspace.config.data, workspace.quarantine_path()).train
    except DfensError:
        return {}
    found = frame[frame["id"].isin(ids).to_numpy()]
    paths = {str(name): str(path) for name, path in zip(found["id"], found["path"], strict=True) if Path(path).exists()}
    if not any(map(is_clip, paths.values())):
        return {name: partial(_image_view, path) for name, path in paths.items()}
    records = _stored_records(workspace, list(paths.values()))
    decided = _deciding_moments(workspace, inputs, ids)
    return {name: partial(_clip_view, path, records.get(path), decided.get(name, ())) for name, path in paths.items()}


def _image_view(path: str) -> RowView:
    image = decode_image(path)
    return RowView(thumbnail(image, _SMALL), thumbnail(image, _LARGE))


@dataclass(frozen=True)
class _Moment:
    """The moment that decided a model's prediction of a clip: position from 0 to 1, and its probability of fake."""

    model: str
    place: float
    probability: float
    uses_video: bool

    def text(self, what: str) -> str:
        return f"{what}: {self.probability:.2f} by {self.model}"


def _deciding_moments(workspace: Workspace, inputs: ReportInputs, ids: Sequence[str]) -> dict[str, list[_Moment]]:
    """Return the deciding moments of clips for two models, one with video and one with only sound.

    Both have the largest weight in the newest blend; among equal weights, and without a blend, the best score.
    """
    weights = inputs.newest_blend.weights if inputs.newest_blend else {}
    models = workspace.config.models
    wanted_ids, found = set(ids), dict[str, list[_Moment]]()
    chosen: set[bool] = set()
    for name in sorted(models, key=lambda name: (-weights.get(name, 0.0), -inputs.gains.get(name, -np.inf))):
        uses_video = "picture" in kind_of(models[name]).modalities(models[name])
        if uses_video in chosen:
            continue
        moments: dict[str, tuple[float, float]] = {}
        for fold in range(inputs.k):
            moments |= _read_deciding(workspace.deciding_path(name, fold))
        if moments:
            chosen.add(uses_video)
        for id_ in wanted_ids & moments.keys():
            found.setdefault(id_, []).append(_Moment(name, moments[id_][0], moments[id_][1], uses_video))
    return found


def _read_deciding(path: Path) -> dict[str, tuple[float, float]]:
    try:
        return read_deciding(path)
    except DfensError:  # a truncated file; the clip is shown without it
        return {}


def _stored_records(workspace: Workspace, paths: Sequence[str]) -> dict[str, ClipRecord]:
    """Return the extracted features of clips from the first store that has them."""
    found: dict[str, ClipRecord] = {}
    for settings, _ in wanted(workspace):
        missing = [path for path in paths if path not in found]
        try:
            view = clip_store(settings, workspace.trainers_dir, workspace.root).view(missing)
        except (DfensError, OSError):  # a missing face detector, or a truncated table
            continue
        for row, path in enumerate(missing):
            with contextlib.suppress(DfensError):  # a damaged record; the clip itself is read instead
                record = view.record(row)
                if record is not None:
                    found[path] = record
    return found


def _clip_view(path: str, record: ClipRecord | None, moments: Sequence[_Moment]) -> RowView:
    record = read_clip(path) if record is None else record
    by_video = next((moment for moment in moments if moment.uses_video), None)
    by_sound = next((moment for moment in moments if not moment.uses_video), None)
    found = frame_at(record, 0.5 if by_video is None else by_video.place)
    captions = []
    if found is not None:
        at = f"{found[1]:.1f} s"
        captions.append(f"middle frame, {at}" if by_video is None else by_video.text(f"deciding frame, {at}"))
    if by_sound is not None and len(record.sound):
        captions.append(by_sound.text("sound"))
    image = np.zeros((_SMALL, _SMALL, 3), np.uint8) if found is None else found[0]
    if found is None:
        captions.append("no video")
    if not len(record.sound):
        captions.append("no sound")
    spectrogram = spectrogram_picture(record)
    return RowView(
        thumbnail(image, _SMALL),
        thumbnail(image, _LARGE),
        "; ".join(captions),
        tuple(round(float(value), 2) for value in envelope(record, _COLUMNS)),
        b"" if spectrogram is None else thumbnail(spectrogram, max(spectrogram.shape)),
    )
