"""Small competitions on disk, for the tests of `trainers.data`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from dfens.demo.faces import draw_face, draw_person
from trainers.augment.self_blend import self_blend
from trainers.media.arrays import Image


def write_image(path: Path, image: Image, quality: int = 92) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix or ".jpg"
    path.write_bytes(cv2.imencode(ending, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def face(seed: int, *, fake: bool = False, size: int = 32) -> Image:
    """Draw a face, a different one for each seed."""
    rng = np.random.default_rng(seed)
    image = draw_face(draw_person(rng), rng, size)
    return self_blend(image, rng)[0] if fake else image


def write_labels(
    path: Path, labels: Mapping[str, object] | Sequence[tuple[str, object]], header: str = "img_name,target"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    path.write_text("\n".join([header, *(f"{name},{label}" for name, label in pairs)]) + "\n")


def write_names(path: Path, names: Sequence[str], header: str = "img_name") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *names]) + "\n")


def make_set(folder: Path, prefix: str, rows: int, *, first_seed: int = 0, size: int = 32) -> dict[str, int]:
    """Draw faces into a folder, alternately real and fake; return labels by file name."""
    labels = {}
    for row in range(rows):
        name = f"{prefix}{row:03d}.jpg"
        write_image(folder / name, face(first_seed + row, fake=row % 2 == 1, size=size))
        labels[name] = row % 2
    return labels


def make_table(root: Path, rows: int = 8, test_rows: int = 4, size: int = 32) -> Path:
    """Write a competition of layout "table" with columns img_name, target; return its root."""
    labels = make_set(root / "train", "a", rows, size=size)
    write_labels(root / "train.csv", labels)
    test = make_set(root / "test", "t", test_rows, first_seed=1000, size=size)
    write_labels(root / "sample_submission.csv", dict.fromkeys(test, 0.5), "img_name,y_pred")
    return root


def make_track(
    root: Path, *, label_names: tuple[str, str] = ("trainset_label.txt", "valset_label.txt"), size: int = 32
) -> Path:
    """Write phase 1 of the image track: 8 training rows, 4 validation rows, and the template of the submission."""
    phase = root / "phase1"
    write_labels(phase / label_names[0], make_set(phase / "trainset", "a", 8, size=size))
    validation = make_set(phase / "valset", "v", 4, first_seed=500, size=size)
    write_labels(phase / label_names[1], validation)
    write_labels(phase / "prediction.txt.csv", dict.fromkeys(reversed(validation), 0.5), "img_name,y_pred")
    return root


def add_phase_2(root: Path, folder: str = "testset1_seen") -> None:
    names = list(make_set(root / "phase2" / folder, "s", 3, first_seed=900))
    write_names(root / "phase2" / f"{folder}_nolabel.txt", names)
