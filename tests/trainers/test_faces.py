"""Faces in clips: detectors of both families, tracking, and square crops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from oof.errors import ConfigError
from tests.support.scenes import SETTINGS, clip, record
from trainers.features.extract import extract_clip
from trainers.media.clip_writer import Encoding
from trainers.media.face_detector import Boxes, FaceDetector, crop_square, main_face, overlap


class Value:
    def __init__(self, name: str, shape: list[Any]) -> None:
        self.name, self.shape = name, shape


class BrightSpot:
    """Mock detector of a given family that finds one face at the brightest block of the image."""

    def __init__(self, family: str) -> None:
        self.family = family

    def get_inputs(self) -> list[Value]:
        return [Value("input", [1, 3, "height", "width"])]

    def get_outputs(self) -> list[Value]:
        if self.family == "centerface":
            return [Value(name, [1, channels, "h", "w"]) for name, channels in (("537", 1), ("538", 2), ("539", 2))]
        parts = ("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)
        return [Value(f"{part}_{stride}", [1, "n", n]) for part, n in parts for stride in (8, 16, 32)]

    def run(self, output_names: None, input_feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        image = input_feed["input"][0].sum(0)  # (height, width)
        cell = 4 if self.family == "centerface" else 8
        rows, columns = image.shape[0] // cell, image.shape[1] // cell
        blocks = image[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell).mean((1, 3))
        row, column = np.unravel_index(blocks.argmax(), blocks.shape)
        if self.family == "centerface":
            heat, size, offset = (np.zeros((1, n, rows, columns), np.float32) for n in (1, 2, 2))
            heat[0, 0, row, column] = 0.9 if blocks.max() > 100 else 0.0
            size[0, :, row, column] = np.log(20 / 4)
            return [heat, size, offset]
        outputs: dict[str, NDArray[np.float32]] = {}
        for stride in (8, 16, 32):
            cells = (image.shape[0] // stride) * (image.shape[1] // stride)
            for part, n in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
                outputs[f"{part}_{stride}"] = np.zeros((1, cells, n), np.float32)
        at = row * columns + column
        outputs["cls_8"][0, at] = outputs["obj_8"][0, at] = 0.9 if blocks.max() > 100 else 0.0
        outputs["bbox_8"][0, at] = [0.5, 0.5, np.log(20 / 8), np.log(20 / 8)]
        return [outputs[value.name] for value in self.get_outputs()]


@pytest.mark.parametrize("family", ["yunet", "centerface"])
def test_a_face_is_tracked_and_cropped(tmp_path: Path, family: str) -> None:
    images = []
    for index in range(20):
        image = np.zeros((128, 192, 3), np.uint8)
        image[40:48, 40 + 4 * index : 48 + 4 * index] = 255  # 8 x 8 px, in the middle of the face
        images.append(image)
    path = clip(tmp_path, images=images, sound=None, encoding=Encoding(options={"qp": "0"}, pixel_format="yuv444p"))
    detector = FaceDetector.of(BrightSpot(family), "a.onnx")
    found = record(extract_clip(str(path), SETTINGS, detector))
    assert found.has_face
    boxes = found.tensor("boxes")[found.spread]
    assert (boxes[:, 2:] - boxes[:, :2]) == pytest.approx(20, abs=0.5)
    times = found.tensor("times_s")[found.spread]
    assert (boxes[:, 0] + boxes[:, 2]) / 2 == pytest.approx(44 + 4 * 25 * times, abs=5)
    crops = found.frames(found.spread)
    assert (crops[:, 8:24, 8:24].mean((1, 2, 3)) > 3 * crops.mean((1, 2, 3)) / 2).all()  # bright in the middle


def test_without_any_face_the_center_is_cropped_with_a_note(tmp_path: Path) -> None:
    path = clip(tmp_path, images=[np.full((48, 64, 3), 10, np.uint8)] * 5)
    found = record(extract_clip(str(path), SETTINGS, FaceDetector.of(BrightSpot("yunet"), "a.onnx")))
    assert not found.has_face
    assert found.notes == ("no face found: centre cropped",)
    assert np.isnan(found.tensor("boxes")).all()


def boxes(*faces: tuple[float, float, float]) -> Boxes:
    """Return faces of 10 px, given left, top and score."""
    return np.array([(left, top, left + 10, top + 10, score) for left, top, score in faces], np.float32).reshape(-1, 5)


def test_tracking_bridges_frames_without_a_face_and_ignores_other_faces() -> None:
    faces = [boxes((0, 0, 0.9), (50, 50, 0.8)), boxes(), boxes((4, 0, 0.9)), boxes((6, 0, 0.9), (90, 0, 0.95))]
    assert main_face(faces)[:, 0].tolist() == [0, 2, 4, 6]
    assert np.isnan(main_face([boxes(), boxes()])).all()


def test_a_crop_stays_inside_the_image() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    for box in ([-5, -5, 10, 10], [50, 30, 80, 60], [0, 0, 100, 100], [20, 20, 20, 20]):
        crop = crop_square(image, np.array(box, np.float32), 0.3)
        assert crop.shape[0] == crop.shape[1] >= 1
    assert overlap(np.array([0, 0, 2, 2, 1], np.float32), np.array([1, 0, 3, 2, 1], np.float32)) == pytest.approx(1 / 3)


def test_an_onnx_file_is_run_by_onnxruntime(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    # CenterFace's shape with its fixed batch of 10: the heat map is the mean of 4 x 4 px, sizes and offsets are 0
    weights = np.full((1, 3, 4, 4), 1 / (48 * 255), np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "mean"], ["heat"], strides=[4, 4], kernel_shape=[4, 4]),
        helper.make_node("Concat", ["heat", "heat"], ["two"], axis=1),
        helper.make_node("Sub", ["two", "two"], ["size"]),
        helper.make_node("Identity", ["size"], ["offset"]),
    ]
    info = helper.make_tensor_value_info
    shapes = {"heat": [10, 1, 8, 8], "size": [10, 2, 8, 8], "offset": [10, 2, 8, 8]}
    graph = helper.make_graph(
        nodes,
        "detector",
        [info("image", onnx.TensorProto.FLOAT, [10, 3, 32, 32])],
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [onnx.numpy_helper.from_array(weights, "mean")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "centerface.onnx")
    detector = FaceDetector.load(tmp_path / "centerface.onnx")
    image = np.zeros((64, 96, 3), np.uint8)
    image[20:24, 40:44] = 255
    assert detector.detect(image)[:, :4].tolist() == [[40, 20, 44, 24]]


def test_unusable_detectors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        FaceDetector.load(tmp_path / "none.onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ConfigError, match=r"text\.onnx' cannot be loaded as ONNX"):
        FaceDetector.load(tmp_path / "text.onnx")

    class Other(BrightSpot):
        def get_outputs(self) -> list[Value]:
            return [Value("logits", [1, 1000])]

    with pytest.raises(ConfigError, match="neither YuNet nor CenterFace: its outputs are logits"):
        FaceDetector.of(Other("yunet"), "resnet.onnx")
