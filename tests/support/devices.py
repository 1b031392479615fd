"""Support for tests that run on every device: the devices, and small sets of images that a network learns quickly."""

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainers.augment.arrays import to_grey
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.arrays import Image
from trainers.media.image_store import ImageStore, Subset
from trainers.media.loader import Loader
from trainers.media.settings import DeviceDecode
from trainers.runtime import step_graph
from trainers.runtime.device import Pace

AUGMENTED = {
    "hflip": 0.5, "translate": 0.5, "color_jitter": 0.5, "jpeg": 0.3,
    "blur": 0.3, "noise": 0.3, "downscale": 0.3, "grid_cutout": 0.3,
}  # fmt: skip
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
EDGE = 64


class _FakeCuda(str):
    """The CPU with the device type "cuda": tensors stay on the CPU, but the code takes its CUDA branches."""

    type = "cuda"
    index = None  # type: ignore[assignment]


def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Return a CPU device that code takes for CUDA; memory is never pinned."""
    made = Loader.__init__
    monkeypatch.setattr(Loader, "__init__", lambda self, threads, *, pin=False: made(self, threads, pin=False))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(Pace, "wait", lambda self: None)
    monkeypatch.setattr(step_graph, "capture", lambda device, compute: compute)
    return cast("torch.device", _FakeCuda("cpu"))


def settings(**values: object) -> TimmSettings:
    """Return settings of a tiny network without augmentation, in float32."""
    base: dict[str, object] = {
        "backbone": "test_resnet", "pretrained": False, "image_size": EDGE, "epochs": 2, "batch_size": 16, "lr": 2e-3,
        "hflip": 0.0, "translate": 0.0, "color_jitter": 0.0, "label_smoothing": 0.0, "tta": "none",
        "precision": "float32",
    }  # fmt: skip
    return TimmSettings(**{**base, **values})  # type: ignore[arg-type]


def picture(row: int, size: int = EDGE) -> Image:
    """Return a smooth image; images of odd rows contain a faint checkerboard that a network can learn."""
    rng = np.random.default_rng(row)
    smooth = cv2.resize(rng.integers(40, 215, (8, 8, 3)).astype(np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    mark = (np.indices((size, size)).sum(0) % 2 * 24 - 12)[..., None] * (row % 2)
    return to_grey(smooth.astype(float) + mark)


def picture_rows(
    folder: Path, count: int, *, size: int = EDGE, decode: DeviceDecode = "area", ending: str = ".png", threads: int = 2
) -> Subset:
    """Write images and return them as rows with alternating labels, decoded on demand."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / f"{row:04d}{ending}") for row in range(count)]
    for row, path in enumerate(paths):
        cv2.imwrite(path, np.ascontiguousarray(picture(row, size)[..., ::-1]))
    store = ImageStore(paths, size, decode, threads, keep=False)
    return Subset(store, np.arange(count), np.array(paths, object), (np.arange(count) % 2).astype(np.int8))


def part_of(rows: Subset, chosen: NDArray[np.intp]) -> Subset:
    """Return some of the rows."""
    return Subset(rows.images, rows.positions[chosen], rows.ids[chosen], rows.target[chosen])


def farthest(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest absolute difference between two tensors, computed on the CPU in float64."""
    return float((a.detach().cpu().double() - b.detach().cpu().double()).abs().max())
