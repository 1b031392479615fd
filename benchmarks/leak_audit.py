"""Measure false positives of the leak audit on clean data, the size of leaks that it finds, and its speed.

Run: python benchmarks/leak_audit.py [--sets 100] [--images 240] [--clips 120]
"""

import argparse
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from oof.progress import SILENT
from trainers.data.leak_properties import read_properties
from trainers.data.leak_scores import Property
from trainers.data.leaks import score_properties


def random_columns(rows: int, rng: np.random.Generator) -> list[Property]:
    """Generate thirty properties like those of files: continuous, rounded, heavy-tailed, constant, categorical."""
    columns: list[NDArray[np.float64] | NDArray[np.object_]] = []
    for _ in range(6):
        columns.append(rng.normal(size=rows))
        columns.append(np.round(rng.gamma(1.0, 3.0, rows), 1))
        columns.append(rng.choice([24.0, 25.0, 29.97, 30.0], rows, p=[0.1, 0.5, 0.3, 0.1]))
        columns.append(np.array([f"v{value}" for value in rng.zipf(1.5, rows) % 40], object))
        columns.append(np.where(rng.random(rows) < 0.02, "odd", "usual").astype(object))
    return [Property(f"p{at}", values, "") for at, values in enumerate(columns)]


def false_alarms(sets: int, rows: int, share: float, rng: np.random.Generator) -> int:
    """Return the number of sets with random labels in which at least one property is reported as a leak."""
    alarms = 0
    for _ in range(sets):
        target = (rng.permutation(rows) < share * rows).astype(np.int8)
        scores, _ = score_properties(random_columns(rows, rng), target)
        alarms += any(score.verdict != "clean" for score in scores)
    return alarms


def found_silence(sets: int, rows: int, shift: float, rng: np.random.Generator) -> int:
    """Return the number of sets in which a silence, longer by `shift` standard deviations in fakes, is found."""
    found = 0
    for _ in range(sets):
        target = (rng.permutation(rows) < rows / 2).astype(np.int8)
        silence = np.exp(rng.normal(size=rows) + shift * target)
        scores, _ = score_properties([*random_columns(rows, rng), Property("silence", silence, "")], target)
        found += scores[0].name == "silence" and scores[0].verdict != "clean"
    return found


def write_images(folder: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Write images of random sizes and qualities, and return their paths."""
    paths = []
    for _ in range(count):
        side = int(rng.choice([96, 128, 160]))
        image = cv2.GaussianBlur(rng.integers(0, 255, (side, side, 3), np.uint8), (0, 0), float(rng.uniform(0.5, 3)))
        path = folder / f"{rng.bytes(8).hex()}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.choice([75, 85, 90, 95]))])
        paths.append(str(path))
    return paths


def write_clips(folder: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Write clips of noise with sound, of random lengths, rates and loudness, and return their paths."""
    paths = []
    for _ in range(count):
        path = folder / f"{rng.bytes(8).hex()}.mp4"
        rate, length = int(rng.choice([15, 25, 30])), float(rng.uniform(0.8, 1.6))
        with av.open(str(path), "w") as out:
            picture = out.add_stream("libx264", rate=rate, options={"crf": str(rng.choice([23, 28]))})
            picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
            track = out.add_stream("aac", rate=16000)
            track.layout = "mono"
            scene = np.asarray(cv2.resize(rng.integers(0, 255, (8, 12, 3), np.uint8), (96, 64)), np.uint8)
            for index in range(int(length * rate)):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.roll(scene, index, 1), format="rgb24")))
            out.mux(picture.encode(None))
            sound = rng.normal(0, rng.uniform(0.02, 0.2), int(length * 16000)).astype(np.float32)
            sound[: int(16000 * rng.exponential(0.05))] = 0
            for start in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts = 16000, start
                out.mux(track.encode(block))
            out.mux(track.encode(None))
        paths.append(str(path))
    return paths


def main() -> None:
    """Print the tables for RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--clips", type=int, default=120)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| random labels | rows | fakes | sets reported as leaky |\n|---|---|---|---|")
    for rows, share in ((24, 0.5), (40, 0.5), (200, 0.5), (200, 0.1), (1000, 0.5), (1000, 0.02), (5000, 0.5)):
        alarms = false_alarms(args.sets, rows, share, rng)
        print(f"| 30 generated properties | {rows} | {share:.0%} | {alarms} of {args.sets} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for media, paths in (
            ("images", write_images(Path(folder), args.images, rng)),
            ("clips", write_clips(Path(folder), args.clips, rng)),
        ):
            started = time.process_time()
            columns, _ = read_properties(paths, media, progress=SILENT)  # type: ignore[arg-type]
            cost = (time.process_time() - started) / len(paths)
            alarms = 0
            for _ in range(args.sets):
                target = (rng.permutation(len(paths)) < len(paths) / 2).astype(np.int8)
                alarms += any(score.verdict != "clean" for score in score_properties(columns, target)[0])
            label = f"{len(columns)} properties of {media}, {1e3 * cost:.2f} ms of processor time each"
            print(f"| {label} | {len(paths)} | 50% | {alarms} of {args.sets} |", flush=True)
    print("\n| planted silence (AUC) | rows | found |\n|---|---|---|")
    for shift, auc in ((0.36, 0.6), (0.74, 0.7), (1.19, 0.8), (1.81, 0.9)):
        for rows in (100, 400, 2000):
            found = found_silence(args.sets // 4, rows, shift, rng)
            print(f"| {auc} | {rows} | {found} of {args.sets // 4} |", flush=True)


if __name__ == "__main__":
    main()
