"""The image competition of `dfens demo`: drawn faces, and fakes whose only trace is the seam of a blend.

A fake is a face blended with a transformed copy of itself (self-blended images, CVPR 2022).
Real images get the same colour changes and JPEG compression, so that
neither colours nor compression separate the classes.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from dfens.demo import TRUTH
from dfens.demo.faces import draw_face, draw_person
from dfens.recipes import recipe_text
from oof.files import atomic_path, write_text
from oof.progress import SILENT, Progress
from trainers.augment.self_blend import self_blend

STEPS = ("check", "folds", "train --fold 0-4", "blend --optimize auc", "submit --dry-run")
ROWS = 512  # default number of training rows
_PICTURES_PER_PERSON = 4


def make_competition(
    folder: Path,
    *,
    train_rows: int = 512,
    test_rows: int = 256,
    size: int = 64,
    seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Write a small competition with known test labels.

        folder/
        ├── dfens.toml
        ├── truth.csv                    the labels of the test images, read only by the demo
        └── data/
            ├── train.csv                img_name, target, person
            ├── train/  test/            JPEG images, size x size
            └── sample_submission.csv    img_name, y_pred

    Args:
        folder: destination; an existing competition is kept.
        train_rows, test_rows: number of images; four per person, no person in both.
        size: size of the images in pixels.
        seed: the same seed gives the same files.
    """
    if (folder / TRUTH).exists():
        return
    rng = np.random.default_rng(seed)
    data = folder / "data"
    train = _draw(data / "train", train_rows, size, rng, f"{seed}-train", progress)
    test = _draw(data / "test", test_rows, size, rng, f"{seed}-test", progress)
    write_text(data / "train.csv", train.to_csv(index=False))
    sample = pd.DataFrame({"img_name": test["img_name"], "y_pred": 0.5})
    write_text(data / "sample_submission.csv", sample.to_csv(index=False))
    if not (folder / "dfens.toml").exists():
        write_text(folder / "dfens.toml", recipe_text("demo"))
    # written last, as the sign of completion
    write_text(folder / TRUTH, test[["img_name", "target"]].to_csv(index=False))


def _draw(folder: Path, rows: int, size: int, rng: np.random.Generator, salt: str, progress: Progress) -> pd.DataFrame:
    """Draw the images of one set; half of them are fakes, in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    target = rng.permutation(np.arange(rows) % 2)
    names = [hashlib.md5(f"{salt}-{row}".encode(), usedforsecurity=False).hexdigest() + ".jpg" for row in range(rows)]
    person = draw_person(rng)
    with progress.task(f"draw {folder.name} faces", total=rows, unit="image") as task:
        for row, name in enumerate(names):
            if row % _PICTURES_PER_PERSON == 0:
                person = draw_person(rng)
            image = draw_face(person, rng, size)
            if target[row]:
                image, _ = self_blend(image, rng)
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(90, 98))]
            _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
            with atomic_path(folder / name) as part:
                part.write_bytes(data.tobytes())
            task.advance()
    persons = [f"{salt.split('-')[1]}-{row // _PICTURES_PER_PERSON:04d}" for row in range(rows)]
    return pd.DataFrame({"img_name": names, "target": target, "person": persons})
