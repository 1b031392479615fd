"""Detect faces in frames with a detector that the user supplies as an ONNX file: YuNet or CenterFace."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.errors import ConfigError
from trainers.media.arrays import Image

Boxes = NDArray[np.float32]  # (n_faces, 5): left, top, right, bottom in pixels, and the score from 0 to 1

_SIDE = 640  # longer side of the resized image if the network accepts any size
_MIN_SCORE = 0.6
_MAX_OVERLAP = 0.3
_FARTHEST_STEP = 1.5
_YUNET_STRIDES = (8, 16, 32)
_CENTERFACE_STRIDE = 4


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that a detector uses."""

    def run(self, output_names: None, input_feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]: ...

    def get_inputs(self) -> list[Any]: ...

    def get_outputs(self) -> list[Any]: ...


@dataclass(frozen=True, eq=False)
class FaceDetector:
    """A face detector; may be called from several threads at once.

    family: "yunet" (Wu et al., YuNet: A Tiny Millisecond-level Face Detector, 2023) or "centerface" (Xu et al.,
    CenterFace: Joint Face Detection and Alignment, 2019), recognised by the outputs of the network.
    """

    session: Session
    family: str

    @classmethod
    def load(cls, path: Path) -> "FaceDetector":
        """Load a detector from an ONNX file.

        Raises:
            ConfigError: if onnxruntime is not installed, or the file is missing, broken, or another kind of network.
        """
        if not path.is_file():
            raise ConfigError(f"faces = '{path}': there is no such file. Correct the path, or remove the setting.")
        try:
            import onnxruntime
        except ImportError as err:
            raise ConfigError(
                "faces = … needs the package onnxruntime. Install it with pip install 'dfens[faces]', or leave the "
                "setting out: the centre of each frame is then cropped."
            ) from err
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # clips are read in parallel
        options.log_severity_level = 3
        try:
            providers = ["CPUExecutionProvider"]
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            batch = session.get_inputs()[0].shape[0]
            if isinstance(batch, int) and batch != 1:
                session = onnxruntime.InferenceSession(_any_shape(path), options, providers=providers)
        except Exception as err:  # onnxruntime's errors derive directly from Exception
            raise ConfigError(f"faces = '{path}' cannot be loaded as ONNX ({str(err).splitlines()[0]}).") from err
        return cls.of(session, str(path))

    @classmethod
    def of(cls, session: Session, name: str) -> "FaceDetector":
        """Create a detector from a loaded network, whose family is recognised; `name` is used in messages."""
        outputs = {output.name for output in session.get_outputs()}
        if {f"{part}_{stride}" for part, stride in product(("cls", "obj", "bbox"), _YUNET_STRIDES)} <= outputs:
            return cls(session, "yunet")
        channels = [output.shape[1] for output in session.get_outputs() if len(output.shape) == 4]
        if channels[:3] == [1, 2, 2]:
            return cls(session, "centerface")
        raise ConfigError(
            f"faces = '{name}' is neither YuNet nor CenterFace: its outputs are {', '.join(sorted(outputs))}. "
            f"Expected a face_detection_yunet_*.onnx or a centerface.onnx."
        )

    def detect(self, image: Image) -> Boxes:
        """Return the faces in an image, best first."""
        fed, scale = self._prepare(image)
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: fed})
        if self.family == "yunet":
            named = dict(zip((output.name for output in self.session.get_outputs()), outputs, strict=True))
            boxes = _yunet_boxes(named, fed.shape[3])
        else:
            boxes = _centerface_boxes(outputs)
        boxes = _suppress(boxes[boxes[:, 4] >= _MIN_SCORE])
        boxes[:, :4] /= scale
        return boxes

    def _prepare(self, image: Image) -> tuple[NDArray[np.float32], float]:
        """Return the input of the network, (1, 3, height, width), padded at right and bottom, and its scale."""
        shape = self.session.get_inputs()[0].shape
        height, width = image.shape[:2]
        if isinstance(shape[2], int) and isinstance(shape[3], int) and shape[2] > 32 and shape[3] > 32:
            in_height, in_width = shape[2], shape[3]
            scale = min(in_height / height, in_width / width)
        else:  # any multiple of 32 is accepted
            scale = min(1.0, _SIDE / max(height, width))
            in_height, in_width = (-(-round(side * scale) // 32) * 32 for side in (height, width))
        small = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
        padded = np.zeros((in_height, in_width, 3), np.float32)
        padded[: small.shape[0], : small.shape[1]] = small
        if self.family == "yunet":
            padded = padded[..., ::-1]  # YuNet was trained on BGR
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), scale


def _any_shape(path: Path) -> bytes:
    """Return the network with dynamic batch and image sizes; CenterFace's file declares 10 images of 32 x 32 px."""
    import onnx

    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}  # old files list the weights among the inputs
    for value in (*model.graph.input, *model.graph.output):
        for axis in () if value.name in weights else (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def _yunet_boxes(outputs: dict[str, NDArray[np.float32]], width: int) -> Boxes:
    """Decode YuNet's outputs, one set per stride: (1, cells, 1 or 4)."""
    found = []
    for stride in _YUNET_STRIDES:
        classes, objects, boxes = (outputs[f"{part}_{stride}"][0] for part in ("cls", "obj", "bbox"))
        score = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
        row, column = np.divmod(np.arange(len(score)), width // stride)
        middle_x, middle_y = (column + boxes[:, 0]) * stride, (row + boxes[:, 1]) * stride
        half_width, half_height = np.exp(boxes[:, 2]) * stride / 2, np.exp(boxes[:, 3]) * stride / 2
        found.append(
            np.stack(
                [middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height, score], 1
            )
        )
    return np.concatenate(found).astype(np.float32)


def _centerface_boxes(outputs: list[NDArray[np.float32]]) -> Boxes:
    """Decode CenterFace's heat map, sizes and offsets: (1, 1 or 2, height / 4, width / 4)."""
    heat, size, offset = outputs[0][0, 0], outputs[1][0], outputs[2][0]
    row, column = np.nonzero(heat >= _MIN_SCORE)
    height, width = np.exp(size[:, row, column]) * _CENTERFACE_STRIDE
    middle_y = (row + offset[0, row, column] + 0.5) * _CENTERFACE_STRIDE
    middle_x = (column + offset[1, row, column] + 0.5) * _CENTERFACE_STRIDE
    left, top = middle_x - width / 2, middle_y - height / 2
    return np.stack([left, top, left + width, top + height, heat[row, column]], 1).astype(np.float32)


def _suppress(boxes: Boxes) -> Boxes:
    """Apply non-maximum suppression; the best box comes first."""
    kept: list[NDArray[np.float32]] = []
    for box in boxes[np.argsort(-boxes[:, 4], kind="stable")]:
        if all(overlap(box, other) <= _MAX_OVERLAP for other in kept):
            kept.append(box)
    return np.stack(kept) if kept else np.zeros((0, 5), np.float32)


def overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, float(width)) * max(0.0, float(height))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)]
    return common / max(1e-6, areas[0] + areas[1] - common)


def main_face(faces: list[Boxes]) -> NDArray[np.float32]:
    """Follow faces over frames and return the box of the main one in each frame, shape (n_frames, 4).

    Frames are far apart, so the boxes of a face in consecutive frames need not overlap: a face continues the nearest
    track whose last box is of similar size and at most 1.5 face sizes away. The main track has the largest sum of score
    times area. Boxes of frames without it are interpolated; if no frame has a face, all boxes are NaN.
    """
    tracks: list[dict[int, NDArray[np.float32]]] = []
    for position, boxes in enumerate(faces):
        free = list(tracks)
        for box in boxes:
            near = min(free, key=lambda track: _step(track[max(track)], box), default=None)
            if near is not None and _step(near[max(near)], box) <= _FARTHEST_STEP:
                near[position] = box
                free = [track for track in free if track is not near]
            else:
                tracks.append({position: box})
    found = np.full((len(faces), 4), np.nan, np.float32)
    if not tracks:
        return found
    best = max(tracks, key=lambda track: sum(float(b[4] * (b[2] - b[0]) * (b[3] - b[1])) for b in track.values()))
    at = sorted(best)
    for side in range(4):
        found[:, side] = np.interp(np.arange(len(faces)), at, [best[position][side] for position in at])
    return found


def _step(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Return how far a face has moved, in face sizes; infinite if the sizes differ by more than a factor of 2."""
    sides = [float(max(box[2] - box[0], box[3] - box[1])) for box in (before, now)]
    if max(sides) > 2 * min(sides):
        return float("inf")
    across, down = (float(now[side] + now[side + 2] - before[side] - before[side + 2]) / 2 for side in (0, 1))
    return math.hypot(across, down) / max(sides)


def crop_square(image: Image, box: NDArray[np.float32], margin: float) -> Image:
    """Crop a square around a box, enlarged by `margin` of its longer side, moved or shrunk to fit into the image."""
    height, width = image.shape[:2]
    side = max(box[2] - box[0], box[3] - box[1]) * (1 + margin)
    edge = max(1, min(round(float(side)), height, width))
    left = min(max(0, round(float(box[0] + box[2] - edge) / 2)), width - edge)
    top = min(max(0, round(float(box[1] + box[3] - edge) / 2)), height - edge)
    return image[top : top + edge, left : left + edge]


def crop_centre(image: Image) -> Image:
    """Crop the largest square from the centre of an image."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    return image[top : top + edge, left : left + edge]


@lru_cache(maxsize=4)
def load_detector(path: Path) -> FaceDetector:
    """Return the detector of a file, loaded once per process."""
    return FaceDetector.load(path)
